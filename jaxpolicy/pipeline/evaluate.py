"""Stage 6: success in closed loop, and action errors on recorded data."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from brax.envs.base import Env

from jaxpolicy.core import atomic, json_file, schema
from jaxpolicy.core.specs import PREVIOUS_ACTION, InputError
from jaxpolicy.data import cache, mixture
from jaxpolicy.deploy.runtime import PolicyRuntime
from jaxpolicy.evaluation import latency, offline, offline_page, report, rollout
from jaxpolicy.evaluation.offline_page import Compared
from jaxpolicy.pipeline import process, stages
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.stages import PathLike, Progress
from jaxpolicy.training import factory, online, prepare
from jaxpolicy.training.factory import LoadedPolicy
from jaxpolicy.training.prepare import Opened

__all__ = [
    "ARTEFACTS",
    "EXPORT",
    "POLICIES",
    "controller",
    "frames",
    "offline_errors",
    "offline_path",
    "path",
    "report_path",
    "run",
]

ARTEFACTS = ("onnx", "tflite")
POLICIES = ("jax", *ARTEFACTS)
EVALUATION = "evaluation"
EXPORT = "export"
SHOWN = 3  # episodes whose actions are drawn


def run(
    config: ExperimentConfig,
    workdir: PathLike,
    policy: str = "jax",
    progress: Progress | None = None,
    name: str = "",
) -> tuple[dict[str, Any], rollout.Rollouts]:
    """Closed-loop success on held-out starts, with a report.

    A report of more episodes, or of another world, that is there already is moved aside, see
    `report.keep_earlier`.

    Args:
      config: world and number of episodes.
      workdir: run directory; gets evaluation/ (jax) or evaluation/<policy>/.
      policy: "jax", or an exported artefact, run by the deployment runtime.
      progress: called with (episodes done, episodes in all).
      name: of a folder below, for a report of its own; "" for the run's own report.

    Returns:
      The report (see evaluation.report) and the episodes.

    Raises:
      InputError: no such policy, or one that does not fit the world.
    """
    if policy not in POLICIES:
        raise InputError(f"--policy must be one of {POLICIES}, got '{policy}'")
    directory = path(workdir, policy, name)
    loaded = factory.load_policy(workdir)
    env = stages.make_world(config.env)
    _check_world(config, env, loaded)
    driver = controller(loaded, workdir, policy, config.seed)
    rollouts = rollout.evaluate(env, driver, config.evaluation, progress)
    world = json_file.plain(schema.to_mapping(config.env))
    kept = report.keep_earlier(directory, len(rollouts.seeds), world)
    if kept is not None:
        logging.warning("the earlier report, of more episodes or another world, is in %s", kept)
    facts = report.Facts(
        policy=policy,
        checkpoint=str(loaded.step),
        dataset_hash=loaded.dataset_hash,
        world=world,
        latency_ms=_latency(loaded, workdir, policy, rollouts, config.seed),
    )
    return report.write(directory, rollouts, facts, config.evaluation), rollouts


def _check_world(config: ExperimentConfig, env: Env, policy: LoadedPolicy) -> None:
    """Raises InputError where a policy of recorded data is to act in a world unlike it."""
    there = {s.name: s.shape for s in env.observation_specs} | {PREVIOUS_ACTION: None}
    wanted = {s.name: s.shape for s in policy.policy_spec.observation}
    strange = [n for n, shape in wanted.items() if there.get(n, ()) not in (shape, None)]
    if not strange or not (config.dataset or config.mixture):
        return
    data = config.dataset or ", ".join(e.dataset for e in config.mixture)
    raise InputError(
        f"this policy was trained on {data}, and the world '{config.env.name}' does not give it "
        f"{', '.join(strange)} as recorded; --offline compares predicted with recorded actions, "
        "and --config.env.name names another world (docs/worlds.md)"
    )


def report_path(workdir: PathLike, policy: str = "jax", name: str = "") -> Path:
    """The readable report of an evaluation."""
    return path(workdir, policy, name) / report.PAGE


def path(workdir: PathLike, policy: str = "jax", name: str = "") -> Path:
    """Where an evaluation is written.

    Raises:
      InputError: `name` is no name of a folder, or is taken.
    """
    if name and (name in (*POLICIES, report.EARLIER) or not re.fullmatch(r"\w[\w.+-]*", name)):
        raise InputError(f"--name={name}: give letters, digits, '_', '-', other than {POLICIES}")
    return Path(workdir) / EVALUATION / ("" if policy == "jax" else policy) / name


def offline_path(workdir: PathLike, unlock_reason: str = "") -> Path:
    """The page of an offline evaluation, of the test part where a reason is given."""
    return path(workdir) / ("offline_test.html" if unlock_reason else "offline.html")


def controller(
    policy: LoadedPolicy, workdir: PathLike, kind: str, seed: int, with_confidence: bool = True
) -> Any:
    """What drives the robot: the JAX policy, or an exported artefact in its runtime."""
    if kind == "jax":
        algorithm, spec = policy.algorithm, policy.policy_spec
        confidence = algorithm.confidence if with_confidence else None
        return rollout.PolicyController(algorithm.act, policy.params, spec, seed, confidence)
    return PolicyRuntime(Path(workdir) / EXPORT, kind, seed)


def _latency(
    policy: LoadedPolicy, workdir: PathLike, kind: str, rollouts: rollout.Rollouts, seed: int
) -> dict[str, float]:
    """Of one decision for one robot, milliseconds."""
    driver = controller(policy, workdir, kind, seed, with_confidence=False)
    observation = {k: v[:1, -1] for k, v in rollouts.observations.items()}
    return latency.measure(driver, observation)


def offline_errors(
    config: ExperimentConfig, workdir: PathLike, unlock_reason: str = ""
) -> dict[str, offline.ActionErrors]:
    """Action errors on the validation part, of the policy and of two baselines.

    Args:
      config: the experiment.
      workdir: run directory with a trained policy; gets evaluation/offline.json and a page
        of the same name.
      unlock_reason: where given, the locked test part is used and the reading recorded.
    """
    if online.is_online(config):
        raise InputError(f"'{config.algorithm}' learned in a world: there are no recorded actions")
    compared = _compare_all(config, workdir, unlock_reason)
    table: dict[str, offline.ActionErrors] = {}
    for found in compared:
        prefix = f"{found.dataset}: " if len(compared) > 1 else ""
        table |= {prefix + name: errors for name, errors in found.errors.items()}
    where = offline_path(workdir, unlock_reason)
    told = {k: dataclasses.asdict(v) for k, v in table.items()}
    json_file.write(where.with_suffix(".json"), told)
    part = "test" if unlock_reason else "validation"
    atomic.write_text(where, offline_page.render(config.name, part, compared))
    return table


def _compare_all(config: ExperimentConfig, workdir: PathLike, unlock_reason: str) -> list[Compared]:
    """What is found of every dataset that has episodes in the part."""
    policy = factory.load_policy(workdir)
    cached = Path(workdir) / prepare.CACHE
    return [
        _compare(policy, opened, cached, unlock_reason)
        for opened in process.opened(config, workdir)
        if unlock_reason or len(opened.processed.indices("val"))
    ]


def _compare(
    policy: LoadedPolicy, opened: Opened, directory: Path, unlock_reason: str
) -> Compared:
    """Errors on one dataset, of the policy and of the baselines."""
    processed, spec = opened.processed, policy.policy_spec
    part = processed.unlock_test(unlock_reason) if unlock_reason else processed.indices("val")
    recorded = frames(policy, opened, part, directory)
    action = np.asarray(recorded.arrays["action"])
    predicted = offline.predict(policy.algorithm.act, policy.params, spec, recorded)
    train = _train_actions(opened, directory)
    errors = offline.compare(predicted, action, recorded.starts, train, spec.action)
    cuts = zip(recorded.starts[:SHOWN], recorded.lengths[:SHOWN], strict=True)
    shown = [(action[a : a + n], predicted[a : a + n]) for a, n in cuts]
    return Compared(opened.entry.dataset, spec.action, errors, shown)


def frames(policy: LoadedPolicy, opened: Opened, part: np.ndarray, directory: Path) -> cache.Cache:
    """Frames of some episodes as recorded, with every array that the policy sees."""
    keys = [s.name for s in policy.policy_spec.observation]
    there = [k for k in keys if k in opened.processed.spec.keys]
    found = cache.build(opened.source, part, there, directory)
    return dataclasses.replace(found, arrays=mixture.columns(found.arrays, (*keys, "action")))


def _train_actions(opened: Opened, directory: Path) -> np.ndarray:
    """Actions of the train part, [N, A]; no camera is decoded for them."""
    train = opened.processed.indices("train")
    return np.asarray(cache.build(opened.source, train, (), directory).arrays["action"])
