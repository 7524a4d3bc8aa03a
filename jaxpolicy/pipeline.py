"""The stages of the road as functions of (config, workdir), and all of them in a row.

    from jaxpolicy import pipeline
    pipeline.collect(config, workdir)      # <workdir>/dataset
    pipeline.train(config, workdir)        # <workdir>/checkpoints
    pipeline.evaluate(config, workdir)     # <workdir>/evaluation
    pipeline.export(config, workdir)       # <workdir>/export

Each stage reads what the ones before it wrote, so any of them can be run again alone.
"""

import contextlib
import dataclasses
import functools
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from brax.envs.base import Env

from jaxpolicy import atomic, schema, sim
from jaxpolicy.algorithms import ppo
from jaxpolicy.collect import expert
from jaxpolicy.data import WRITERS, action_kind, cache, detect, mixture, open_source
from jaxpolicy.data.action_kind import Guess
from jaxpolicy.data.cleaning import RULES
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.data.mapping import Layout
from jaxpolicy.data.process import Processed, select_spec
from jaxpolicy.data.process import load as load_processed
from jaxpolicy.data.source import EpisodeSource, check_episode
from jaxpolicy.data.splits import PARTS
from jaxpolicy.deploy.runtime import PolicyRuntime
from jaxpolicy.evaluation import latency as latency_lib
from jaxpolicy.evaluation import offline, plots, report, rollout
from jaxpolicy.experiment import ExperimentConfig
from jaxpolicy.export import bundle, checklist
from jaxpolicy.networks import describe as describe_lib
from jaxpolicy.schema import InputError
from jaxpolicy.sim import gallery, pictures, streams
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.specs import PolicyManifest
from jaxpolicy.training import (
    factory,
    loop,
    metrics,
    online,
    prepare,
    run_directory,
    sharding,
)
from jaxpolicy.training.factory import LoadedPolicy
from jaxpolicy.training.metrics import Video
from jaxpolicy.training.prepare import Opened
from jaxpolicy.types import Algorithm, DatasetSpec, Episode, Params, PolicySpec

__all__ = [
    "ARTEFACTS",
    "Description",
    "Log",
    "POLICIES",
    "Summary",
    "artefact_reasons",
    "collect",
    "convert",
    "deliver",
    "describe",
    "evaluate",
    "evaluate_offline",
    "evaluation_path",
    "export",
    "make_world",
    "Overview",
    "look",
    "no_progress",
    "prepare_data",
    "preview",
    "process",
    "report_path",
    "run",
    "success_curve",
    "success_now",
    "success_reasons",
    "tell_collect",
    "tell_evaluate",
    "tell_export",
    "tell_process",
    "tell_train",
    "train",
]

PathLike = str | os.PathLike[str]
Progress = Callable[..., None]
# stage name, units done, units in all
StageProgress = Callable[[str], Progress | None]

ARTEFACTS = ("onnx", "tflite")
POLICIES = ("jax", *ARTEFACTS)

COLLECTION = "collection.json"
CURVE = "success_curve.png"
SUCCESS = "eval/success"
# Every second frame of an episode is in the videos of training, which are GIFs.
VIDEO_STRIDE = 2
EVALUATION = "evaluation"
EXPORT = "export"
PREVIEW = "preview"


@functools.lru_cache(maxsize=4)
def make_world(config: EnvConfig) -> Env:
    """The world of `config`; one object for all stages, so that it is compiled once."""
    return sim.make_world(config)


# ---------------------------------------------------------------------- 1 collect


def preview(
    config: ExperimentConfig, workdir: PathLike, progress: Progress | None = None
) -> gallery.Preview:
    """Pictures and videos of all tasks, robots and variations into `<workdir>/preview`."""
    return gallery.preview(config.env, Path(workdir) / PREVIEW, progress=progress)


