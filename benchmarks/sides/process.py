"""What asks sides (see serving.py): each is a process of its own, on one thread."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.sides.serving import ANSWER

ROOT = Path(__file__).resolve().parent.parent.parent
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
# Memory that is given back is zeroed again by the system, in pages of 4 KiB where nothing else
# is asked for: all sides keep it, in large pages.
KEEP_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_ARENA_MAX": "1",
}


class Side:
    """A process that does a call when asked.

    Attributes:
      process: the process.
      ready: seconds it took to get ready.
    """

    def __init__(self, python: str, module: str, arguments: Sequence[str]) -> None:
        """Starts `python -m module arguments` and waits until it is ready."""
        self.process = subprocess.Popen(
            [python, "-m", module, *arguments],
            cwd=ROOT,
            env=os.environ | ONE_THREAD | KEEP_MEMORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self._answer()

    def call(self) -> Any:
        """What one call returns over there."""
        print(file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()

    def _answer(self) -> Any:
        for line in self.process.stdout or ():
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        self.close()
        sys.exit(f"error: a side ended with code {self.process.returncode}; its message is above")
