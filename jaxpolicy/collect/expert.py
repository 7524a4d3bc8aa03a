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

from jaxpolicy.collect.config import SEED_STRIDE, CollectConfig
from jaxpolicy.sim import streams, wrappers
from jaxpolicy.specs import InputError
from jaxpolicy.types import DatasetSpec, Episode, EpisodeMetadata

__all__ = ["Disturbance", "Limits", "Trace", "disturb", "collect", "dataset_spec", "expert_rollout"]


BUMP_STEPS = 4


class Disturbance(NamedTuple):
    """What is done to the expert's actions before they are executed.

    The expert answers from wherever that leads, so demonstrations show how to recover.

    Attributes:
      noise: standard deviation of Gaussian noise, as a share of each element's range.
      bump_probability: chance per step that a bump begins: for BUMP_STEPS steps one random
        action is executed in place of the expert's.
    """

    noise: float | jax.Array = 0.0
    bump_probability: float | jax.Array = 0.0


class Limits(NamedTuple):
    """What the robot accepts, each [A].

    Attributes:
      low, high: lowest and highest action.
      moving: False for elements without a unit (the gripper), which are not disturbed.
    """

    low: Any
    high: Any
    moving: Any


class Trace(NamedTuple):
    """E worlds driven by the expert for T steps, time first.

    Attributes:
      observation: each [T, E, ...], what the expert saw, without pictures.
      action: float32 [T, E, A], what the expert wanted (executed without noise or not).
      reward, done, truncation, success: float32 [T, E], after the action.
      states: physics states [T, E, ...] that were observed, None without cameras.
    """

    observation: Mapping[str, jax.Array]
    action: jax.Array
    reward: jax.Array
    done: jax.Array
    truncation: jax.Array
    success: jax.Array
    states: Any


def dataset_spec(env: Env) -> DatasetSpec:
    """What the steps of `collect(env, ...)` hold."""
    return DatasetSpec(tuple(env.observation_specs), env.action_spec)


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
    limits = _limits(env)
    wanted = jax.vmap(env.expert)(state.obs["privileged"])
    wanted = jnp.clip(wanted.astype(jnp.float32), limits.low, limits.high)
    disturbed = jax.vmap(functools.partial(disturb, disturbance), in_axes=(0, None, 0, None))
    executed = disturbed(noise_keys, t, wanted, limits)
    after = jax.vmap(env.step)(state, executed)
    truncation = after.info.get("truncation", jnp.zeros_like(after.done))
    states = state.pipeline_state if record_states else None
    outcome = (after.reward, after.done, truncation, after.metrics["success"])
    return after, Trace(state.obs, wanted, *outcome, states)


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
    key_noise, key_bump = jax.random.split(key)
    sample = jax.random.normal(jax.random.fold_in(key_noise, t), action.shape)
    noisy = action + disturbance.noise * (limits.high - limits.low) * sample
    begun, pushes = jax.vmap(functools.partial(_bump, disturbance, key_bump, limits))(
        t - jnp.arange(BUMP_STEPS)
    )
    # The latest bump counts: argmax finds the first that has begun, going back in time.
    executed = jnp.where(begun.any(), pushes[jnp.argmax(begun)], noisy)
    executed = jnp.where(limits.moving, executed, action)
    return jnp.clip(executed, limits.low, limits.high)


