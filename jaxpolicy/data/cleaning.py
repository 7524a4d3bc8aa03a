"""Rules that leave episodes out of training. Each looks at a Scan and says which."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from jaxpolicy.data.config import CleaningConfig
from jaxpolicy.data.scan import Scan

__all__ = ["RULES", "Facts", "find"]

# An element whose 1st and 99th percentile lie closer than this does not vary.
_CONSTANT = 1e-6

_ABSOLUTE_KINDS = ("joint_position", "cartesian_position")


class Facts(NamedTuple):
    """What rules look at besides the configuration.

    Attributes:
      scan: see Scan.
      q01, q99: [D], percentiles of action and proprio over all readable episodes.
      action_kind: of the ActionSpec.
    """

    scan: Scan
    q01: np.ndarray
    q99: np.ndarray
    action_kind: str


def find(facts: Facts, config: CleaningConfig) -> np.ndarray:
    """int8 [N]: position in RULES of the first rule that drops each episode, -1: kept."""
    found = np.full(len(facts.scan.episodes), -1, np.int8)
    for position, rule in enumerate(RULES.values()):
        found[(found < 0) & rule(facts, config)] = position
    return found


def _corrupt(facts: Facts, config: CleaningConfig) -> np.ndarray:
    return ~facts.scan.episodes["readable"]


def _failed(facts: Facts, config: CleaningConfig) -> np.ndarray:
    return (facts.scan.episodes["success"] == 0) & config.failed


def _truncated(facts: Facts, config: CleaningConfig) -> np.ndarray:
    episodes = facts.scan.episodes
    short = episodes["length"] < np.maximum(
        config.min_steps, config.min_length_share * _median_lengths(facts.scan)
    )
    # Where no episode at all is flagged as complete, the flags were never filled in.
    flagged = ~episodes["complete"] & episodes["complete"].any()
    return (flagged & config.truncated) | short


def _median_lengths(scan: Scan) -> np.ndarray:
    """[N], the median length of the readable episodes of each episode's task."""
    episodes = scan.episodes
    tasks, owner = np.unique(episodes["task"], return_inverse=True)
    medians = np.zeros(len(tasks))
    readable = np.flatnonzero(episodes["readable"])
    order = readable[np.argsort(owner[readable], kind="stable")]
    starts = np.searchsorted(owner[order], np.arange(len(tasks) + 1))
    for k in range(len(tasks)):
        lengths = episodes["length"][order[starts[k] : starts[k + 1]]]
        medians[k] = np.median(lengths) if len(lengths) else 0
    return medians[owner]


def _duplicate(facts: Facts, config: CleaningConfig) -> np.ndarray:
    """Episodes whose content an earlier readable one has."""
    episodes = facts.scan.episodes
    seen_before = np.zeros(len(episodes), bool)
    readable = np.flatnonzero(episodes["readable"])
    if config.duplicates:
        _, first = np.unique(episodes["content"][readable], return_index=True)
        seen_before[readable] = True
        seen_before[readable[first]] = False
    return seen_before


def _idle(facts: Facts, config: CleaningConfig) -> np.ndarray:
    """Nothing moves: every element stays within a small share of its usual range.

    Actions count as motion by their kind: a position by how much it changes, a delta by how
    far it is from zero, and one of unknown kind only where there is no proprioception.
    """
    scan, n = facts.scan, facts.scan.n_action
    spread = facts.q99 - facts.q01
    looked_at = spread > _CONSTANT
    if facts.action_kind == "unknown" and scan.width > n:
        looked_at[:n] = False
    found = np.zeros(len(scan.episodes), bool)
    if not config.idle or not looked_at.any():
        return found
    for place, low, high in scan.extremes():
        if facts.action_kind not in _ABSOLUTE_KINDS:
            low[:, :n], high[:, :n] = np.minimum(low[:, :n], 0), np.maximum(high[:, :n], 0)
        covered = (high - low)[:, looked_at] / spread[looked_at]
        found[place] = (covered <= config.idle).all(axis=1)
    return found


def _outlier(facts: Facts, config: CleaningConfig) -> np.ndarray:
    """Some element lies far beyond its usual range."""
    spread = facts.q99 - facts.q01
    reach, looked_at = config.outliers * spread, spread > _CONSTANT
    found = np.zeros(len(facts.scan.episodes), bool)
    if not config.outliers:
        return found
    for place, low, high in facts.scan.extremes():
        beyond = (low < facts.q01 - reach) | (high > facts.q99 + reach)
        found[place] = beyond[:, looked_at].any(axis=1)
    return found


# Name -> what an episode that it drops is told.
WHY = {
    "failed": "it is marked as failed",
    "corrupt": "it cannot be read",
    "truncated": "it was cut off, or is far shorter than others of its task",
    "duplicate": "an earlier episode has the same content",
    "idle": "nothing moves in it",
    "outlier": "a value lies far beyond its usual range",
}

# Name -> rule; the first that applies to an episode names the reason.
RULES: Mapping[str, Callable[[Facts, CleaningConfig], np.ndarray]] = {
    "failed": _failed,
    "corrupt": _corrupt,
    "truncated": _truncated,
    "duplicate": _duplicate,
    "idle": _idle,
    "outlier": _outlier,
}
