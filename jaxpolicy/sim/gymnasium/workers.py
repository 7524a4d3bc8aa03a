"""What runs in a worker process: several Gymnasium environments behind one pipe.

This file is run by its path (see sim/gymnasium/pool.py), not imported by its name, so that
a worker holds neither JAX nor anything else of this library: the standard library, NumPy,
Pillow and Gymnasium are all it needs.

A message is (verb, *arguments); the answer is ("ok", value), ("refused", why) where the
environment is of a kind that is not supported, or ("error", what went wrong). Environments
are opened in sets, each with a number of its own; a closed set's environments are used
again by the next one.

Axis letters: K environments of a set in this process, A action, P proprioception.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Refused", "Server", "serve"]

RENDER = "render"
# Name of an observation that is not in a dictionary.
WHOLE = "observation"


class Refused(Exception):
    """The environment is of a kind that is not supported; the message says what is."""


class _Leaf(NamedTuple):
    """One array of an observation."""

    path: tuple[str, ...]
    space: Any

    @property
    def name(self) -> str:
        return "_".join(self.path) or WHOLE

    @property
    def is_image(self) -> bool:
        space = self.space
        is_rgb = len(space.shape) == 3 and space.shape[2] == 3
        return is_rgb and space.dtype == np.uint8

    def of(self, observation: Any) -> np.ndarray:
        for key in self.path:
            observation = observation[key]
        return np.asarray(observation)


class _Slot:
    """One environment with what it said last."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.answer: dict[str, Any] = {}


class Server:
    """Makes environments and answers messages about them."""

    def __init__(self) -> None:
        """Knows no environment until `configure`."""
        self._source: Mapping[str, Any] = {}
        self._leaves: list[_Leaf] = []
        self._free: list[_Slot] = []
        self._sets: dict[int, list[_Slot]] = {}

    def answer(self, verb: str, *arguments: Any) -> Any:
        """Does what a message says."""
        actions: dict[str, Callable[..., Any]] = {
            "configure": self.configure,
            "probe": self.probe,
            "open": self.open,
            "reset": self.reset,
            "step": self.step,
            "close": self.close,
        }
        return actions[verb](*arguments)

    def configure(self, source: Mapping[str, Any]) -> None:
        """What to make.

        Args:
          source: "make" (an id, or a callable that takes `render_mode`), "max_steps" (time
            limit of an id, None for its own), "render" (whether to), "image_size" (of what
            is rendered).
        """
        self._source = source

    def probe(self) -> dict[str, Any]:
        """What an environment is like, found by a reset and one step."""
        slot = self._take()
        space = _action_space(slot.env)
        _, reset_info = slot.env.reset(seed=0)
        middle = ((space.low.astype(float) + space.high) / 2).astype(space.dtype)
        step_info = slot.env.step(middle)[-1]
        if self._source["render"]:
            self._picture(slot.env)
        self._free.append(slot)
        return {
            "low": space.low.astype(float).ravel().tolist(),
            "high": space.high.astype(float).ravel().tolist(),
            "proprio": [(x.name, math.prod(x.space.shape)) for x in self._parts()],
            "images": {x.name: tuple(x.space.shape) for x in self._leaves if x.is_image},
            "hz": _control_hz(slot.env),
            "max_steps": getattr(slot.env.spec, "max_episode_steps", None),
            "success": any(_success(i) is not None for i in (reset_info, step_info)),
        }

    def open(self, number: int, size: int) -> None:
        """A set of `size` (K) environments."""
        self._sets[number] = [self._take() for _ in range(size)]

    def close(self, number: int) -> None:
        """Keeps a set's environments for the next one."""
        self._free += self._sets.pop(number, [])

    def reset(self, number: int, seeds: list[int]) -> dict[str, np.ndarray]:
        """Starts K episodes; see `step`."""
        slots = self._sets[number]
        for slot, seed in zip(slots, seeds, strict=True):
            observation, info = slot.env.reset(seed=seed)
            slot.answer = self._pack(slot.env, observation, 0.0, False, False, info)
        return _stack(slots)

    def step(self, number: int, actions: np.ndarray, alive: np.ndarray) -> dict[str, np.ndarray]:
        """One step of those that are `alive` [K], with actions [K, A].

        Returns:
          "proprio" float32 [K, P] and "image/<name>" uint8 [K, H, W, 3], where there are
          any, "reward" float32 [K], "terminated", "truncated" and "success" bool [K];
          those that are not alive say what they said last.
        """
        slots = self._sets[number]
        for slot, action, lives in zip(slots, actions, alive, strict=True):
            if lives:
                space = slot.env.action_space
                shaped = action.reshape(space.shape).astype(space.dtype)
                slot.answer = self._pack(slot.env, *slot.env.step(shaped))
        return _stack(slots)

    def _take(self) -> _Slot:
        slot = self._free.pop() if self._free else _Slot(self._make())
        if not self._leaves:
            self._leaves = list(_leaves(slot.env.observation_space))
            names = [leaf.name for leaf in self._leaves]
            if len(set(names)) < len(names):
                raise Refused(f"two parts of the observation have one name: {sorted(names)}")
        return slot

    def _make(self) -> Any:
        make, mode = self._source["make"], "rgb_array" if self._source["render"] else None
        if callable(make):
            return make(render_mode=mode)
        import gymnasium

        return gymnasium.make(
            make,
            render_mode=mode,
            max_episode_steps=self._source["max_steps"],
            disable_env_checker=True,
        )

    def _parts(self) -> list[_Leaf]:
        return [x for x in self._leaves if not x.is_image]

    def _pack(
        self, env: Any, observation: Any, reward: Any, terminated: Any, truncated: Any, info: Any
    ) -> dict[str, Any]:
        parts = [x.of(observation).astype(np.float32).ravel() for x in self._parts()]
        # Copies, because an environment may write its next observation over the last one.
        packed: dict[str, Any] = {
            f"image/{x.name}": np.array(x.of(observation)) for x in self._leaves if x.is_image
        }
        if parts:
            packed["proprio"] = np.concatenate(parts)
        if self._source["render"]:
            packed[f"image/{RENDER}"] = self._picture(env)
        return packed | {
            "reward": np.float32(reward),
            "terminated": bool(terminated),
            "truncated": bool(truncated),
            "success": bool(_success(info)),
        }

    def _picture(self, env: Any) -> np.ndarray:
        """What the environment renders, uint8 [S, S, 3]."""
        from PIL import Image

        frame = env.render()
        shape = getattr(frame, "shape", None)
        if shape is None or len(shape) != 3 or shape[2] != 3 or frame.dtype != np.uint8:
            kind = type(frame).__name__ if shape is None else f"{frame.dtype} {list(shape)}"
            raise Refused(f"render() must give uint8 [H, W, 3] for 'rgb_array', got {kind}")
        size = self._source["image_size"]
        return np.array(Image.fromarray(frame).resize((size, size), Image.Resampling.BOX))