def collect(config: ExperimentConfig, workdir: PathLike, progress: Progress | None = None) -> dict:
    """Records demonstrations into `<workdir>/dataset`, or reuses those of the same settings.

    Returns:
      What collection.json says: attempts, successes, steps, seconds, settings.

    Raises:
      InputError: the folder holds demonstrations of other settings, or cannot be
        written; or the expert fails too often.
    """
    directory = prepare.dataset_path(dataclasses.replace(config, dataset=""), workdir)
    settings = _json_copy({"env": config.env, "collect": config.collect})
    found = _read_json(directory / COLLECTION)
    if found is not None:
        if found["settings"] != settings:
            raise InputError(
                f"{directory} holds demonstrations of other settings; give another --workdir "
                "or delete it"
            )
        return found
    start = time.perf_counter()
    env = make_world(config.env)
    counts = {"attempts": 0, "successes": 0, "steps": 0}
    episodes = _counted(expert.collect(env, config.collect, progress), counts)
    rlds_writer.write(directory, episodes, expert.dataset_spec(env), config.env.name)
    ledger = {**counts, "seconds": time.perf_counter() - start, "settings": settings}
    atomic.write_text(directory / COLLECTION, json.dumps(ledger, indent=1) + "\n")
    return ledger


def _counted(episodes: Any, counts: dict[str, int]) -> Any:
    for episode in episodes:
        counts["attempts"] += 1
        counts["successes"] += bool(episode.metadata.success)
        counts["steps"] += len(episode)
        yield episode


def _json_copy(values: Mapping[str, Any]) -> Any:
    """Configurations as they read back from JSON."""
    return json.loads(json.dumps({k: schema.to_mapping(v) for k, v in values.items()}))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


# ---------------------------------------------------------------------- 2 process


class Overview(NamedTuple):
    """A dataset before it is processed.

    Attributes:
      path: of the dataset.
      format: key of data.SOURCES.
      n_episodes: in all.
      layout: which field becomes what, see data.mapping.Layout.
      spec: what the policy would see of a step.
      guess: what its actions look like, where it does not say; see data.action_kind.
    """

    path: str
    format: str
    n_episodes: int
    layout: Layout | None
    spec: DatasetSpec
    guess: Guess | None


def look(config: ExperimentConfig, workdir: PathLike) -> tuple[Overview, ...]:
    """What `process` would make of the datasets of `config`; writes nothing."""
    found = []
    for entry in prepare.entries(config, workdir):
        data = entry.data
        kind = detect(entry.dataset) if data.format == "auto" else data.format
        source = open_source(entry.dataset, kind, data)
        layout = getattr(source, "layout", None)
        spec = select_spec(source.spec, data)
        judged = action_kind.guess(source) if spec.action.kind == "unknown" else None
        found.append(Overview(entry.dataset, kind, len(source), layout, spec, judged))
    return tuple(found)


def process(
    config: ExperimentConfig, workdir: PathLike, progress: Progress | None = None
) -> tuple[Processed, ...]:
    """Cleans, splits and measures the datasets into `<workdir>/processed`."""
    opened = (
        prepare.open_entry(entry, prepare.processed_path(workdir, n), progress)
        for n, entry in enumerate(prepare.entries(config, workdir))
    )
    return tuple(o.processed for o in opened)


def convert(
    config: ExperimentConfig, to: str, output: PathLike, progress: Progress | None = None
) -> tuple[int, dict[int, str]]:
    """Writes the dataset of `config` in another format.

    Every camera and every episode goes along, failed ones too; those that cannot be read
    are left out where data.cleaning.corrupt allows it.

    Args:
      config: `dataset` and how it is read.
      to: key of data.WRITERS.
      output: new folder or file.
      progress: called with (episodes read, episodes in all).

    Returns:
      Number of episodes written, and source index -> why it was left out.
    """
    if to not in WRITERS:
        raise InputError(f"--to must be one of {sorted(WRITERS)}, got '{to}'")
    if not config.dataset:
        raise InputError("--config.dataset must name the dataset to convert")
    source = open_source(config.dataset, config.data.format, config.data)
    action = select_spec(source.spec, config.data).action
    spec = dataclasses.replace(source.spec, action=action)
    left_out: dict[int, str] = {}
    episodes = _readable(source, config.data.cleaning.corrupt, left_out, progress)
    name = re.sub(r"\W", "_", f"{config.name}")
    return WRITERS[to](output, episodes, spec, name), left_out


def _readable(
    source: EpisodeSource, corrupt: str, left_out: dict[int, str], progress: Progress | None
) -> Iterator[Episode]:
    times: Counter[str] = Counter()
    for i in range(len(source)):
        try:
            episode = source.load(i)
            check_episode(episode, source.spec.observation)
        except InputError as e:
            if corrupt == "error":
                raise
            left_out[i] = str(e)
        else:
            yield _renamed(episode, times)
        if progress:
            progress(i + 1, len(source))


