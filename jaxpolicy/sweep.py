"""Several runs of one experiment: seeds, and grids of settings.

    <workdir>/config.json, sweep.json     the sweep, and what it found so far
    <workdir>/dataset, processed, cache   made once, shared by all runs
    <workdir>/seed_0, seed_1, ...         a run directory per seed
    <workdir>/<key=value,...>/seed_0, ... with a grid, one per cell and seed
    <workdir>/best                        link to the run that is exported
    <workdir>/learning_curves.png         success while training, where loop.rollouts is set

Every run is an ordinary run directory whose data are links to the sweep's, so each
launcher works there too. A sweep that was killed continues, and one that grows (more
seeds, more values) keeps what is done.
"""

import ast
import contextlib
import dataclasses
import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxpolicy import atomic, experiment, pipeline, schema
from jaxpolicy.evaluation import metrics, plots
from jaxpolicy.experiment import ExperimentConfig
from jaxpolicy.schema import InputError
from jaxpolicy.training import checkpoint, online, prepare, run_directory
from jaxpolicy.training.config import TrainConfig

__all__ = [
    "Cell",
    "cells",
    "evaluate",
    "is_sweep",
    "link",
    "parse_grid",
    "read",
    "run",
    "share",
    "summarize",
    "tell",
    "train",
]

PathLike = str | os.PathLike[str]

RESULT = "result.json"
SWEEP = "sweep.json"
BEST = "best"
CURVES = "learning_curves.png"

# What all runs share cannot differ between them.
SHARED = ("collect", "dataset", "env", "grid", "mixture", "name", "seed", "seeds")
_WORDS = {"true": True, "false": False}
_HOW = "write key=value,value;key=value,..., e.g. optimizer.learning_rate=1e-4,3e-4"


class Cell(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: its directory, below the sweep's.
      values: key -> value of the grid, empty without one.
      config: of the run.
    """

    name: str
    values: Mapping[str, Any]
    config: ExperimentConfig


# ------------------------------------------------------------------ what there is to run


def is_sweep(config: ExperimentConfig) -> bool:
    """Whether `config` asks for more than one run."""
    return config.seeds > 1 or bool(config.grid)


def cells(config: ExperimentConfig) -> tuple[Cell, ...]:
    """All runs of `config`: every combination of the grid's values, with every seed.

    Raises:
      InputError: a grid that cannot be read, or a value that does not fit its key.
    """
    grid = parse_grid(config.grid)
    combinations = [dict(zip(grid, v, strict=True)) for v in itertools.product(*grid.values())]
    seeds = range(config.seed, config.seed + config.seeds)
    found = tuple(_cell(config, values, seed) for values in combinations for seed in seeds)
    names = [cell.name for cell in found]
    if len(set(names)) < len(names):
        raise InputError("config.grid: two values give the same directory name")
    return found


def _cell(config: ExperimentConfig, values: Mapping[str, Any], seed: int) -> Cell:
    mapping = schema.to_mapping(config) | {"seed": seed, "seeds": 1, "grid": ""}
    for key, value in values.items():
        _set(mapping, key, value)
    parts = [",".join(f"{k}={_plain(v)}" for k, v in values.items()), f"seed_{seed}"]
    name = "/".join(filter(None, parts))
    return Cell(name, values, experiment.from_mapping(mapping, "config.grid: config"))


def _plain(value: Any) -> str:
    """A value as part of a file name."""
    return re.sub(r"[^\w.+-]+", "_", str(value)).strip("_")


def _set(mapping: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key; one that does not exist is found by the schema afterwards."""
    *sections, last = key.split(".")
    for section in sections:
        inner = mapping.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"config.grid: '{key}': {section} is a value, not a section")
        mapping = inner
    mapping[last] = value


