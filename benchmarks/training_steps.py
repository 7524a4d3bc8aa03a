"""CPU time of training steps and of sampling, beside PyTorch's on the same networks.

COMMAND   make bench-training   (python benchmarks/training_steps.py --torch_python=PYTHON)

One thread on one core on either side: with two, the thread pools of both move work to and fro,
which costs XLA a third of a ResNet step. Each side is a process of its own, and their calls
alternate: ours, eager PyTorch, compiled PyTorch. Figures are medians of CPU-milliseconds of the
process per call, and how many times as fast as the better of PyTorch's two we are. Without
--torch_python only our side runs.
"""

import argparse
import os
import platform
import statistics
import sys

from benchmarks.sides.process import Side
from benchmarks.training_sides.cases import CASES


def measure(case: str, torch_python: str, calls: int) -> None:
    """Prints one row."""
    sides = [(sys.executable, "ours", ())]
    if torch_python:
        sides += [(torch_python, "torch_side", ()), (torch_python, "torch_side", ("--compile",))]
    running = [
        Side(python, f"benchmarks.training_sides.{module}", (case, *options))
        for python, module, options in sides
    ]
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
