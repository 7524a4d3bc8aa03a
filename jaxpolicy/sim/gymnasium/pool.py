"""Worker processes for Gymnasium environments, seen from the side that asks.

Each worker is a fresh interpreter that runs sim/gymnasium/workers.py by its path: it shares
nothing with this process (a copy of a process that runs JAX may deadlock), does not import
the user's main program, and ends when its pipe closes. A worker that fails, dies or does
not answer in time takes the pool with it, and the error says what it said last.
"""

import multiprocessing
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, NamedTuple

from jaxpolicy.core.specs import InputError

__all__ = ["Pool", "WorkerError"]

_FILE = Path(__file__).with_name("workers.py")
_PATIENCE = 2.0  # s, for a worker to end by itself


class WorkerError(InputError):
    """A worker process failed; the message names its environment and says why.

    Programs show it as they show other errors in what they were given.
    """


class _Worker(NamedTuple):
    process: subprocess.Popen
    connection: Connection
    log: IO[bytes]


class Pool:
    """Processes that answer messages (see sim/gymnasium/workers.py)."""

    def __init__(self, name: str, source: Mapping[str, Any], timeout: float) -> None:
        """Starts no worker yet.

        Args:
          name: of the environment, for messages.
          source: what workers make, see `workers.Server.configure`.
          timeout: seconds within which a worker must answer.
        """
        self._name = name
        self._source = dict(source)
        self._timeout = timeout
        self._workers: list[_Worker] = []
        self.close = weakref.finalize(self, _stop, self._workers)

    def grow(self, n: int) -> None:
        """Has at least `n` workers."""
        new = list(range(len(self._workers), n))
        for _ in new:
            self._workers.append(_start())
        self.ask({i: ("configure", self._source) for i in new})

    def ask(self, messages: Mapping[int, Sequence[Any]]) -> dict[int, Any]:
        """Sends each worker its message and waits for all answers.

        Raises:
          InputError: a worker refuses its environment, or cannot make it.
          WorkerError: it failed in another way, died, or did not answer in time.
        """
        try:
            for i, message in messages.items():
                self._send(i, message)
            deadline = time.monotonic() + self._timeout
            return {i: self._receive(i, message[0], deadline) for i, message in messages.items()}
        except BaseException:
            self.close()
            raise

    def _send(self, i: int, message: Sequence[Any]) -> None:
        try:
            self._workers[i].connection.send(tuple(message))
        except OSError as e:
            raise WorkerError(f"{self._name}: {self._last_words(i)}") from e
        except Exception as e:
            # What pickle says differs from kind to kind of object.
            raise InputError(
                f"{self._name}: a worker process cannot be sent what makes the environment "
                f"({e}); define it at the top level of a module"
            ) from e

    def _receive(self, i: int, verb: str, deadline: float) -> Any:
        connection = self._workers[i].connection
        try:
            if not connection.poll(max(0.0, deadline - time.monotonic())):
                raise WorkerError(f"{self._name}: no answer to '{verb}' within {self._timeout:g} s")
            kind, value = connection.recv()
        except (EOFError, OSError) as e:
            raise WorkerError(f"{self._name}: {self._last_words(i)}") from e
        if kind == "ok":
            return value
        making = kind == "refused" or verb in ("configure", "probe")
        raise (InputError if making else WorkerError)(f"{self._name}: {value}")

    def _last_words(self, i: int) -> str:
        """How a worker ended and the last line it wrote."""
        worker = self._workers[i]
        try:
            code = worker.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        how = "closed its pipe" if code is None else f"ended with exit code {code}"
        worker.log.seek(0)
        lines = [line for line in worker.log.read().decode(errors="replace").split("\n") if line]
        return f"a worker process {how}" + (f": {lines[-1].strip()}" if lines else "")


def _start() -> _Worker:
    """A worker that knows where modules are, and nothing else yet."""
    ours, theirs = multiprocessing.Pipe()
    log = tempfile.TemporaryFile()
    # -P: the folder of the file holds a module named like the package that it needs.
    command = [sys.executable, "-P", str(_FILE), str(theirs.fileno())]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
    theirs.close()
    ours.send(sys.path)
    return _Worker(process, ours, log)


def _stop(workers: list[_Worker]) -> None:
    """Closes pipes, at which workers end, and makes sure that they have."""
    for worker in workers:
        worker.connection.close()
    deadline = time.monotonic() + _PATIENCE
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        worker.log.close()
    workers.clear()
