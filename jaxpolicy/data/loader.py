"""Batches for training. What a step sees is a pure function of (seed, step, host).

Every epoch is one shuffle of all (episode, t) pairs; sample number p of the whole
run is position p % N of epoch p // N, and step s takes samples s*B ... s*B + B - 1.
So a run resumes exactly from its step alone, and nothing else needs to be saved.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import Batch
from jaxpolicy.data.cache import Cache
from jaxpolicy.data.config import LOADER_MODES
from jaxpolicy.data.windows import Index, Window, locate, windows

__all__ = [
    "BatchLoader",
    "Loader",
    "Sampler",
    "choose_mode",
    "gather",
    "gather_on_host",
    "make_loader",
]

# Share of the device's memory that data may take.
_BUDGET_SHARE = 0.3
# Where the device does not say how much memory it has (CPU).
_DEFAULT_BUDGET = 2 * 2**30


def gather(arrays: Mapping[str, Any], index: Index, n_obs_steps: int, horizon: int) -> Batch:
    """Windows of device-resident `arrays`; pure, for use inside jit.

    Args:
      arrays: observation keys and "action", each [N, ...] (`Loader.arrays`).
      index: samples [B] (`Loader.indices`).
      n_obs_steps: O.
      horizon: H.
    """
    return _batch(arrays, windows(index, n_obs_steps, horizon), _take_in_jit)


def gather_on_host(
    arrays: Mapping[str, np.ndarray], index: Index, n_obs_steps: int, horizon: int
) -> Batch:
    """The same as `gather` in NumPy."""
    return _batch(arrays, windows(index, n_obs_steps, horizon), _take)


def _take_in_jit(array: Any, frames: jax.Array) -> jax.Array:
    """array[frames]; rows are flat because XLA CPU copies those three times as fast."""
    rows = jnp.asarray(array).reshape(array.shape[0], -1)
    taken = rows.at[frames].get(mode="promise_in_bounds")
    return taken.reshape(*frames.shape, *array.shape[1:])


def _take(array: np.ndarray, frames: np.ndarray) -> np.ndarray:
    return np.take(array, frames, axis=0)


def _batch(arrays: Mapping[str, Any], window: Window, take: Any) -> Batch:
    observation = {k: take(a, window.observation) for k, a in arrays.items() if k != "action"}
    return Batch(observation, take(arrays["action"], window.action), window.mask)


class BatchLoader(Protocol):
    """What training needs of a loader.

    Attributes:
      mode: "device", "host" or "stream".
      reason: why that mode.
    """

    mode: str
    reason: str

    @property
    def lengths(self) -> np.ndarray:
        """Steps of every episode, over all hosts."""
        ...

    @property
    def batches_per_epoch(self) -> int:
        """Steps after which every sample has been seen about once."""
        ...

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """All frames, in mode "device"."""
        ...

    def indices(self, step: int) -> Index:
        """Samples of `step` into `arrays`, in mode "device"."""
        ...

    def batch(self, step: int) -> Batch:
        """Batch of `step` of this host."""
        ...

    def stream(self, first: int, n: int) -> Batch:
        """This host's samples number `first` to `first + n - 1`, for mixtures."""
        ...


