"""Statistics of success: intervals, comparisons, calibration and verdicts.

NumPy and the standard library only, so that trial protocols on a robot can use it.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxpolicy.core.specs import InputError

__all__ = [
    "Paired",
    "Verdict",
    "calibration",
    "mcnemar",
    "success_std_over_seeds",
    "trials_to_decide",
    "verdict",
    "wilson",
]

MAX_TRIALS = 1_000_000


def wilson(n_success: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a success rate.

    (p + z^2/2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), where p is the
    observed rate and z the normal quantile of (1 + confidence) / 2.

    Args:
      n_success: successes, 0 ... n.
      n: trials, at least 1.
      confidence: level in (0, 1).

    Raises:
      InputError: arguments out of range.
    """
    if n < 1 or not 0 <= n_success <= n:
        raise InputError(f"an interval needs 0 <= n_success <= n, n >= 1; got {n_success} of {n}")
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence must be in (0, 1), got {confidence}")
    z = statistics.NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    p = n_success / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1.0 + z * z / n
    low = 0.0 if n_success == 0 else (middle - half) / scale
    high = 1.0 if n_success == n else (middle + half) / scale
    return low, high


@dataclasses.dataclass(frozen=True)
class Paired:
    """Two policies on the same starts.

    Attributes:
      n: starts.
      both, only_first, only_second, neither: how often who succeeded.
      difference: success rate of the first minus that of the second.
      p_value: exact two-sided McNemar test that they are equally good.
    """

    n: int
    both: int
    only_first: int
    only_second: int
    neither: int
    difference: float
    p_value: float


def mcnemar(first: Sequence[bool] | np.ndarray, second: Sequence[bool] | np.ndarray) -> Paired:
    """Compares two policies run on the same seeds.

    The exact test asks how likely a split of the discordant pairs at least as uneven is
    under a fair coin: min(1, 2 sum_{i <= min(b, c)} C(b + c, i) / 2^(b + c)).

    Args:
      first, second: success of each on the same seeds in the same order, bool [N].

    Raises:
      InputError: different or no lengths.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise InputError(
            "a paired comparison needs one outcome per seed from both policies, got "
            f"{list(a.shape)} and {list(b.shape)}"
        )
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, i) for i in range(min(only_first, only_second) + 1))
    return Paired(
        n=len(a),
        both=int((a & b).sum()),
        only_first=only_first,
        only_second=only_second,
        neither=int((~a & ~b).sum()),
        difference=float((only_first - only_second) / len(a)),
        p_value=min(1.0, 2 * tail / 2**discordant),
    )


def trials_to_decide(
    n_success: int, n: int, thresholds: Sequence[float], confidence: float = 0.95
) -> int | None:
    """How many more trials would decide, if the observed rate stays as it is.

    Returns:
      0 if the interval already holds none of `thresholds`; else the smallest number of
      further trials after which it would not; None if that takes over a million, as it
      does where the observed rate is at a threshold.
    """
    if _decided(n_success, n, n, thresholds, confidence):
        return 0
    low, high = n, MAX_TRIALS
    if not _decided(n_success, n, high, thresholds, confidence):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _decided(n_success, n, middle, thresholds, confidence):
            high = middle
        else:
            low = middle
    return high - n


def _decided(
    n_success: int, n: int, total: int, thresholds: Sequence[float], confidence: float
) -> bool:
    """Whether `total` trials at the rate n_success / n leave no threshold inside."""
    low, high = wilson(min(total, round(n_success / n * total)), total, confidence)
    return not any(low <= t <= high for t in thresholds)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is thought of a policy.

    Attributes:
      verdict: "good", "acceptable" or "needs_improvement".
      inconclusive: a threshold lies inside the interval, so that chance could have
        made the difference.
      more_trials: how many more would decide it at the observed rate, None if more than a
        million.
      reasons: one sentence each.
    """

    verdict: str
    inconclusive: bool
    more_trials: int | None
    reasons: tuple[str, ...]


def verdict(
    n_success: int, n: int, good: float = 0.8, acceptable: float = 0.7, confidence: float = 0.95
) -> Verdict:
    """Good above `good`, acceptable above `acceptable`, by the observed rate."""
    rate = n_success / n if n else 0.0
    low, high = wilson(n_success, n, confidence)
    inside = [t for t in (good, acceptable) if low <= t <= high]
    more = trials_to_decide(n_success, n, (good, acceptable), confidence)
    above = [t for t in (good, acceptable) if rate > t]
    name = {2: "good", 1: "acceptable", 0: "needs_improvement"}[len(above)]
    bound = f"above {above[0]:.0%}" if above else f"not above {acceptable:.0%}"
    reasons = [f"success {n_success}/{n} = {rate:.1%} is {bound}"]
    for t in inside:
        reasons.append(f"the interval [{low:.1%}, {high:.1%}] holds the threshold {t:.0%}")
    if inside:
        wait = "over a million" if more is None else f"about {more}"
        reasons.append(f"{wait} more episodes at this rate would decide it")
    return Verdict(name, bool(inside), more, tuple(reasons))


def calibration(confidence: np.ndarray, success: np.ndarray, n_bins: int = 10) -> dict[str, Any]:
    """How well stated confidence predicts success.

    ece = sum_b n_b / N |mean success_b - mean confidence_b| over `n_bins` equal bins of
    [0, 1]; brier = mean (confidence - success)^2.

    Args:
      confidence: [N] in [0, 1].
      success: bool [N].

    Returns:
      {"ece", "brier", "bins": [{"low", "high", "n", "confidence", "success"}, ...]} with
      the bins that are not empty.

    Raises:
      InputError: lengths differ, or confidence outside [0, 1].
    """
    sure, won = np.asarray(confidence, float), np.asarray(success, float)
    if sure.shape != won.shape or sure.ndim != 1 or not len(sure):
        raise InputError("calibration needs one confidence and one outcome per episode")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise InputError("confidence must be in [0, 1]")
    place = np.minimum((sure * n_bins).astype(int), n_bins - 1)
    bins = [_bin(i, n_bins, sure[place == i], won[place == i]) for i in np.unique(place)]
    ece = sum(b["n"] * abs(b["success"] - b["confidence"]) for b in bins) / len(sure)
    return {"ece": float(ece), "brier": float(np.mean((sure - won) ** 2)), "bins": bins}


def _bin(i: int, n_bins: int, sure: np.ndarray, won: np.ndarray) -> dict[str, float]:
    return {
        "low": float(i / n_bins),
        "high": float((i + 1) / n_bins),
        "n": len(sure),
        "confidence": float(sure.mean()),
        "success": float(won.mean()),
    }


def success_std_over_seeds(rates: Sequence[float]) -> float | None:
    """Sample standard deviation of the success rate over training seeds, None below two."""
    return float(np.std(rates, ddof=1)) if len(rates) > 1 else None
