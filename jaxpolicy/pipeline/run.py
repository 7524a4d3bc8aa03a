"""The whole road: demonstrations to a verified artefact that drives the simulated robot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxpolicy.export import checklist
from jaxpolicy.pipeline import collect, evaluate, export, gate, process, train, words
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.stages import Log, PathLike, StageProgress, no_progress
from jaxpolicy.training import online, run_directory

__all__ = ["Summary", "deliver", "prepare_data", "run"]


class Summary(NamedTuple):
    """What a run of the whole road found.

    Attributes:
      rows: (stage, seconds, what was found), for people.
      passed: the gate: enough successes, artefacts equal to JAX, and the artefacts'
        success not below the interval of the JAX policy's.
      reasons: why the gate did not pass.
      paths: what was written.
    """

    rows: tuple[tuple[str, float, str], ...]
    passed: bool
    reasons: tuple[str, ...]
    paths: tuple[Path, ...]


def run(
    config: ExperimentConfig, workdir: PathLike, progress: StageProgress = no_progress
) -> Summary:
    """All stages: demonstrations to a verified artefact driving the simulated robot."""
    run_directory.check_writable(workdir)
    log = Log(progress)
    prepare_data(config, workdir, log)
    log.timed("train", words.tell_train, train.run, config, workdir, progress("decode"))
    bar = progress("evaluate")
    found, _ = log.timed(
        "evaluate", words.tell_evaluate, evaluate.run, config, workdir, "jax", bar
    )
    reasons = gate.success_reasons(config, found["success_rate"])
    reasons += deliver(config, workdir, found, log)
    root = Path(workdir)
    paths = tuple(root / p for p in ("evaluation/report.html", "evaluation", evaluate.EXPORT))
    written = tuple(path for path in paths if path.exists())
    return Summary(tuple(log.rows), not reasons, tuple(reasons), written)


def prepare_data(config: ExperimentConfig, workdir: PathLike, log: Log) -> None:
    """Collects demonstrations where `config` names no dataset, and processes them.

    Methods that learn in worlds need none.
    """
    if online.is_online(config):
        return
    if not config.dataset and not config.mixture:
        bar = log.progress("collect")
        log.timed("collect", words.tell_collect, collect.run, config, workdir, bar)
    bar = log.progress("process")
    log.timed("process", words.tell_process, process.run, config, workdir, bar)


def deliver(
    config: ExperimentConfig, workdir: PathLike, found: Mapping[str, Any], log: Log
) -> list[str]:
    """Exports, verifies, and drives the first artefact as the JAX policy was driven.

    Args:
      config: of the run.
      workdir: run directory with a trained policy.
      found: report of the JAX policy's evaluation.
      log: gets the stages.

    Returns:
      Why the artefacts are not what was evaluated; empty where they are, and where the
      policy sees the simulator's state, so that there is nothing to deliver.
    """
    if config.data.privileged:
        log.rows.append(("export", 0.0, "none: the policy sees the simulator's state"))
        return []
    _, checks = log.timed("export", words.tell_export, export.run, config, workdir)
    driven = {}
    for kind in config.export.formats[:1]:
        bar = log.progress(kind)
        stage = f"evaluate {kind}"
        driven[kind], _ = log.timed(
            stage, words.tell_evaluate, evaluate.run, config, workdir, kind, bar
        )
    _fill_checklist(config, workdir, found, driven)
    return gate.artefact_reasons(found, checks, driven)


def _fill_checklist(
    config: ExperimentConfig,
    workdir: PathLike,
    found: Mapping[str, Any],
    driven: Mapping[str, Mapping[str, Any]],
) -> None:
    limit, rate = config.min_success, found["success_rate"]
    if rate is None:
        return
    rates = {k: told["success_rate"] for k, told in driven.items()}
    directory = Path(workdir) / evaluate.EXPORT
    checklist.fill(directory, "success_rate", rate, limit, rate >= limit)
    if rates:
        passed = min(rates.values()) >= limit
        checklist.fill(directory, "artefact_success_rate", rates, limit, passed)
