"""What every side of benchmarks/loader.py shares: settings, clocks, rows. Standard library only.

A side is a module that runs alone, `python -m benchmarks.loader_sides.SIDE SETTINGS`, and
prints its rows as JSON among whatever its libraries print.
"""

import dataclasses
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

N_OBS_STEPS, HORIZON, HZ = 2, 16, 20
ROW = "row: "
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
      directory: of the datasets and of all scratch files.
      size: side of the pictures in pixels.
      episodes, steps: number of episodes, and of steps of each.
      batch: samples of a batch.
      seconds: at least this long per repetition.
      repetitions: medians are of so many.
      peers: whether others' loaders are measured too.
    """

    directory: str
    size: int
    episodes: int
    steps: int
    batch: int
    seconds: float
    repetitions: int
    peers: bool

    @property
    def frames(self) -> int:
        """Frames of all episodes, which is also the number of samples."""
        return self.episodes * self.steps


def read_settings() -> Settings:
    """Those of the command line of a side."""
    return Settings(**json.loads(sys.argv[1]))


def emit(side: str, name: str, **values: Any) -> None:
    """One row: rates, or `note`."""
    print(ROW + json.dumps({"side": side, "name": name, **values}), flush=True)


def parse(line: str) -> dict[str, Any] | None:
    """The row of a printed line, None of any other line."""
    return json.loads(line.removeprefix(ROW)) if line.startswith(ROW) else None


def cpu_seconds() -> float:
    """CPU time of this process and of all its descendants, dead and alive."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime + sum(_children_ticks()) / _TICKS


def free_memory() -> int:
    """Bytes that a process can have without making others swap."""
    lines = dict(x.split(":") for x in Path("/proc/meminfo").read_text().splitlines())
    return 1024 * int(lines["MemAvailable"].split()[0])


def _children_ticks() -> list[int]:
    """Ticks of living descendants, and of the dead that they and this process waited for."""
    table = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        table[int(path.parent.name)] = int(fields[1]), [int(x) for x in fields[11:15]]
    me, ticks = os.getpid(), []
    for pid, (_, times) in table.items():
        if pid == me:
            ticks.append(sum(times[2:]))
        elif _descends(pid, me, table):
            ticks.append(sum(times))
    return ticks


def _descends(pid: int, ancestor: int, table: dict[int, tuple[int, list[int]]]) -> bool:
    while pid in table:
        pid = table[pid][0]
        if pid == ancestor:
            return True
    return False


def timed(call: Callable[[], Any], n: int) -> dict[str, float]:
    """Rates of one call that is worth `n`."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    call()
    return _rates(n, time.perf_counter() - wall, cpu_seconds() - cpu)


def repeated(
    call: Callable[[], int], settings: Settings, group: int = 1, enough: int = 1
) -> dict[str, float]:
    """Median rates of `call`, which gives back how many samples it made.

    Args:
      call: makes a batch; whatever it needs to get going it has done before.
      settings: how long and how often.
      group: calls of a repetition are a multiple of it: batches arrive in groups where
        several workers make one each.
      enough: samples of a repetition at least.
    """
    rows = [_repetition(call, settings.seconds, group, enough) for _ in range(settings.repetitions)]
    found = {k: statistics.median(row[k] for row in rows) for k in rows[0]}
    return found | {"low": min(r["wall"] for r in rows), "high": max(r["wall"] for r in rows)}


def _repetition(
    call: Callable[[], int], seconds: float, group: int, enough: int
) -> dict[str, float]:
    n, calls, wall, cpu = 0, 0, time.perf_counter(), cpu_seconds()
    while calls % group or n < enough or time.perf_counter() - wall < seconds:
        n += call()
        calls += 1
    return _rates(n, time.perf_counter() - wall, cpu_seconds() - cpu)


def _rates(n: int, wall: float, cpu: float) -> dict[str, float]:
    return {"wall": n / wall, "cpu": n / max(cpu, 1 / _TICKS)}