def _renamed(episode: Episode, times: Counter[str]) -> Episode:
    """Gives ids that were seen before a number of their own."""
    name = episode.metadata.episode_id
    times[name] += 1
    if times[name] == 1:
        return episode
    metadata = dataclasses.replace(episode.metadata, episode_id=f"{name}~{times[name]}")
    return dataclasses.replace(episode, metadata=metadata)


def _opened(config: ExperimentConfig, workdir: PathLike) -> Iterator[Opened]:
    """The datasets of a run, as they were processed."""
    for n, entry in enumerate(prepare.entries(config, workdir)):
        source = open_source(entry.dataset, entry.data.format, entry.data)
        yield Opened(entry, source, load_processed(prepare.processed_path(workdir, n)))


# ----------------------------------------------------------------------- 4 design


class Description(NamedTuple):
    """What a configuration would train.

    Attributes:
      table: the network by module, and memory.
      policy_spec: what the policy sees and does, and what its critic sees.
      devices: over which samples are split.
    """

    table: describe_lib.Table
    policy_spec: PolicySpec
    devices: int


def describe(config: ExperimentConfig, workdir: PathLike) -> Description:
    """The network that `config` trains, by module; nothing is made or written.

    What it sees is taken from the dataset, where that is not there from the world that
    demonstrations would come from. Of methods that learn in worlds, actor and critic are told.
    """
    devices = sharding.make_mesh(config.loop.devices).size
    if online.is_online(config):
        return _describe_online(config, devices)
    entry = prepare.entries(config, workdir)[0]
    if Path(entry.dataset).exists() or config.dataset or config.mixture:
        recorded = open_source(entry.dataset, entry.data.format, entry.data).spec
    else:
        recorded = expert.dataset_spec(make_world(config.env))
    policy_spec = factory.make_policy_spec(config, select_spec(recorded, entry.data))
    algorithm = factory.make_algorithm(config, policy_spec, factory.blank_norm(policy_spec))
    batch = factory.example_batch(policy_spec, config.loop.batch_size)
    return Description(describe_lib.table(algorithm, batch), policy_spec, devices)


def _describe_online(config: ExperimentConfig, devices: int) -> Description:
    """Actor and critic of a minibatch, and memory of the worlds and of a rollout in them."""
    # Without the expert's starts, which would have to be recorded.
    arena = dataclasses.replace(config.arena, expert_starts=0.0)
    data = online.prepare(dataclasses.replace(config, arena=arena), make_world(config.env))
    spec, settings = data.policy_spec, getattr(config, config.algorithm)
    algorithm = factory.make_algorithm(config, spec, data.norm, devices=devices)
    n = settings.n_worlds * settings.steps // settings.minibatches
    table = describe_lib.table(algorithm, ppo.example_samples(algorithm, spec, n))
    worlds, rollout = online.shapes(config, data, algorithm)
    others = {
        f"{settings.n_worlds:,} worlds": describe_lib.tree_bytes(worlds),
        f"a rollout of {settings.steps} decisions in each": describe_lib.tree_bytes(rollout),
    }
    return Description(dataclasses.replace(table, others=others), spec, devices)


# ------------------------------------------------------------------------ 5 train


def train(
    config: ExperimentConfig, workdir: PathLike, progress: Progress | None = None
) -> tuple[loop.FitResult, dict[str, offline.ActionErrors]]:
    """Trains in `workdir`, resuming what is there, and compares with two baselines.

    With `config.loop.rollouts`, every validation drives the simulated robot too; their
    success over time is plotted into evaluation/success_curve.png.
    """
    run_directory.check_writable(workdir)
    data = _prepared(config, workdir, progress)
    watch = functools.partial(success_now, config) if config.loop.rollouts else None
    result = loop.train(config, workdir, data, watch)
    if watch is not None:
        _plot_success(config, workdir)
    return result, evaluate_offline(config, workdir) if data.val_loader else {}


def _prepared(
    config: ExperimentConfig, workdir: PathLike, progress: Progress | None
) -> prepare.Prepared:
    """The data of a run, or the worlds that it learns in."""
    if online.is_online(config):
        return online.prepare(config, make_world(config.env))
    return prepare.prepare_data(config, workdir, progress)


