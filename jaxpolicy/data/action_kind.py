"""Do actions say where to go, or how far? Judged from a few episodes, for people to confirm."""

from typing import NamedTuple

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.source import EpisodeSource

__all__ = ["Guess", "compare", "guess"]

_N_EPISODES = 8
# A target is met when the state comes within this share of its range; a delta agrees with the
# motion it causes when their correlation is above this.
_CLOSE = 0.15
_CORRELATED = 0.5
_CONSTANT = 1e-6


class Guess(NamedTuple):
    """What a few episodes suggest.

    Attributes:
      kind: "position", "delta", or "" where neither shows.
      evidence: one line about it.
    """

    kind: str
    evidence: str


def guess(source: EpisodeSource) -> Guess:
    """Compares actions with the proprioception that follows them.

    Elements are compared in their order, as far as both reach: most datasets list the state
    and the action alike.
    """
    pairs = []
    for i in np.unique(np.linspace(0, len(source) - 1, _N_EPISODES).astype(int)).tolist():
        try:
            episode = source.load(i, ())
        except InputError:
            continue
        if "proprio" in episode.observation and len(episode) > 2:
            pairs.append((episode.action, episode.observation["proprio"]))
    return compare(pairs) if pairs else Guess("", "no proprioception to compare actions with")


def compare(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Guess:
    """The guess from (action [T, A], proprio [T, P]) of several episodes."""
    n = min(pairs[0][0].shape[1], pairs[0][1].shape[1])
    action = np.concatenate([a[:-1, :n] for a, _ in pairs]).astype(np.float64)
    after = np.concatenate([p[1:, :n] for _, p in pairs]).astype(np.float64)
    before = np.concatenate([p[:-1, :n] for _, p in pairs]).astype(np.float64)
    moving = (np.ptp(after, axis=0) > _CONSTANT) & (action.std(0) > _CONSTANT)
    if not moving.any():
        return Guess("", "nothing moves in the episodes looked at")
    error = np.median(np.abs(action - after), axis=0) / np.maximum(np.ptp(after, axis=0), _CONSTANT)
    close = moving & (error < _CLOSE)
    along = moving & (_correlation(action, after - before) > _CORRELATED)
    along &= np.abs(action).max(0) < 0.5 * np.maximum(np.ptp(after, axis=0), np.abs(after).max(0))
    total = int(moving.sum())
    if close.sum() > max(total / 2, along.sum()):
        told = f"the state follows the action itself in {close.sum()} of {total} elements"
        return Guess("position", f"actions look like absolute targets: {told}")
    if along.sum() >= max(1, total / 3):
        told = f"the state's change follows the action in {along.sum()} of {total} elements"
        return Guess("delta", f"actions look like deltas: {told}")
    return Guess("", "actions follow neither the state nor its change, element by element")


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each column, 0 where one is constant."""
    a, b = a - a.mean(0), b - b.mean(0)
    scale = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.where(scale > 0, (a * b).sum(0) / np.where(scale > 0, scale, 1), 0)
