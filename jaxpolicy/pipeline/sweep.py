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

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from jaxpolicy.core import atomic, json_file, schema
from jaxpolicy.core.schema import InputError
from jaxpolicy.evaluation import plots
from jaxpolicy.pipeline import evaluate as evaluation
from jaxpolicy.pipeline import gate, pooled, process, words
from jaxpolicy.pipeline import run as road
from jaxpolicy.pipeline import train as training
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.grid import Cell, cells
from jaxpolicy.pipeline.stages import Log, PathLike, Progress, StageProgress, no_progress
from jaxpolicy.training import checkpoint, online, prepare, run_directory
from jaxpolicy.training.config import TrainConfig

__all__ = ["evaluate", "link", "read", "run", "share", "train"]

RESULT = "result.json"
SWEEP = "sweep.json"
BEST = "best"
CURVES = "learning_curves.png"


def run(
    config: ExperimentConfig,
    workdir: PathLike,
    progress: StageProgress = no_progress,
) -> road.Summary:
    """All stages: demonstrations once, every run trained and evaluated, the best exported.

    The gate asks for `min_success` of the pooled episodes of all seeds (with a grid: of
    its best cell), and for an artefact of the best run that equals it.
    """
    log = Log(progress)
    all_cells = _open(config, workdir)
    road.prepare_data(config, workdir, log)
    evaluations = {}
    for cell in all_cells:
        share(config, cell, workdir)
        for stage, function in (("train", _train), ("evaluate", _evaluate)):
            name = f"{cell.name} {stage}"
            result = log.timed(name, words.tell_run, function, cell, workdir, log.progress(name))
        evaluations[cell.name] = result["evaluation"]
        found = _write(config, workdir)
    _plot(config, all_cells, workdir)
    best = next(cell for cell in all_cells if cell.name == found["best"])
    reasons = gate.success_reasons(config, found["groups"][0]["success_rate"])
    directory = Path(workdir) / best.name
    reasons += road.deliver(best.config, directory, evaluations[best.name], log)
    paths = tuple(Path(workdir) / p for p in (SWEEP, BEST))
    return road.Summary(tuple(log.rows), not reasons, tuple(reasons), paths)


def _plot(config: ExperimentConfig, all_cells: Sequence[Cell], workdir: PathLike) -> None:
    """learning_curves.png, where runs drove the robot while they trained."""
    root = Path(workdir)
    found = {c.name: training.success_curve(c.config, root / c.name) for c in all_cells}
    curves = {name: (x, y) for name, (x, y, _) in found.items() if len(x)}
    with contextlib.suppress(ImportError):
        if curves:
            unit = next(iter(found.values()))[2]
            picture = plots.learning_curves(curves, config.loop.rollouts, unit)
            atomic.write_bytes(root / CURVES, picture)


def train(
    config: ExperimentConfig,
    workdir: PathLike,
    progress: StageProgress = no_progress,
) -> dict[str, Any]:
    """Trains every run that is not finished; see `read` for what is returned."""
    return _each(config, workdir, _train, "train", progress)


def evaluate(
    config: ExperimentConfig,
    workdir: PathLike,
    progress: StageProgress = no_progress,
) -> dict[str, Any]:
    """Evaluates every run that has no success rate yet; see `read` for what is returned.

    Raises:
      InputError: a run is not trained yet; nothing is done then.
    """
    for cell in cells(config):
        _require_trained(Path(workdir) / cell.name)
    before = json_file.read(Path(workdir) / SWEEP)
    found = _each(config, workdir, _evaluate, "evaluate", progress)
    _keep_larger(before, found, Path(workdir))
    return found


def _keep_larger(before: Any, found: Mapping[str, Any], root: Path) -> None:
    """Writes a record of more episodes than now beside the new one."""
    n_before, n = (_episodes(f) for f in (before, found))
    if n_before > n:
        kept = root / f"sweep_{n_before}_episodes.json"
        json_file.write(kept, before)
        logging.warning("what was found in more episodes is kept in %s", kept)


def _episodes(found: Any) -> int:
    return sum(run["n_episodes"] or 0 for run in found["runs"]) if found else 0


