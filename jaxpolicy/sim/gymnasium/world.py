"""Any Gymnasium environment as a world, for evaluation and for collection by a controller.

Environments run in worker processes (sim/gymnasium/pool.py). They are reset together and
stepped in step with each other; one whose episode has ended is not stepped any further.
The world is not functional: it cannot be compiled, vmapped or taken back to an earlier
state, so it is driven through `worlds.open_worlds`.

Axis letters: E worlds at once, A action, P proprioception.
"""

import importlib.util
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from brax.envs.base import State

from jaxpolicy.core.specs import FROM_ROBOT, IMAGE_PREFIX, ActionSpec, ArraySpec, InputError
from jaxpolicy.sim.gymnasium.pool import Pool

__all__ = ["GymnasiumWorld", "GymnasiumWorlds", "require_gymnasium", "seeds_from_keys"]

RENDER = "render"


class GymnasiumWorld:
    """A Gymnasium environment with the attributes of our worlds.

    Its numbers, flattened and joined in the order of their paths (the sorted keys of nested
    dictionaries), become `proprio` float32 [P], whose parts `split_proprio` names. Each
    uint8 [H, W, 3] array becomes `image/<path>`, and what it renders `image/render` where
    that is asked for. Where the info of a first step has "is_success" or "success", that is
    the "success" metric; elsewhere there is none. Units are unknown and therefore empty.

    Attributes:
      task: the environment's id, or the factory's name.
      robot: "gymnasium".
      control_hz, observation_specs, action_spec, episode_length: see worlds.World.
      has_success: whether there is a success metric.
      workers: processes at most.
    """

    robot = "gymnasium"

    def __init__(
        self,
        make: str | Callable[..., Any],
        episode_length: int = 0,
        cameras: Sequence[str] = (),
        image_size: int = 64,
        workers: int = 0,
        control_hz: float | None = None,
        timeout: float = 120.0,
    ):
        """Makes one environment in a worker process and asks it what it is like.

        Args:
          make: an id as `gymnasium.make` takes it ("module:ID" too), whose own time limit
            is replaced by `episode_length`; or a function at the top level of a module
            that takes `render_mode` (None or "rgb_array") and returns an environment.
          episode_length: control steps until the time limit, 0 for the environment's own.
          cameras: "render" for what the environment renders, resized to `image_size`;
            images that it observes are there anyway and may be named.
          image_size: height and width of what is rendered, pixels.
          workers: processes at most, 0 for one per core; results do not depend on it.
          control_hz: control rate, for environments that do not give one.
          timeout: seconds within which a step of all worlds must be done.

        Raises:
          InputError: Gymnasium or the environment is missing; a space is not supported;
            actions are not bounded; no control rate or time limit is known, or another
            rate than was given; a camera is not there.
        """
        require_gymnasium()
        if episode_length < 0 or image_size < 1 or workers < 0:
            raise InputError("episode_length and workers must be >= 0, image_size >= 1")
        self.task = make if isinstance(make, str) else getattr(make, "__name__", "factory")
        self.workers = workers or len(os.sched_getaffinity(0))
        self._timeout = timeout
        self._source: dict[str, Any] = {
            "make": make,
            "max_steps": episode_length or None,
            "render": RENDER in cameras,
            "image_size": image_size,
        }
        self._numbers = itertools.count()
        self._pool = self._new_pool()
        found = self._pool.ask({0: ("probe",)})[0]
        self._layout = tuple(found["proprio"])
        self.has_success = bool(found["success"])
        self.episode_length = self._length(episode_length or found["max_steps"])
        self.control_hz = self._rate(control_hz, found["hz"])
        self.observation_specs = self._observations(found["images"], cameras)
        self.action_spec = self._actions(found["low"], found["high"])

    def open(self, n: int) -> "GymnasiumWorlds":
        """`n` (E) environments, spread over the workers; see `worlds.open_worlds`."""
        if not self._pool.close.alive:
            self._pool = self._new_pool()
        self._pool.grow(min(n, self.workers))
        return GymnasiumWorlds(self, self._pool, next(self._numbers), n)

    def close(self) -> None:
        """Ends the workers; `open` starts new ones. They also end with this process."""
        self._pool.close()

    def split_proprio(self, proprio: np.ndarray) -> dict[str, np.ndarray]:
        """Parts of `proprio` [..., P] by their paths joined with "_", each [..., size]."""
        ends = np.cumsum([size for _, size in self._layout])[:-1]
        parts = np.split(proprio, ends, axis=-1)
        return {name: part for (name, _), part in zip(self._layout, parts, strict=True)}

    def _new_pool(self) -> Pool:
        pool = Pool(f"gymnasium environment '{self.task}'", self._source, self._timeout)
        pool.grow(1)
        return pool

    def _length(self, steps: int | None) -> int:
        if not steps:
            raise self._wrong("it has no time limit of its own; give episode_length")
        return int(steps)

    def _rate(self, wanted: float | None, own: float | None) -> float:
        if not own and not wanted:
            raise self._wrong(
                "it has neither `dt` nor a `render_fps` in its metadata; give control_hz"
            )
        if own and wanted and abs(own - wanted) > 1e-3 * own:
            raise self._wrong(f"it runs at {own:g} Hz, not at a control_hz of {wanted:g}")
        return float(own or wanted or 0.0)

    def _observations(
        self, images: Mapping[str, Sequence[int]], cameras: Sequence[str]
    ) -> tuple[ArraySpec, ...]:
        size = self._source["image_size"]
        rendered = {RENDER: (size, size, 3)} if RENDER in cameras else {}
        pictures = {**images, **rendered}
        missing = [name for name in cameras if name not in pictures]
        if missing:
            known = ", ".join([*images, RENDER])
            raise self._wrong(f"it has no camera '{missing[0]}'; it has: {known}")
        specs = [_image(IMAGE_PREFIX + k, tuple(shape)) for k, shape in pictures.items()]
        if self._layout:
            names = tuple(e for name, size in self._layout for e in _elements(name, size))
            specs.append(ArraySpec("proprio", (len(names),), names=names))
        if not specs:
            raise self._wrong("its observation is empty")
        return tuple(sorted(specs, key=lambda s: s.name))

    def _actions(self, low: Sequence[float], high: Sequence[float]) -> ActionSpec:
        n = len(low)
        names = tuple(f"a{i}" for i in range(n))
        bounds = tuple(low), tuple(high)
        return ActionSpec(
            "unknown", names, ("",) * n, *bounds, self.control_hz, limits_from=FROM_ROBOT
        )

    def _wrong(self, why: str) -> InputError:
        self.close()
        return InputError(f"gymnasium environment '{self.task}': {why}")


