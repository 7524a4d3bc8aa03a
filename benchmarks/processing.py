"""Processing of large datasets: rate, cost and peak memory by number of episodes.

COMMAND   python benchmarks/processing.py [--episodes 10000 100000] [--steps 20] [--size 32]

Episodes have one camera of `size` pixels, seven joints and seven actions, ten tasks, one
failure in ten and one duplicate in fifty. Each size is written by the RLDS writer, then
processed in a process of its own, whose peak memory is that of the whole process.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.core.types import DatasetSpec, Episode, EpisodeMetadata
from jaxpolicy.data import DataConfig, open_source, process
from jaxpolicy.data.formats import rlds_writer

JOINTS = tuple(f"q{i}" for i in range(7))


def make_spec(size: int) -> DatasetSpec:
    """One camera, 7 joints, 7 actions."""
    bounds = (-1.0,) * 7, (1.0,) * 7
    action = ActionSpec("joint_delta", JOINTS, ("rad",) * 7, *bounds, control_hz=20.0)
    return DatasetSpec(
        (ArraySpec("image/front", (size, size, 3), "uint8"), ArraySpec("proprio", (7,))), action
    )


def make_episodes(n: int, steps: int, size: int) -> Iterator[Episode]:
    """Random walks under smooth pictures."""
    ramp = np.linspace(0, 255, size, dtype=np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128), -1).astype(np.uint8)
    images = np.stack([np.roll(picture, t, 0) for t in range(steps)])
    for i in range(n):
        seed = i - 10 if i % 50 == 49 else i
        action = np.random.default_rng(seed).normal(0, 0.1, (steps, 7)).astype(np.float32)
        yield Episode(
            observation={"image/front": images, "proprio": np.cumsum(action, 0)},
            action=action,
            reward=np.zeros(steps, np.float32),
            is_terminal=False,
            language_instruction=f"task {i % 10}",
            metadata=EpisodeMetadata(f"e-{i:06d}", success=i % 10 != 3),
        )


def measure(dataset: str, directory: str) -> dict[str, float]:
    """Processes `dataset`; wall and CPU seconds and peak memory of this process."""
    source = open_source(dataset)
    opened, start, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    processed = process.process(source, DataConfig(), directory)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "opened_mb": opened,
        "peak_mb": _peak_mb(),
        **{k: processed.counts[k] for k in ("found", "kept", "failed", "duplicate")},
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(n: int, steps: int, size: int) -> None:
    """Writes and processes `n` episodes, prints a row."""
    with tempfile.TemporaryDirectory() as scratch:
        start, root = time.perf_counter(), pathlib.Path(scratch)
        rlds_writer.write(root / "d", make_episodes(n, steps, size), make_spec(size), "bench")
        written = time.perf_counter() - start
        command = [sys.executable, __file__, "--measure", scratch]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
    print(
        f"| {n:,} | {n / written:,.0f} | {n / found['seconds']:,.0f} | "
        f"{1000 * found['cpu_seconds'] / n:.2f} | {found['opened_mb']:.0f} | "
        f"{found['peak_mb']:.0f} | {found['kept']:,} | {found['failed']:,} | "
        f"{found['duplicate']:,} |",
        flush=True,
    )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--measure", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(f"{args.measure}/d", f"{args.measure}/p")))
        return
    columns = ("episodes", "written/s", "processed/s", "CPU-ms each", "MB when open")
    columns += ("MB at most", "kept", "failed", "duplicate")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for n in args.episodes:
        run(n, args.steps, args.size)


if __name__ == "__main__":
    main()
