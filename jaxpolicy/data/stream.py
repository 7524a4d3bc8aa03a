"""Batches of datasets whose frames fit neither memory nor disk: decoded while training.

Every epoch shuffles the episodes and cuts them into blocks; worker processes decode the next
blocks into small caches of their own, and batches are drawn from the shuffled frames of one
block after the other. What a step sees is a function of (seed, step, host), so a run resumes
exactly from its step; each host decodes only its own episodes.
"""

import functools
import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import NamedTuple

import jax
import numpy as np

from jaxpolicy.core import atomic, interruption
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import Batch
from jaxpolicy.data import cache, open_source, windows
from jaxpolicy.data.cache import Cache
from jaxpolicy.data.config import DataConfig
from jaxpolicy.data.loader import gather_on_host
from jaxpolicy.data.source import EpisodeSource
from jaxpolicy.data.windows import Index

__all__ = ["Dataset", "Plan", "StreamLoader", "block_episodes"]

# Decoded frames of one block; a few blocks are alive at a time.
_BLOCK_BYTES = 2**28
_MAX_WORKERS = 8
# Blocks that are tried in place of one of which nothing can be decoded.
_N_CHOICES = 4


class Dataset(NamedTuple):
    """What a worker needs to decode a part of a dataset.

    Attributes:
      path: of the dataset.
      config: see DataConfig.
      keys: observation keys.
    """

    path: str
    config: DataConfig
    keys: tuple[str, ...]


class Plan:
    """Order of samples: (seed, number, host) -> frames of blocks."""

    def __init__(self, lengths: np.ndarray, block_episodes: int, seed: int, shuffle: bool = True):
        """Plan for this host's episodes.

        Args:
          lengths: int [n_episodes].
          block_episodes: episodes of a block.
          seed: of the shuffles.
          shuffle: False keeps the order of the data.
        """
        self._lengths = np.asarray(lengths, np.int64)
        self._size, self._seed, self._shuffle = block_episodes, seed, shuffle
        self.n_samples = int(self._lengths.sum())
        self.n_blocks = -(-len(self._lengths) // block_episodes)
        # A run asks for the same few epochs and blocks again and again.
        self._order = functools.lru_cache(maxsize=2)(self._order_of)
        self._ends = functools.lru_cache(maxsize=2)(self._ends_of)
        self._frames = functools.lru_cache(maxsize=2)(self._frames_of)

    def episodes(self, block: int) -> np.ndarray:
        """Episodes of block number `block` of the run, in order."""
        epoch, place = divmod(block, self.n_blocks)
        return self._order(epoch)[place * self._size : (place + 1) * self._size]

    def samples(self, first: int, n: int) -> Iterator[tuple[int, np.ndarray]]:
        """(block, frames of it) of the samples number `first` to `first + n - 1`."""
        while n:
            epoch, offset = divmod(first, self.n_samples)
            ends = self._ends(epoch)
            place = int(np.searchsorted(ends, offset, side="right"))
            start = int(ends[place - 1]) if place else 0
            taken = min(n, int(ends[place]) - offset)
            block = epoch * self.n_blocks + place
            order = self._frames(block, int(ends[place]) - start)
            yield block, order[offset - start : offset - start + taken]
            first, n = first + taken, n - taken

    def _order_of(self, epoch: int) -> np.ndarray:
        if not self._shuffle:
            return np.arange(len(self._lengths))
        return _generator(self._seed, epoch, 0).permutation(len(self._lengths))

    def _ends_of(self, epoch: int) -> np.ndarray:
        """Samples of the epoch up to the end of each block."""
        ends = np.cumsum(self._lengths[self._order(epoch)])
        return ends[np.minimum(np.arange(1, self.n_blocks + 1) * self._size, len(ends)) - 1]

    def _frames_of(self, block: int, n: int) -> np.ndarray:
        if not self._shuffle:
            return np.arange(n)
        return _generator(self._seed, block, 1).permutation(n)


def _generator(seed: int, number: int, kind: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 2 * number + kind]))


