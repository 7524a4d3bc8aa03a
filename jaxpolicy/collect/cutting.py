"""From worlds that ran in step with each other to episodes: where each ends, what is kept.

`record` is the loop that every simulated collection shares; what differs is how E worlds
are run.

Axis letters: T steps, E worlds at once, A action.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from brax.envs.base import Env

from jaxpolicy.collect.config import SEED_STRIDE, CollectConfig
from jaxpolicy.core import interruption
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import DatasetSpec, Episode, EpisodeMetadata
from jaxpolicy.sim.worlds import World

__all__ = [
    "BEGINNING",
    "Origin",
    "Reached",
    "Trace",
    "cut",
    "dataset_spec",
    "ends",
    "kept",
    "no_pictures",
    "record",
]


class Trace(NamedTuple):
    """E worlds that were driven for T steps, time first.

    Attributes:
      observation: each [T, E, ...], what was seen before the action.
      action: float32 [T, E, A], what was wanted (executed without noise or not).
      reward, done, truncation: float32 [T, E], after the action.
      success: float32 [T, E], after the action; None where the world has no predicate.
      states: physics states [T, E, ...] that were observed, None where nobody draws them.
      variation: what each episode randomises, by name, each [T, E], the same for all T;
        None where the world does not say.
      instruction: int32 [T, E], which of the world's `instructions` is asked for, the same
        for all T; None where there is only one.
    """

    observation: Mapping[str, Any]
    action: Any
    reward: Any
    done: Any
    truncation: Any
    success: Any
    states: Any = None
    variation: Mapping[str, Any] | None = None
    instruction: Any = None


class Reached(NamedTuple):
    """How far a collection is; after a whole batch, it can go on from there.

    Attributes:
      attempts: made so far.
      counted: episodes so far that count as wanted.
    """

    attempts: int
    counted: int


BEGINNING = Reached(0, 0)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Who collected.

    Attributes:
      collection_method, operator: see EpisodeMetadata.
    """

    collection_method: str
    operator: str


def dataset_spec(env: Env | World) -> DatasetSpec:
    """What the steps of episodes from a world hold."""
    return DatasetSpec(tuple(env.observation_specs), env.action_spec)


def no_pictures(states: Any, ends: Mapping[int, int]) -> dict[int, dict[str, np.ndarray]]:
    """For `record`, where a trace has all of its observations."""
    return {}


def record(
    env: Env | World,
    config: CollectConfig,
    origin: Origin,
    run: Callable[[np.ndarray], Trace],
    draw: Callable[[Any, Mapping[int, int]], dict[int, dict[str, np.ndarray]]] = no_pictures,
    progress: Callable[[int, int], None] | None = None,
    begin: Reached = BEGINNING,
    reached: Callable[[Reached], None] | None = None,
) -> Iterator[Episode]:
    """Runs batches of worlds until `config.n_episodes` episodes count as wanted.

    Those are the successes, or all where the world has no success predicate.

    Args:
      env: one world.
      config: how many, and which of them are kept.
      origin: who collects.
      run: episode seeds [E] -> what happened, on the host.
      draw: (Trace.states, number of steps of each kept world) -> more observations of
        each, [T, ...].
      progress: called with (wanted episodes so far, wanted) after each batch.
      begin: where an earlier call ended, which `reached` was told.
      reached: called after each batch, when all of its episodes have been taken.

    Yields:
      Episodes in the order of their seeds, failures among them if config.keep_failures.

    Raises:
      InputError: too few succeeded.
    """
    counted = begin.counted
    batch = min(config.batch, config.n_episodes)
    for first in range(begin.attempts, config.attempts, batch):
        if counted >= config.n_episodes:
            return
        interruption.check()
        seeds = config.seed * SEED_STRIDE + first + np.arange(batch)
        trace = run(seeds)
        lengths = ends(trace, config.tail_steps)
        chosen = kept(trace, lengths, config, counted, first)
        pictures = draw(trace.states, {e: lengths[e] for e in chosen})
        for e in chosen:
            place, seed = (e, lengths[e]), int(seeds[e])
            episode = cut(env, trace, pictures.get(e, {}), place, seed, origin)
            counted += episode.metadata.success is not False
            yield episode
        if reached is not None:
            reached(Reached(first + batch, counted))
        if progress is not None:
            progress(counted, config.n_episodes)
    if counted >= config.n_episodes:
        return
    raise InputError(
        f"the {origin.operator} of '{env.task}' succeeded in {counted} of {config.attempts} "
        f"attempts, {config.n_episodes} were wanted; raise collect.max_attempts or lower "
        "collect.execution_noise"
    )