def parse_grid(text: str) -> dict[str, tuple[Any, ...]]:
    """'a.b=1,2;c=x,y' -> {"a.b": (1, 2), "c": ("x", "y")}.

    Values are Python literals (numbers, tuples in brackets), true, false, or words.

    Raises:
      InputError: not of this form, a key twice, or a key that all runs must share.
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for axis in _split(text, ";") if text.strip() else []:
        key, equals, values = (part.strip() for part in axis.partition("="))
        found = tuple(map(_literal, _split(values, ",")))
        if not equals or not re.fullmatch(r"\w+(\.\w+)*", key) or "" in found:
            raise InputError(f"config.grid: cannot read '{axis}'; {_HOW}")
        if key in grid:
            raise InputError(f"config.grid names '{key}' twice; give all its values at once")
        if key.split(".")[0] in SHARED:
            raise InputError(f"config.grid cannot vary '{key}': all runs of a sweep share it")
        grid[key] = found
    return grid


def _split(text: str, mark: str) -> list[str]:
    """Splits at `mark`, but not inside brackets."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c == mark and not depth:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts]


def _literal(text: str) -> Any:
    try:
        return _WORDS[text] if text in _WORDS else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


# ------------------------------------------------------------------ running


def run(
    config: ExperimentConfig,
    workdir: PathLike,
    progress: pipeline.StageProgress = pipeline.no_progress,
) -> pipeline.Summary:
    """All stages: demonstrations once, every run trained and evaluated, the best exported.

    The gate asks for `min_success` of the pooled episodes of all seeds (with a grid: of
    its best cell), and for an artefact of the best run that equals it.
    """
    log = pipeline.Log(progress)
    all_cells = _open(config, workdir)
    pipeline.prepare_data(config, workdir, log)
    evaluations = {}
    for cell in all_cells:
        share(config, cell, workdir)
        for stage, function in (("train", _train), ("evaluate", _evaluate)):
            name = f"{cell.name} {stage}"
            result = log.timed(name, _tell_result, function, cell, workdir, log.progress(name))
        evaluations[cell.name] = result["evaluation"]
        found = _write(config, workdir)
    _plot(config, all_cells, workdir)
    best = next(cell for cell in all_cells if cell.name == found["best"])
    reasons = pipeline.success_reasons(config, found["groups"][0]["success_rate"])
    directory = Path(workdir) / best.name
    reasons += pipeline.deliver(best.config, directory, evaluations[best.name], log)
    paths = tuple(Path(workdir) / p for p in (SWEEP, BEST))
    return pipeline.Summary(tuple(log.rows), not reasons, tuple(reasons), paths)


def _plot(config: ExperimentConfig, all_cells: Sequence[Cell], workdir: PathLike) -> None:
    """learning_curves.png, where runs drove the robot while they trained."""
    root = Path(workdir)
    found = {c.name: pipeline.success_curve(c.config, root / c.name) for c in all_cells}
    curves = {name: (x, y) for name, (x, y, _) in found.items() if len(x)}
    with contextlib.suppress(ImportError):
        if curves:
            unit = next(iter(found.values()))[2]
            picture = plots.learning_curves(curves, config.loop.rollouts, unit)
            atomic.write_bytes(root / CURVES, picture)


def train(
    config: ExperimentConfig,
    workdir: PathLike,
    progress: pipeline.StageProgress = pipeline.no_progress,
) -> dict[str, Any]:
    """Trains every run that is not finished; see `read` for what is returned."""
    return _each(config, workdir, _train, "train", progress)


def evaluate(
    config: ExperimentConfig,
    workdir: PathLike,
    progress: pipeline.StageProgress = pipeline.no_progress,
) -> dict[str, Any]:
    """Evaluates every run that has no success rate yet; see `read` for what is returned."""
    return _each(config, workdir, _evaluate, "evaluate", progress)


def _each(
    config: ExperimentConfig,
    workdir: PathLike,
    stage: Callable[..., Any],
    name: str,
    progress: pipeline.StageProgress,
) -> dict[str, Any]:
    all_cells = _open(config, workdir)
    if not online.is_online(config):
        pipeline.process(config, workdir, progress("process"))
    for cell in all_cells:
        share(config, cell, workdir)
        stage(cell, workdir, progress(f"{cell.name} {name}"))
        found = _write(config, workdir)
    return found


