"""Speed of the data path: writing, processing, decoding, and samples per second.

COMMAND   python benchmarks/loader.py [--size 96 224] [--episodes 500] [--peers]

Samples have two observation steps of one camera, 7 numbers of state, and chunks of 16
actions. `--peers` (or `make bench-loader`) measures LeRobot's loader and tf.data on the same
episodes, one side after the other, each in a process of its own. CPU seconds are those of a
side's process and of all its workers. Figures are medians of the repetitions, with the
lowest and the highest.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.loader_sides.measuring import Settings, parse

ROOT = Path(__file__).resolve().parent.parent
PEERS_PYTHON = ROOT / ".venv-peers/bin/python"
QUIET = {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

Row = dict[str, Any]


def run_side(python: str, module: str, settings: Settings) -> list[Row]:
    """Runs a side and prints its rows as they come."""
    command = [python, "-m", f"benchmarks.loader_sides.{module}"]
    command.append(json.dumps(dataclasses.asdict(settings)))
    rows = []
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | QUIET,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as process,
    ):
        for line in process.stdout or ():
            row = parse(line)
            if row is not None:
                rows.append(row)
                print(describe(row), flush=True)
        if process.wait():
            said.seek(0)
            sys.exit(f"{said.read()}\nerror: {module} ended with code {process.returncode}")
    return rows


def describe(row: Row) -> str:
    """A row of the table."""
    name, unit = f"| {row['side']:<8} | {row['name']:<24} |", row.get("unit", "samples")
    if "wall" not in row:
        return f"{name} {row['note']} |"
    span = f" ({row['low']:,.0f} to {row['high']:,.0f})" if "low" in row else ""
    return f"{name} {row['wall']:,.0f}{span} {unit} | {row['cpu']:,.0f} | {row.get('note', '')} |"


def compare(rows: Sequence[Row]) -> None:
    """Prints how many times as fast our modes are as the fastest of each other loader."""
    ours = [r for r in rows if r["side"] == "ours" and r.get("unit") != "frames"]
    rivals = {
        "LeRobot": [r for r in rows if r["side"] == "LeRobot" and "wall" in r],
        **{f"tf.data, {r['name']}": [r] for r in rows if r["side"] == "tf.data" and "wall" in r},
    }
    print("\n| ours | beside | times per second | times per CPU-second |\n|---|---|---|---|")
    for row in ours:
        for name, found in rivals.items():
            if found:
                wall, cpu = (row[k] / max(r[k] for r in found) for k in ("wall", "cpu"))
                print(f"| {row['name']} | {name} | {wall:.1f} | {cpu:.1f} |")


def measure(args: argparse.Namespace, size: int) -> None:
    """Prints the tables of one size."""
    steps = {k: getattr(args, k) for k in ("episodes", "steps", "batch", "seconds", "repetitions")}
    load = os.getloadavg()[0]
    print(
        f"\n{size} x {size}, {args.episodes} episodes of {args.steps} steps, batch {args.batch}, "
        f"{os.cpu_count()} cores, load {load:.1f}\n"
    )
    print("| side | what | per second | per CPU-second | |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="loader-") as directory:
        settings = Settings(directory=directory, size=size, peers=args.peers, **steps)
        run_side(sys.executable, "writing", settings)
        rows = run_side(sys.executable, "ours", settings)
        if args.peers:
            rows += run_side(args.peers_python, "tf_data", settings)
            rows += run_side(args.peers_python, "lerobot_loader", settings)
    if args.peers:
        compare(rows)


def check_peers(python: str) -> None:
    """Ends the program where the environment of the others is missing."""
    if not Path(python).exists():
        sys.exit(
            f"error: {python} does not exist, which should run LeRobot and TensorFlow; "
            "make it with `make venv-peers` (needs Python 3.12 and 8 GB), or leave --peers out"
        )


def main() -> None:
    """Prints tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", default=[96])
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--peers_python", default=str(PEERS_PYTHON))
    args = parser.parse_args()
    # An environment's interpreter is a link, which must not be followed.
    args.peers_python = os.path.abspath(args.peers_python)
    if args.peers:
        check_peers(args.peers_python)
    for size in args.size:
        measure(args, size)


if __name__ == "__main__":
    main()