def _each(
    config: ExperimentConfig,
    workdir: PathLike,
    stage: Callable[..., Any],
    name: str,
    progress: StageProgress,
) -> dict[str, Any]:
    # An evaluation may be of other settings than what config.json says was trained.
    all_cells = _open(config, workdir) if stage is _train else cells(config)
    if not online.is_online(config):
        process.run(config, workdir, progress("process"))
    for cell in all_cells:
        share(config, cell, workdir)
        stage(cell, workdir, progress(f"{cell.name} {name}"))
        found = _write(config, workdir)
    return found


def _open(config: ExperimentConfig, workdir: PathLike) -> tuple[Cell, ...]:
    """The runs of `config`; all of them are checked before the first begins."""
    found = cells(config)
    for cell in found:
        _check_continues(cell.config, Path(workdir) / cell.name)
    run_directory.check_writable(workdir)
    run_directory.write_config(config, workdir)
    return found


def _check_continues(config: ExperimentConfig, directory: Path) -> None:
    """Raises InputError where a run was begun with other settings, or is longer already."""
    assets = checkpoint.latest_assets(directory)
    run_directory.check_same_config(config, assets, directory)
    if assets and not config.loop.epochs:
        done = checkpoint.resolve_step(directory, "latest")
        run_directory.check_length(config.loop.steps, done, directory)


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


def _train(cell: Cell, workdir: PathLike, progress: Progress | None = None) -> dict:
    """The run's result after training, which a finished run has already."""
    directory = Path(workdir) / cell.name
    settings = json_file.plain(schema.to_mapping(cell.config))
    found = json_file.read(directory / RESULT)
    if found and _trained_as(found["config"]) == _trained_as(settings):
        return found
    fitted, _ = training.run(cell.config, directory, progress)
    best = checkpoint.load_assets(directory, fitted.best_step)["best"]
    sign = 1.0 if cell.config.loop.monitor_mode == "min" else -1.0
    told = {
        "steps": fitted.step,
        "best_step": fitted.best_step,
        "score": None if best["step"] < 0 else sign * best["score"],
        "seconds": fitted.seconds,
    }
    return _save(directory, {"config": settings, "training": told, "evaluation": None})


def _evaluate(cell: Cell, workdir: PathLike, progress: Progress | None = None) -> dict:
    """The run's result after evaluation, which an evaluated run has already."""
    directory = Path(workdir) / cell.name
    settings = json_file.plain(schema.to_mapping(cell.config))
    found = _require_trained(directory)
    if found["evaluation"] and found.get("evaluated", found["config"]) == settings:
        return found
    report, _ = evaluation.run(cell.config, directory, "jax", progress)
    keys = ("n_success", "n_episodes", "success_rate", "success_ci95")
    # What was trained stays in "config", whatever it is evaluated with.
    told = {"evaluated": settings, "evaluation": {k: report[k] for k in keys}}
    return _save(directory, found | told)


def _require_trained(directory: Path) -> dict[str, Any]:
    """The result of a run that has one."""
    found = json_file.read(directory / RESULT)
    if not found:
        raise InputError(f"{directory}: not trained yet; run launch.train first")
    return found


def _trained_as(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides what training makes."""
    names = {f.name for f in dataclasses.fields(TrainConfig)}
    return {k: v for k, v in settings.items() if k in names}


def _save(directory: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    copy = json_file.plain(result)
    json_file.write(directory / RESULT, copy)
    return copy


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
        result = json_file.read(Path(workdir) / cell.name / RESULT)
        if result is not None:
            facts = {"run": cell.name, "seed": cell.config.seed, "values": dict(cell.values)}
            rows.append(facts | result["training"] | (result["evaluation"] or pooled.UNKNOWN))
    found = pooled.summarize(rows, config.loop.monitor_mode)
    found = {"name": config.name, "monitor": config.loop.monitor} | found
    json_file.write(Path(workdir) / SWEEP, found)
    atomic.point(Path(workdir) / BEST, Path(workdir) / found["best"])
    return found
