"""From configuration to objects: optimiser, algorithm, and a trained policy from disk."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxpolicy.algorithms import act, bc, diffusion, dppo, ppo
from jaxpolicy.core import schema
from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.registry import Registry
from jaxpolicy.core.specs import PRIVILEGED, VECTORS, InputError
from jaxpolicy.core.types import Algorithm, Batch, DatasetSpec, Params, PolicySpec
from jaxpolicy.training import checkpoint, sharding
from jaxpolicy.training.config import OptimizerConfig, TrainConfig

__all__ = [
    "ALGORITHMS",
    "ONLINE",
    "LoadedPolicy",
    "Method",
    "blank_norm",
    "config_from_dict",
    "example_batch",
    "is_kernel",
    "is_online",
    "learning_rate",
    "load_policy",
    "make_algorithm",
    "make_optimizer",
    "make_policy_spec",
    "make_schedule",
    "method_settings",
    "spec_from_dict",
]


class Method(NamedTuple):
    """How an algorithm is made.

    Attributes:
      make: (policy_spec, network_config, config, optimizer, norm, augmentation) -> Algorithm;
        that of a method that learns in worlds also takes the number of devices.
      config: dataclass of its settings. An own algorithm's are in the field of TrainConfig
        with its name, a plug-in's in `settings`.
      online: it learns in worlds; `config` then derives from PPOConfig.
    """

    make: Callable[..., Algorithm]
    config: type
    online: bool = False


_METHODS = {
    "act": Method(act.make, act.ACTConfig),
    "bc": Method(bc.make, bc.BCConfig),
    "diffusion": Method(diffusion.make, diffusion.DiffusionConfig),
    "dppo": Method(dppo.make, dppo.DPPOConfig, online=True),
    "ppo": Method(ppo.make, ppo.PPOConfig, online=True),
}
ALGORITHMS: Registry[Method] = Registry("algorithm", _METHODS, Method)
# Those of the library that learn in worlds.
ONLINE = tuple(name for name, method in _METHODS.items() if method.online)


class LoadedPolicy(NamedTuple):
    """A trained policy and where it comes from.

    Attributes:
      algorithm: see types.Algorithm; `algorithm.act(params, observation, key)`.
      policy_spec: inputs and outputs.
      params: trained parameters, statistics included.
      config: the run's config.json.
      step: updates done.
      dataset_hash: fingerprint of the dataset it was trained on.
    """

    algorithm: Algorithm
    policy_spec: PolicySpec
    params: Params
    config: Mapping[str, Any]
    step: int
    dataset_hash: str


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate over `steps` updates: linear warm-up, then as `config.schedule` says."""
    warmup = min(config.warmup_steps, steps)
    peak = config.learning_rate
    rest, final = max(steps - warmup, 1), config.final_fraction
    if config.schedule == "constant":
        after: optax.Schedule = optax.constant_schedule(peak)
    elif config.schedule == "linear":
        after = optax.linear_schedule(peak, final * peak, rest)
    else:
        after = optax.cosine_decay_schedule(peak, rest, alpha=final)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clipping, then Adam(W) with the schedule over `steps` updates."""
    b1, b2 = config.betas
    rate = make_schedule(config, steps)
    if config.name == "adamw":
        decay = config.weight_decay
        rule = optax.adamw(rate, b1, b2, config.epsilon, weight_decay=decay, mask=is_kernel)
    else:
        rule = optax.adam(rate, b1, b2, config.epsilon)
    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    return optax.chain(*clip, rule)


def learning_rate(config: TrainConfig, steps: int, step: int) -> float:
    """The scheduled rate of update `step` of `steps`, before what PPO makes of it."""
    method, settings = ALGORITHMS[config.algorithm], method_settings(config)
    if method.online:
        steps, step = (ppo.optimizer_steps(settings, n) for n in (steps, step))
    return float(make_schedule(config.optimizer, steps)(step))


def is_kernel(params: Params) -> Any:
    """True for arrays with two or more axes: weights, not biases and scales."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def make_policy_spec(config: TrainConfig, spec: DatasetSpec) -> PolicySpec:
    """What the policy sees of a dataset; of the simulator's state only where it is asked for."""
    inputs = tuple(s for s in spec.observation if s.name != PRIVILEGED or config.data.privileged)
    if not inputs:
        raise InputError("the policy would see nothing: data.cameras, proprio and language are off")
    return PolicySpec(
        observation=inputs,
        action=spec.action,
        n_obs_steps=config.n_obs_steps,
        horizon=config.horizon,
        n_action_steps=config.n_action_steps,
        temporal_ensemble=config.temporal_ensemble,
    )


