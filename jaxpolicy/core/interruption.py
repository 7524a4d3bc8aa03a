"""SIGINT (Ctrl-C) and SIGTERM: noted at once, acted upon where it is safe.

Python's own answer to Ctrl-C is an exception wherever the main thread happens to be. Inside a
callback that XLA calls it brings the process down, and while XLA compiles nothing happens
until it has finished. So here a signal only leaves a note, and there are two ways out:

- Code that can stop asks `check()`, between batches or updates, which raises `Interrupted`.
  What was opened is closed on the way up, and training saves where it stands.
- A thread watches. Where nobody has asked within the time that is granted (see `patience`),
  or when a second signal comes, it ends the process from outside, after it has removed files
  that were half written.

Both print one line on standard error, with the command that goes on, and exit with 128 + the
signal: 130 or 143. Only launchers call `watch` and `handled`; in a program of your own signals
are what they were, and `check()` never raises.
"""

import contextlib
import dataclasses
import os
import select
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

__all__ = [
    "Interrupted",
    "check",
    "command",
    "end_with_parent",
    "handled",
    "patience",
    "requested",
    "shielded",
    "watch",
]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds from a signal to the end, where nobody asks; what is computed is lost then.
GRANTED_S = 3.0
# A program that starts this one (make, a scheduler) may pass a signal on that came to both.
_SAME_S = 0.5
# A compiled program that JAX is writing into its cache, which does so in place.
_CACHE_S = 5.0


class Interrupted(BaseException):
    """A signal came; no Exception, so that nothing takes it for a failure of its own."""

    def __init__(self, signum: int) -> None:
        """Takes the signal."""
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@dataclasses.dataclass
class _State:
    """What this process knows of signals: it has one main thread, so there is one of these.

    Attributes:
      signum: the first signal that came, 0 before.
      asked: somebody has been told, and is on the way out.
      granted_s: see `patience`.
      pipe: (read, write) that signals go through, (-1, -1) before `watch`.
      tidy: removes what is half written.
      leaving: held by the thread that ends the process.
    """

    signum: int = 0
    asked: bool = False
    granted_s: float = 0.0
    pipe: tuple[int, int] = (-1, -1)
    tidy: Callable[[], None] | None = None
    leaving: threading.Lock = dataclasses.field(default_factory=threading.Lock)


_STATE = _State()


def requested() -> int:
    """The signal that came, 0 where none did."""
    return _STATE.signum


def check() -> None:
    """Raises Interrupted if a signal came; for the main thread, where it is safe to stop."""
    if _STATE.signum and threading.current_thread() is threading.main_thread():
        _STATE.asked = True
        raise Interrupted(_STATE.signum)


@contextlib.contextmanager
def patience() -> Iterator[Callable[[float], None]]:
    """Gives a function that sets how many seconds the block has to reach its next `check`.

    For blocks that have something to save.
    """
    before = _STATE.granted_s
    try:
        yield _grant
    finally:
        _STATE.granted_s = before


def _grant(seconds: float) -> None:
    # Without `handled` there is nobody who would ask.
    _STATE.granted_s = seconds if _STATE.granted_s else 0.0


# ------------------------------------------------------------------ launchers


def watch() -> None:
    """Takes over both signals, once; until `handled` a signal ends the process at once."""
    if _STATE.pipe != (-1, -1) or threading.current_thread() is not threading.main_thread():
        return
    _STATE.pipe = os.pipe()
    os.set_blocking(_STATE.pipe[1], False)
    # Written to by the C handler, even while the main thread is in C and runs no Python.
    signal.set_wakeup_fd(_STATE.pipe[1], warn_on_full_buffer=False)
    for signum in SIGNALS:
        # Ignored by who started this, as nohup and shells do for what runs in the background.
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _note)
    os.register_at_fork(after_in_child=_forget)
    threading.Thread(target=_watch, name="signals", daemon=True).start()


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """The whole of a launcher's work: a signal during it ends the process, see above.

    Where the work is done signals are ignored, so that what is left of the process, which is
    short, ends as it would have.
    """
    from jaxpolicy.core import atomic

    watch()
    _STATE.tidy, _STATE.granted_s = atomic.tidy, GRANTED_S
    try:
        yield
    except BaseException as e:
        if isinstance(e, Interrupted | KeyboardInterrupt) or _STATE.signum:
            _leave(getattr(e, "signum", 0) or _STATE.signum or signal.SIGINT)
        atomic.remove_empty()
        raise
    finally:
        _STATE.granted_s = float("inf")
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)


def command() -> str:
    """What was typed to start this process, for a shell."""
    typed, arguments = list(sys.orig_argv), sys.argv[1:]
    if typed[len(typed) - len(arguments) :] == arguments:
        return shlex.join(typed)
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", spec.name] if spec is not None else sys.argv[:1]
    return shlex.join(["python", *program, *arguments])


def _note(signum: int, frame: FrameType | None) -> None:
    """The Python handler. It must not raise: XLA may be the caller of whoever it interrupts."""
    del frame
    _STATE.signum = _STATE.signum or signum


def _forget() -> None:
    """A forked child has no thread that watches; it ends with its parent."""
    global _STATE
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _STATE = _State()


def _watch() -> None:
    source = _STATE.pipe[0]
    signum = os.read(source, 1)[0]
    while signum not in SIGNALS:  # Others may have Python handlers too.
        signum = os.read(source, 1)[0]
    _STATE.signum = _STATE.signum or signum
    began = time.monotonic()
    while _STATE.asked or time.monotonic() - began < _STATE.granted_s:
        if select.select([source], [], [], 0.05)[0]:
            again = os.read(source, 1)[0]
            if again in SIGNALS and time.monotonic() - began > _SAME_S:
                break
    _leave(signum)


def _leave(signum: int) -> NoReturn:
    """One line, and the end; no Python and no XLA runs after it, so nothing can crash.

    Interpreters that shut down while XLA's threads call back into them do.
    """
    if not _STATE.leaving.acquire(
        blocking=threading.current_thread() is not threading.main_thread()
    ):
        time.sleep(_CACHE_S + 1)  # The other thread ends the process.
    if threading.current_thread() is threading.main_thread():
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
    else:
        _wait_for_cache()
    name = signal.Signals(signum).name
    # A progress bar may have hidden the cursor and be in the middle of a line.
    prefix = "\033[?25h\n" if os.isatty(2) else ""
    line = f"{prefix}interrupted by {name}; to go on: {command()}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode())
        # Whatever finds its files gone in the moment that is left has nothing to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with contextlib.suppress(Exception):
        if _STATE.tidy is not None:
            _STATE.tidy()
    os._exit(128 + signum)


def _wait_for_cache() -> None:
    """JAX keeps compiled programs in files that it does not write atomically."""
    deadline = time.monotonic() + _CACHE_S
    main = threading.main_thread().ident or 0
    while time.monotonic() < deadline:
        frame = sys._current_frames().get(main)  # noqa: SLF001  the documented name
        while frame is not None and not _caches(frame):
            frame = frame.f_back
        if frame is None:
            return
        time.sleep(0.01)


def _caches(frame: FrameType) -> bool:
    code = frame.f_code
    return code.co_name == "put" and code.co_filename.endswith("lru_cache.py")


# ------------------------------------------------------------------ worker processes


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Processes started in the block do not get SIGINT, which a terminal sends to all.

    They must end with their parent; see `end_with_parent`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Ends this process, a worker of multiprocessing, when its parent is gone."""
    threading.Thread(target=_outlive, name="parent", daemon=True).start()


def _outlive() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