def ends(trace: Trace, tail_steps: int) -> list[int]:
    """Number of steps kept of each of the E worlds.

    An episode ends `tail_steps` steps after the first step that satisfied the success
    predicate, or where its world ended, or with the trace.
    """
    return [_end(trace, e, tail_steps) for e in range(trace.action.shape[1])]


def _end(trace: Trace, e: int, tail_steps: int) -> int:
    limit = len(trace.action)
    ended = np.flatnonzero(trace.done[:, e] > 0)
    limit = int(ended[0]) + 1 if len(ended) else limit
    if trace.success is None:
        return limit
    success = np.flatnonzero(trace.success[:limit, e] > 0)
    return min(int(success[0]) + 1 + tail_steps, limit) if len(success) else limit


def kept(
    trace: Trace, ends: list[int], config: CollectConfig, counted: int, first: int
) -> list[int]:
    """Worlds whose episodes are yielded, up to the last one that is wanted.

    Args:
      trace: of E worlds.
      ends: number of steps of each.
      config: how many are wanted, and whether failures are kept.
      counted: episodes so far that count as wanted.
      first: number of the first of these attempts.
    """
    chosen = []
    for e, end in enumerate(ends):
        if counted >= config.n_episodes or first + e >= config.attempts:
            break
        success = _success(trace, e, end)
        counted += success is not False
        if success is not False or config.keep_failures:
            chosen.append(e)
    return chosen


def _success(trace: Trace, e: int, end: int) -> bool | None:
    """Whether world `e` satisfies the predicate where it ends."""
    return None if trace.success is None else bool(trace.success[end - 1, e] > 0)


def cut(
    env: Env | World,
    trace: Trace,
    pictures: Mapping[str, np.ndarray],
    place: tuple[int, int],
    seed: int,
    origin: Origin,
) -> Episode:
    """One episode out of a trace.

    Args:
      env: the world.
      trace: of E worlds.
      pictures: more observations, each [T, ...] of this episode.
      place: which world, and number of steps T of it.
      seed: of the episode.
      origin: who collected.
    """
    e, end = place
    last = end - 1
    observation = {k: np.asarray(v[:end, e]) for k, v in trace.observation.items()}
    return Episode(
        observation={**observation, **pictures},
        action=np.asarray(trace.action[:end, e]),
        reward=np.asarray(trace.reward[:end, e]),
        is_terminal=bool(trace.done[last, e] > 0 and trace.truncation[last, e] == 0),
        language_instruction=_instruction(env, trace, e),
        metadata=EpisodeMetadata(
            episode_id=f"{env.task}-{seed:06d}",
            success=_success(trace, e, end),
            collection_method=origin.collection_method,
            operator=origin.operator,
            seconds=end / env.control_hz,
            source="simulation",
            robot=env.robot,
            task=env.task,
            seed=seed,
            variation={k: float(v[0, e]) for k, v in (trace.variation or {}).items()},
        ),
    )


def _instruction(env: Env | World, trace: Trace, e: int) -> str:
    """What world `e` was asked for, in words."""
    choices = getattr(env, "instructions", ())
    if trace.instruction is None or not choices:
        return getattr(env, "instruction", "")
    return choices[int(trace.instruction[0, e])]