def make_algorithm(
    config: TrainConfig,
    policy_spec: PolicySpec,
    norm: Mapping[str, NormStats],
    steps: int = 0,
    devices: int = 1,
) -> Algorithm:
    """The algorithm that `config` names, with network and optimiser bound.

    Args:
      config: see TrainConfig.
      policy_spec: inputs and outputs.
      norm: statistics by key.
      steps: updates of the whole run, for the schedule; 0: `config.loop.steps`.
      devices: over which methods that learn in worlds split these.

    Raises:
      InputError: unknown algorithm, or a value it does not accept.
    """
    settings, method = method_settings(config), ALGORITHMS[config.algorithm]
    steps = steps or config.loop.steps
    common = (policy_spec, config.network, settings)
    if not method.online:
        optimizer = make_optimizer(config.optimizer, steps)
        return method.make(*common, optimizer, norm, config.augment)
    optimizer = make_optimizer(config.optimizer, ppo.optimizer_steps(settings, steps))
    return method.make(*common, optimizer, norm, config.augment, devices)


def method_settings(config: TrainConfig) -> Any:
    """Settings of the algorithm that `config` names, as its own dataclass.

    Raises:
      InputError: unknown algorithm, or settings that it does not accept.
    """
    name = config.algorithm
    if name not in ALGORITHMS:
        known = ", ".join(sorted(ALGORITHMS))
        told = f"; plug-ins of this run: {', '.join(config.plugins)}" if config.plugins else ""
        raise InputError(f"algorithm must be one of {known}, got '{name}'{told}")
    if name not in ALGORITHMS.own:
        return schema.from_mapping(ALGORITHMS[name].config, config.settings, "config.settings")
    if config.settings:
        raise InputError(f"config.settings are for algorithms of plug-ins, see config.{name}")
    return getattr(config, name)


def is_online(config: TrainConfig) -> bool:
    """Whether the algorithm of `config` learns in worlds."""
    return config.algorithm in ALGORITHMS and ALGORITHMS[config.algorithm].online


def example_batch(policy_spec: PolicySpec, batch_size: int = 1) -> Batch:
    """Zeros with the shapes and dtypes of a batch of `batch_size` windows."""
    spec, b, o, h = policy_spec, batch_size, policy_spec.n_obs_steps, policy_spec.horizon
    observation = {s.name: np.zeros((b, o, *s.shape), s.dtype) for s in spec.observation}
    action = np.zeros((b, h, spec.action.size), np.float32)
    return Batch(observation, action, np.ones((b, h), bool))


def load_policy(workdir: str | os.PathLike[str], which: str | int = "best") -> LoadedPolicy:
    """The trained policy of a run directory; nothing there is changed.

    Args:
      workdir: run directory.
      which: "best", "latest" or a step.

    Raises:
      InputError: no such checkpoint.
    """
    step = checkpoint.resolve_step(workdir, which)
    assets = checkpoint.load_assets(workdir, step)
    policy_spec = spec_from_dict(assets["policy_spec"])
    config = config_from_dict(assets["config"])
    algorithm = make_algorithm(config, policy_spec, blank_norm(policy_spec))
    mesh = sharding.make_mesh(1)
    like = sharding.abstract(
        algorithm.init, mesh, jax.random.key(0), example_batch(policy_spec)
    ).params
    params = checkpoint.load_params(workdir, step, like)
    return LoadedPolicy(
        algorithm, policy_spec, params, assets["config"], step, assets["dataset_hash"]
    )


def config_from_dict(value: Mapping[str, Any]) -> TrainConfig:
    """TrainConfig out of a stored configuration, which may hold more than that."""
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    return schema.from_mapping(TrainConfig, {k: v for k, v in value.items() if k in known})


def spec_from_dict(value: Mapping[str, Any]) -> PolicySpec:
    """PolicySpec out of `schema.to_mapping` read back from JSON."""
    return schema.from_mapping(PolicySpec, value, "policy_spec")


def blank_norm(policy_spec: PolicySpec) -> dict[str, NormStats]:
    """Statistics of the right shapes; the real ones are in the checkpoint's parameters."""
    sizes = {s.name: s.shape[-1] for s in policy_spec.observation if s.name in VECTORS}
    sizes["action"] = policy_spec.action.size
    return {k: NormStats(*[np.zeros(n, np.float32)] * 6) for k, n in sizes.items()}
