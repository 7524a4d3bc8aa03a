"""Numbers over time: metrics.jsonl and TensorBoard files of a run directory.

Both survive a kill: a resumed run drops what lies beyond the step it restored, so
each step is there once.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from jaxpolicy import atomic

__all__ = ["FILE_NAME", "MetricsWriter", "read", "truncate"]

FILE_NAME = "metrics.jsonl"


def read(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl, oldest first; a half-written last line is left out."""
    path = Path(workdir) / FILE_NAME
    if not path.exists():
        return []
    rows = [_parse(line) for line in path.read_text().splitlines()]
    return [row for row in rows if row]


def _parse(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) and "step" in row else {}


def truncate(workdir: str | os.PathLike[str], step: int) -> None:
    """Drops rows beyond `step`, atomically."""
    path = Path(workdir) / FILE_NAME
    rows = [row for row in read(workdir) if row["step"] <= step]
    atomic.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


class MetricsWriter:
    """Appends rows of named numbers; `step` is the number of updates done."""

    def __init__(self, workdir: str | os.PathLike[str], step: int = 0, tensorboard: bool = True):
        """Continues after `step`, the restored one (0 for a new run)."""
        truncate(workdir, step)
        self._file = open(Path(workdir) / FILE_NAME, "a")  # noqa: SIM115
        self._board = _open_board(Path(workdir) / "tensorboard", step) if tensorboard else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row and flushes it."""
        row = {"step": step} | {k: float(v) for k, v in values.items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, float(value), step)

    def close(self) -> None:
        """Flushes and closes the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _open_board(directory: Path, step: int) -> SummaryWriter:
    purge = step + 1 if step else None
    return SummaryWriter(str(directory), purge_step=purge, flush_secs=10)
