"""A side that counts its calls: `python -m tests.benchmarks.counting START`."""

import itertools
import sys

from benchmarks.sides.serving import serve


def make():
    """Calls give START + 1, START + 2 and so on."""
    counter = itertools.count(int(sys.argv[1]) + 1)
    return lambda: {"count": next(counter)}


if __name__ == "__main__":
    serve(make, warm_up=2)
