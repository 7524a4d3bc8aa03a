"""Statistics of a dataset and the maps between physical units and network units.

Each map stands beside its inverse, and training, evaluation and export call the
same ones.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.specs import InputError

__all__ = [
    "METHODS",
    "NormStats",
    "RunningStats",
    "denormalize",
    "fit",
    "init_running",
    "normalize",
    "normalize_running",
    "update_running",
]

METHODS = ("none", "min_max", "mean_std", "quantile")

# A dimension narrower than this is constant: it maps to 0 and back to its value.
_CONSTANT = 1e-6

# Rows that `fit` looks at together.
_BLOCK = 8192


class NormStats(NamedTuple):
    """Statistics per element, each float32 [D].

    Attributes:
      minimum, maximum: extremes.
      mean, std: moments (population standard deviation).
      q01, q99: 1st and 99th percentile.
    """

    minimum: Any
    maximum: Any
    mean: Any
    std: Any
    q01: Any
    q99: Any


def fit(chunks: Iterable[np.ndarray]) -> NormStats:
    """Statistics over all rows of all `chunks` ([N_i, D] each), in one pass.

    Moments are accumulated in float64 by the pairwise update of Chan, Golub and
    LeVeque (1983), so they do not lose digits over millions of rows. Quantiles are those
    of `np.quantile`, interpolated between the two nearest values: exact up to 13.1 million
    rows, because the 2**17 smallest and largest values of each column are kept; of a sample
    of at most 2**18 rows, taken at an even stride, where there are more. Memory is bounded:
    about 5 MB per column, whatever the number of rows.

    Raises:
      InputError: no rows, rows of different lengths, or NaN/infinite values.
    """
    total, sample = _Moments.empty(), _Sample()
    ends: tuple[_Smallest, _Smallest] | None = None
    for block in _blocks(chunks):
        total = total.merge(_Moments.of(block))
        values = block.astype(np.float32)
        ends = ends or (_Smallest(len(block)), _Smallest(len(block)))
        ends[0].add(values)
        ends[1].add(-values)
        sample.add(values)
    if ends is None:
        raise InputError("statistics: the dataset holds no steps")
    q01, q99 = _quantiles(int(total.count), *ends, sample)
    std = np.sqrt(total.m2 / total.count)
    statistics = (total.minimum, total.maximum, total.mean, std, q01, q99)
    return NormStats(*(np.asarray(v, np.float32) for v in statistics))


def _blocks(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The rows of `chunks` as columns: float64 [D, n], n <= _BLOCK, each written over the last.

    Episodes are short: what follows costs as much for 60 rows as for some thousand.
    """
    block, filled = None, 0
    for chunk in filter(len, chunks):
        columns = np.asarray(chunk).T
        block = np.empty((len(columns), _BLOCK)) if block is None else block
        if columns.shape[:-1] != block.shape[:-1]:
            want, got = len(block), list(np.shape(chunk))
            raise InputError(f"statistics: expected chunks of shape [N, {want}], got {got}")
        while columns.shape[-1]:
            part = columns[:, : _BLOCK - filled]
            block[:, filled : filled + part.shape[-1]] = part
            columns, filled = columns[:, part.shape[-1] :], filled + part.shape[-1]
            if filled == _BLOCK:
                yield block
                filled = 0
    if block is not None and filled:
        yield block[:, :filled]


class _Moments(NamedTuple):
    """Of columns; each [D] but the count, as are the arguments of `of` [D, n]."""

    count: float  # type: ignore[assignment]
    mean: Any
    m2: Any
    minimum: Any
    maximum: Any

    @classmethod
    def empty(cls) -> "_Moments":
        return cls(0.0, 0.0, 0.0, np.inf, -np.inf)

    @classmethod
    def of(cls, block: np.ndarray) -> "_Moments":
        with np.errstate(invalid="ignore", over="ignore"):
            extremes = np.stack([block.min(1), block.max(1)])
            if not np.isfinite(extremes.astype(np.float32)).all():
                raise InputError("statistics: NaN or infinite values in the data")
        mean = block.mean(1)
        deviation = block - mean[:, None]
        return cls(block.shape[1], mean, np.einsum("dn,dn->d", deviation, deviation), *extremes)

    def merge(self, other: "_Moments") -> "_Moments":
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + delta**2 * (self.count * other.count / count)
        low = np.minimum(self.minimum, other.minimum)
        return _Moments(count, mean, m2, low, np.maximum(self.maximum, other.maximum))


class _Smallest:
    """The `limit` smallest values of each of `size` columns, and up to as many besides."""

    def __init__(self, size: int, limit: int = 2**17):
        self.limit = limit
        # Pages that nothing is written to take no memory.
        self._values = np.empty((size, 2 * limit), np.float32)
        self._counts = [0] * size
        self._bounds = np.full((size, 1), np.inf, np.float32)

    def add(self, block: np.ndarray) -> None:
        """Takes what may be among the smallest of `block`, float32 [D, n]."""
        for start in range(0, block.shape[1], self.limit):
            part = block[:, start : start + self.limit]
            # A value equal to the bound changes no order statistic: `limit` are held already.
            candidates = part < self._bounds
            for column in np.flatnonzero(candidates.any(1)):
                self._append(int(column), part[column][candidates[column]])

    def _append(self, column: int, values: np.ndarray) -> None:
        if self._counts[column] + len(values) > 2 * self.limit:
            self._values[column, : self._counts[column]].partition(self.limit - 1)
            self._bounds[column] = self._values[column, self.limit - 1]
            self._counts[column] = self.limit
        count = self._counts[column]
        self._values[column, count : count + len(values)] = values
        self._counts[column] = count + len(values)

    def ranked(self, ranks: Sequence[int]) -> np.ndarray:
        """The values of these ranks (0 is the smallest), float64 [len(ranks), D]."""
        held = zip(self._values, self._counts, strict=True)
        picked = [np.partition(v[:count], ranks)[list(ranks)] for v, count in held]
        return np.asarray(picked, np.float64).T


