"""Demonstrations by the task's scripted expert, many worlds at once.

Physics runs first, in one compiled scan over the episode; only then, and only for the
steps that are kept, are the cameras drawn. Starts come from the COLLECTION stream
(sim/streams.py), which evaluation never uses.

Axis letters: T steps, E worlds at once, A action.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State

from jaxpolicy.collect import cutting
from jaxpolicy.collect.config import CollectConfig
from jaxpolicy.collect.cutting import Reached, Trace, dataset_spec
from jaxpolicy.core.specs import ActionSpec, InputError
from jaxpolicy.core.types import Episode
from jaxpolicy.sim import streams, wrappers

__all__ = [
    "Disturbance",
    "Limits",
    "Trace",
    "collect",
    "dataset_spec",
    "disturb",
    "disturbance_of",
    "expert_rollout",
    "limits",
]

BUMP_STEPS = 4
ORIGIN = cutting.Origin("scripted", "expert")


class Disturbance(NamedTuple):
    """What is done to the expert's actions before they are executed.

    The expert answers from wherever that leads, so demonstrations show how to recover.

    Attributes:
      noise: standard deviation of Gaussian noise, as a share of each element's range.
      bump_probability: chance per step that a bump begins: for BUMP_STEPS steps one random
        action of the arm is executed in place of the expert's.
      misgrasp_probability: chance per step that the gripper begins to close for as long.
    """

    noise: float | jax.Array = 0.0
    bump_probability: float | jax.Array = 0.0
    misgrasp_probability: float | jax.Array = 0.0


class Limits(NamedTuple):
    """What the robot accepts, each [A].

    Attributes:
      low, high: lowest and highest action.
      moving: False for elements without a unit (the gripper): misgrasps only.
    """

    low: Any
    high: Any
    moving: Any


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def expert_rollout(
    env: Env, record_states: bool, disturbance: Disturbance, length: int, keys: jax.Array
) -> Trace:
    """Drives E worlds with the expert, in one compiled scan.

    Args:
      env: a world without cameras (`wrappers.without_pixels`).
      record_states: whether Trace.states is wanted.
      disturbance: of the executed action.
      length: T.
      keys: [E].
    """
    split = jax.vmap(jax.random.split)(keys)
    state = jax.vmap(env.reset)(split[:, 0])
    step = functools.partial(_expert_step, env, record_states, disturbance, split[:, 1])
    return jax.lax.scan(step, state, jnp.arange(length))[1]


def _expert_step(
    env: Env,
    record_states: bool,
    disturbance: Disturbance,
    noise_keys: jax.Array,
    state: State,
    t: jax.Array,
) -> tuple[State, Trace]:
    bounds = limits(env.action_spec)
    wanted = jax.vmap(env.expert)(state.obs["privileged"])
    wanted = jnp.clip(wanted.astype(jnp.float32), bounds.low, bounds.high)
    disturbed = jax.vmap(functools.partial(disturb, disturbance), in_axes=(0, None, 0, None))
    executed = disturbed(noise_keys, t, wanted, bounds)
    after = jax.vmap(env.step)(state, executed)
    truncation = after.info.get("truncation", jnp.zeros_like(after.done))
    states = state.pipeline_state if record_states else None
    outcome = (after.reward, after.done, truncation, after.metrics["success"])
    told = (state.info.get("variation"), state.info.get("instruction"))
    return after, Trace(state.obs, wanted, *outcome, states, *told)


def disturb(
    disturbance: Disturbance, key: jax.Array, t: jax.Array, action: jax.Array, limits: Limits
) -> jax.Array:
    """What is executed at step `t` of an episode instead of `action`.

    Args:
      disturbance: see Disturbance.
      key: of the episode.
      t: step, int [].
      action: what the expert wants, [A].
      limits: see Limits.

    Returns:
      [A], within the limits.
    """
    key_noise, key_bump, key_misgrasp = jax.random.split(key, 3)
    sample = jax.random.normal(jax.random.fold_in(key_noise, t), action.shape)
    noisy = action + disturbance.noise * (limits.high - limits.low) * sample
    bumped, push = _bumped(disturbance.bump_probability, key_bump, t, limits)
    misgrasps, _ = _bumped(disturbance.misgrasp_probability, key_misgrasp, t, limits)
    arm = jnp.where(bumped, push, noisy)
    gripper = jnp.where(misgrasps, limits.low, action)
    return jnp.clip(jnp.where(limits.moving, arm, gripper), limits.low, limits.high)


def _bumped(
    probability: float | jax.Array, key: jax.Array, t: jax.Array, limits: Limits
) -> tuple[jax.Array, jax.Array]:
    """Whether a bump has begun in the last BUMP_STEPS steps, and the action [A] of the latest."""
    begun, pushes = jax.vmap(functools.partial(_bump, probability, key, limits))(
        t - jnp.arange(BUMP_STEPS)
    )
    # argmax finds the first that has begun, going back in time.
    return begun.any(), pushes[jnp.argmax(begun)]


def _bump(
    probability: float | jax.Array, key: jax.Array, limits: Limits, t: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Whether a bump begins at step `t`, and its action [A]."""
    key_begin, key_push = jax.random.split(jax.random.fold_in(key, t))
    begins = jax.random.uniform(key_begin) < probability
    share = jax.random.uniform(key_push, limits.low.shape)
    return begins & (t >= 0), limits.low + share * (limits.high - limits.low)


