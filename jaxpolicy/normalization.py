"""Statistics of a dataset and the maps between physical units and network units.

Each map stands beside its inverse, and training, evaluation and export call the
same ones.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.specs import InputError

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
    LeVeque (1983), so they do not lose digits over millions of rows. Quantiles are
    exact over a sample of at most 2**18 rows taken at an even stride.

    Raises:
      InputError: no rows, or NaN/infinite values.
    """
    total, sample = _Moments.empty(), _Sample()
    for chunk in chunks:
        rows = np.asarray(chunk, np.float64)
        if not np.isfinite(rows).all():
            raise InputError("statistics: NaN or infinite values in the data")
        if len(rows):
            total = total.merge(_Moments.of(rows))
            sample.add(np.asarray(chunk, np.float32))
    if not total.count:
        raise InputError("statistics: the dataset holds no steps")
    q01, q99 = np.quantile(np.concatenate(sample.rows), [0.01, 0.99], axis=0)
    std = np.sqrt(total.m2 / total.count)
    values = (total.minimum, total.maximum, total.mean, std, q01, q99)
    return NormStats(*(np.asarray(v, np.float32) for v in values))


class _Moments(NamedTuple):
    count: float  # type: ignore[assignment]
    mean: Any
    m2: Any
    minimum: Any
    maximum: Any

    @classmethod
    def empty(cls) -> "_Moments":
        return cls(0.0, 0.0, 0.0, np.inf, -np.inf)

    @classmethod
    def of(cls, rows: np.ndarray) -> "_Moments":
        mean = rows.mean(0)
        return cls(len(rows), mean, ((rows - mean) ** 2).sum(0), rows.min(0), rows.max(0))

    def merge(self, other: "_Moments") -> "_Moments":
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + delta**2 * (self.count * other.count / count)
        low = np.minimum(self.minimum, other.minimum)
        return _Moments(count, mean, m2, low, np.maximum(self.maximum, other.maximum))


class _Sample:
    """Every `stride`-th row of a stream, the stride doubling as the sample outgrows `limit`."""

    def __init__(self, limit: int = 2**18):
        self.rows: list[np.ndarray] = []
        self._limit, self._stride, self._next = limit, 1, 0

    def add(self, chunk: np.ndarray) -> None:
        self.rows.append(chunk[self._next :: self._stride])
        self._next = (self._next - len(chunk)) % self._stride
        while sum(map(len, self.rows)) > self._limit:
            # Rows kept so far are multiples of the stride: every other one is a
            # multiple of the doubled stride, and so must the next one be.
            kept = np.concatenate(self.rows)
            if len(kept) % 2:
                self._next += self._stride
            self.rows, self._stride = [kept[::2]], self._stride * 2


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
    """(x - mean) / std clipped to [-clip, clip]; x is [..., D]."""
    std = jnp.sqrt(stats.m2 / jnp.maximum(stats.count, 1.0))
    return jnp.clip((x - stats.mean) / jnp.maximum(std, _CONSTANT), -clip, clip)