class Sampler:
    """Order of samples: (seed, step, host) -> Index."""

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        hosts: tuple[int, int] = (0, 1),
        shuffle: bool = True,
    ):
        """Sampler over episodes of `lengths` steps.

        Args:
          lengths: int [n_episodes].
          batch_size: B over all hosts.
          seed: of the shuffles.
          hosts: (this host, number of hosts); each takes its slice of the batch.
          shuffle: False keeps the order of the data.
        """
        if batch_size < 1 or batch_size % hosts[1]:
            raise InputError(f"batch size {batch_size} must be a multiple of {hosts[1]} host(s)")
        lengths = np.asarray(lengths, np.int64)
        self._starts, self._lengths = np.cumsum(lengths) - lengths, lengths
        self.n_samples = int(lengths.sum())
        self._batch_size, self._seed, self._shuffle = batch_size, seed, shuffle
        self._hosts = hosts
        self._epochs: dict[int, np.ndarray] = {}

    @property
    def batches_per_epoch(self) -> int:
        """Steps after which every sample has been seen once (the last may begin anew)."""
        return -(-self.n_samples // self._batch_size)

    def __call__(self, step: int) -> Index:
        """Samples of `step` for this host, int32 [B / hosts]."""
        host, n_hosts = self._hosts
        size = self._batch_size // n_hosts
        return self._at(step * self._batch_size + host * size + np.arange(size))

    def stream(self, first: int, n: int) -> Index:
        """Samples of this host by number, whatever the batches: `first` to `first + n - 1`.

        Sample q of host h is sample q * n_hosts + h of the run.
        """
        host, n_hosts = self._hosts
        return self._at((first + np.arange(n)) * n_hosts + host)

    def _at(self, position: np.ndarray) -> Index:
        """Samples of the run by number."""
        epoch, offset = np.divmod(position, self.n_samples)
        frame = np.empty(len(position), np.int64)
        for e in np.unique(epoch):
            frame[epoch == e] = self._order(int(e))[offset[epoch == e]]
        return self._index(frame)

    def _order(self, epoch: int) -> np.ndarray:
        """Permutation of all frames; the two latest are kept at hand."""
        if epoch not in self._epochs:
            generator = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
            order = generator.permutation if self._shuffle else np.arange
            self._epochs = {k: v for k, v in self._epochs.items() if k == epoch - 1}
            self._epochs[epoch] = order(self.n_samples)
        return self._epochs[epoch]

    def _index(self, frame: np.ndarray) -> Index:
        return locate(self._starts, self._lengths, frame)


class Loader:
    """Batches of one cache.

    Attributes:
      mode: "device" (put `arrays` on the devices, use `indices` and, inside jit,
        `gather`) or "host" (use `batch`).
      reason: why that mode, for the log.
      cache: the frames.
      lengths: int64 [n_episodes].
    """

    gather = staticmethod(gather)

    def __init__(
        self, cache: Cache, sampler: Sampler, window: tuple[int, int], mode: str, reason: str = ""
    ):
        """Loader of windows (O, H) in a mode that is already decided."""
        self.cache, self.mode, self.reason = cache, mode, reason
        self._sampler, self._window = sampler, window

    @property
    def lengths(self) -> np.ndarray:
        """Steps of every episode."""
        return self.cache.lengths

    @property
    def batches_per_epoch(self) -> int:
        """Steps after which every sample has been seen once."""
        return self._sampler.batches_per_epoch

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """All frames, each [N, ...], still on disk: put them on your devices once."""
        return self.cache.arrays

    def indices(self, step: int) -> Index:
        """Samples of `step`, each int32 [B]."""
        return self._sampler(step)

    def batch(self, step: int) -> Batch:
        """Batch of `step` in NumPy, gathered on the host; works in either mode."""
        return gather_on_host(self.arrays, self.indices(step), *self._window)

    def stream_indices(self, first: int, n: int) -> Index:
        """This host's samples number `first` to `first + n - 1`, see Sampler.stream."""
        return self._sampler.stream(first, n)

    def stream(self, first: int, n: int) -> Batch:
        """The same as a batch."""
        return gather_on_host(self.arrays, self.stream_indices(first, n), *self._window)


def choose_mode(
    n_bytes: int, mode: str = "auto", budget_mb: int = 0, disk_budget: int | None = None
) -> tuple[str, str]:
    """(mode, reason) for `n_bytes` of frames.

    Args:
      n_bytes: size of all arrays.
      mode: "device", "host", "stream" or "auto".
      budget_mb: what "auto" may put on the device; 0 is 30 % of its memory.
      disk_budget: bytes of decoded frames that may be written; None: any number.
    """
    if mode not in LOADER_MODES:
        raise InputError(f"data.loader must be one of {LOADER_MODES}, got '{mode}'")
    if mode != "auto":
        return mode, f"{mode}: asked for"
    budget = budget_mb * 2**20 or _device_budget()
    size = f"{_mb(n_bytes)} of frames, budget {_mb(budget)}"
    if disk_budget is not None and n_bytes > disk_budget:
        return "stream", f"stream: {_mb(n_bytes)} of frames, {_mb(disk_budget)} of disk for them"
    return ("device", f"device: {size}") if n_bytes <= budget else ("host", f"host: {size}")


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.0f} MB"


def _device_budget() -> int:
    stats = jax.local_devices()[0].memory_stats() or {}
    limit = stats.get("bytes_limit")
    return int(limit * _BUDGET_SHARE) if limit else _DEFAULT_BUDGET


def make_loader(
    cache: Cache,
    n_obs_steps: int,
    horizon: int,
    batch_size: int,
    seed: int,
    mode: str = "auto",
    budget_mb: int = 0,
    shuffle: bool = True,
) -> Loader:
    """Loader of windows with O = n_obs_steps and H = horizon.

    Args:
      cache: the frames.
      n_obs_steps: O.
      horizon: H.
      batch_size: B over all hosts (processes); each gets its slice.
      seed: of the shuffles.
      mode: "device", "host" or "auto".
      budget_mb: see `choose_mode`.
      shuffle: False keeps the order of the data, for validation.
    """
    if min(n_obs_steps, horizon) < 1:
        raise InputError("n_obs_steps and horizon must be at least 1")
    hosts = (jax.process_index(), jax.process_count())
    sampler = Sampler(cache.lengths, batch_size, seed, hosts, shuffle)
    chosen, reason = choose_mode(cache.n_bytes, mode, budget_mb)
    return Loader(cache, sampler, (n_obs_steps, horizon), chosen, reason)