def _elements(name: str, size: int) -> list[str]:
    """Names of the elements of one part of an observation; a bare array is "observation"."""
    name = name or "observation"
    return [name] if size == 1 else [f"{name}_{i}" for i in range(size)]


def _image(name: str, shape: tuple[int, ...]) -> ArraySpec:
    return ArraySpec(name, shape, "uint8", "1", (0.0,), (255.0,))


class GymnasiumWorlds:
    """E environments in worker processes; see `worlds.Worlds`.

    info["steps"] float32 [E] counts steps. A world that has ended repeats its last
    observation and metrics, with reward 0 and done 1.
    """

    def __init__(self, world: GymnasiumWorld, pool: Pool, number: int, n: int):
        """Opens set `number` of `n` environments in the workers of `pool`."""
        self._world = world
        self._pool = pool
        self._number = number
        busy = min(n, world.workers)
        cuts = np.array_split(np.arange(n), busy)
        self._share = dict(enumerate(slice(c[0], c[-1] + 1) for c in cuts))
        self._latest: Any = None
        sizes = {i: len(c) for i, c in enumerate(cuts)}
        pool.ask({i: ("open", number, size) for i, size in sizes.items()})

    def reset(self, keys: jax.Array) -> State:
        """Starts E episodes, each with the seed that `seeds_from_keys` makes of its key."""
        seeds = seeds_from_keys(keys)
        answer = self._ask({i: ("reset", seeds[s].tolist()) for i, s in self._share.items()})
        zero = np.zeros(len(seeds), np.float32)
        return self._state(answer, zero, zero, {"steps": zero, "truncation": zero})

    def step(self, state: State, action: np.ndarray) -> State:
        """One control step of the worlds that have not ended, with actions [E, A].

        Raises:
          InputError: `state` is not the latest one, or an environment failed.
        """
        if state is not self._latest:
            raise InputError("a Gymnasium world can only be stepped from its latest state")
        alive, action = state.done == 0, np.asarray(action, np.float32)
        answer = self._ask({i: ("step", action[s], alive[s]) for i, s in self._share.items()})
        steps = state.info["steps"] + alive
        terminated = np.where(alive, answer["terminated"], state.done > 0)
        limit = answer["truncated"] | (steps >= self._world.episode_length)
        truncation = np.where(alive, limit & ~terminated, state.info["truncation"] > 0)
        done = np.maximum(state.done, terminated | limit)
        info = {"steps": steps, "truncation": np.asarray(truncation, np.float32)}
        return self._state(answer, np.where(alive, answer["reward"], 0.0), done, info)

    def close(self) -> None:
        """Keeps the environments for whoever opens worlds next."""
        if self._pool.close.alive and self._share:
            self._pool.ask({i: ("close", self._number) for i in self._share})
        self._share = {}

    def __enter__(self) -> "GymnasiumWorlds":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _ask(self, messages: Mapping[int, Sequence[Any]]) -> dict[str, np.ndarray]:
        """Answers of all workers, joined to [E, ...]."""
        if not messages or not self._pool.close.alive:
            raise InputError(f"the worlds of '{self._world.task}' are closed; open them again")
        numbered = {i: (m[0], self._number, *m[1:]) for i, m in messages.items()}
        answers = self._pool.ask(numbered).values()
        return {k: np.concatenate([a[k] for a in answers]) for k in next(iter(answers))}

    def _state(
        self, answer: dict[str, np.ndarray], reward: np.ndarray, done: np.ndarray, info: dict
    ) -> State:
        obs = {s.name: answer[s.name] for s in self._world.observation_specs}
        success = {"success": answer["success"].astype(np.float32)}
        metrics = success if self._world.has_success else {}
        reward, done = reward.astype(np.float32), done.astype(np.float32)
        self._latest = State(None, obs, reward, done, metrics, info)
        return self._latest


def seeds_from_keys(keys: jax.Array) -> np.ndarray:
    """Seeds 0 ... 2^31 - 1 for environments that take one, int64 [E], from keys [E].

    The words of a key are mixed by `numpy.random.SeedSequence`, so equal keys give equal
    seeds on any machine; 31 bits are what every random generator in use accepts.
    """
    words = np.asarray(jax.random.key_data(keys))
    mixed = [np.random.SeedSequence(w.tolist()).generate_state(1)[0] for w in words]
    return np.asarray(mixed, np.int64) & 0x7FFF_FFFF


def require_gymnasium() -> None:
    """Raises InputError where Gymnasium is not installed."""
    if importlib.util.find_spec("gymnasium") is None:
        raise InputError("Gymnasium is not installed; pip install 'jaxpolicy[gym]'")
