"""What a run needs that learns in worlds instead of from a dataset.

`prepare` stands for `prepare.prepare_data`, and `make_algorithm` for
`factory.make_algorithm`: a loop sees no difference but the state, which holds the worlds.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env
from jax.sharding import Mesh

from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import ActionSpec, InputError
from jaxpolicy.core.types import Algorithm, DatasetSpec, PolicySpec, Rollout
from jaxpolicy.data.process import select_spec
from jaxpolicy.training import factory, rollouts, sharding
from jaxpolicy.training.config import TrainConfig
from jaxpolicy.training.prepare import Prepared
from jaxpolicy.training.rollouts import Worlds

__all__ = [
    "NoData",
    "action_norm",
    "is_online",
    "make_algorithm",
    "place",
    "policy_spec",
    "prepare",
    "shapes",
    "source",
    "steps_per_update",
]

SWEEP = "sweep.json"


class NoData:
    """The loader of a run without data: batches of nothing; see data.loader.BatchLoader."""

    mode = "host"
    reason = "device: rollouts in the worlds"
    batches_per_epoch = 1
    lengths = np.zeros(0, np.int64)
    arrays: Mapping[str, np.ndarray] = {}

    def indices(self, step: int) -> Any:
        """There are none."""
        raise InputError(f"step {step}: there is no dataset")

    def batch(self, step: int) -> Any:
        """Nothing."""
        del step
        return ()

    def stream(self, first: int, n: int) -> Any:
        """There is none."""
        raise InputError("a run that learns in worlds cannot be part of a mixture")


def is_online(config: TrainConfig) -> bool:
    """Whether `config` learns in worlds."""
    return factory.is_online(config)


def steps_per_update(config: TrainConfig) -> int:
    """Control steps, over all worlds, of an update of a method that learns in them."""
    settings = factory.method_settings(config)
    return settings.n_worlds * settings.steps * config.n_action_steps


def prepare(config: TrainConfig, env: Env) -> Prepared:
    """What stands for data: the worlds.

    Args:
      config: see TrainConfig.
      env: the world of `config.env`.

    Raises:
      InputError: the world cannot be learned in, has no reward, or lacks what the policy is
        to see.
    """
    settings = factory.method_settings(config)
    _check_rewarded(config, env)
    spec = policy_spec(config, env)
    return Prepared(
        train_loader=NoData(),
        val_loader=None,
        policy_spec=spec,
        norm={"action": action_norm(spec.action)},
        dataset_hash="",
        processed=(),
        arena=rollouts.make_arena(env, spec, settings.n_worlds, config.arena, config.seed),
    )


def _check_rewarded(config: TrainConfig, env: Env) -> None:
    """Raises InputError for a world in which every reward is zero."""
    if not getattr(env, "has_reward", True):
        raise InputError(
            f"'{config.env.name}' has no reward, so {config.algorithm} would learn nothing: write "
            "a function of the physics state and give it to MjcfWorld(path, reward=...), in a "
            "task of your own that --plugin=MODULE brings; see docs/worlds.md"
        )


def policy_spec(config: TrainConfig, env: Env) -> PolicySpec:
    """Inputs and outputs of the policy, and inputs of its critic."""
    recorded = DatasetSpec(tuple(env.observation_specs), env.action_spec)
    spec = factory.make_policy_spec(config, select_spec(recorded, config.data))
    return dataclasses.replace(spec, critic=rollouts.critic_specs(env, spec.observation))


def source(config: TrainConfig) -> Path:
    """The run that `config` starts from; of a sweep, the one with the same seed."""
    root = Path(config.init_from)
    return root / f"seed_{config.seed}" if (root / SWEEP).exists() else root


def action_norm(spec: ActionSpec) -> NormStats:
    """Statistics by which the limits of an action vector become [-1, 1].

    Raises:
      InputError: the action has no limits.
    """
    low, high = np.asarray(spec.minimum, np.float32), np.asarray(spec.maximum, np.float32)
    if low.shape != (spec.size,) or not (low < high).all():
        raise InputError("reinforcement learning needs limits of every element of the action")
    return NormStats(low, high, (low + high) / 2, (high - low) / 2, low, high)


def make_algorithm(config: TrainConfig, data: Prepared, updates: int, mesh: Mesh) -> Algorithm:
    """The algorithm of `config` as a loop runs it; its worlds are part of it where there are any.

    Args:
      config: see TrainConfig.
      data: see Prepared.
      updates: of the whole run.
      mesh: devices.
    """
    if data.arena is None:
        return factory.make_algorithm(config, data.policy_spec, data.norm, updates)
    settings = factory.method_settings(config)
    algorithm = factory.make_algorithm(config, data.policy_spec, data.norm, updates, mesh.size)
    plan = rollouts.Plan(settings.steps, updates, config.seed)
    return rollouts.in_worlds(algorithm, data.arena, plan)


def shapes(config: TrainConfig, data: Prepared, algorithm: Algorithm) -> tuple[Worlds, Rollout]:
    """Shapes of the worlds of a run and of a rollout in them; nothing is computed.

    Args:
      config: see TrainConfig.
      data: see `prepare`.
      algorithm: which learns in them, see `factory.make_algorithm`.
    """
    explore, arena = algorithm.explore, data.arena
    if explore is None or arena is None:
        raise InputError("only what learns in worlds has rollouts")
    key = jax.eval_shape(jax.random.key, 0)
    params = jax.eval_shape(algorithm.init, key, ()).params
    worlds = jax.eval_shape(functools.partial(rollouts.init, arena), key)
    steps = factory.method_settings(config).steps
    collect = functools.partial(rollouts.collect, arena, explore, steps=steps)
    return worlds, jax.eval_shape(collect, params, worlds)[1]


def place(like: Any, mesh: Mesh) -> Any:
    """`like` (see sharding.abstract) with the worlds split over the devices."""
    if not hasattr(like, "worlds"):
        return like
    return like._replace(worlds=jax.tree.map(lambda x: _split(x, mesh), like.worlds))


def _split(x: jax.ShapeDtypeStruct, mesh: Mesh) -> jax.ShapeDtypeStruct:
    divides = (
        x.ndim and x.shape[0] % mesh.size == 0 and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    )
    where = sharding.split(mesh) if divides else sharding.replicated(mesh)
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
