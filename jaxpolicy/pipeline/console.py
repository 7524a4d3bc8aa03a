"""Progress bars and tables on the terminal."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from jaxpolicy.core.counting import counted
from jaxpolicy.core.specs import ArraySpec
from jaxpolicy.evaluation.offline import ActionErrors
from jaxpolicy.evaluation.offline_page import element_rows, unit_of
from jaxpolicy.networks import describe
from jaxpolicy.pipeline import design, process, words

__all__ = [
    "bars",
    "element_table",
    "gains_table",
    "gate",
    "network_table",
    "offline_table",
    "overview_tables",
    "paths",
    "rounds_table",
    "sweep_table",
    "table",
    "text",
]

Update = Callable[..., None]


def text(line: str) -> None:
    """Prints one line."""
    Console().print(line, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def bars() -> Iterator[Callable[[str], Update]]:
    """Gives a function: name of a long task -> its update(done, in all).

    Bars appear with their first update and stay when they are full. On a terminal they
    are animated; elsewhere (a log file) nothing is printed.
    """
    columns = (
        TextColumn("{task.description:>16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Update:
            progress = Progress(*columns, console=console, disable=not console.is_terminal)
            task = progress.add_task(name, total=None)
            shown: list[Progress] = []

            def update(done: int, total: int, *_: int) -> None:
                if not shown:
                    shown.append(stack.enter_context(progress))
                progress.update(task, completed=done, total=total)
                if done >= total:
                    progress.stop()

            return update

        yield start


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table, as wide as it needs to be."""
    grid = Table(title=title, title_justify="left", header_style="bold")
    for name in header:
        grid.add_column(name, overflow="fold")
    for row in rows:
        # Text, since names that files give may look like markup.
        grid.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(grid, highlight=False)


def offline_table(rows: Mapping[str, ActionErrors], part: str = "validation") -> None:
    """Prints the policy's errors beside those of the baselines, on a part of the data."""
    units = list(next(iter(rows.values())).mae)
    names = [f"mean |error| ({unit_of(u)})" for u in units]
    body = [
        (name, f"{e.mse:.4f}", *(f"{e.mae[u]:.5f}" for u in units), str(e.n_steps))
        for name, e in rows.items()
    ]
    header = ("predictor", "MSE / variance", *names, "steps")
    table(f"Action errors on the {part} part", header, body)


def element_table(rows: Mapping[str, ActionErrors]) -> None:
    """Prints the mean absolute error of every element of the action, in its unit."""
    table("Mean |error| by element", ("element", "unit", *rows), element_rows(rows))


def gate(reasons: Sequence[str]) -> None:
    """Prints why a gate was not passed, a line for each reason."""
    for reason in reasons:
        text(f"gate not passed: {reason}")


def network_table(name: str, found: design.Description) -> None:
    """Prints a network by module: parameters, arithmetic and memory; what goes in and out."""
    of, spec = found.table, found.policy_spec
    rows = [
        ("  " * (len(r.path) - 1) + r.path[-1], f"{r.parameters:,}", f"{r.flops / 1e6:,.2f}")
        for r in of.rows
    ]
    rows.append(("total", f"{of.parameters:,}", f"{of.flops / 1e6:,.2f}"))
    table(name, ("module", "parameters", "MFLOP, forward, one sample"), rows)
    text(describe.memory(of))
    text("inputs: " + _windows(spec.observation, spec.n_obs_steps))
    if spec.critic:
        text("inputs of the critic: " + _windows(spec.critic, spec.n_obs_steps))
    shape = [spec.horizon, spec.action.size]
    text(f"outputs: actions {shape}, of which {spec.n_action_steps} executed: {spec.action.kind}")
    text(f"devices: {found.devices}, over which samples are split")


def _windows(specs: Sequence[ArraySpec], n_obs_steps: int) -> str:
    return ", ".join(f"{s.name} {s.dtype} {[n_obs_steps, *s.shape]}" for s in specs)


def sweep_table(found: Mapping[str, Any]) -> None:
    """Prints the runs of a sweep (see sweep.read), and each group of seeds pooled."""
    monitor = found["monitor"]
    runs = [(r["run"], *_sweep_cells(r)) for r in found["runs"]]
    table(f"{found['name']}: runs", ("run", monitor, "success", "train s"), runs)
    header = ("settings", "seeds", f"mean {monitor}", "success, pooled", "mean s", "mean ± std")
    groups = [
        (_settings(g["values"]), str(g["n_seeds"]), *_sweep_cells(g), _spread(g))
        for g in found["groups"]
    ]
    table("all seeds together, best first", header, groups)


def _sweep_cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    score = "-" if row["score"] is None else f"{row['score']:.4g}"
    return score, words.tell_success(row), f"{row['seconds']:.0f}"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in values.items()) or "as configured"


def _spread(group: Mapping[str, Any]) -> str:
    if group["mean"] is None:
        return "-"
    return f"{group['mean']:.1%}" + ("" if group["std"] is None else f" ± {group['std']:.1%}")


def paths(found: Sequence[Path]) -> None:
    """Prints where things were written."""
    for path in found:
        text(f"  {path}")


def rounds_table(run: Mapping[str, Any]) -> None:
    """Prints the rounds of a DAgger run (see dagger.Result.runs)."""
    header = ("round", "beta", "episodes", "success", "by expert", "steps labelled", "validation")
    title = f"{run['name']}: rounds, of which {run['best']} is the best"
    table(title, header, [words.tell_round(told) for told in run["rounds"]])


def gains_table(groups: Sequence[Mapping[str, Any]]) -> None:
    """Prints success before and after DAgger (see pooled.summarize_gains)."""
    header = ("settings", "seeds", "before", "after", "points")
    rows = [
        (
            _settings(g["values"]),
            str(g["n_seeds"]),
            words.tell_success(g["before"]),
            words.tell_success(g["after"]),
            f"{100 * g['gain']:+.1f}",
        )
        for g in groups
    ]
    table("success on held-out starts, demonstrations alone and after DAgger", header, rows)


def overview_tables(overview: process.Overview) -> None:
    """Prints what the fields of a dataset become, and what the policy would see."""
    title = f"{overview.path}: {overview.format}, {counted(overview.n_episodes, 'episode')}"
    if overview.layout:
        table(title, ("field", "of a step", "becomes", "because"), overview.layout.rows)
    table("What the policy sees", ("array", "shape", "dtype", "unit"), _seen(overview))
    if overview.guess:
        advice = "; say what they are with --config.data.action_kind"
        text(overview.guess.evidence + advice)


def _seen(overview: process.Overview) -> list[tuple[str, ...]]:
    spec = overview.spec
    rows = [(s.name, str(list(s.shape)), s.dtype, s.unit) for s in spec.observation]
    rate = f" at {spec.action.control_hz:g} Hz" if spec.action.control_hz else ""
    kind = f"action: {spec.action.kind}{rate}"
    return [*rows, (kind, f"[{spec.action.size}]", "float32", ", ".join(spec.action.units))]
