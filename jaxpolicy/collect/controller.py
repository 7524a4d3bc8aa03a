"""Episodes of any world by any controller: prior policies, experts of users, self-play.

Worlds are driven from the host (sim/worlds.py), so third-party ones can be recorded too.
Starts come from the COLLECTION stream, as those of the scripted experts do, and the same
seeds give the same starts and disturbances. Write what comes out with
`data.formats.rlds_writer.write(path, collect(...), dataset_spec(world), name)`.

Axis letters: T steps, E worlds at once, A action.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State

from jaxpolicy.collect import cutting, expert
from jaxpolicy.collect.config import CollectConfig
from jaxpolicy.collect.cutting import Origin, Trace, dataset_spec
from jaxpolicy.core import interruption
from jaxpolicy.core.types import Episode
from jaxpolicy.sim import streams, worlds, wrappers
from jaxpolicy.sim.worlds import Controller, World, Worlds

__all__ = ["SELF_PLAY", "Plan", "collect", "dataset_spec", "drive"]

SELF_PLAY = Origin("self_play", "controller")


class Plan(NamedTuple):
    """E episodes to run.

    Attributes:
      seeds: of the episodes, int [E].
      keys: their random keys, [E].
      tail_steps: steps wanted after the first success.
      length: steps at most.
    """

    seeds: np.ndarray
    keys: jax.Array
    tail_steps: int
    length: int


def collect(
    world: Env | World,
    controller: Controller,
    config: CollectConfig,
    progress: Callable[[int, int], None] | None = None,
    origin: Origin = SELF_PLAY,
) -> Iterator[Episode]:
    """Records episodes until `config.n_episodes` have succeeded.

    Where the world has no success predicate every episode that ran counts, with
    metadata.success None. An episode ends `config.tail_steps` steps after its first
    success, or where its world ends. Attempt i has the same start and disturbances
    whatever the batch, and is the same episode if the controller's answers do not depend
    on who else is in the batch.

    Args:
      world: one world, of any kind that `worlds.open_worlds` drives, with a time limit.
      controller: what acts; it is reset for each batch.
      config: how many, and how.
      progress: called with (wanted episodes so far, wanted) after each batch.
      origin: who collects, for the episodes' metadata.

    Yields:
      Episodes in the order of their seeds, failures among them if config.keep_failures.

    Raises:
      InputError: no time limit, a wrong action, or the controller failed too often.
    """
    length = wrappers.episode_length(world)
    with worlds.open_worlds(world, min(config.batch, config.n_episodes)) as opened:
        run = functools.partial(_run, world, opened, controller, config, length)
        yield from cutting.record(world, config, origin, run, progress=progress)


def _run(
    world: Env,
    opened: Worlds,
    controller: Controller,
    config: CollectConfig,
    length: int,
    seeds: np.ndarray,
) -> Trace:
    keys = streams.episode_keys(streams.COLLECTION, seeds)
    execute = functools.partial(_executed, world, config)
    plan = Plan(seeds, keys, config.tail_steps, length)
    return drive(world, opened, controller, execute, plan)


def drive(
    world: Env | World,
    opened: Worlds,
    controller: Controller,
    execute: Callable[[jax.Array, int, np.ndarray], np.ndarray],
    plan: Plan,
) -> Trace:
    """E episodes in step with each other, until nothing of any of them is wanted.

    Args:
      world: one world.
      opened: E of them.
      controller: whose actions are recorded.
      execute: (keys [E], step t, recorded actions [E, A]) -> what is executed instead,
        within the limits.
      plan: see Plan.

    Raises:
      InputError: an action of another shape, or NaN.
    """
    keys = jax.vmap(jax.random.split)(plan.keys)
    state = opened.reset(keys[:, 0])
    controller.reset(len(plan.seeds))
    steps: list[Trace] = []
    wanted = np.full(len(plan.seeds), plan.length)
    while len(steps) < wanted.max():
        interruption.check()
        observation = {s.name: np.asarray(state.obs[s.name]) for s in world.observation_specs}
        action = controller.act(observation)
        action = worlds.check_action(world.action_spec, action, plan.seeds, len(steps))
        action, _ = worlds.clip_action(world.action_spec, action)
        state = opened.step(state, execute(keys[:, 1], len(steps), action))
        steps.append(_step(observation, action, state))
        last = _last(steps[-1], len(steps), plan.tail_steps, plan.length)
        wanted = np.minimum(wanted, last)
    return jax.tree.map(lambda *xs: np.stack(xs), *steps)


def _executed(
    world: Env, config: CollectConfig, keys: jax.Array, t: int, action: np.ndarray
) -> np.ndarray:
    """`action` [E, A] with the configured disturbances; the recorded one stays clean."""
    disturbance = expert.disturbance_of(config)
    if not any(disturbance):
        return action
    bounds = expert.limits(world.action_spec)
    return np.asarray(_disturb(disturbance, keys, jnp.asarray(t), action, bounds))


@jax.jit
def _disturb(
    disturbance: expert.Disturbance,
    keys: jax.Array,
    t: jax.Array,
    action: jax.Array,
    bounds: expert.Limits,
) -> jax.Array:
    each = jax.vmap(expert.disturb, in_axes=(None, 0, None, 0, None))
    return each(disturbance, keys, t, action, bounds)


def _step(observation: dict[str, np.ndarray], action: np.ndarray, state: State) -> Trace:
    """One step of a trace, each [E, ...]."""
    done: Any = np.asarray(state.done)
    truncation = np.asarray(state.info.get("truncation", np.zeros_like(done)))
    success = state.metrics.get("success")
    success = None if success is None else np.asarray(success)
    names = ("variation", "instruction")
    told = {k: jax.tree.map(np.asarray, state.info.get(k)) for k in names}
    outcome = (np.asarray(state.reward), done, truncation, success)
    return Trace(observation, action, *outcome, **told)


def _last(step: Trace, n: int, tail_steps: int, length: int) -> np.ndarray:
    """Steps wanted of each world [E], as far as step number `n` (from 1) can tell."""
    last = np.where(step.done > 0, n, length)
    if step.success is None:
        return last
    return np.where(step.success > 0, np.minimum(last, n + tail_steps), last)