def success_now(
    config: ExperimentConfig, algorithm: Algorithm, spec: PolicySpec, params: Params, step: int
) -> dict[str, float | Video]:
    """Closed-loop success of parameters in training; a loop.EvaluateFn but for `config`.

    Starts come from the VALIDATION stream, so that choosing parameters by it says nothing
    about the starts of the final evaluation.

    Returns:
      "success" and "return", means over `config.loop.rollouts` episodes, and a video
      "episodes" of the first success and the first failure.
    """
    del step
    n = config.loop.rollouts
    settings = dataclasses.replace(
        config.evaluation, n_episodes=n, seed=0, n_recorded=1, view_size=96
    )
    controller = rollout.PolicyController(algorithm.act, _local(params), spec, config.seed)
    found = rollout.evaluate(
        make_world(config.env), controller, settings, None, 0, stream=streams.VALIDATION
    )
    told: dict[str, float | Video] = {"return": float(found.returns.mean())}
    if found.success is not None:
        told["success"] = found.n_success / n
    if found.recordings:
        frames = pictures.mosaic(found.recordings)[::VIDEO_STRIDE]
        told["episodes"] = Video(frames, found.control_hz / VIDEO_STRIDE)
    return told


def _local(params: Params) -> Params:
    """Parameters that every device holds, as those of one device."""
    return jax.tree.map(lambda x: x.addressable_data(0) if x.is_fully_replicated else x, params)


def _plot_success(config: ExperimentConfig, workdir: PathLike) -> None:
    """evaluation/success_curve.png, where matplotlib is installed and there is something."""
    steps, rates, x = success_curve(config, workdir)
    with contextlib.suppress(ImportError):
        if len(steps):
            picture = plots.success_curve(steps, rates, config.loop.rollouts, x=x)
            atomic.write_bytes(Path(workdir) / EVALUATION / CURVE, picture)


def success_curve(
    config: ExperimentConfig, workdir: PathLike
) -> tuple[np.ndarray, np.ndarray, str]:
    """Closed-loop success while a run trained.

    Returns:
      Steps [K], success rates [K], and what steps count: control steps where the run learned
      in worlds, else updates.
    """
    found = [(r["step"], r[SUCCESS]) for r in metrics.read(workdir) if SUCCESS in r]
    steps, rates = np.asarray(found, np.float64).reshape(-1, 2).T
    if online.is_online(config):
        return steps * online.steps_per_update(config), rates, "control steps"
    return steps, rates, "updates"


def evaluate_offline(
    config: ExperimentConfig, workdir: PathLike, unlock_reason: str = ""
) -> dict[str, offline.ActionErrors]:
    """Action errors on the validation part, of the policy and of two baselines.

    Args:
      config: the experiment.
      workdir: run directory with a trained policy; gets evaluation/offline.json.
      unlock_reason: where given, the locked test part is used and the reading recorded.
    """
    policy = factory.load_policy(workdir)
    found_all = _opened(config, workdir)
    opened = [o for o in found_all if unlock_reason or len(o.processed.indices("val"))]
    table: dict[str, offline.ActionErrors] = {}
    for found in opened:
        rows = _compare(policy, found, Path(workdir) / prepare.CACHE, unlock_reason)
        prefix = f"{found.entry.dataset}: " if len(opened) > 1 else ""
        table |= {prefix + name: errors for name, errors in rows.items()}
    told = {k: dataclasses.asdict(v) for k, v in table.items()}
    name = "offline_test.json" if unlock_reason else "offline.json"
    atomic.write_text(Path(workdir) / EVALUATION / name, json.dumps(told, indent=1) + "\n")
    return table


def _compare(
    policy: LoadedPolicy, opened: Opened, directory: Path, unlock_reason: str
) -> dict[str, offline.ActionErrors]:
    """Errors on one dataset, of the policy and of the baselines."""
    processed = opened.processed
    part = processed.unlock_test(unlock_reason) if unlock_reason else processed.indices("val")
    frames = _frames(policy, opened, part, directory)
    return offline.compare(
        offline.predict(policy.algorithm.act, policy.params, policy.policy_spec, frames),
        np.asarray(frames.arrays["action"]),
        frames.starts,
        _train_actions(opened, directory),
        policy.policy_spec.action,
    )


