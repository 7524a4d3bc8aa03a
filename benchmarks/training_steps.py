"""CPU time of training steps and of sampling, beside PyTorch's on the same networks.

COMMAND   make bench-training   (python benchmarks/training_steps.py --torch_python=PYTHON)

One thread on one core on either side: with two, the thread pools of both move work to and fro,
which costs XLA a third of a ResNet step. Each side is a process of its own, and their calls alternate: ours,
eager PyTorch, compiled PyTorch. Figures are medians of CPU-milliseconds of the process per
call, and how many times as fast as the better of PyTorch's two we are. Without
--torch_python only our side runs.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.training_sides.serving import ANSWER, CASES

ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
# Memory that is given back is zeroed again by the system, in pages of 4 KiB where nothing else
# is asked for: both sides keep it, in large pages.
KEEP_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_ARENA_MAX": "1",
}


class Side:
    """A process that makes one case and does a call when asked."""

    def __init__(self, python: str, module: str, case: str, options: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            [python, "-m", f"benchmarks.training_sides.{module}", case, *options],
            cwd=ROOT,
            env=os.environ | ONE_THREAD | KEEP_MEMORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self._answer()

    def call(self) -> float:
        """CPU-milliseconds of one call."""
        print(file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()

    def _answer(self) -> float:
        for line in self.process.stdout or ():
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        sys.exit(f"error: a side ended with code {self.process.wait()}; its message is above")


def measure(case: str, torch_python: str, calls: int) -> None:
    """Prints one row."""
    sides = [(sys.executable, "ours", ())]
    if torch_python:
        sides += [(torch_python, "torch_side", ()), (torch_python, "torch_side", ("--compile",))]
    running = [Side(python, module, case, options) for python, module, options in sides]
    rows = [[side.call() for side in running] for _ in range(calls)]
    for side in running:
        side.close()
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    cells = " | ".join(f"{m:,.1f}" for m in medians)
    ratio = f" | {min(medians[1:]) / medians[0]:.2f}" if torch_python else ""
    print(f"| {case} | {cells}{ratio} |", flush=True)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch_python", default="", help="an interpreter that has PyTorch")
    parser.add_argument("--calls", type=int, default=11)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    load = os.getloadavg()[0]
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f}\n"
    )
    more = " | PyTorch eager | PyTorch compiled | times as fast" if args.torch_python else ""
    print(f"| CPU-ms per call | ours{more} |\n|---|---{'|---' * 3 * bool(more)}|", flush=True)
    python = os.path.abspath(args.torch_python) if args.torch_python else ""
    for case in CASES:
        if args.only in case:
            measure(case, python, args.calls)


if __name__ == "__main__":
    main()
