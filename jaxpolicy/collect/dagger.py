"""On-policy episodes that an expert labels (DAgger), or corrects while they run (HG-DAgger).

In round i the policy beta_i * expert + (1 - beta_i) * learner acts: a coin says whose action is
executed. What is recorded is what the expert would have done, at every step, so the learner is
shown how to get out of where it gets itself into (Ross, Gordon and Bagnell 2011, algorithm 3.1,
https://arxiv.org/abs/1011.0686). Labels are right whatever becomes of the episode, so failed ones
are kept.

The expert is a Controller: the task's scripted one, any other, or a person at a device. A
person cannot label what somebody else does, but can take over: a Controller with a method
`intervening() -> bool [E]`, asked after each `act`, acts where and while it returns True, and
only those steps are recorded (HG-DAgger, Kelly et al. 2019, https://arxiv.org/abs/1810.02890).
There is no beta then. A person's device without that method serves too: with beta = 1 it is
teleoperation.

Starts come from the DAGGER stream (sim/streams.py), which no demonstration and no evaluation
uses.

Axis letters: T steps, E worlds at once, A action.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from brax.envs.base import Env

from jaxpolicy.collect import controller, cutting
from jaxpolicy.collect.config import BETA_SCHEDULES, DaggerConfig
from jaxpolicy.collect.controller import Plan
from jaxpolicy.collect.cutting import Origin, Reached, Trace, dataset_spec
from jaxpolicy.core.specs import ActionSpec, InputError
from jaxpolicy.core.types import Episode
from jaxpolicy.sim import streams, worlds, wrappers
from jaxpolicy.sim.worlds import Controller, World

__all__ = ["METHOD", "Labelled", "Mixture", "Round", "Teacher", "beta", "collect", "dataset_spec"]

METHOD = "dagger"


class Teacher(NamedTuple):
    """Who labels.

    Attributes:
      controller: observations -> actions; optionally `intervening`, see above.
      operator: its name, for the episodes' metadata.
    """

    controller: Controller
    operator: str


class Round(NamedTuple):
    """One round.

    Attributes:
      number: from 1; round 0 are the demonstrations.
      beta: chance that the expert's action is executed, see `beta`.
      learner_step: updates that made the learner, for the episodes' metadata.
      first_seed: of its first episode; the others' follow.
    """

    number: int
    beta: float
    learner_step: int
    first_seed: int


class Labelled(NamedTuple):
    """An episode that ran.

    Attributes:
      success: the predicate where it ended, None where the world has none.
      steps: how many were driven.
      expert_steps: in how many of them the expert's action was executed.
      episodes: what is kept: all of it, or each stretch in which the expert intervened.
    """

    success: bool | None
    steps: int
    expert_steps: int
    episodes: tuple[Episode, ...]


def beta(config: DaggerConfig, number: int) -> float:
    """Share of the expert in round `number`, in [0, 1]; 1 in round 0.

    Raises:
      InputError: there is no such schedule.
    """
    if number == 0:
        return 1.0
    if config.schedule == "first":
        return 0.0
    if config.schedule == "exponential":
        return config.beta**number
    if config.schedule == "linear":
        return max(0.0, 1.0 - number / config.rounds)
    if config.schedule == "constant":
        return config.beta
    raise InputError(f"dagger.schedule must be one of {BETA_SCHEDULES}, got '{config.schedule}'")


class Mixture:
    """Expert and learner in the same E worlds: `act` gives labels, `execute` what is done.

    Attributes:
      acted: for each step so far, where the expert's action was executed, bool [E].
      labelled: for each step so far, where the label is to be kept, bool [E].
    """

    def __init__(
        self,
        spec: ActionSpec,
        expert: Controller,
        learner: Controller,
        seeds: np.ndarray,
        share: float,
        mixing: str = "step",
    ):
        """Mixes two controllers.

        Args:
          spec: the action vector.
          expert: who labels; with a method `intervening` it also says where it acts.
          learner: who acts otherwise.
          seeds: of the episodes [E], for messages.
          share: beta, chance that the expert acts; unused where it says so itself.
          mixing: key of MIXINGS.
        """
        self._spec, self._expert, self._learner = spec, expert, learner
        self._seeds, self._share, self._mixing = seeds, share, mixing
        self.acted: list[np.ndarray] = []
        self.labelled: list[np.ndarray] = []
        self._wanted = np.zeros((0, spec.size), np.float32)

    def reset(self, n: int) -> None:
        """Starts `n` (E) episodes."""
        self._expert.reset(n)
        self._learner.reset(n)
        self.acted, self.labelled = [], []

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Observations, each [E, ...] -> labels, the expert's actions [E, A]."""
        self._wanted = np.asarray(self._learner.act(observation))
        return self._expert.act(observation)

    def execute(self, keys: jax.Array, t: int, labels: np.ndarray) -> np.ndarray:
        """Keys [E], step and labels [E, A] -> actions to execute [E, A].

        Raises:
          InputError: the learner returned another shape or NaN, or `intervening` did.
        """
        learned = worlds.check_action(self._spec, self._wanted, self._seeds, t)
        learned, _ = worlds.clip_action(self._spec, learned)
        acts = self._intervening()
        self.labelled.append(np.ones(len(labels), bool) if acts is None else acts)
        if acts is None:
            coin = t if self._mixing == "step" else 0
            acts = np.asarray(_below(self._share, keys, coin))
        self.acted.append(acts)
        return np.where(acts[:, None], labels, learned)

    def _intervening(self) -> np.ndarray | None:
        """Where the expert says that it acts, bool [E]; None where it does not say."""
        ask = getattr(self._expert, "intervening", None)
        if ask is None:
            return None
        acts = np.asarray(ask(), bool)
        if acts.shape != self._seeds.shape:
            raise InputError(
                f"intervening() must return one bool per world, shape {list(self._seeds.shape)}, "
                f"got {list(acts.shape)}"
            )
        return acts


