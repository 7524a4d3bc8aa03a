"""Stage 6: success in closed loop, and action errors on recorded data."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxpolicy.core import json_file
from jaxpolicy.core.schema import InputError
from jaxpolicy.data import cache, mixture
from jaxpolicy.deploy.runtime import PolicyRuntime
from jaxpolicy.evaluation import latency, offline, report, rollout
from jaxpolicy.pipeline import process, stages
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.stages import PathLike, Progress
from jaxpolicy.training import factory, prepare
from jaxpolicy.training.factory import LoadedPolicy
from jaxpolicy.training.prepare import Opened

__all__ = [
    "ARTEFACTS",
    "EXPORT",
    "POLICIES",
    "controller",
    "frames",
    "offline_errors",
    "path",
    "report_path",
    "run",
]

ARTEFACTS = ("onnx", "tflite")
POLICIES = ("jax", *ARTEFACTS)
EVALUATION = "evaluation"
EXPORT = "export"


def run(
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
    env = stages.make_world(config.env)
    driver = controller(loaded, workdir, policy, config.seed)
    rollouts = rollout.evaluate(env, driver, config.evaluation, progress)
    directory = path(workdir, policy)
    facts = report.Facts(
        policy=policy,
        checkpoint=str(loaded.step),
        dataset_hash=loaded.dataset_hash,
        latency_ms=_latency(loaded, workdir, policy, rollouts, config.seed),
    )
    return report.write(directory, rollouts, facts, config.evaluation), rollouts


def report_path(workdir: PathLike, policy: str = "jax") -> Path:
    """The readable report of an evaluation."""
    return path(workdir, policy) / "report.html"


def path(workdir: PathLike, policy: str = "jax") -> Path:
    """Where an evaluation is written."""
    return Path(workdir) / EVALUATION / ("" if policy == "jax" else policy)


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
      workdir: run directory with a trained policy; gets evaluation/offline.json.
      unlock_reason: where given, the locked test part is used and the reading recorded.
    """
    policy = factory.load_policy(workdir)
    found_all = process.opened(config, workdir)
    opened = [o for o in found_all if unlock_reason or len(o.processed.indices("val"))]
    table: dict[str, offline.ActionErrors] = {}
    for found in opened:
        rows = _compare(policy, found, Path(workdir) / prepare.CACHE, unlock_reason)
        prefix = f"{found.entry.dataset}: " if len(opened) > 1 else ""
        table |= {prefix + name: errors for name, errors in rows.items()}
    told = {k: dataclasses.asdict(v) for k, v in table.items()}
    name = "offline_test.json" if unlock_reason else "offline.json"
    json_file.write(path(workdir) / name, told)
    return table


def _compare(
    policy: LoadedPolicy, opened: Opened, directory: Path, unlock_reason: str
) -> dict[str, offline.ActionErrors]:
    """Errors on one dataset, of the policy and of the baselines."""
    processed = opened.processed
    part = processed.unlock_test(unlock_reason) if unlock_reason else processed.indices("val")
    recorded = frames(policy, opened, part, directory)
    return offline.compare(
        offline.predict(policy.algorithm.act, policy.params, policy.policy_spec, recorded),
        np.asarray(recorded.arrays["action"]),
        recorded.starts,
        _train_actions(opened, directory),
        policy.policy_spec.action,
    )


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