def _open(config: ExperimentConfig, workdir: PathLike) -> tuple[Cell, ...]:
    """The runs of `config`; all of them are checked before the first begins."""
    found = cells(config)
    run_directory.check_writable(workdir)
    run_directory.write_config(config, workdir)
    return found


def share(config: ExperimentConfig, cell: Cell, workdir: PathLike) -> None:
    """Makes the data of the sweep those of the run, by links."""
    directory = Path(workdir) / cell.name
    atomic.make_directory(directory)
    if online.is_online(config):
        return
    atomic.make_directory(Path(workdir) / prepare.CACHE)
    names = [prepare.CACHE] if config.dataset or config.mixture else [prepare.CACHE, "dataset"]
    if cell.config.data == config.data:
        count = range(len(prepare.entries(config, workdir)))
        names += [prepare.processed_path("", n).name for n in count]
    for name in names:
        link(directory / name, Path(workdir) / name)


def link(path: Path, target: Path) -> None:
    """Makes `path` a relative link to `target`, where nothing is there yet."""
    if not path.is_symlink() and not path.exists():
        path.symlink_to(os.path.relpath(target, path.parent))


def _train(cell: Cell, workdir: PathLike, progress: pipeline.Progress | None = None) -> dict:
    """The run's result after training, which a finished run has already."""
    directory = Path(workdir) / cell.name
    settings, found = _json_copy(schema.to_mapping(cell.config)), _result(directory)
    if found and _trained_as(found["config"]) == _trained_as(settings):
        return found
    fitted, _ = pipeline.train(cell.config, directory, progress)
    best = checkpoint.load_assets(directory, fitted.best_step)["best"]
    sign = 1.0 if cell.config.loop.monitor_mode == "min" else -1.0
    training = {
        "steps": fitted.step,
        "best_step": fitted.best_step,
        "score": None if best["step"] < 0 else sign * best["score"],
        "seconds": fitted.seconds,
    }
    return _save(directory, {"config": settings, "training": training, "evaluation": None})


def _evaluate(cell: Cell, workdir: PathLike, progress: pipeline.Progress | None = None) -> dict:
    """The run's result after evaluation, which an evaluated run has already."""
    directory = Path(workdir) / cell.name
    settings, found = _json_copy(schema.to_mapping(cell.config)), _result(directory)
    if not found:
        raise InputError(f"{directory}: not trained yet; run launch.train first")
    if found["evaluation"] and found["config"] == settings:
        return found
    report, _ = pipeline.evaluate(cell.config, directory, "jax", progress)
    keys = ("n_success", "n_episodes", "success_rate", "success_ci95")
    return _save(
        directory, found | {"config": settings, "evaluation": {k: report[k] for k in keys}}
    )


