"""Decisions taken while training: which checkpoint is best, when to stop, when to give up.

Pure functions over small records, so that a resumed run decides as an unbroken one.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxpolicy.specs import InputError

__all__ = ["Best", "DivergenceError", "check_finite", "should_stop", "update_best"]


class DivergenceError(InputError):
    """A metric became NaN or infinite."""


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


def check_finite(metrics: Mapping[str, Any], first_step: int) -> None:
    """Checks metrics of consecutive steps.

    Args:
      metrics: name -> [N] values of steps `first_step` ... `first_step` + N - 1.
      first_step: step of the first value.

    Raises:
      DivergenceError: names the metric and the first step that is not finite.
    """
    for name, values in metrics.items():
        bad = np.flatnonzero(~np.isfinite(np.atleast_1d(values)))
        if bad.size:
            raise DivergenceError(
                f"training diverged: {name} is {np.atleast_1d(values)[bad[0]]} at step "
                f"{first_step + int(bad[0])}; lower optimizer.learning_rate or look for "
                "extreme values in the dataset"
            )
