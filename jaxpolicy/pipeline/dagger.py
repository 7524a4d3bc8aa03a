"""DAgger from demonstrations to a policy: label, aggregate, retrain, again.

    <workdir>/dagger.json, success.png    what every round found
    <workdir>/dataset                     demonstrations: round 0
    <workdir>/dagger/round_1, ...         the labelled episodes of each round
    <workdir>/round_0, round_1, ...       run directories: trained on all up to that round
    <workdir>/best                        link to the round with most successes in validation

With several seeds (or a grid) all of this but the demonstrations is in a directory for each,
as in sweep.py; <workdir>/runs.json has what they found, pooled. A run that was killed continues
with the round it was in.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxpolicy.collect.config import MAX_SEED
from jaxpolicy.collect.dagger import Teacher
from jaxpolicy.core import atomic, json_file
from jaxpolicy.core.schema import InputError
from jaxpolicy.evaluation import rollout
from jaxpolicy.pipeline import dagger_rounds, gate, pooled, stages, sweep
from jaxpolicy.pipeline import run as road
from jaxpolicy.pipeline.dagger_rounds import BEST, PLOT, RESULT, Rounds, run_path
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.grid import Cell, cells, is_sweep
from jaxpolicy.pipeline.stages import Log, PathLike, StageProgress, no_progress
from jaxpolicy.training import online, run_directory

__all__ = ["Result", "Teacher", "run", "scripted"]

RUNS = "runs.json"


class Result(NamedTuple):
    """What was found.

    Attributes:
      rows: (stage, seconds, what was found), for people.
      runs: contents of every run's dagger.json, with its "name" and grid "values" besides.
      groups: see pooled.summarize_gains.
      reasons: why the success after the last round is not good enough; empty where it is.
      paths: what was written.
    """

    rows: tuple[tuple[str, float, str], ...]
    runs: tuple[Mapping[str, Any], ...]
    groups: tuple[Mapping[str, Any], ...]
    reasons: tuple[str, ...]
    paths: tuple[Path, ...]


def run(
    config: ExperimentConfig,
    workdir: PathLike,
    progress: StageProgress = no_progress,
    teacher: Teacher | None = None,
) -> Result:
    """Demonstrations, then `config.dagger.rounds` rounds of labelling and training.

    Every round trains from scratch for as long as `config.loop` says, on the demonstrations and
    all that was labelled so far, each step as likely as any other. The best round is chosen on
    the validation stream; it and round 0 are then evaluated on the same held-out starts.

    Args:
      config: see ExperimentConfig.
      workdir: gets what the top of this file lists.
      progress: called with a stage's name, gives its bar.
      teacher: who labels; default: the task's scripted expert.

    Raises:
      InputError: a setting that DAgger has no meaning for, no expert, or `workdir` holds
        rounds of other settings.
    """
    _check(config)
    all_cells = cells(config)
    directories = [_directory(config, cell, workdir) for cell in all_cells]
    for cell, directory in zip(all_cells, directories, strict=True):
        dagger_rounds.open_rounds(cell.config, directory)
    teacher = teacher or scripted(config)
    run_directory.check_writable(workdir)
    run_directory.write_config(config, workdir)
    log = Log(progress)
    road.prepare_data(config, workdir, log)
    runs = []
    for cell, directory in zip(all_cells, directories, strict=True):
        if is_sweep(config):
            sweep.share(config, cell, workdir)
        found = Rounds(cell.config, directory, teacher, log, _prefix(config, cell)).all_rounds()
        runs.append({"name": cell.name, "values": dict(cell.values)} | found)
    return _result(config, Path(workdir), runs, log)


def scripted(config: ExperimentConfig) -> Teacher:
    """The task's expert, which sees the simulator's state.

    Raises:
      InputError: it has none.
    """
    world = stages.make_world(config.env)
    if getattr(world, "expert", None) is None:
        raise InputError(
            f"the environment '{world.task}' has no scripted expert; give dagger.run a teacher"
        )
    return Teacher(rollout.ExpertController(world), "expert")


def _directory(config: ExperimentConfig, cell: Cell, workdir: PathLike) -> Path:
    return Path(workdir) / cell.name if is_sweep(config) else Path(workdir)


def _prefix(config: ExperimentConfig, cell: Cell) -> str:
    return f"{cell.name} " if is_sweep(config) else ""


def _check(config: ExperimentConfig) -> None:
    if online.is_online(config):
        raise InputError(
            f"DAgger needs an algorithm that learns from labels, '{config.algorithm}' does not"
        )
    if config.mixture:
        raise InputError("DAgger aggregates onto one dataset: give config.dataset, not mixture")
    if config.data.previous_action:
        raise InputError(
            "data.previous_action does not go with DAgger: what is recorded is what the expert "
            "would have done, not what was done before"
        )
    if config.seed + config.seeds - 1 > MAX_SEED:
        raise InputError(f"DAgger's starts follow config.seed, which must be at most {MAX_SEED}")


def _result(
    config: ExperimentConfig, root: Path, runs: Sequence[Mapping[str, Any]], log: Log
) -> Result:
    groups = pooled.summarize_gains(runs)
    paths = [root / name for name in (PLOT, BEST)]
    if is_sweep(config):
        told = {"name": config.name, "runs": runs, "groups": groups}
        json_file.write(root / RUNS, told)
        best = max(runs, key=lambda r: r["rounds"][r["best"]]["validation"]["success_rate"])
        dagger_rounds.plot(root, [r["rounds"] for r in runs if r["values"] == groups[0]["values"]])
        atomic.point(root / BEST, run_path(root / best["name"], best["best"]))
        paths.append(root / RUNS)
    else:
        paths.append(root / RESULT)
    reasons = gate.success_reasons(config, groups[0]["after"]["success_rate"])
    found = [path for path in paths if path.exists()]
    return Result(tuple(log.rows), tuple(runs), tuple(groups), tuple(reasons), tuple(found))
