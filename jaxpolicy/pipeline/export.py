"""Stage 8: verified artefacts of the best policy."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxpolicy.core.specs import PolicyManifest
from jaxpolicy.data import process as data_process
from jaxpolicy.evaluation import rollout
from jaxpolicy.export import bundle, checklist
from jaxpolicy.pipeline import evaluate, process, stages
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.stages import PathLike
from jaxpolicy.sim import streams
from jaxpolicy.training import factory, online, prepare
from jaxpolicy.training.factory import LoadedPolicy

__all__ = ["run"]


def run(
    config: ExperimentConfig,
    workdir: PathLike,
    observations: Mapping[str, np.ndarray] | None = None,
) -> tuple[PolicyManifest, dict[str, Any]]:
    """Exports and verifies the best policy into `<workdir>/export`.

    Args:
      config: formats and tolerance; `data.action_minimum` and `data.action_maximum`, which
        may be others than those that the policy was trained with.
      workdir: run directory with a trained policy.
      observations: recorded windows [N, O, ...] to verify on; default: of the
        validation part.

    Returns:
      The manifest and the checklist.
    """
    policy = _limited(factory.load_policy(workdir), config)
    if observations is None:
        observations = _recorded(config, workdir, policy)
    directory = Path(workdir) / evaluate.EXPORT
    manifest = bundle.export(policy, directory, observations, config.export)
    return manifest, json.loads((directory / checklist.CHECKLIST).read_text())


def _limited(policy: LoadedPolicy, config: ExperimentConfig) -> LoadedPolicy:
    """With the limits of the action that `config.data` gives, in the place of what it trained on.

    What was learned from demonstrations does not depend on them. What was learned in worlds
    does: their limits are what a policy's outputs are scaled to.
    """
    if online.is_online(config):
        return policy
    spec = policy.policy_spec
    action = data_process.limited(spec.action, config.data)
    return policy._replace(policy_spec=dataclasses.replace(spec, action=action))


def _recorded(
    config: ExperimentConfig, workdir: PathLike, policy: LoadedPolicy
) -> dict[str, np.ndarray]:
    """Windows of the validation part; of a run without a dataset, from a few new episodes."""
    if online.is_online(config):
        return _met(config, policy)
    opened = next(process.opened(config, workdir))
    keys = [s.name for s in policy.policy_spec.observation]
    part = opened.processed.indices("val")
    frames = evaluate.frames(policy, opened, part, Path(workdir) / prepare.CACHE)
    cuts = list(zip(frames.starts, frames.starts + frames.lengths, strict=True))
    episodes = [{k: frames.arrays[k][a:b] for k in keys} for a, b in cuts]
    return bundle.windows(episodes, policy.policy_spec, config.export.n_golden)


def _met(config: ExperimentConfig, policy: LoadedPolicy) -> dict[str, np.ndarray]:
    """Windows that the policy meets in episodes of the VALIDATION stream."""
    spec, n = policy.policy_spec, config.export.n_golden
    settings = dataclasses.replace(config.evaluation, n_episodes=8, batch=8, seed=0, n_recorded=0)
    controller = evaluate.controller(policy, "", "jax", config.seed, with_confidence=False)
    world = stages.make_world(config.env)
    found = rollout.evaluate(
        world, controller, settings, None, n, spec.n_obs_steps, streams.VALIDATION
    )
    return {s.name: found.observations[s.name] for s in spec.observation}
