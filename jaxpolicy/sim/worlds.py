"""Driving E worlds from the host, whatever they are made of.

A world is either functional (the Brax Env API: a pure `reset` and `step` of ONE world,
compiled here for E of them) or it lives in other processes and brings its own driver
(`open(n)`, see sim/gymnasium/world.py). Evaluation and collection by a controller see
only `Worlds`, so both kinds are driven by the same loops.

Axis letters: E worlds at once, A action.
"""

import functools
from typing import Any, Protocol

import jax
import numpy as np
from brax.envs.base import Env, State

from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.sim import wrappers

__all__ = [
    "CompiledWorlds",
    "Controller",
    "World",
    "Worlds",
    "check_action",
    "clip_action",
    "open_worlds",
]


class World(Protocol):
    """What every world says about itself.

    Optional besides: `instruction` (text), `variation` (text), `expert`, `scene` and
    `split_privileged` (see sim/tasks/base.py), `has_reward` (False where every reward is zero
    because nobody said what is rewarded), and `open(n) -> Worlds` where the world is
    not functional.

    Attributes:
      task, robot: names.
      control_hz: actions per second.
      observation_specs: one ArraySpec per observation, sorted by name.
      action_spec: the action vector.
      episode_length: actions until the time limit.
    """

    task: str
    robot: str
    control_hz: float
    observation_specs: tuple[ArraySpec, ...]
    action_spec: ActionSpec
    episode_length: int


class Worlds(Protocol):
    """E worlds in step with each other; a context manager.

    States are `brax.envs.State`s whose arrays have a leading axis [E]: obs, reward, done
    (float32, 1 where ended), metrics, and info, where "truncation" is 1 for an end by a
    time limit. What a world does after its end is undefined, except that it stays done or
    that nobody looks.
    """

    def reset(self, keys: jax.Array) -> State:
        """Starts E episodes from keys [E]."""

    def step(self, state: State, action: np.ndarray) -> State:
        """One control step from the latest state, with actions [E, A] within their limits."""

    def close(self) -> None:
        """Gives back what the worlds hold; may be called twice."""

    def __enter__(self) -> "Worlds": ...

    def __exit__(self, *error: Any) -> None: ...


class Controller(Protocol):
    """What acts in worlds. `confidence` may also be there: () -> [E] in [0, 1]."""

    def reset(self, n: int) -> None:
        """Starts `n` (E) episodes."""

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Observations of now, each [E, ...] -> actions [E, A] in physical units."""


def open_worlds(world: World | Env, n: int) -> Worlds:
    """`n` (E) copies of a world, driven from the host; close it, or use `with`.

    Raises:
      InputError: n < 1.
    """
    if n < 1:
        raise InputError(f"at least one world must be opened, got {n}")
    opener = getattr(world, "open", None)
    return CompiledWorlds(world) if opener is None else opener(n)


class CompiledWorlds:
    """E copies of a functional world.

    Physics is compiled once and so are the cameras, whatever is reset or stepped, for one
    E; the compiled functions belong to the environment and are found again by later
    instances.
    """

    def __init__(self, env: Env):
        """`env`: one world, with or without `wrappers.Pixels`."""
        self._plain, self._pixels = wrappers.without_pixels(env)

    def reset(self, keys: jax.Array) -> State:
        """Starts E worlds with keys [E]."""
        return self._observe(_reset(self._plain, keys))

    def step(self, state: State, action: np.ndarray) -> State:
        """One control step with actions [E, A]."""
        return self._observe(_step(self._plain, state, action))

    def close(self) -> None:
        """Nothing to give back."""

    def __enter__(self) -> "CompiledWorlds":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _observe(self, state: State) -> State:
        if self._pixels is None:
            return state
        images = wrappers.draw(self._pixels, state.pipeline_state)
        return state.replace(obs={**state.obs, **images})


@functools.partial(jax.jit, static_argnums=0)
def _reset(env: Env, keys: jax.Array) -> State:
    return jax.vmap(env.reset)(keys)


@functools.partial(jax.jit, static_argnums=0)
def _step(env: Env, state: State, action: jax.Array) -> State:
    names = {spec.name for spec in env.observation_specs}
    plain = {k: v for k, v in state.obs.items() if k in names}
    return jax.vmap(env.step)(state.replace(obs=plain), action)


def check_action(spec: ActionSpec, action: Any, seeds: np.ndarray, t: int) -> np.ndarray:
    """What a controller returned, float32 [E, A].

    Args:
      spec: of the world.
      action: what it returned.
      seeds: of the E episodes [E], for the message.
      t: step.

    Raises:
      InputError: another shape, or NaN.
    """
    action = np.asarray(action)
    expected = (len(seeds), spec.size)
    if action.shape != expected:
        raise InputError(
            f"the controller must return actions of shape {list(expected)}, "
            f"got {list(action.shape)}"
        )
    finite = np.isfinite(action).all(axis=-1)
    if not finite.all():
        raise InputError(
            f"the controller returned a NaN or infinite action at step {t} of the episode with "
            f"seed {seeds[~finite][0]}"
        )
    return action.astype(np.float32)


def clip_action(spec: ActionSpec, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Action within its limits [E, A], and the share of elements that were not [E]."""
    low, high = np.asarray(spec.minimum, np.float32), np.asarray(spec.maximum, np.float32)
    tolerance = 1e-5 * (high - low)
    outside = (action < low - tolerance) | (action > high + tolerance)
    return np.clip(action, low, high), outside.mean(axis=-1)
