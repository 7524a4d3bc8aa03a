"""Decisions taken while training: which checkpoint is best, and when to stop.

Pure functions over small records, so that a resumed run decides as an unbroken one.
"""

from typing import NamedTuple

__all__ = ["Best", "should_stop", "update_best"]


class Best(NamedTuple):
    """The best validation so far.

    Attributes:
      step: updates done then, -1 before the first validation.
      score: its monitored metric, lower is better.
      waited: validations since, without improvement.
    """

    step: int = -1
    score: float = 0.0
    waited: int = 0


def update_best(best: Best, step: int, score: float) -> Best:
    """Best after a validation at `step`; a tie is no improvement."""
    if best.step < 0 or score < best.score:
        return Best(step, score, 0)
    return best._replace(waited=best.waited + 1)


def should_stop(best: Best, patience: int) -> bool:
    """True after `patience` validations without improvement; never for 0."""
    return 0 < patience <= best.waited