def _leaves(space: Any, path: tuple[str, ...] = ()) -> Iterator[_Leaf]:
    """Arrays of an observation in the order of their paths."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        for key in sorted(space.spaces):
            yield from _leaves(space.spaces[key], (*path, key))
    elif isinstance(space, spaces.Box):
        yield _Leaf(path, space)
    else:
        where = f" '{'/'.join(path)}'" if path else ""
        raise Refused(f"observation{where} is {space}; supported are Box and (nested) Dict of Box")


def _action_space(env: Any) -> Any:
    from gymnasium import spaces

    space = env.action_space
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
        raise Refused(f"the action space is {space}; supported is a Box of real numbers")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise Refused(
            f"the action space {space} is unbounded; give it bounds, for instance with "
            "gymnasium.wrappers.TransformAction"
        )
    return space


def _control_hz(env: Any) -> float | None:
    """From the environment's time step, else its frame rate, else None."""
    dt = getattr(env.unwrapped, "dt", None)
    if isinstance(dt, int | float | np.number) and dt > 0:
        return 1.0 / float(dt)
    rate = (env.metadata or {}).get("render_fps")
    return float(rate) if rate else None


def _success(info: Mapping[str, Any]) -> bool | None:
    value = info.get("is_success", info.get("success"))
    return None if value is None else bool(np.all(value))


def _stack(slots: list[_Slot]) -> dict[str, np.ndarray]:
    return {k: np.stack([s.answer[k] for s in slots]) for k in slots[0].answer}


def serve(connection: Connection) -> None:
    """Answers messages until the other side is gone.

    The first message is `sys.path`, so that what later ones name can be found.
    """
    sys.path[:] = connection.recv()
    server = Server()
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        except Exception as e:
            # The message named something that is not to be found here.
            connection.send(("error", _text(e)))
            continue
        connection.send(_answer(server, *message))


def _answer(server: Server, verb: str, *arguments: Any) -> tuple[str, Any]:
    try:
        return "ok", server.answer(verb, *arguments)
    except Refused as e:
        return "refused", str(e)
    except Exception as e:
        return "error", _text(e)


def _text(error: Exception) -> str:
    """The kind of error and the last line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[-1:]])


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
