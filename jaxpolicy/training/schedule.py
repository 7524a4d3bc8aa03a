"""When things happen in a run: functions of the absolute step alone.

So a resumed run makes the same calls of the same programs as an unbroken one.
"""

from collections.abc import Iterator
from typing import NamedTuple

from jaxpolicy.data.loader import BatchLoader
from jaxpolicy.training import inputs
from jaxpolicy.training.config import LoopConfig, TrainConfig
from jaxpolicy.training.prepare import Prepared

__all__ = [
    "Schedule",
    "describe_change",
    "dispatch_plan",
    "has_event",
    "is_due",
    "make_schedule",
    "n_val_batches",
]


class Schedule(NamedTuple):
    """When things happen, in updates.

    Attributes:
      total: end of the run.
      eval_every: between validations, 0 for none.
      checkpoint_every: between checkpoints.
      dispatch: at most this many per call of the compiled program.
    """

    total: int
    eval_every: int
    checkpoint_every: int
    dispatch: int


def make_schedule(config: LoopConfig, data: Prepared, evaluates: bool = False) -> Schedule:
    """Epochs and defaults of `config` as numbers of updates.

    Args:
      config: see LoopConfig.
      data: see Prepared.
      evaluates: whether there is an in-loop evaluation, which needs no validation data.
    """
    epoch = max(data.train_loader.batches_per_epoch, 1)
    total = config.epochs * epoch or config.steps
    every = config.eval_every or epoch
    checkpoint_every = config.checkpoint_every or every
    size = inputs.stack_size(data.train_loader, min(config.steps_per_dispatch, total))
    validates = evaluates or data.val_loader is not None
    return Schedule(total, every if validates else 0, checkpoint_every, size)


def describe_change(config: TrainConfig, planned: int, total: int, step: int) -> str:
    """One line about a run of `planned` updates that goes on from `step` to `total`."""
    rate = config.optimizer.schedule
    follows = "" if rate == "constant" else f"; the learning rate is that of a {rate} schedule over"
    follows += f" {total} updates from there on" if follows else ""
    return f"{total} updates instead of {planned}: goes on from update {step}{follows}"


def n_val_batches(config: LoopConfig, loader: BatchLoader) -> int:
    """Batches per validation."""
    n = max(loader.batches_per_epoch, 1)
    return min(n, config.eval_batches or n)


def dispatch_plan(schedule: Schedule, start: int) -> Iterator[tuple[int, int]]:
    """(first step, number of steps) of every dispatch from `start` to the end.

    A dispatch ends at multiples of `schedule.dispatch` and at every event.
    """
    while start < schedule.total:
        ends = [
            (start // every + 1) * every
            for every in (schedule.dispatch, schedule.eval_every, schedule.checkpoint_every)
            if every
        ]
        stop = min(*ends, schedule.total)
        yield start, stop - start
        start = stop


def is_due(step: int, every: int, total: int) -> bool:
    """Whether what happens `every` so many updates (0: never) happens after `step`."""
    return bool(every) and (step % every == 0 or step == total)


def has_event(schedule: Schedule, step: int) -> bool:
    """Whether there is anything to do between two dispatches after `step`."""
    periods = (schedule.eval_every, schedule.checkpoint_every)
    return step == schedule.total or any(is_due(step, p, schedule.total) for p in periods)