def _trained_as(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides what training makes."""
    names = {f.name for f in dataclasses.fields(TrainConfig)}
    return {k: v for k, v in settings.items() if k in names}


def _save(directory: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    copy = _json_copy(result)
    atomic.write_text(directory / RESULT, json.dumps(copy, indent=1) + "\n")
    return copy


def _result(directory: Path) -> dict[str, Any] | None:
    try:
        return json.loads((directory / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _json_copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


# ------------------------------------------------------------------ what was found


def read(workdir: PathLike) -> dict[str, Any]:
    """Contents of sweep.json.

    Returns:
      {"name", "monitor", "best": name of the best run or None,
      "runs": [{"run", "seed", "values", "steps", "best_step", "score", "seconds",
        "n_success", "n_episodes", "success_rate", "success_ci95"}] in the order of cells,
      "groups": [{"values", "n_seeds", "score", "seconds", "n_success", "n_episodes",
        "success_rate", "success_ci95", "mean", "std"}], one for every cell of the grid,
        the best first}. Successes are pooled over the seeds of a group; `mean` and `std`
      are of the success rates of its seeds; None where nothing was evaluated.
    """
    return json.loads((Path(workdir) / SWEEP).read_text(encoding="utf-8"))


def _write(config: ExperimentConfig, workdir: PathLike) -> dict[str, Any]:
    """Writes sweep.json and the link to the best run, from the runs that are there."""
    rows = []
    for cell in cells(config):
        result = _result(Path(workdir) / cell.name)
        if result is not None:
            facts = {"run": cell.name, "seed": cell.config.seed, "values": dict(cell.values)}
            rows.append(facts | result["training"] | (result["evaluation"] or _UNKNOWN))
    found = summarize(rows, config.loop.monitor_mode)
    found = {"name": config.name, "monitor": config.loop.monitor} | found
    atomic.write_text(Path(workdir) / SWEEP, json.dumps(found, indent=1) + "\n")
    link = Path(workdir) / BEST
    link.unlink(missing_ok=True)
    link.symlink_to(found["best"])
    return found


_UNKNOWN = dict.fromkeys(("n_success", "n_episodes", "success_rate", "success_ci95"))


def summarize(rows: Sequence[Mapping[str, Any]], monitor_mode: str = "min") -> dict[str, Any]:
    """Runs -> {"best", "runs", "groups"} as `read` gives them.

    Groups are ordered by pooled success, by the mean of the monitored metric where not
    all are evaluated. The best run is that of the first group with the best monitored
    metric: it is chosen without a look at the episodes that are reported for it.
    """
    keys = list(dict.fromkeys(json.dumps(row["values"]) for row in rows))
    groups = [_group([r for r in rows if json.dumps(r["values"]) == key]) for key in keys]
    sign = 1.0 if monitor_mode == "min" else -1.0
    by_success = all(g["success_rate"] is not None for g in groups)
    groups.sort(key=lambda g: -g["success_rate"] if by_success else _order(g["score"], sign))
    members = [r for r in rows if groups and r["values"] == groups[0]["values"]]
    best = min(members, key=lambda r: _order(r["score"], sign), default=None)
    return {"best": best and best["run"], "runs": [dict(r) for r in rows], "groups": groups}


def _order(score: float | None, sign: float) -> float:
    return float("inf") if score is None else sign * score


def _group(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Seeds of one cell of the grid, pooled."""
    scores = [r["score"] for r in rows if r["score"] is not None]
    group: dict[str, Any] = {
        "values": rows[0]["values"],
        "n_seeds": len(rows),
        "score": float(np.mean(scores)) if scores else None,
        "seconds": float(np.mean([r["seconds"] for r in rows])),
        **_UNKNOWN,
        "mean": None,
        "std": None,
    }
    done = [r for r in rows if r["success_rate"] is not None]
    if done:
        k, n = (sum(r[key] for r in done) for key in ("n_success", "n_episodes"))
        rates = [r["success_rate"] for r in done]
        group |= {"n_success": k, "n_episodes": n, "success_rate": k / n}
        group |= {"success_ci95": metrics.wilson(k, n), "mean": float(np.mean(rates))}
        group["std"] = metrics.success_std_over_seeds(rates)
    return group


def _tell_result(result: Mapping[str, Any]) -> str:
    training, evaluation = result["training"], result["evaluation"]
    score = training["score"]
    validation = "" if score is None else f", {result['config']['loop']['monitor']} {score:.3g}"
    told = f"{training['steps']} steps in {training['seconds']:.0f} s{validation}"
    return f"success {tell(evaluation)}" if evaluation else told


def tell(found: Mapping[str, Any]) -> str:
    """'198/200 = 99.0% [96.4%, 99.7%]', "-" where nothing was evaluated."""
    if found["success_rate"] is None:
        return "-"
    low, high = found["success_ci95"]
    rate = f"{found['n_success']}/{found['n_episodes']} = {found['success_rate']:.1%}"
    return f"{rate} [{low:.1%}, {high:.1%}]"
