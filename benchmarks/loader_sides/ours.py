"""Our side of benchmarks/loader.py: processing, decoding once, and batches of every mode.

`host` is the NumPy gather from the memory-mapped cache, `device` the gather of resident
frames inside jit, 16 batches per dispatch, `stream` decodes in worker processes again and
again and keeps nothing.
"""

import itertools
from typing import Any

import jax
import numpy as np

from benchmarks.loader_sides import measuring
from benchmarks.loader_sides.measuring import HORIZON, N_OBS_STEPS, Settings
from jaxpolicy.data import CleaningConfig, DataConfig, cache, loader, open_source, process, stream
from jaxpolicy.data.cache import Cache
from jaxpolicy.data.process import Processed
from jaxpolicy.data.stream import Plan, StreamLoader
from jaxpolicy.data.windows import Index

PER_DISPATCH = 16
CONFIG = DataConfig(split=(1.0, 0.0, 0.0), cleaning=CleaningConfig(duplicates=False))


@jax.jit
def gather_many(arrays: Any, indices: Index) -> Any:
    """PER_DISPATCH batches in one program, each written over the last."""
    first = loader.gather(arrays, jax.tree.map(lambda x: x[0], indices), N_OBS_STEPS, HORIZON)
    return jax.lax.scan(body, (arrays, first), indices)[0][1]


def body(carry: Any, index: Index) -> tuple[Any, None]:
    """One batch."""
    arrays, _ = carry
    return (arrays, loader.gather(arrays, index, N_OBS_STEPS, HORIZON)), None


def prepare(settings: Settings) -> tuple[Processed, Cache]:
    """Processes and decodes, each of which is done once for all of training."""
    directory = settings.directory
    source, done = open_source(f"{directory}/rlds"), []
    rates = measuring.timed(
        lambda: done.append(process.process(source, CONFIG, f"{directory}/processed")),
        settings.frames,
    )
    measuring.emit("ours", "process, once", unit="frames", **rates)
    (processed,) = done
    train, keys = processed.indices("train"), processed.spec.keys
    rates = measuring.timed(
        lambda: done.append(cache.build(source, train, keys, f"{directory}/cache")),
        settings.frames,
    )
    measuring.emit("ours", "decode, once", unit="frames", **rates)
    return done


def measure_cached(settings: Settings, frames: Cache) -> None:
    """Modes "host" and "device", after one epoch, by when the page cache holds all frames."""
    made = loader.make_loader(frames, N_OBS_STEPS, HORIZON, settings.batch, seed=0)
    step = itertools.count()

    def host() -> int:
        made.batch(next(step))
        return settings.batch

    for _ in range(made.batches_per_epoch):
        host()
    measuring.emit("ours", "host", **measuring.repeated(host, settings))
    arrays = jax.device_put(dict(made.arrays))

    def device() -> int:
        rows = [made.indices(next(step)) for _ in range(PER_DISPATCH)]
        jax.block_until_ready(gather_many(arrays, jax.tree.map(lambda *x: np.stack(x), *rows)))
        return settings.batch * PER_DISPATCH

    device()
    measuring.emit("ours", "device", **measuring.repeated(device, settings))


def measure_stream(settings: Settings, processed: Processed, n_bytes: int) -> None:
    """Mode "stream": repetitions of at least four blocks, begun when the workers are busy."""
    train, lengths = processed.indices("train"), processed.lengths("train")
    block = stream.block_episodes(n_bytes, len(train))
    plan = Plan(lengths, block, seed=0)
    dataset = stream.Dataset(f"{settings.directory}/rlds", CONFIG, processed.spec.keys)
    window = (N_OBS_STEPS, HORIZON)
    made = StreamLoader(dataset, train, lengths, window, settings.batch, plan, settings.directory)
    step = itertools.count()

    def call() -> int:
        made.batch(next(step))
        return settings.batch

    in_block = block * settings.steps
    for _ in range(2 * in_block // settings.batch):
        call()
    rates = measuring.repeated(call, settings, enough=min(4 * in_block, settings.frames))
    measuring.emit("ours", "stream", **rates, note=f"blocks of {block} episodes")
    made.close()


def main() -> None:
    """Prints rows."""
    settings = measuring.read_settings()
    processed, frames = prepare(settings)
    measure_cached(settings, frames)
    measure_stream(settings, processed, frames.n_bytes)


if __name__ == "__main__":
    main()
