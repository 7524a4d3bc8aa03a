"""Speed of the data path: writing, indexing, decoding, and batches per second.

COMMAND   python benchmarks/loader.py [--size 96] [--episodes 60] [--batch 64]

Samples have two observation steps of one camera and chunks of 16 actions. `host` is the
NumPy gather from the memory-mapped cache, `device` the gather of resident frames inside
jit, 16 batches per dispatch.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxpolicy.data import CleaningConfig, DataConfig, cache, loader, open_source, process
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.data.windows import Index
from jaxpolicy.specs import ActionSpec, ArraySpec
from jaxpolicy.types import DatasetSpec, Episode, EpisodeMetadata

STEPS, N_OBS_STEPS, HORIZON, PER_DISPATCH = 100, 2, 16, 16


def make_spec(size: int) -> DatasetSpec:
    """One camera of `size` pixels, 7 joints, 7 actions."""
    names = tuple(f"q{i}" for i in range(7))
    bounds = (-1.0,) * 7, (1.0,) * 7
    action = ActionSpec("joint_delta", names, ("rad",) * 7, *bounds, control_hz=20.0)
    return DatasetSpec(
        (ArraySpec("image/front", (size, size, 3), "uint8"), ArraySpec("proprio", (7,))), action
    )


def make_episodes(n: int, size: int) -> Iterator[Episode]:
    """Smooth moving pictures, which JPEG compresses as it does real ones."""
    y, x = np.mgrid[0:size, 0:size] * (6.3 / size)
    phase = np.arange(STEPS)[:, None, None] / 9
    planes = [np.sin(k * x + phase) * np.cos(y - k * phase) for k in (1, 2, 3)]
    image = (127 * (1 + np.stack(planes, -1))).astype(np.uint8)
    for i in range(n):
        action = np.random.default_rng(i).normal(size=(STEPS, 7)).astype(np.float32)
        yield Episode(
            observation={"image/front": image, "proprio": action},
            action=action,
            reward=np.zeros(STEPS, np.float32),
            is_terminal=False,
            language_instruction="",
            metadata=EpisodeMetadata(f"{i}", success=True),
        )


class Clock:
    """Wall-clock and CPU seconds since it was made; CPU seconds count every thread."""

    def __init__(self) -> None:
        """Starts."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @property
    def wall(self) -> float:
        """Seconds."""
        return time.perf_counter() - self._wall

    def report(self, name: str, n: int, unit: str) -> None:
        """Prints `n` units per second of each kind."""
        cpu = time.process_time() - self._cpu
        print(f"{name:<9}{n / self.wall:12,.0f} {unit}/s {n / cpu:12,.0f} {unit}/CPU-s")


def repeat(name: str, call: Callable[[int], Any], n_samples: int, seconds: float) -> None:
    """Prints samples per second of `call(step)`, each worth `n_samples`."""
    jax.block_until_ready(call(0))
    steps, clock = 0, Clock()
    while clock.wall < seconds:
        steps += 1
        jax.block_until_ready(call(steps))
    clock.report(name, steps * n_samples, "samples")


@jax.jit
def gather_many(arrays: Any, indices: Index) -> Any:
    """PER_DISPATCH batches in one program, each written over the last."""
    first = loader.gather(arrays, jax.tree.map(lambda x: x[0], indices), N_OBS_STEPS, HORIZON)
    return jax.lax.scan(body, (arrays, first), indices)[0][1]


def body(carry: Any, index: Index) -> tuple[Any, None]:
    """One batch."""
    arrays, _ = carry
    return (arrays, loader.gather(arrays, index, N_OBS_STEPS, HORIZON)), None


def prepare(directory: str, n: int, size: int) -> cache.Cache:
    """Writes, processes and caches; prints how fast."""
    clock, frames = Clock(), n * STEPS
    rlds_writer.write(f"{directory}/d", make_episodes(n, size), make_spec(size), "bench")
    clock.report("write", frames, "frames")
    clock, source = Clock(), open_source(f"{directory}/d")
    config = DataConfig(split=(1.0, 0.0, 0.0), cleaning=CleaningConfig(duplicates=False))
    processed = process.process(source, config, f"{directory}/p")
    clock.report("process", frames, "frames")
    clock, train = Clock(), processed.indices("train")
    built = cache.build(source, train, processed.spec.keys, f"{directory}/c")
    clock.report("decode", frames, "frames")
    return built


def measure(frames: cache.Cache, batch: int, seconds: float) -> None:
    """Prints samples per second of both modes."""
    made = loader.make_loader(frames, N_OBS_STEPS, HORIZON, batch, seed=0)
    repeat("index", made.indices, batch, seconds)
    repeat("host", made.batch, batch, seconds)
    arrays = jax.device_put(dict(made.arrays))

    def dispatch(step: int) -> Any:
        rows = [made.indices(step * PER_DISPATCH + i) for i in range(PER_DISPATCH)]
        return gather_many(arrays, jax.tree.map(lambda *x: np.stack(x), *rows))

    repeat("device", dispatch, batch * PER_DISPATCH, seconds)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    print(
        f"{args.size} x {args.size}, {args.episodes} episodes, batch {args.batch}, "
        f"{jax.devices()[0].device_kind}"
    )
    with tempfile.TemporaryDirectory() as directory:
        measure(prepare(directory, args.episodes, args.size), args.batch, args.seconds)


if __name__ == "__main__":
    main()