def block_episodes(n_bytes: int, n_episodes: int) -> int:
    """Episodes of a block, so that its frames take about 256 MB."""
    per_episode = max(1, n_bytes // max(1, n_episodes))
    return max(1, min(n_episodes, _BLOCK_BYTES // per_episode))


class StreamLoader:
    """Batches decoded by worker processes; a BatchLoader of mode "stream".

    Attributes:
      mode: "stream".
      reason: why, for the log.
    """

    mode = "stream"

    def __init__(
        self,
        dataset: Dataset,
        episodes: np.ndarray,
        lengths: np.ndarray,
        window: tuple[int, int],
        batch_size: int,
        plan: Plan,
        directory: str | os.PathLike[str],
        reason: str = "stream: asked for",
    ):
        """Starts no process before the first batch.

        Args:
          dataset: see Dataset.
          episodes: int [n_episodes], source indices of this host's episodes.
          lengths: int64 [n], steps of the episodes of all hosts.
          window: (O, H).
          batch_size: B over all hosts.
          plan: of this host's episodes.
          directory: existing folder for blocks; they are deleted after use.
          reason: why this mode, for the log.
        """
        n_hosts = jax.process_count()
        if batch_size < 1 or batch_size % n_hosts:
            raise InputError(f"batch size {batch_size} must be a multiple of {n_hosts} host(s)")
        self.reason, self._lengths = reason, lengths
        self._window, self._batch_size, self._plan = window, batch_size, plan
        self._size = batch_size // n_hosts
        self._blocks = _Blocks(dataset, episodes, plan, pathlib.Path(directory))

    @property
    def lengths(self) -> np.ndarray:
        """Steps of every episode, over all hosts."""
        return self._lengths

    @property
    def batches_per_epoch(self) -> int:
        """Steps after which every sample has been seen about once."""
        return -(-int(self._lengths.sum()) // self._batch_size)

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Never: frames are not all there at once."""
        raise InputError("a streaming loader holds no arrays; use batch(step)")

    def indices(self, step: int) -> Index:
        """Never, see `arrays`."""
        raise InputError("a streaming loader has no indices; use batch(step)")

    def batch(self, step: int) -> Batch:
        """Batch of `step` of this host, in NumPy; waits for blocks that are not ready."""
        return self.stream(step * self._size, self._size)

    def stream(self, first: int, n: int) -> Batch:
        """This host's samples number `first` to `first + n - 1`."""
        parts = [
            gather_on_host(found.arrays, _index(found, frames), *self._window)
            for found, frames in self._found(first, n)
        ]
        if len(parts) == 1:
            return parts[0]
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)

    def _found(self, first: int, n: int) -> Iterator[tuple[Cache, np.ndarray]]:
        for block, frames in self._plan.samples(first, n):
            yield self._blocks.get(block), frames

    def close(self) -> None:
        """Stops the workers and deletes the blocks; also done when the loader is deleted."""
        self._blocks.close()


def _index(found: Cache, frames: np.ndarray) -> Index:
    """Frames of a block as samples. Where episodes could not be decoded the rest fills in."""
    return windows.locate(found.starts, found.lengths, frames % found.n_frames)


class _Blocks:
    """Blocks by number, decoded ahead of use and deleted behind it."""

    def __init__(self, dataset: Dataset, episodes: np.ndarray, plan: Plan, directory: pathlib.Path):
        self._dataset, self._episodes, self._plan = dataset, np.asarray(episodes), plan
        self._workers = dataset.config.workers or min(os.cpu_count() or 1, _MAX_WORKERS)
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix="stream-", dir=directory))
        atomic.discard_later(self._directory)
        self._pool: ProcessPoolExecutor | None = None
        self._waiting: dict[int, Future] = {}
        self._open: dict[int, Cache] = {}
        self._finalizer = weakref.finalize(self, shutil.rmtree, self._directory, True)

    def get(self, block: int) -> Cache:
        """The frames of block number `block`."""
        self._forget(block)
        for ahead in range(block, block + 1 + self._workers):
            if ahead not in self._waiting and ahead not in self._open:
                self._submit(ahead)
        if block not in self._open:
            self._open[block] = self._wait(block)
        return self._open[block]

    def _submit(self, block: int) -> None:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=get_context("spawn"),
                initializer=interruption.end_with_parent,
            )
            weakref.finalize(self, self._pool.shutdown, False, cancel_futures=True)
        ahead = range(block, block + min(self._plan.n_blocks, _N_CHOICES))
        choices = [self._episodes[self._plan.episodes(b)] for b in ahead]
        path = str(self._directory / str(block))
        with interruption.shielded():  # Processes start when there is work.
            self._waiting[block] = self._pool.submit(_decode, self._dataset, choices, path)

    def _wait(self, block: int) -> Cache:
        try:
            return cache.open_cache(pathlib.Path(self._waiting.pop(block).result()))
        except BrokenProcessPool as e:
            raise InputError(
                "a process that decodes episodes died, perhaps for want of memory; "
                "try fewer data.workers"
            ) from e

    def _forget(self, block: int) -> None:
        """Deletes what is neither this block nor its neighbour nor ahead of it."""
        wanted = range(max(block - 1, 0), block + 1 + self._workers)
        for old in [b for b in (*self._open, *self._waiting) if b not in wanted]:
            future = self._waiting.pop(old, None)
            if future is not None and not future.cancel():
                wait([future])
            self._open.pop(old, None)
            shutil.rmtree(self._directory / str(old), ignore_errors=True)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._finalizer()


def _decode(dataset: Dataset, choices: Sequence[Sequence[int]], path: str) -> str:
    """In a worker: episodes -> a cache at `path`.

    Of `choices`, the first of which any episode can be decoded: with long episodes a block may
    hold one alone, and one that is corrupt must not end a run.
    """
    source = _source(dataset.path, dataset.config)
    specs = cache.array_specs(source, dataset.keys)
    target = pathlib.Path(path)
    shutil.rmtree(target, ignore_errors=True)
    config = dataset.config
    size, corrupt = config.image_size, config.cleaning.corrupt
    for n, episodes in enumerate(choices, 1):
        try:
            cache.write(source, episodes, specs, target, None, size, corrupt)
            break
        except InputError:
            if corrupt == "error" or n == len(choices):
                raise
    return path


@functools.lru_cache(maxsize=2)
def _source(path: str, config: DataConfig) -> EpisodeSource:
    return open_source(path, config.format, config)