def _frames(policy: LoadedPolicy, opened: Opened, part: np.ndarray, directory: Path) -> cache.Cache:
    """Frames of some episodes as recorded, with every array that the policy sees."""
    keys = [s.name for s in policy.policy_spec.observation]
    there = [k for k in keys if k in opened.processed.spec.keys]
    frames = cache.build(opened.source, part, there, directory)
    return dataclasses.replace(frames, arrays=mixture.columns(frames.arrays, (*keys, "action")))


def _train_actions(opened: Opened, directory: Path) -> np.ndarray:
    """Actions of the train part, [N, A]; no camera is decoded for them."""
    train = opened.processed.indices("train")
    return np.asarray(cache.build(opened.source, train, (), directory).arrays["action"])


# --------------------------------------------------------------------- 6 evaluate


def evaluate(
    config: ExperimentConfig,
    workdir: PathLike,
    policy: str = "jax",
    progress: Progress | None = None,
) -> tuple[dict[str, Any], rollout.Rollouts]:
    """Closed-loop success on held-out starts, with a report.

    Args:
      config: world and number of episodes.
      workdir: run directory; gets evaluation/ (jax) or evaluation/<policy>/.
      policy: "jax", or an exported artefact, run by the deployment runtime.
      progress: called with (episodes done, episodes in all).

    Returns:
      The report (see evaluation.report) and the episodes.
    """
    if policy not in POLICIES:
        raise InputError(f"--policy must be one of {POLICIES}, got '{policy}'")
    loaded = factory.load_policy(workdir)
    env = make_world(config.env)
    controller = _controller(loaded, workdir, policy, config.seed)
    rollouts = rollout.evaluate(env, controller, config.evaluation, progress)
    directory = evaluation_path(workdir, policy)
    facts = report.Facts(
        policy=policy,
        checkpoint=str(loaded.step),
        dataset_hash=loaded.dataset_hash,
        latency_ms=_latency(loaded, workdir, policy, rollouts, config.seed),
    )
    return report.write(directory, rollouts, facts, config.evaluation), rollouts


def report_path(workdir: PathLike, policy: str = "jax") -> Path:
    """The readable report of an evaluation."""
    return evaluation_path(workdir, policy) / "report.html"


def evaluation_path(workdir: PathLike, policy: str = "jax") -> Path:
    """Where an evaluation is written."""
    return Path(workdir) / EVALUATION / ("" if policy == "jax" else policy)


def _controller(
    policy: LoadedPolicy, workdir: PathLike, kind: str, seed: int, with_confidence: bool = True
) -> Any:
    if kind == "jax":
        algorithm, spec = policy.algorithm, policy.policy_spec
        confidence = algorithm.confidence if with_confidence else None
        return rollout.PolicyController(algorithm.act, policy.params, spec, seed, confidence)
    return PolicyRuntime(Path(workdir) / EXPORT, kind, seed)


def _latency(
    policy: LoadedPolicy, workdir: PathLike, kind: str, rollouts: rollout.Rollouts, seed: int
) -> dict[str, float]:
    """Of one decision for one robot, milliseconds."""
    controller = _controller(policy, workdir, kind, seed, with_confidence=False)
    observation = {k: v[:1, -1] for k, v in rollouts.observations.items()}
    return latency_lib.measure(controller, observation)


# ----------------------------------------------------------------------- 8 export


def export(
    config: ExperimentConfig,
    workdir: PathLike,
    observations: Mapping[str, np.ndarray] | None = None,
) -> tuple[PolicyManifest, dict[str, Any]]:
    """Exports and verifies the best policy into `<workdir>/export`.

    Args:
      config: formats and tolerance.
      workdir: run directory with a trained policy.
      observations: recorded windows [N, O, ...] to verify on; default: of the
        validation part.

    Returns:
      The manifest and the checklist.
    """
    policy = factory.load_policy(workdir)
    if observations is None:
        observations = _recorded(config, workdir, policy)
    directory = Path(workdir) / EXPORT
    manifest = bundle.export(policy, directory, observations, config.export)
    return manifest, json.loads((directory / checklist.CHECKLIST).read_text())