@jax.jit
def _below(share: float | jax.Array, keys: jax.Array, t: int | jax.Array) -> jax.Array:
    """Whether a uniform number in [0, 1) of each key [E] at step `t` lies below `share`."""
    return jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, t)) < share)(keys)


def collect(
    world: Env | World,
    teacher: Teacher,
    learner: Controller,
    config: DaggerConfig,
    this: Round,
    progress: Callable[[int, int], None] | None = None,
    begin: Reached = cutting.BEGINNING,
    reached: Callable[[Reached], None] | None = None,
) -> Iterator[Labelled]:
    """Runs the episodes of one round, all of which are kept.

    An episode ends `config.tail_steps` steps after its first success, or where its world ends.
    Its start and coins do not depend on the batch. The last batch is padded with further
    starts, whose episodes are dropped.

    Args:
      world: one world, of any kind that `worlds.open_worlds` drives, with a time limit.
      teacher: who labels.
      learner: who acts when the expert does not.
      config: how many, and how.
      this: which round.
      progress: called with (episodes so far, wanted) after each batch.
      begin, reached: to go on with a round that was stopped, see cutting.record.

    Yields:
      One Labelled per episode, in the order of their seeds.

    Raises:
      InputError: no time limit, or a wrong action.
    """
    length, n = wrappers.episode_length(world), config.episodes_per_round
    batch = min(config.batch, n)
    parts = (world.action_spec, teacher.controller, learner)
    with worlds.open_worlds(world, batch) as opened:
        for first in range(begin.attempts, n, batch):
            seeds = this.first_seed + first + np.arange(batch)
            keys = streams.episode_keys(streams.DAGGER, seeds)
            plan = Plan(seeds, keys, config.tail_steps, length)
            mixture = Mixture(*parts, seeds, this.beta, config.mixing)
            trace = controller.drive(world, opened, mixture, mixture.execute, plan)
            count = min(batch, n - first)
            label = functools.partial(_label, world, trace, mixture, teacher, this)
            ends = cutting.ends(trace, config.tail_steps)[:count]
            yield from (label((e, end), int(seeds[e])) for e, end in enumerate(ends))
            if reached is not None:
                reached(Reached(first + batch, first + count))
            if progress is not None:
                progress(first + count, n)


def _label(
    world: Env | World,
    trace: Trace,
    mixture: Mixture,
    teacher: Teacher,
    this: Round,
    place: tuple[int, int],
    seed: int,
) -> Labelled:
    """What world and number of steps `place` of a trace leave."""
    e, end = place
    whole = cutting.cut(world, trace, {}, place, seed, Origin(METHOD, teacher.operator))
    acted, labelled = (np.stack(x)[:end, e] for x in (mixture.acted, mixture.labelled))
    source = f"simulation: DAgger round {this.number}, beta {this.beta:g}, "
    metadata = dataclasses.replace(
        whole.metadata,
        episode_id=f"{whole.metadata.episode_id}-dagger-{this.number}",
        source=source + f"learner of step {this.learner_step}",
    )
    whole = dataclasses.replace(whole, metadata=metadata)
    pieces = tuple(_piece(whole, start, stop) for start, stop in _stretches(labelled))
    return Labelled(metadata.success, end, int(acted.sum()), pieces)


def _stretches(mask: np.ndarray) -> list[tuple[int, int]]:
    """(first, one past the last) of every run of True in bool [T]."""
    padded = np.concatenate([[False], mask, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _piece(whole: Episode, start: int, stop: int) -> Episode:
    """Steps `start` to `stop` - 1 of an episode as one of its own."""
    if stop - start == len(whole):
        return whole
    reaches_end, facts = stop == len(whole), whole.metadata
    metadata = dataclasses.replace(
        facts,
        episode_id=f"{facts.episode_id}-{start:04d}",
        seconds=facts.seconds * (stop - start) / len(whole),
        complete=reaches_end,
    )
    return dataclasses.replace(
        whole,
        observation={k: v[start:stop] for k, v in whole.observation.items()},
        action=whole.action[start:stop],
        reward=whole.reward[start:stop],
        is_terminal=whole.is_terminal and reaches_end,
        metadata=metadata,
    )