class _Sample:
    """Every `stride`-th of a stream's columns [D, n]; the stride doubles beyond `limit`."""

    def __init__(self, limit: int = 2**18):
        self.parts: list[np.ndarray] = []
        self._limit, self._stride, self._next, self._count = limit, 1, 0, 0

    def add(self, block: np.ndarray) -> None:
        # A copy, because a view would keep all of the block in memory.
        self.parts.append(block[:, self._next :: self._stride].copy())
        self._next = (self._next - block.shape[1]) % self._stride
        self._count += self.parts[-1].shape[1]
        while self._count > self._limit:
            # Kept so far are multiples of the stride: every other one is a multiple of
            # the doubled stride, and so must the next one be.
            kept = np.concatenate(self.parts, axis=1)
            if self._count % 2:
                self._next += self._stride
            self.parts, self._stride = [kept[:, ::2].copy()], self._stride * 2
            self._count = self.parts[0].shape[1]


def _quantiles(
    count: int, smallest: _Smallest, negated: _Smallest, sample: _Sample
) -> tuple[np.ndarray, np.ndarray]:
    """q01 and q99 [D] of `count` rows; `negated` holds the smallest of -x."""
    position = 0.01 * (count - 1)
    below = int(position)
    ranks = (below, min(below + 1, count - 1))
    if ranks[1] >= smallest.limit:
        rows = np.concatenate(sample.parts, axis=1).astype(np.float64)
        q01, q99 = np.quantile(rows, [0.01, 0.99], axis=1)
        return q01, q99
    (low, low_next), (high, high_next) = smallest.ranked(ranks), negated.ranked(ranks)
    weight = position - below
    return low + weight * (low_next - low), -(high + weight * (high_next - high))


def normalize(stats: NormStats, x: Any, method: str) -> jax.Array:
    """Physical units -> network units; x is [..., D].

    `min_max` and `quantile` map their range to [-1, 1], `mean_std` to zero mean and
    unit variance, `none` changes nothing. Constant elements map to 0.
    """
    offset, scale = _offset_scale(stats, method)
    return (x - offset) / scale


def denormalize(stats: NormStats, x: Any, method: str) -> jax.Array:
    """Network units -> physical units; inverse of `normalize`."""
    offset, scale = _offset_scale(stats, method)
    return x * scale + offset


def _offset_scale(stats: NormStats, method: str) -> tuple[Any, Any]:
    if method == "none":
        return 0.0, 1.0
    if method == "mean_std":
        return stats.mean, jnp.where(stats.std < _CONSTANT, 1.0, stats.std)
    if method == "min_max":
        return _centre(stats.minimum, stats.maximum)
    if method == "quantile":
        return _centre(stats.q01, stats.q99)
    raise InputError(f"normalisation method must be one of {METHODS}, got '{method}'")


def _centre(low: Any, high: Any) -> tuple[Any, Any]:
    half = (high - low) / 2
    return (high + low) / 2, jnp.where(half < _CONSTANT, 1.0, half)


class RunningStats(NamedTuple):
    """Statistics that grow while learning, for reinforcement learning.

    Attributes:
      count: float32 [], rows seen.
      mean: [D].
      m2: [D], sum of squared deviations from the mean.
    """

    count: jax.Array  # type: ignore[assignment]
    mean: jax.Array
    m2: jax.Array


def init_running(size: int) -> RunningStats:
    """Statistics of no rows of `size` elements."""
    zeros = jnp.zeros((size,), jnp.float32)
    return RunningStats(jnp.zeros((), jnp.float32), zeros, zeros)


def update_running(stats: RunningStats, rows: jax.Array) -> RunningStats:
    """Adds rows [N, D] (Chan, Golub and LeVeque 1983, eq. 2.1)."""
    n = jnp.float32(rows.shape[0])
    count = stats.count + n
    mean_rows = rows.mean(0)
    delta = mean_rows - stats.mean
    mean = stats.mean + delta * n / count
    m2 = stats.m2 + ((rows - mean_rows) ** 2).sum(0) + delta**2 * stats.count * n / count
    return RunningStats(count, mean, m2)


def normalize_running(stats: RunningStats, x: jax.Array, clip: float) -> jax.Array:
    """(x - mean) / std clipped to [-clip, clip]; x is [..., D].

    Elements that have been constant so far, all of them before the first row, keep their scale.
    """
    std = jnp.sqrt(stats.m2 / jnp.maximum(stats.count, 1.0))
    return jnp.clip((x - stats.mean) / jnp.where(std < _CONSTANT, 1.0, std), -clip, clip)