def _recorded(
    config: ExperimentConfig, workdir: PathLike, policy: LoadedPolicy
) -> dict[str, np.ndarray]:
    """Windows of the validation part; of a run without a dataset, from a few new episodes."""
    if online.is_online(config):
        return _met(config, policy)
    opened = next(_opened(config, workdir))
    keys = [s.name for s in policy.policy_spec.observation]
    part = opened.processed.indices("val")
    frames = _frames(policy, opened, part, Path(workdir) / prepare.CACHE)
    cuts = list(zip(frames.starts, frames.starts + frames.lengths, strict=True))
    episodes = [{k: frames.arrays[k][a:b] for k in keys} for a, b in cuts]
    return bundle.windows(episodes, policy.policy_spec, config.export.n_golden)


def _met(config: ExperimentConfig, policy: LoadedPolicy) -> dict[str, np.ndarray]:
    """Windows that the policy meets in episodes of the VALIDATION stream."""
    spec, n = policy.policy_spec, config.export.n_golden
    settings = dataclasses.replace(config.evaluation, n_episodes=8, batch=8, seed=0, n_recorded=0)
    controller = _controller(policy, "", "jax", config.seed, with_confidence=False)
    found = rollout.evaluate(
        make_world(config.env), controller, settings, None, n, spec.n_obs_steps, streams.VALIDATION
    )
    return {s.name: found.observations[s.name] for s in spec.observation}


# --------------------------------------------------------------------- all of them


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


def no_progress(stage: str) -> Progress | None:
    """Shows nothing."""
    return None


class Log:
    """Stages as they end: (stage, seconds, what was found)."""

    def __init__(self, progress: StageProgress = no_progress):
        """`progress` gives each stage its bar."""
        self.progress = progress
        self.rows: list[tuple[str, float, str]] = []

    def timed(
        self, stage: str, tell: Callable[[Any], str], function: Callable[..., Any], *args: Any
    ) -> Any:
        """`function(*args)`, noted as `stage`."""
        start = time.perf_counter()
        result = function(*args)
        self.rows.append((stage, time.perf_counter() - start, tell(result)))
        return result


def run(
    config: ExperimentConfig, workdir: PathLike, progress: StageProgress = no_progress
) -> Summary:
    """All stages: demonstrations to a verified artefact driving the simulated robot."""
    run_directory.check_writable(workdir)
    log = Log(progress)
    prepare_data(config, workdir, log)
    log.timed("train", tell_train, train, config, workdir, progress("decode"))
    bar = progress("evaluate")
    found, _ = log.timed("evaluate", tell_evaluate, evaluate, config, workdir, "jax", bar)
    reasons = success_reasons(config, found["success_rate"])
    reasons += deliver(config, workdir, found, log)
    root = Path(workdir)
    paths = tuple(root / p for p in ("evaluation/report.html", "evaluation", EXPORT))
    return Summary(tuple(log.rows), not reasons, tuple(reasons), paths)


def prepare_data(config: ExperimentConfig, workdir: PathLike, log: Log) -> None:
    """Collects demonstrations where `config` names no dataset, and processes them.

    Methods that learn in worlds need none.
    """
    if online.is_online(config):
        return
    if not config.dataset and not config.mixture:
        log.timed("collect", tell_collect, collect, config, workdir, log.progress("collect"))
    log.timed("process", tell_process, process, config, workdir, log.progress("process"))


def success_reasons(config: ExperimentConfig, rate: float | None) -> list[str]:
    """Why a success rate, None where the world knows of no success, is not good enough."""
    if rate is None and config.min_success > 0:
        return [
            f"'{config.env.name}' has no success predicate; --config.min_success=0 asks for none"
        ]
    if rate is None or rate >= config.min_success:
        return []
    return [f"success {rate:.1%} is below {config.min_success:.1%}"]


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
    _, checks = log.timed("export", tell_export, export, config, workdir)
    driven = {}
    for kind in config.export.formats[:1]:
        bar = log.progress(kind)
        stage = f"evaluate {kind}"
        driven[kind], _ = log.timed(stage, tell_evaluate, evaluate, config, workdir, kind, bar)
    _fill_checklist(config, workdir, found, driven)
    return artefact_reasons(found, checks, driven)


