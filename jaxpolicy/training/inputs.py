"""From a dataset on disk to stacked batches on the devices, prepared in a thread.

The batch of a step is a function of (seed, step, host), so a resumed run asks for the
steps it has not done and there is no loader state to save.
"""

import functools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from jaxpolicy.core.types import Batch
from jaxpolicy.data.loader import BatchLoader, gather
from jaxpolicy.training import sharding

__all__ = [
    "Feed",
    "Prefetcher",
    "feeds",
    "make_fetch",
    "passthrough",
    "stack_size",
]

T = TypeVar("T")

# Host memory for one stack of batches, bytes; up to three stacks are alive.
_STACK_BYTES = 2**28


class Feed(NamedTuple):
    """What one dispatch consumes: batches, or the indices from which they are gathered.

    Attributes:
      start: first step.
      n: number of steps, at most S.
      data: stacked: [S, B, ...], rows from `n` on are padding; else `n` rows [B, ...].
        B is split over the devices.
    """

    start: int
    n: int
    data: Any

    @property
    def stop(self) -> int:
        """Step after the last one."""
        return self.start + self.n


def make_fetch(loader: BatchLoader, n_obs_steps: int, horizon: int) -> Callable[[Any, Any], Batch]:
    """(device arrays, one step of Feed.data) -> Batch, inside jit."""
    if loader.mode == "device":
        return functools.partial(gather, n_obs_steps=n_obs_steps, horizon=horizon)
    return passthrough


def passthrough(arrays: Any, batch: Batch) -> Batch:
    """Host mode: the batch came ready-made."""
    del arrays
    return batch


def stack_size(loader: BatchLoader, wanted: int) -> int:
    """S: `wanted` batches per call, fewer where they would not fit in host memory."""
    if loader.mode == "device":
        return wanted
    size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(loader.batch(0)))
    return max(1, min(wanted, _STACK_BYTES // max(size, 1)))


def feeds(
    loader: BatchLoader, plan: Iterable[tuple[int, int]], mesh: Mesh, size: int = 0
) -> Iterator[Feed]:
    """One Feed for every (start, n) of `plan`.

    Args:
      loader: one part of the data.
      plan: steps of every dispatch.
      mesh: devices.
      size: S of stacked feeds; 0 for separate rows.
    """
    read: Callable[[int], Any] = loader.indices if loader.mode == "device" else loader.batch
    for start, n in plan:
        rows = [read(step) for step in range(start, start + n)]
        if size:
            rows += rows[-1:] * (size - n)
            stacked = jax.tree.map(lambda *x: np.stack(x), *rows)
            yield Feed(start, n, sharding.put_batch(stacked, mesh, axis=1))
        else:
            yield Feed(start, n, [sharding.put_batch(row, mesh) for row in rows])


class Prefetcher:
    """Iterates over `items` in a thread, two ahead; use as a context manager."""

    def __init__(self, items: Iterable[T], depth: int = 2):
        """Does not start before the `with` block."""
        self._items = items
        self._queue: queue.Queue = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self.waited_s = 0.0

    def __enter__(self) -> "Prefetcher":
        """Starts the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        """Stops the thread."""
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Any]:
        """Yields items in order; re-raises what the thread raised."""
        while True:
            before = time.perf_counter()
            item, error = self._queue.get()
            self.waited_s += time.perf_counter() - before
            if error is not None:
                raise error
            if item is None:
                return
            yield item

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put((item, None)):
                    return
            self._put((None, None))
        except BaseException as e:  # handed to the consumer
            self._put((None, e))

    def _put(self, entry: tuple[Any, BaseException | None]) -> bool:
        """False when the consumer has left."""
        while not self._stop.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
