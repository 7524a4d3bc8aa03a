"""Our worlds as Gymnasium environments, single and vectorised.

    from jaxpolicy.sim import gymnasium as ours
    env = ours.GymEnv("lift", cameras=("wrist",))
    ours.register()
    env = gymnasium.make("jaxpolicy/Lift-v0")

The other way round, a Gymnasium environment as a world of ours, is `GymnasiumWorld`
(sim/gymnasium/world.py). This module needs Gymnasium, so nothing else imports it.

Episodes start from the TRAINING stream, which evaluation never uses: evaluate with
`evaluation.rollout` rather than with these.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State

from jaxpolicy import sim
from jaxpolicy.core.specs import ArraySpec, InputError
from jaxpolicy.sim import streams, worlds, wrappers
from jaxpolicy.sim.config import EnvConfig, override
from jaxpolicy.sim.gymnasium.world import GymnasiumWorld

try:
    import gymnasium
    from gymnasium.utils import seeding
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    raise InputError("Gymnasium is not installed; pip install 'jaxpolicy[gym]'") from error

__all__ = ["GymEnv", "GymVectorEnv", "GymnasiumWorld", "gym_id", "register"]

PRIVILEGED = "privileged"
RENDER_MODES = ("rgb_array",)
VIEW_CAMERA = "front"
SEEDS = 2**31


class _Gym:
    """What the single and the vectorised environment have in common.

    Attributes:
      world: the functional world.
      observation_box, action_box: spaces of one world.
    """

    def __init__(self, config: EnvConfig, n: int, render_mode: str | None, privileged: bool):
        """Opens `n` worlds of `config`."""
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise InputError(f"render_mode must be None or one of {RENDER_MODES}: '{render_mode}'")
        self.n = n
        self.world = _world(config)
        self.worlds = worlds.open_worlds(self.world, n)
        self.specs = [s for s in self.world.observation_specs if privileged or s.name != PRIVILEGED]
        self.observation_box = gymnasium.spaces.Dict({s.name: _box(s) for s in self.specs})
        action = self.world.action_spec
        low, high = np.asarray(action.minimum, np.float32), np.asarray(action.maximum, np.float32)
        self.action_box = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.metadata = {"render_modes": list(RENDER_MODES), "render_fps": self.world.control_hz}

    def reset(self, seeds: Sequence[int]) -> State:
        """Starts E episodes with seeds [E]."""
        return self.worlds.reset(streams.episode_keys(streams.TRAINING, np.asarray(seeds)))

    def step(self, state: State, action: Any) -> State:
        """One step with actions [E, A], clipped to their limits."""
        action = np.asarray(action, np.float32).reshape(self.n, -1)
        return self.worlds.step(state, worlds.clip_action(self.world.action_spec, action)[0])

    def observation(self, state: State) -> dict[str, np.ndarray]:
        """Each [E, ...], copied: callers may keep and change it."""
        return {s.name: np.array(state.obs[s.name]) for s in self.specs}

    def ends(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """`terminated` and `truncated`, bool [E]."""
        done = np.asarray(state.done) > 0
        truncated = np.asarray(state.info["truncation"]) > 0
        return done & ~truncated, done & truncated

    def info(self, state: State) -> dict[str, np.ndarray]:
        """Metrics [E, ...] of a state, and `is_success` where there is a predicate."""
        found = {k: np.array(v) for k, v in state.metrics.items()}
        if "success" in found:
            found["is_success"] = found["success"] > 0
        return found

    def frames(self, state: State, size: int) -> np.ndarray:
        """Pictures uint8 [E, size, size, 3] from the front, or the scene's first camera.

        One after the other, so that any number of worlds is drawn by one program.
        """
        images = wrappers.draw_all(_view(self.world, size), state.pipeline_state, 1)
        return next(iter(images.values()))


class GymEnv(gymnasium.Env):
    """One world of ours as a `gymnasium.Env`.

    Observations are a Dict of Boxes named as in `observation_specs`, `privileged` only
    where it is asked for; actions are a Box in physical units, clipped to it. The info
    holds every metric by its name, and `is_success`. Rendering draws the scene's "front"
    camera (or its first one).
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES)}

    def __init__(
        self,
        config: EnvConfig | str = "lift",
        render_mode: str | None = None,
        privileged: bool = False,
        render_size: int = 256,
        **overrides: Any,
    ):
        """Makes the world of a configuration, or of a name.

        Args:
          config: an EnvConfig, or an `EnvConfig.name`.
          render_mode: None or "rgb_array".
          privileged: whether observations hold the simulator's state.
          render_size: height and width of what `render` gives, pixels.
          **overrides: fields of EnvConfig.

        Raises:
          InputError: an unknown name, field or render mode.
        """
        self._gym = _Gym(_config(config, overrides), 1, render_mode, privileged)
        self.render_mode = render_mode
        self.metadata = self._gym.metadata
        self.observation_space = self._gym.observation_box
        self.action_space = self._gym.action_box
        self._render_size = render_size
        self._state: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode; the same seed gives the same one. There are no options."""
        super().reset(seed=seed)
        self._state = self._gym.reset([_draw(self.np_random)])
        return _first(self._gym.observation(self._state)), self._info()

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step with an action [A].

        Raises:
          gymnasium.error.ResetNeeded: before the first reset.
        """
        self._require_state()
        self._state = self._gym.step(self._state, action)
        terminated, truncated = self._gym.ends(self._state)
        reward = float(self._state.reward[0])
        observation = _first(self._gym.observation(self._state))
        return observation, reward, bool(terminated[0]), bool(truncated[0]), self._info()

    def render(self) -> np.ndarray | None:
        """A picture uint8 [render_size, render_size, 3], None without a render mode."""
        if self.render_mode is None:
            return None
        self._require_state()
        return self._gym.frames(self._state, self._render_size)[0]

    def close(self) -> None:
        """Gives the world back."""
        self._gym.worlds.close()

    def _require_state(self) -> None:
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset() before step() and render()")

    def _info(self) -> dict[str, Any]:
        return {k: v[0].item() for k, v in self._gym.info(self._state).items()}


