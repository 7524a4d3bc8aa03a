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

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxpolicy import atomic, pipeline, schema, sweep
from jaxpolicy.collect import dagger as labelling
from jaxpolicy.collect.config import MAX_SEED, SEED_STRIDE, DaggerConfig
from jaxpolicy.collect.dagger import Labelled, Round, Teacher
from jaxpolicy.data.config import DataConfig, MixtureEntry
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.evaluation import metrics, plots, rollout
from jaxpolicy.experiment import ExperimentConfig
from jaxpolicy.schema import InputError
from jaxpolicy.sim import streams
from jaxpolicy.training import factory, online, prepare, run_directory
from jaxpolicy.types import DatasetSpec, Episode

__all__ = [
    "Result",
    "Teacher",
    "labels_data",
    "labels_path",
    "run",
    "run_path",
    "scripted",
    "summarize",
    "tell",
]

PathLike = str | os.PathLike[str]

BEST = "best"
COLLECTION = "collection.json"
PLOT = "success.png"
RESULT = "dagger.json"
RUNS = "runs.json"

# A dataset of fewer steps is drawn from as if it had this share of all of them.
_SMALLEST_SHARE = 1 / 512


class Result(NamedTuple):
    """What was found.

    Attributes:
      rows: (stage, seconds, what was found), for people.
      runs: contents of every run's dagger.json, with its "name" and grid "values" besides.
      groups: see `summarize`.
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
    progress: pipeline.StageProgress = pipeline.no_progress,
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
    cells = sweep.cells(config)
    directories = [_directory(config, cell, workdir) for cell in cells]
    for cell, directory in zip(cells, directories, strict=True):
        _open(cell.config, directory)
    teacher = teacher or scripted(config)
    run_directory.check_writable(workdir)
    run_directory.write_config(config, workdir)
    log = pipeline.Log(progress)
    pipeline.prepare_data(config, workdir, log)
    runs = []
    for cell, directory in zip(cells, directories, strict=True):
        if sweep.is_sweep(config):
            sweep.share(config, cell, workdir)
        found = _Run(cell.config, directory, teacher, log, _prefix(config, cell)).all_rounds()
        runs.append({"name": cell.name, "values": dict(cell.values)} | found)
    return _result(config, Path(workdir), runs, log)


def scripted(config: ExperimentConfig) -> Teacher:
    """The task's expert, which sees the simulator's state.

    Raises:
      InputError: it has none.
    """
    world = pipeline.make_world(config.env)
    if getattr(world, "expert", None) is None:
        raise InputError(
            f"the environment '{world.task}' has no scripted expert; give dagger.run a teacher"
        )
    return Teacher(rollout.ExpertController(world), "expert")


def run_path(directory: PathLike, number: int) -> Path:
    """Run directory of a round."""
    return Path(directory) / f"round_{number}"


def labels_path(directory: PathLike, number: int) -> Path:
    """Dataset that a round labelled."""
    return Path(directory) / labelling.METHOD / f"round_{number}"


def _directory(config: ExperimentConfig, cell: sweep.Cell, workdir: PathLike) -> Path:
    return Path(workdir) / cell.name if sweep.is_sweep(config) else Path(workdir)


def _prefix(config: ExperimentConfig, cell: sweep.Cell) -> str:
    return f"{cell.name} " if sweep.is_sweep(config) else ""


# ------------------------------------------------------------------ may it run


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


def _open(config: ExperimentConfig, directory: Path) -> dict[str, Any]:
    """What earlier calls found in `directory`.

    Raises:
      InputError: with other settings.
    """
    found = _read_json(directory / RESULT)
    if found is None:
        return {"rounds": [], "best": None, "evaluations": {}}
    run_directory.check_same_config(config, found, directory)
    wanted, there = _settings(config.dagger), found["settings"]
    wanted["betas"] = [labelling.beta(config.dagger, r["round"]) for r in found["rounds"]]
    there = there | {"betas": [r["beta"] for r in found["rounds"]]}
    key = run_directory.differing_key(wanted, there)
    if key:
        raise InputError(
            f"{directory} holds rounds of other settings: dagger.{key} is {there.get(key)} there "
            f"and {wanted.get(key)} now; use another --workdir"
        )
    return found


def _settings(config: DaggerConfig) -> dict[str, Any]:
    """What may not change between rounds; further rounds may follow."""
    settings = _json_copy(schema.to_mapping(config))
    del settings["rounds"], settings["batch"]
    return settings


# ------------------------------------------------------------------ one run


@dataclasses.dataclass(frozen=True)
class _Run:
    """One seed.

    Attributes:
      config: of this seed alone.
      directory: where it is written.
      teacher: who labels.
      log: gets the stages.
      prefix: of the stages' names.
    """

    config: ExperimentConfig
    directory: Path
    teacher: Teacher
    log: pipeline.Log
    prefix: str

    def all_rounds(self) -> dict[str, Any]:
        """Does what is not done yet; contents of dagger.json."""
        found = _open(self.config, self.directory)
        for number in range(len(found["rounds"]), self.config.dagger.rounds + 1):
            found["rounds"].append(self._round(number, found["rounds"]))
            _plot(self.directory, [found["rounds"]])
            self._write(found)
        found["best"] = _best(found["rounds"])
        for number in sorted({0, found["best"]}):
            self._evaluate(found, number)
        self._write(found)
        return found

    def _write(self, found: dict[str, Any]) -> None:
        found["config"] = schema.to_mapping(self.config)
        found["settings"] = _settings(self.config.dagger)
        found["best"] = _best(found["rounds"])
        atomic.write_text(self.directory / RESULT, json.dumps(found, indent=1) + "\n")
        _point(self.directory / BEST, run_path(self.directory, found["best"]))

    def _round(self, number: int, before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        told = self._label(number) if number else self._demonstrations()
        labelled = [r["round"] for r in [*before, told] if r["round"] and r["labelled"]]
        config = self._trained_on(labelled)
        directory = run_path(self.directory, number)
        self._share(directory, len(labelled) + 1)
        self._timed(f"round {number} train", pipeline.tell_train, pipeline.train, config, directory)
        validation = self._timed(
            f"round {number} validate", sweep.tell, _validate, config, directory
        )
        return told | {"validation": validation}

    def _timed(self, stage: str, tell_stage: Any, function: Any, *args: Any) -> Any:
        """A stage that takes a progress bar last."""
        name = self.prefix + stage
        return self.log.timed(name, tell_stage, function, *args, self.log.progress(name))

    def _demonstrations(self) -> dict[str, Any]:
        """Round 0."""
        (processed,) = pipeline.process(self.config, self.directory)
        n, steps = processed.counts["kept"], processed.counts["steps"]
        told: dict[str, Any] = {"round": 0, "beta": 1.0, "episodes": n, "n_success": None}
        return told | {"steps": steps, "labelled": steps, "expert_steps": steps}

    def _label(self, number: int) -> dict[str, Any]:
        """Labelled episodes of a round; its ledger, which a finished round has already."""
        path = labels_path(self.directory, number)
        found = _read_json(path / COLLECTION)
        if found is None:
            stage = f"round {number} label"
            found = self._timed(stage, _tell_label, self._collect, path, number)
        return found

    def _collect(
        self, path: Path, number: int, progress: pipeline.Progress | None
    ) -> dict[str, Any]:
        start, config = time.perf_counter(), self.config
        learner = factory.load_policy(run_path(self.directory, number - 1))
        first = config.seed * SEED_STRIDE + (number - 1) * config.dagger.episodes_per_round
        this = Round(number, labelling.beta(config.dagger, number), learner.step, first)
        world = pipeline.make_world(config.env)
        acting = _controller(learner, config.seed)
        rolled = labelling.collect(world, self.teacher, acting, config.dagger, this, progress)
        counts = {"episodes": 0, "n_success": 0, "steps": 0, "labelled": 0, "expert_steps": 0}
        with atomic.new_directory(path) as folder:
            name = f"dagger_round_{number}"
            _write_episodes(folder, _counted(rolled, counts), labelling.dataset_spec(world), name)
            told: dict[str, Any] = {"round": number, "beta": this.beta, **counts}
            told |= {"learner_step": learner.step, "operator": self.teacher.operator}
            told["seconds"] = time.perf_counter() - start
            atomic.write_text(folder / COLLECTION, json.dumps(told, indent=1) + "\n")
        return told

    def _trained_on(self, rounds: Sequence[int]) -> ExperimentConfig:
        """The run that learns from the demonstrations and what `rounds` labelled."""
        first = str(prepare.dataset_path(self.config, self.directory))
        if not rounds:
            return dataclasses.replace(self.config, dataset=first)
        data = labels_data(self.config.data)
        paths = [str(labels_path(self.directory, number)) for number in rounds]
        entries = [MixtureEntry(first, data=self.config.data)]
        entries += [MixtureEntry(path, data=data) for path in paths]
        config = dataclasses.replace(self.config, dataset="", mixture=tuple(entries))
        processed = pipeline.process(config, self.directory)
        weights = _weights([int(p.lengths("train").sum()) for p in processed])
        weighted = [dataclasses.replace(e, weight=w) for e, w in zip(entries, weights, strict=True)]
        return dataclasses.replace(config, mixture=tuple(weighted))

    def _share(self, directory: Path, n_datasets: int) -> None:
        """Splits, statistics and decoded frames of all rounds are the same files."""
        atomic.make_directory(directory)
        atomic.make_directory(self.directory / prepare.CACHE)
        names = [prepare.processed_path("", n).name for n in range(n_datasets)]
        for name in (prepare.CACHE, *names):
            sweep.link(directory / name, self.directory / name)

    def _evaluate(self, found: dict[str, Any], number: int) -> None:
        """Success on held-out starts, measured once for the same settings."""
        settings = _json_copy(schema.to_mapping(self.config.evaluation))
        done = found["evaluations"].get(str(number))
        if done and done["settings"] == settings:
            return
        stage, path = f"round {number} evaluate", run_path(self.directory, number)
        report, _ = self._timed(
            stage, pipeline.tell_evaluate, pipeline.evaluate, self.config, path, "jax"
        )
        told = _success(report["n_success"], report["n_episodes"])
        found["evaluations"][str(number)] = told | {"settings": settings}
        self._write(found)


def labels_data(data: DataConfig) -> DataConfig:
    """How labelled episodes are read, where demonstrations are read as `data` says.

    Nothing is dropped because of how it went: labels are right in failed episodes too, and
    stretches of interventions are short.
    """
    cleaning = dataclasses.replace(
        data.cleaning,
        failed=False,
        truncated=False,
        min_steps=1,
        min_length_share=0.0,
        idle=0.0,
        outliers=0.0,
    )
    return dataclasses.replace(
        data, format="rlds", cleaning=cleaning, camera_keys=(), action_keys=(), proprio_keys=()
    )


def _weights(steps: Sequence[int]) -> list[float]:
    """Shares of datasets by their number of steps, none of them so small that it is lost."""
    smallest = sum(steps) * _SMALLEST_SHARE
    return [float(max(n, smallest)) for n in steps]


def _controller(learner: factory.LoadedPolicy, seed: int) -> rollout.PolicyController:
    spec = learner.policy_spec
    return rollout.PolicyController(learner.algorithm.act, learner.params, spec, seed)


def _counted(rolled: Iterable[Labelled], counts: dict[str, int]) -> Iterator[Episode]:
    for episode in rolled:
        counts["episodes"] += 1
        counts["n_success"] += bool(episode.success)
        counts["steps"] += episode.steps
        counts["expert_steps"] += episode.expert_steps
        counts["labelled"] += sum(map(len, episode.episodes))
        yield from episode.episodes


def _write_episodes(
    folder: Path, episodes: Iterator[Episode], spec: DatasetSpec, name: str
) -> None:
    """Writes them if there are any: an expert that never intervened leaves none."""
    first = next(episodes, None)
    if first is not None:
        rlds_writer.write(folder, itertools.chain((first,), episodes), spec, name)


def _validate(
    config: ExperimentConfig, directory: Path, progress: pipeline.Progress | None
) -> dict[str, Any]:
    """Success of a round's policy on starts that choose between rounds.

    They are of the validation stream, after those that training itself looks at.
    """
    n = config.dagger.eval_episodes
    settings = dataclasses.replace(
        config.evaluation, n_episodes=n, seed=config.loop.rollouts, n_recorded=0
    )
    acting = _controller(factory.load_policy(directory), config.seed)
    world = pipeline.make_world(config.env)
    found = rollout.evaluate(world, acting, settings, progress, 0, stream=streams.VALIDATION)
    return _success(found.n_success, n)


def _success(n_success: int, n_episodes: int) -> dict[str, Any]:
    return {
        "n_success": n_success,
        "n_episodes": n_episodes,
        "success_rate": n_success / n_episodes,
        "success_ci95": list(metrics.wilson(n_success, n_episodes)),
    }


def _best(rounds: Sequence[Mapping[str, Any]]) -> int:
    """The round with most successes in validation, of equal ones the last."""
    return max(rounds, key=lambda r: (r["validation"]["success_rate"], r["round"]))["round"]


# ------------------------------------------------------------------ what was found


def summarize(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runs -> their seeds pooled, one group for every cell of the grid, the best first.

    Args:
      runs: see Result.

    Returns:
      {"values", "n_seeds", "before", "after", "gain"}: success of the demonstrations' policies
      and of the best rounds', each {"n_success", "n_episodes", "success_rate", "success_ci95"},
      and the difference of the rates.
    """
    groups = []
    for key in dict.fromkeys(json.dumps(r["values"]) for r in runs):
        members = [r for r in runs if json.dumps(r["values"]) == key]
        before = _pooled([r["evaluations"]["0"] for r in members])
        after = _pooled([r["evaluations"][str(r["best"])] for r in members])
        gain = after["success_rate"] - before["success_rate"]
        told = {"values": members[0]["values"], "n_seeds": len(members)}
        groups.append(told | {"before": before, "after": after, "gain": gain})
    return sorted(groups, key=lambda g: -g["after"]["success_rate"])


