"""Progress bar: losses, action error in rad and m, steps/s and time left."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["ProgressBar", "summary"]

_ERRORS = (("action_error_rad", "rad"), ("action_error_m", "m"))


def summary(values: Mapping[str, float]) -> str:
    """One line: training and validation loss, action errors of the newest of the two."""
    parts = [f"{k} {values[f'{k}/loss']:.4g}" for k in ("train", "val") if f"{k}/loss" in values]
    for name, unit in _ERRORS:
        found = [values[f"{k}/{name}"] for k in ("val", "train") if f"{k}/{name}" in values]
        parts += [f"error {found[0]:.4f} {unit}"] if found else []
    return "  ".join(parts)


class ProgressBar:
    """Shows updates done out of `total`; on a plain stream, one line per validation."""

    def __init__(
        self, total: int, step: int = 0, enabled: bool = True, console: Console | None = None
    ):
        """Starts at `step`; writes to `console`, by default standard error."""
        self._values: dict[str, float] = {}
        self._enabled = enabled
        self._console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TextColumn("{task.fields[rate]} steps/s"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(
            *columns, console=self._console, disable=not (enabled and self._console.is_terminal)
        )
        self._task = self._bar.add_task("train", total=total, completed=step, text="", rate="-")
        self._bar.start()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Moves to `step` and shows the newest values."""
        self._values |= values
        rate = self._values.get("steps_per_s")
        fields: dict[str, Any] = {"rate": f"{rate:.1f}"} if rate else {}
        self._bar.update(self._task, completed=step, text=summary(self._values), **fields)

    def line(self, step: int) -> None:
        """Prints the newest values as a line of their own."""
        if self._enabled:
            self._console.print(f"step {step:>6}  {summary(self._values)}", highlight=False)

    def note(self, text: str) -> None:
        """Prints a line."""
        if self._enabled:
            self._console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Stops drawing."""
        self._bar.stop()
