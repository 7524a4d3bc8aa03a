"""The rounds of one DAgger run: label, aggregate, retrain, validate."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpolicy.collect import dagger as labelling
from jaxpolicy.collect.config import SEED_STRIDE, DaggerConfig
from jaxpolicy.collect.dagger import Labelled, Round, Teacher
from jaxpolicy.core import atomic, json_file, schema
from jaxpolicy.core.schema import InputError
from jaxpolicy.core.types import Episode
from jaxpolicy.data.config import DataConfig, MixtureEntry
from jaxpolicy.data.formats.rlds_writer import Recording
from jaxpolicy.evaluation import plots, rollout
from jaxpolicy.pipeline import evaluate, pooled, process, stages, sweep, train, words
from jaxpolicy.pipeline.collect import COLLECTION
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.stages import Log, PathLike, Progress
from jaxpolicy.pipeline.tally import Tally
from jaxpolicy.sim import streams
from jaxpolicy.training import factory, prepare, run_directory

__all__ = ["Rounds", "labels_data", "labels_path", "open_rounds", "plot", "run_path"]

BEST = "best"
PLOT = "success.png"
RESULT = "dagger.json"
# A dataset of fewer steps is drawn from as if it had this share of all of them.
_SMALLEST_SHARE = 1 / 512
_COUNTS = ("episodes", "n_success", "steps", "labelled", "expert_steps")


def run_path(directory: PathLike, number: int) -> Path:
    """Run directory of a round."""
    return Path(directory) / f"round_{number}"


def labels_path(directory: PathLike, number: int) -> Path:
    """Dataset that a round labelled."""
    return Path(directory) / labelling.METHOD / f"round_{number}"


def open_rounds(config: ExperimentConfig, directory: Path) -> dict[str, Any]:
    """What earlier calls found in `directory`.

    Raises:
      InputError: with other settings.
    """
    found = json_file.read(directory / RESULT)
    if found is None:
        return {"rounds": [], "best": None, "evaluations": {}}
    run_directory.check_same_config(config, found, directory)
    run_directory.check_same_length(config, found, directory)
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
    settings = json_file.plain(schema.to_mapping(config))
    del settings["rounds"], settings["batch"]
    return settings


@dataclasses.dataclass(frozen=True)
class Rounds:
    """The rounds of one seed.

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
    log: Log
    prefix: str

    def all_rounds(self) -> dict[str, Any]:
        """Does what is not done yet; contents of dagger.json."""
        found = open_rounds(self.config, self.directory)
        for number in range(len(found["rounds"]), self.config.dagger.rounds + 1):
            found["rounds"].append(self._round(number, found["rounds"]))
            plot(self.directory, [found["rounds"]])
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
        json_file.write(self.directory / RESULT, found)
        atomic.point(self.directory / BEST, run_path(self.directory, found["best"]))

    def _round(self, number: int, before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        told = self._label(number) if number else self._demonstrations()
        labelled = [r["round"] for r in [*before, told] if r["round"] and r["labelled"]]
        config = self._trained_on(labelled)
        directory = run_path(self.directory, number)
        self._share(directory, len(labelled) + 1)
        self._timed(f"round {number} train", words.tell_train, train.run, config, directory)
        validation = self._timed(
            f"round {number} validate", words.tell_success, _validate, config, directory
        )
        return told | {"validation": validation}

    def _timed(self, stage: str, tell_stage: Any, function: Any, *args: Any) -> Any:
        """A stage that takes a progress bar last."""
        name = self.prefix + stage
        return self.log.timed(name, tell_stage, function, *args, self.log.progress(name))

    def _demonstrations(self) -> dict[str, Any]:
        """Round 0."""
        (processed,) = process.run(self.config, self.directory)
        n, steps = processed.counts["kept"], processed.counts["steps"]
        told: dict[str, Any] = {"round": 0, "beta": 1.0, "episodes": n, "n_success": None}
        return told | {"steps": steps, "labelled": steps, "expert_steps": steps}

    def _label(self, number: int) -> dict[str, Any]:
        """Labelled episodes of a round; its ledger, which a finished round has already."""
        path = labels_path(self.directory, number)
        found = json_file.read(path / COLLECTION)
        if found is None:
            stage = f"round {number} label"
            found = self._timed(stage, words.tell_labelled, self._collect, path, number)
        return found

    def _collect(
        self, path: Path, number: int, progress: Progress | None
    ) -> dict[str, Any]:
        config = self.config
        learner = factory.load_policy(run_path(self.directory, number - 1))
        first = config.seed * SEED_STRIDE + (number - 1) * config.dagger.episodes_per_round
        this = Round(number, labelling.beta(config.dagger, number), learner.step, first)
        world = stages.make_world(config.env)
        acting = _controller(learner, config.seed)
        spec, settings = labelling.dataset_spec(world), self._label_settings(this)
        with Recording(path, spec, f"dagger_round_{number}", settings) as recording:
            tally = Tally(recording, dict.fromkeys(_COUNTS, 0))
            marks = (tally.begin, tally.reached)
            labels = (self.teacher, acting, config.dagger, this, progress)
            recording.add(_counted(labelling.collect(world, *labels, *marks), tally.counts))
            told: dict[str, Any] = {"round": number, "beta": this.beta, **tally.counts}
            told |= {"learner_step": learner.step, "operator": self.teacher.operator}
            told["seconds"] = tally.seconds()
            if recording.n_episodes:
                recording.finish({COLLECTION: json_file.text(told)})
            else:  # An expert that never intervened.
                recording.discard()
                json_file.write(path / COLLECTION, told)
        return told

    def _label_settings(self, this: Round) -> dict[str, Any]:
        """What decides the labelled episodes of a round."""
        config = self.config
        told = {"env": config.env, "dagger": config.dagger}
        settings = {k: schema.to_mapping(v) for k, v in told.items()}
        settings["dagger"].pop("rounds")
        facts = {"operator": self.teacher.operator, "seed": config.seed}
        return json_file.plain(settings | this._asdict() | facts)

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
        processed = process.run(config, self.directory)
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
        settings = json_file.plain(schema.to_mapping(self.config.evaluation))
        done = found["evaluations"].get(str(number))
        if done and done["settings"] == settings:
            return
        stage, path = f"round {number} evaluate", run_path(self.directory, number)
        report, _ = self._timed(
            stage, words.tell_evaluate, evaluate.run, self.config, path, "jax"
        )
        told = pooled.success(report["n_success"], report["n_episodes"])
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


def _validate(
    config: ExperimentConfig, directory: Path, progress: Progress | None
) -> dict[str, Any]:
    """Success of a round's policy on starts that choose between rounds.

    They are of the validation stream, after those that training itself looks at.
    """
    n = config.dagger.eval_episodes
    settings = dataclasses.replace(
        config.evaluation, n_episodes=n, seed=config.loop.rollouts, n_recorded=0
    )
    acting = _controller(factory.load_policy(directory), config.seed)
    world = stages.make_world(config.env)
    found = rollout.evaluate(world, acting, settings, progress, 0, stream=streams.VALIDATION)
    return pooled.success(found.n_success, n)


def _best(rounds: Sequence[Mapping[str, Any]]) -> int:
    """The round with most successes in validation, of equal ones the last."""
    return max(rounds, key=lambda r: (r["validation"]["success_rate"], r["round"]))["round"]


def plot(directory: Path, runs: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """success.png: validation by round, pooled over runs, where matplotlib is installed."""
    found = [pooled.pool([r["validation"] for r in rounds]) for rounds in zip(*runs, strict=False)]
    rates = np.asarray([p["success_rate"] for p in found])
    numbers, n = np.arange(len(found)), found[0]["n_episodes"]
    try:
        picture = plots.success_curve(numbers, rates, n, "Validation by DAgger round", "round")
    except ImportError:
        return
    atomic.write_bytes(directory / PLOT, picture)