class GymVectorEnv(gymnasium.vector.VectorEnv):
    """E worlds of ours as a `gymnasium.vector.VectorEnv`: one compiled step for all.

    World i is `GymEnv` reset with seed + i. Autoreset happens in the step after the one
    that ended an episode (AutoresetMode.NEXT_STEP): that step ignores the world's action
    and gives the first observation of the next episode with reward 0.
    """

    metadata: dict[str, Any] = {
        "render_modes": list(RENDER_MODES),
        "autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        config: EnvConfig | str = "lift",
        num_envs: int = 1,
        render_mode: str | None = None,
        privileged: bool = False,
        render_size: int = 256,
        **overrides: Any,
    ):
        """See `GymEnv`; `num_envs` is E."""
        self._gym = _Gym(_config(config, overrides), num_envs, render_mode, privileged)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, **self._gym.metadata}
        self.single_observation_space = self._gym.observation_box
        self.single_action_space = self._gym.action_box
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._render_size = render_size
        self._generators: list[np.random.Generator] = []
        self._ended = np.zeros(num_envs, bool)
        self._state: Any = None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts E episodes.

        Args:
          seed: of world 0, the others following; or one each; or None, to go on with the
            generators there are.
          options: there are none.
        """
        self._seed(seed)
        self._ended = np.zeros(self.num_envs, bool)
        self._state = self._gym.reset([_draw(g) for g in self._generators])
        return self._gym.observation(self._state), self._info()

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step with actions [E, A].

        Raises:
          gymnasium.error.ResetNeeded: before the first reset.
        """
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        state = self._gym.step(self._state, actions)
        if self._ended.any():
            seeds = [
                _draw(g) if e else 0 for g, e in zip(self._generators, self._ended, strict=True)
            ]
            state = _choose(self._ended, self._gym.reset(seeds), state)
        self._state = state
        terminated, truncated = self._gym.ends(state)
        self._ended = terminated | truncated
        reward = np.asarray(state.reward, np.float64)
        return self._gym.observation(state), reward, terminated, truncated, self._info()

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Pictures of all worlds (see `GymEnv.render`), None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(self._gym.frames(self._state, self._render_size))

    def close_extras(self, **kwargs: Any) -> None:
        """Gives the worlds back."""
        self._gym.worlds.close()

    def _seed(self, seed: int | Sequence[int | None] | None) -> None:
        if seed is None and self._generators:
            return
        if isinstance(seed, int | np.integer):
            seeds: list[int | None] = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [None] * self.num_envs if seed is None else list(seed)
        if len(seeds) != self.num_envs:
            raise InputError(f"{self.num_envs} seeds are needed, got {len(seeds)}")
        self._generators = [seeding.np_random(s)[0] for s in seeds]

    def _info(self) -> dict[str, Any]:
        """Values [E], each with a mask of the worlds that have it, as Gymnasium wants it."""
        info = self._gym.info(self._state)
        return info | {f"_{k}": np.ones(self.num_envs, bool) for k in info}


