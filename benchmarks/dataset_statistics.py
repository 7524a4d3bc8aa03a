"""Statistics of a dataset in one pass: error against NumPy in float64, speed, memory.

COMMAND   python benchmarks/dataset_statistics.py [--rows 10000000] [--columns 14] [--length 60]

Rows have awkward columns in turn: small spread on a large offset, heavy tails, ties, a
constant, a ramp up and a ramp down. `fit` sees them in chunks of `--length` rows; the memory
is what it adds to the peak of the process, which holds the rows.
"""

import argparse
import resource
import time

import numpy as np

from jaxpolicy.core import normalization
from jaxpolicy.core.normalization import NormStats


def make_rows(rows: int, columns: int, part: int = 100_000) -> np.ndarray:
    """float32 [rows, columns], made in parts so that little else is ever in memory."""
    rng = np.random.default_rng(0)
    kinds = (
        lambda t: 1e3 + 0.01 * rng.standard_normal(len(t)),
        lambda t: rng.standard_t(1.5, len(t)),
        lambda t: rng.integers(0, 3, len(t)),
        lambda t: np.full(len(t), 0.1),
        lambda t: 8 * t - 3,
        lambda t: 5 - 8 * t,
        lambda t: rng.standard_normal(len(t)),
    )
    result = np.empty((rows, columns), np.float32)
    for start in range(0, rows, part):
        t = np.arange(start, min(start + part, rows)) / rows
        for column in range(columns):
            result[start : start + len(t), column] = kinds[column % len(kinds)](t)
    return result


def peak() -> float:
    """MiB that the process has held at most (ru_maxrss counts KiB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def errors(stats: NormStats, rows: np.ndarray) -> dict[str, float]:
    """Largest error of each statistic, relative to NumPy's value in float64."""
    worst = dict.fromkeys(NormStats._fields, 0.0)
    for i in range(rows.shape[1]):
        x = rows[:, i].astype(np.float64)
        want = (x.min(), x.max(), x.mean(), x.std(), *np.quantile(x, [0.01, 0.99]))
        for name, value in zip(NormStats._fields, want, strict=True):
            # The spread of a constant is some 1e-16 by NumPy.
            error = abs(float(getattr(stats, name)[i]) - value) / max(abs(value), 1e-9)
            worst[name] = max(worst[name], error)
    return worst


def main() -> None:
    """Prints one line of facts and one of errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--columns", type=int, default=14)
    parser.add_argument("--length", type=int, default=8192, help="rows of a chunk")
    args = parser.parse_args()
    rows = make_rows(args.rows, args.columns)
    before, start = peak(), time.perf_counter()
    stats = normalization.fit(rows[i : i + args.length] for i in range(0, len(rows), args.length))
    seconds, memory = time.perf_counter() - start, peak()
    print(
        f"{args.rows:,} x {args.columns} in chunks of {args.length}: {seconds:.1f} s, "
        f"{args.rows / seconds:,.0f} rows/s, peak {memory:,.0f} MiB, {memory - before:.0f} by fit"
    )
    print("relative errors:", *(f"{k} {v:.1e}" for k, v in errors(stats, rows).items()))


if __name__ == "__main__":
    main()