def _bump(
    disturbance: Disturbance, key: jax.Array, limits: Limits, t: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Whether a bump begins at step `t`, and its action [A]."""
    key_begin, key_push = jax.random.split(jax.random.fold_in(key, t))
    begins = jax.random.uniform(key_begin) < disturbance.bump_probability
    share = jax.random.uniform(key_push, limits.low.shape)
    return begins & (t >= 0), limits.low + share * (limits.high - limits.low)


def _limits(env: Env) -> Limits:
    spec = env.action_spec
    low, high = np.asarray(spec.minimum, np.float32), np.asarray(spec.maximum, np.float32)
    return Limits(low, high, np.asarray([u != "1" for u in spec.units]))


def collect(
    env: Env,
    config: CollectConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Episode]:
    """Records demonstrations until `config.n_episodes` have succeeded.

    An episode ends `config.tail_steps` steps after the first step that satisfied the
    success predicate, or at the time limit; it is a success if the predicate still holds
    there. Attempt i has the same start, noise and pictures whatever the batch.

    Args:
      env: one world (not vmapped) with an `expert`, a "success" metric and a time limit.
      config: how many, and how.
      progress: called with (successes so far, wanted) after each batch.

    Yields:
      Episodes in the order of their seeds, failures among them if config.keep_failures.

    Raises:
      InputError: the world has no expert or time limit, or the expert failed too often.
    """
    _check(env)
    plain, pixels = wrappers.without_pixels(env)
    length = wrappers.episode_length(env)
    disturbance = Disturbance(config.execution_noise, config.bump_probability)
    run = functools.partial(expert_rollout, plain, pixels is not None, disturbance, length)
    succeeded = 0
    batch = min(config.batch, config.n_episodes)
    for first in range(0, config.attempts, batch):
        seeds = config.seed * SEED_STRIDE + first + np.arange(batch)
        trace = jax.tree.map(np.asarray, run(streams.episode_keys(streams.COLLECTION, seeds)))
        ends = [_end(trace, e, config.tail_steps) for e in range(batch)]
        kept = _kept(trace, ends, config, succeeded, first)
        pictures = _draw_kept(pixels, trace.states, {e: ends[e] for e in kept}, batch)
        for e in kept:
            episode = _episode(env, trace, pictures.get(e, {}), e, ends[e], int(seeds[e]))
            succeeded += bool(episode.metadata.success)
            yield episode
        if progress is not None:
            progress(succeeded, config.n_episodes)
        if succeeded >= config.n_episodes:
            return
    raise InputError(
        f"the expert of '{env.task}' succeeded in {succeeded} of {config.attempts} attempts, "
        f"{config.n_episodes} were wanted; raise collect.max_attempts or lower "
        "collect.execution_noise"
    )


def _check(env: Env) -> None:
    if getattr(env, "expert", None) is None:
        raise InputError(f"the environment '{env.task}' has no scripted expert to collect from")


def _end(trace: Trace, e: int, tail_steps: int) -> int:
    """Number of steps kept of world `e`."""
    limit = len(trace.action)
    ended = np.flatnonzero(trace.done[:, e] > 0)
    limit = int(ended[0]) + 1 if len(ended) else limit
    success = np.flatnonzero(trace.success[:limit, e] > 0)
    return min(int(success[0]) + 1 + tail_steps, limit) if len(success) else limit


def _kept(
    trace: Trace, ends: list[int], config: CollectConfig, succeeded: int, first: int
) -> list[int]:
    """Worlds whose episodes are yielded, up to the last success that is wanted."""
    kept = []
    for e, end in enumerate(ends):
        if succeeded >= config.n_episodes or first + e >= config.attempts:
            break
        success = bool(trace.success[end - 1, e] > 0)
        succeeded += success
        if success or config.keep_failures:
            kept.append(e)
    return kept


def _draw_kept(
    pixels: wrappers.Pixels | None, states: Any, ends: Mapping[int, int], batch: int
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


def _episode(
    env: Env, trace: Trace, pictures: Mapping[str, np.ndarray], e: int, end: int, seed: int
) -> Episode:
    observation = {k: np.asarray(v[:end, e]) for k, v in trace.observation.items()}
    last = end - 1
    return Episode(
        observation={**observation, **pictures},
        action=np.asarray(trace.action[:end, e]),
        reward=np.asarray(trace.reward[:end, e]),
        is_terminal=bool(trace.done[last, e] > 0 and trace.truncation[last, e] == 0),
        language_instruction=getattr(env, "instruction", ""),
        metadata=EpisodeMetadata(
            episode_id=f"{env.task}-{seed:06d}",
            success=bool(trace.success[last, e] > 0),
            collection_method="scripted",
            operator="expert",
            seconds=end / env.control_hz,
            source="simulation",
            robot=env.robot,
            task=env.task,
            seed=seed,
        ),
    )
