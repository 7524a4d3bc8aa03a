"""Statistics as LeRobot keeps them: of every episode, and of the dataset from those.

Quantiles of the dataset are means of the episodes' quantiles weighted by their counts, as
LeRobot defines them; they are not exact and this library does not use them.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

__all__ = ["STATS", "Running", "Stats", "of_numbers", "of_pictures"]

_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
STATS = ("min", "max", "mean", "std", "count", *_QUANTILES)
# Pictures of an episode that are looked at, and the side to which they are thinned out.
_MAX_PICTURES, _SIDE = 100, 150

# Name of the statistic -> float64 of the feature's shape ([3, 1, 1] for pictures), `count` [1].
Stats = Mapping[str, np.ndarray]


def of_numbers(values: np.ndarray) -> Stats:
    """Statistics of [T, *shape] over T."""
    values = np.asarray(values, np.float64)
    quantiles = np.quantile(values, list(_QUANTILES.values()), axis=0)
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
        **dict(zip(_QUANTILES, quantiles, strict=True)),
    }


def of_pictures(frames: np.ndarray) -> Stats:
    """Statistics per channel, pixels from 0 to 1, of evenly chosen frames of [T, H, W, 3]."""
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), _MAX_PICTURES)).round().astype(int)
    stride = max(1, max(frames.shape[1:3]) // _SIDE)
    pixels = frames[chosen, ::stride, ::stride]
    channels = [_of_histogram(np.bincount(pixels[..., c].ravel(), minlength=256)) for c in range(3)]
    joined = {k: np.array([c[k] for c in channels]).reshape(3, 1, 1) for k in channels[0]}
    return {**joined, "count": np.array([len(chosen)])}


def _of_histogram(counts: np.ndarray) -> dict[str, float]:
    """Statistics of values k / 255 that occur counts[k] times."""
    values, total = np.arange(256) / 255, counts.sum()
    there = np.flatnonzero(counts)
    mean = float(counts @ values / total)
    ends = np.cumsum(counts)
    return {
        "min": values[there[0]],
        "max": values[there[-1]],
        "mean": mean,
        "std": float(np.sqrt(counts @ (values - mean) ** 2 / total)),
        **{k: values[np.searchsorted(ends, q * total)] for k, q in _QUANTILES.items()},
    }


@dataclasses.dataclass(frozen=True)
class _Sums:
    """What has been seen of one feature; `squares` are squared deviations from the mean."""

    low: np.ndarray
    high: np.ndarray
    count: int
    mean: np.ndarray
    squares: np.ndarray
    quantiles: dict[str, np.ndarray]


class Running:
    """Statistics of the dataset from those of its episodes, in constant memory."""

    def __init__(self) -> None:
        """Of nothing yet."""
        self._sums: dict[str, _Sums] = {}

    def add(self, episode: Mapping[str, Stats]) -> None:
        """Adds the statistics of one episode, by feature."""
        for name, stats in episode.items():
            new = _sums(stats)
            self._sums[name] = _merged(self._sums[name], new) if name in self._sums else new

    def result(self) -> dict[str, Stats]:
        """Statistics by feature."""
        return {name: _stats(sums) for name, sums in self._sums.items()}


def _sums(stats: Stats) -> _Sums:
    count = int(stats["count"][0])
    return _Sums(
        stats["min"],
        stats["max"],
        count,
        stats["mean"],
        stats["std"] ** 2 * count,
        {q: stats[q] for q in _QUANTILES},
    )


def _merged(a: _Sums, b: _Sums) -> _Sums:
    """The parallel update of Chan, Golub and LeVeque (1979)."""
    count = a.count + b.count
    share, shift = b.count / count, b.mean - a.mean
    return _Sums(
        np.minimum(a.low, b.low),
        np.maximum(a.high, b.high),
        count,
        a.mean + shift * share,
        a.squares + b.squares + shift**2 * (a.count * share),
        {q: a.quantiles[q] + (b.quantiles[q] - a.quantiles[q]) * share for q in _QUANTILES},
    )


def _stats(sums: _Sums) -> Stats:
    return {
        "min": sums.low,
        "max": sums.high,
        "mean": sums.mean,
        "std": np.sqrt(sums.squares / sums.count),
        "count": np.array([sums.count]),
        **sums.quantiles,
    }