def disturbance_of(config: CollectConfig) -> Disturbance:
    """The disturbance that `config` asks for."""
    return Disturbance(config.execution_noise, config.bump_probability, config.misgrasp_probability)


def limits(spec: ActionSpec) -> Limits:
    """What disturbances need to know of an action vector."""
    low, high = np.asarray(spec.minimum, np.float32), np.asarray(spec.maximum, np.float32)
    return Limits(low, high, np.asarray([u != "1" for u in spec.units]))


def collect(
    env: Env,
    config: CollectConfig,
    progress: Callable[[int, int], None] | None = None,
    begin: Reached = cutting.BEGINNING,
    reached: Callable[[Reached], None] | None = None,
) -> Iterator[Episode]:
    """Records demonstrations until `config.n_episodes` have succeeded.

    An episode ends `config.tail_steps` steps after the first step that satisfied the
    success predicate, or at the time limit; it is a success if the predicate still holds
    there. Attempt i has the same start, noise and pictures whatever the batch.

    Args:
      env: one world (not vmapped) with an `expert`, a "success" metric and a time limit.
      config: how many, and how.
      progress: called with (successes so far, wanted) after each batch.
      begin, reached: to go on with a collection that was stopped, see cutting.record.

    Returns:
      Episodes in the order of their seeds, failures among them if config.keep_failures.

    Raises:
      InputError: the world has no expert or time limit, or the expert failed too often.
    """
    _check(env)
    plain, pixels = wrappers.without_pixels(env)
    length = wrappers.episode_length(env)
    disturbance = disturbance_of(config)
    run = functools.partial(expert_rollout, plain, pixels is not None, disturbance, length)
    draw = functools.partial(_draw_kept, pixels, min(config.batch, config.n_episodes))
    on_host = functools.partial(_on_host, run)
    return cutting.record(env, config, ORIGIN, on_host, draw, progress, begin, reached)


def _on_host(run: Callable[[jax.Array], Trace], seeds: np.ndarray) -> Trace:
    keys = streams.episode_keys(streams.COLLECTION, seeds)
    return jax.tree.map(np.asarray, run(keys))


def _check(env: Env) -> None:
    if getattr(env, "expert", None) is None:
        raise InputError(
            f"the environment '{env.task}' has no scripted expert to collect from; "
            "collect.controller records a controller of your own"
        )


def _draw_kept(
    pixels: wrappers.Pixels | None, batch: int, states: Any, ends: Mapping[int, int]
) -> dict[int, dict[str, np.ndarray]]:
    """Pictures of the kept steps: world -> key -> uint8 [T, S, S, 3].

    Steps of all worlds are drawn together, `batch` at a time.
    """
    if pixels is None or not ends:
        return {}
    steps = [(e, t) for e, end in ends.items() for t in range(end)]
    e_index, t_index = np.asarray(steps).T
    flat = jax.tree.map(lambda x: x[t_index, e_index], states)
    images = wrappers.draw_all(pixels, flat, batch)
    cuts = np.cumsum(list(ends.values()))[:-1]
    split = {k: np.split(v, cuts) for k, v in images.items()}
    return {e: {k: v[i] for k, v in split.items()} for i, e in enumerate(ends)}