def gym_id(name: str) -> str:
    """Id under which an environment is registered: pick_place -> jaxpolicy/PickPlace-v0."""
    return f"jaxpolicy/{''.join(part.capitalize() for part in name.split('_'))}-v0"


def register() -> tuple[str, ...]:
    """Makes every entry of `sim.ENVIRONMENTS` known to `gymnasium.make` and `make_vec`.

    Fields of EnvConfig are keyword arguments of `gymnasium.make`. May be called again.

    Returns:
      The ids.
    """
    for name in sim.ENVIRONMENTS:
        if gym_id(name) not in gymnasium.registry:
            gymnasium.register(
                id=gym_id(name),
                entry_point=GymEnv,
                vector_entry_point=GymVectorEnv,
                kwargs={"config": name},
            )
    return tuple(map(gym_id, sim.ENVIRONMENTS))


def _config(config: EnvConfig | str, overrides: dict[str, Any]) -> EnvConfig:
    return override(EnvConfig(name=config) if isinstance(config, str) else config, overrides)


@functools.lru_cache(maxsize=8)
def _world(config: EnvConfig) -> Env:
    """The same object for the same configuration, so that it is compiled once."""
    world = sim.make_world(config)
    if isinstance(world, GymnasiumWorld):
        world.close()
        raise InputError(f"'{config.name}' is a Gymnasium environment already")
    return world


@functools.lru_cache(maxsize=8)
def _view(world: Env, size: int) -> wrappers.Pixels:
    """The camera that is rendered; the same object for the same view."""
    if not hasattr(world, "scene"):
        raise InputError(f"the world '{world.task}' has no scene to render")
    names = world.scene.cameras
    name = VIEW_CAMERA if VIEW_CAMERA in names else names[0]
    return wrappers.Pixels(wrappers.without_pixels(world)[0], (name,), size, shadows=True)


def _box(spec: ArraySpec) -> gymnasium.spaces.Box:
    low = np.asarray(spec.minimum or (-np.inf,), np.dtype(spec.dtype))
    high = np.asarray(spec.maximum or (np.inf,), np.dtype(spec.dtype))
    shape = spec.shape
    limits = (np.broadcast_to(low, shape), np.broadcast_to(high, shape))
    return gymnasium.spaces.Box(*limits, dtype=np.dtype(spec.dtype).type)


def _draw(generator: np.random.Generator) -> int:
    """The next episode's seed."""
    return int(generator.integers(SEEDS))


def _first(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: v[0].copy() for k, v in values.items()}


@jax.jit
def _choose(mask: jax.Array, if_true: State, if_false: State) -> State:
    """Worlds of one state where `mask` [E], else of the other."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(-1, *[1] * (jnp.ndim(a) - 1)), a, b)

    return jax.tree.map(pick, if_true, if_false)
