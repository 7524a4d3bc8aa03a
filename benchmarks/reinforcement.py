"""Environment steps per CPU-second with learning, beside Stable-Baselines3's PPO.

COMMAND   make bench-reinforcement   (python -m benchmarks.reinforcement --torch_python=PYTHON)

Lift in C MuJoCo, seen as the simulator's state, by PPO with two networks of 2 x 64 tanh: 4
worlds of 500 steps, 3 epochs of 8 minibatches, the same values of everything on either side.
Stable-Baselines3 steps the worlds through jaxpolicy.sim.gymnasium.environments, as one
GymVectorEnv and as GymEnvs in its DummyVecEnv. The last row is ours as configs/ppo.py:lift trains.

One thread, each side a process of its own, updates alternate. Figures are medians of the
process's CPU time per update. Without --torch_python only our sides run.
"""

import argparse
import os
import platform
import statistics
import sys
import sysconfig
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.reinforcement_sides.measuring import Update
from benchmarks.sides.process import Side

OURS = "benchmarks.reinforcement_sides.ours"
THEIRS = "benchmarks.reinforcement_sides.stable_baselines"
HEAD = ("", "steps per CPU-s", "CPU-ms per update", "rollout", "learning", "times as fast")
# Setting -> how it is printed.
NAMES = {"reference": "4 x 500, 3 epochs", "full": "256 x 50, 6 epochs", "debug": "tiny"}


class Row(NamedTuple):
    """One side.

    Attributes:
      name: as it is printed.
      theirs: whether it is Stable-Baselines3.
      python, module, arguments: how it runs.
    """

    name: str
    theirs: bool
    python: str
    module: str
    arguments: tuple[str, ...]


def rows(torch_python: str, debug: bool) -> list[Row]:
    """The sides, ours first.

    Args:
      torch_python: see --torch_python.
      debug: with a setting that is done in seconds.
    """
    small, full = ("debug", "debug") if debug else ("reference", "full")
    found = [Row(f"ours, {NAMES[small]}", False, sys.executable, OURS, (small,))]
    if torch_python:
        python, packages = os.path.abspath(torch_python), sysconfig.get_path("purelib")
        for vector, name in (("vectorized", "GymVectorEnv"), ("dummy", "DummyVecEnv")):
            arguments = (packages, THEIRS, small, vector)
            name = f"Stable-Baselines3, {name}, {NAMES[small]}"
            found.append(Row(name, True, python, "benchmarks.sides.borrowing", arguments))
    return [*found, Row(f"ours, {NAMES[full]}", False, sys.executable, OURS, (full,))]


def measure(sides: Sequence[Row], n: int) -> list[list[Update]]:
    """`n` updates of each, in turn.

    The sides must learn the same number of parameters.
    """
    running = [Side(row.python, row.module, row.arguments) for row in sides]
    rounds = [[Update(**side.call()) for side in running] for _ in range(n)]
    for side in running:
        side.close()
    if len(sizes := {update.parameters for update in rounds[0]}) > 1:
        sys.exit(f"error: the networks differ in size: {sorted(sizes)}")
    return [list(column) for column in zip(*rounds, strict=True)]


def table(sides: Sequence[Row], measured: Sequence[Sequence[Update]]) -> str:
    """Medians, and how many times as fast as the faster of Stable-Baselines3's each is."""
    rates = [_median(updates, lambda u: u.rate) for updates in measured]
    best = max((rate for row, rate in zip(sides, rates, strict=True) if row.theirs), default=0.0)
    lines = [_line(HEAD), "|---" * len(HEAD) + "|"]
    for row, rate, updates in zip(sides, rates, measured, strict=True):
        times = (lambda u: u.total, lambda u: u.rollout, lambda u: u.learning)
        cells = [f"{rate:,.0f}", *(f"{_median(updates, of):,.1f}" for of in times)]
        lines.append(_line([row.name, *cells, f"{rate / best:.2f}" if best else ""]))
    return "\n".join(lines)


def _median(updates: Sequence[Update], of: Callable[[Update], float]) -> float:
    return statistics.median(map(of, updates))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--torch_python", default="", help="an interpreter that has PyTorch and Stable-Baselines3"
    )
    parser.add_argument("--updates", type=int, default=11)
    parser.add_argument("--debug", action="store_true", help="tiny; the figures mean nothing")
    args = parser.parse_args()
    if args.updates < 1:
        parser.error("--updates must be at least 1")
    load = os.getloadavg()[0]
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f}\n",
        flush=True,
    )
    sides = rows(args.torch_python, args.debug)
    print(table(sides, measure(sides, args.updates)))


if __name__ == "__main__":
    main()