def artefact_reasons(
    found: Mapping[str, Any],
    checks: Mapping[str, Any],
    driven: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Why artefacts are not as good as what was evaluated; empty where they are.

    Args:
      found: report of the JAX policy's evaluation; where the world has no success predicate,
        only the artefacts' outputs are compared.
      checks: export's checklist.
      driven: report by format of the artefacts' evaluations.
    """
    reasons = []
    if not checks["parity"]["passed"]:
        reasons.append(f"artefacts differ from JAX: {checks['parity']['value']}")
    if found["success_ci95"] is None:
        return reasons
    low, high = found["success_ci95"]
    for kind, told in driven.items():
        if told["success_rate"] < low:
            reasons.append(
                f"{kind} success {told['success_rate']:.1%} lies below the JAX policy's "
                f"interval [{low:.1%}, {high:.1%}]"
            )
    return reasons


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
    directory = Path(workdir) / EXPORT
    checklist.fill(directory, "success_rate", rate, limit, rate >= limit)
    if rates:
        passed = min(rates.values()) >= limit
        checklist.fill(directory, "artefact_success_rate", rates, limit, passed)


# ------------------------------------------------------------------ words for people


def tell_collect(ledger: Mapping[str, Any]) -> str:
    """One line about a collection."""
    return (
        f"{ledger['successes']} demonstrations in {ledger['attempts']} attempts, "
        f"{ledger['steps']} steps"
    )


def tell_process(processed: Sequence[Processed]) -> str:
    """One line about what was processed."""
    counts = {k: sum(p.counts[k] for p in processed) for k in processed[0].counts}
    parts = " / ".join(f"{counts[p]} {p}" for p in PARTS)
    dropped = ", ".join(f"{counts[rule]} {rule}" for rule in RULES if counts[rule])
    told = f" ({dropped})" if dropped else ""
    n_dropped = counts["found"] - counts["kept"]
    return f"{counts['kept']} episodes kept, {n_dropped} dropped{told}; {parts}"


def tell_train(trained: tuple[loop.FitResult, Mapping[str, offline.ActionErrors]]) -> str:
    """One line about a training run."""
    result, _ = trained
    loss = result.metrics.get("val/loss")
    validation = "" if loss is None else f", validation loss {loss:.2e}"
    errors = [f"{result.metrics[k]:.2g} {u}" for k, u in _ERROR_KEYS if k in result.metrics]
    error = f", action error {' / '.join(errors)}" if errors else ""
    parts = [(k, name) for k, name in _SHARES if k == "data" or result.shares[k] >= 0.005]
    shares = ", ".join(f"{result.shares[k]:.0%} {name}" for k, name in parts)
    time_told = f"{result.seconds:.0f} s of which {shares}"
    rate = f"{result.step} steps at {result.steps_per_second:.0f}/s"
    return f"{rate}{validation}{error}; {time_told}"


_SHARES = (
    ("start", "starting and compiling"),
    ("step", "in steps"),
    ("data", "waiting for data"),
    ("eval", "in validation"),
    ("checkpoint", "saving"),
    ("profile", "tracing"),
)
_ERROR_KEYS = (("val/action_error_m", "m"), ("val/action_error_rad", "rad"))


def tell_evaluate(evaluated: tuple[Mapping[str, Any], Any]) -> str:
    """One line about an evaluation."""
    told = evaluated[0]
    p50, p95 = (told["latency_ms"][k] for k in ("p50", "p95"))
    return f"{_outcome(told)}, latency p50 {p50:.1f} ms, p95 {p95:.1f} ms"


def _outcome(told: Mapping[str, Any]) -> str:
    """Success, or the return where the world has no success predicate."""
    if told["n_success"] is None:
        return f"return {told['avg_sum_reward']:.2f}, the mean of {told['n_episodes']} episodes"
    low, high = told["success_ci95"]
    rate = f"{told['n_success']}/{told['n_episodes']} = {told['success_rate']:.1%}"
    return f"success {rate} [{low:.1%}, {high:.1%}]"


def tell_export(exported: tuple[PolicyManifest, Mapping[str, Any]]) -> str:
    """One line about an export."""
    checks = exported[1]
    errors = ", ".join(f"|JAX - {k}| {v:.1e}" for k, v in checks["parity"]["value"].items())
    sizes = ", ".join(f"{k} {v / 1e6:.2f} MB" for k, v in checks["size_bytes"]["value"].items())
    return f"{errors}; {sizes}"
