"""What a run tells: numbers, where they go, how fast they come, and what took the time."""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax

from jaxpolicy.training import metrics
from jaxpolicy.training.config import TrainConfig
from jaxpolicy.training.metrics import MetricsWriter, Video
from jaxpolicy.training.progress import ProgressBar

__all__ = ["PARTS", "Journal", "Profiler", "open_journal"]

PROFILE = "profile"

# What time goes to: opening the run and the first dispatch, which compiles; waiting for
# data; the steps; validation and in-loop evaluation; saving; starting and writing traces.
PARTS = ("start", "data", "step", "eval", "checkpoint", "profile")
_PAUSES = ("eval", "checkpoint", "profile")


class Profiler:
    """Records what the devices do in some steps, for TensorBoard, XProf or Perfetto."""

    def __init__(self, directory: str | os.PathLike[str], steps: tuple[int, int]):
        """Traces the dispatches that hold updates steps[0] ... steps[1] - 1 into `directory`."""
        self._directory = os.fspath(directory)
        self._first, self._last = steps
        self._traces = False

    def before(self, start: int, stop: int) -> None:
        """Starts or ends the trace before the updates `start` ... `stop` - 1."""
        wanted = start < self._last and stop > self._first
        if wanted and not self._traces:
            options = jax.profiler.ProfileOptions()
            # Python's calls would make most of the trace, and of the time it takes.
            options.python_tracer_level = 0
            jax.profiler.start_trace(self._directory, profiler_options=options)
            self._traces = True
        elif not wanted:
            self.close()

    def close(self) -> None:
        """Ends the trace and writes it."""
        if self._traces:
            jax.profiler.stop_trace()
            self._traces = False


@dataclasses.dataclass
class Journal:
    """What a run tells.

    Attributes:
      writer: metrics files, None on all but the first host.
      bar: progress bar.
      profiler: see Profiler.
      open_writer: step restored -> metrics files that continue there.
      earlier_s: seconds of the calls that this one continues.
      began: when this call began, seconds.
      values: newest value of every metric.
      marks: (seconds without those between dispatches, step) at the beginning and after
        every dispatch.
      spent: seconds for each of PARTS but "step", which is the rest.
    """

    writer: MetricsWriter | None
    bar: ProgressBar
    profiler: Profiler
    open_writer: Callable[[int], MetricsWriter]
    earlier_s: float = 0.0
    began: float = dataclasses.field(default_factory=time.perf_counter)
    values: dict[str, float] = dataclasses.field(default_factory=dict)
    marks: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    spent: dict[str, float] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """The block's time is for `part`."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self.spent[part] = self.spent.get(part, 0.0) + time.perf_counter() - before

    def mark(self, step: int) -> float:
        """Notes that `step` updates are done; steps per second since the last mark."""
        paused = sum(self.spent.get(part, 0.0) for part in _PAUSES)
        self.marks.append((time.perf_counter() - paused, step))
        if len(self.marks) == 2:
            self.spent["start"] = self._call_s() - sum(self.spent.values())
        return self.rate(max(len(self.marks) - 2, 0))

    def rate(self, since: int = 1) -> float:
        """Steps per second from mark number `since` to the last, 0 when unknown."""
        if len(self.marks) <= since + 1:
            return 0.0
        (t0, s0), (t1, s1) = self.marks[since], self.marks[-1]
        return (s1 - s0) / max(t1 - t0, 1e-9)

    def seconds(self) -> float:
        """Since the run began, in all calls."""
        return self.earlier_s + self._call_s()

    def shares(self) -> dict[str, float]:
        """Share of this call's time that each of PARTS took; they add up to 1."""
        total = self._call_s()
        # Without a dispatch, all there was is the start.
        spent = self.spent if len(self.marks) > 1 else {"start": total}
        spent = spent | {"step": total - sum(spent.values())}
        return {part: spent.get(part, 0.0) / total for part in PARTS}

    def _call_s(self) -> float:
        return max(time.perf_counter() - self.began, 1e-9)

    def write(
        self, step: int, values: Mapping[str, float], videos: Mapping[str, Video] | None = None
    ) -> None:
        """One row of metrics, and what there is to see."""
        self.values |= values
        if self.writer is not None:
            self.writer.write(step, values, videos)
        self.bar.update(step, values)

    def go_back(self, step: int, why: str) -> None:
        """Continues after `step`, as a resumed run does: later rows are dropped."""
        if self.writer is not None:
            self.writer.close()
            self.writer = self.open_writer(step)
        # Speed is that of all updates, those that were in vain included.
        lost = self.marks[-1][1] - step
        self.marks = [(seconds, done - lost) for seconds, done in self.marks]
        self.bar.update(step, {})
        self.bar.note(why)

    def close(self) -> None:
        """Closes files and bar."""
        self.profiler.close()
        self.bar.close()
        if self.writer is not None:
            self.writer.close()


def open_journal(
    config: TrainConfig,
    workdir: str | os.PathLike[str],
    total: int,
    step: int = 0,
    earlier_s: float = 0.0,
) -> Journal:
    """Journal of a run of `total` updates that continues after `step`."""
    first_host = jax.process_index() == 0
    open_writer = functools.partial(metrics.open_writer, config, workdir)
    return Journal(
        writer=open_writer(step) if first_host else None,
        bar=ProgressBar(total, step, config.loop.progress and first_host),
        profiler=Profiler(Path(workdir) / PROFILE, config.loop.profile),
        open_writer=open_writer,
        earlier_s=earlier_s,
    )