def _pooled(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return _success(*(sum(f[k] for f in found) for k in ("n_success", "n_episodes")))


def _result(
    config: ExperimentConfig, root: Path, runs: Sequence[Mapping[str, Any]], log: pipeline.Log
) -> Result:
    groups = summarize(runs)
    paths = [root / name for name in (PLOT, BEST)]
    if sweep.is_sweep(config):
        told = {"name": config.name, "runs": runs, "groups": groups}
        atomic.write_text(root / RUNS, json.dumps(told, indent=1) + "\n")
        best = max(runs, key=lambda r: r["rounds"][r["best"]]["validation"]["success_rate"])
        _plot(root, [r["rounds"] for r in runs if r["values"] == groups[0]["values"]])
        _point(root / BEST, run_path(root / best["name"], best["best"]))
        paths.append(root / RUNS)
    else:
        paths.append(root / RESULT)
    reasons = pipeline.success_reasons(config, groups[0]["after"]["success_rate"])
    found = [path for path in paths if path.exists()]
    return Result(tuple(log.rows), tuple(runs), tuple(groups), tuple(reasons), tuple(found))


def tell(told: Mapping[str, Any]) -> tuple[str, ...]:
    """A round for people: number, beta, episodes, success and expert's share, steps, validation."""
    n, k = told["episodes"], told["n_success"]
    success = "-" if k is None else f"{k}/{n} = {k / n:.0%}"
    share = "-" if not told["steps"] else f"{told['expert_steps'] / told['steps']:.0%}"
    counts = (str(told["round"]), f"{told['beta']:.2g}", str(n))
    return (*counts, success, share, str(told["labelled"]), sweep.tell(told["validation"]))


def _tell_label(told: Mapping[str, Any]) -> str:
    return (
        f"{told['labelled']} steps of {told['episodes']} episodes, of which "
        f"{told['n_success']} succeeded; beta {told['beta']:.2g}"
    )


def _plot(directory: Path, runs: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """success.png: validation by round, pooled over runs, where matplotlib is installed."""
    pooled = [_pooled([r["validation"] for r in rounds]) for rounds in zip(*runs, strict=False)]
    rates = np.asarray([p["success_rate"] for p in pooled])
    numbers, n = np.arange(len(pooled)), pooled[0]["n_episodes"]
    try:
        picture = plots.success_curve(numbers, rates, n, "Validation by DAgger round", "round")
    except ImportError:
        return
    atomic.write_bytes(directory / PLOT, picture)


def _point(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))


def _json_copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
