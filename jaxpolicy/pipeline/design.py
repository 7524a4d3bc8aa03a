"""Stage 4: the network that a configuration would train, by module."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from jaxpolicy.algorithms import ppo
from jaxpolicy.collect import expert
from jaxpolicy.core.types import PolicySpec
from jaxpolicy.data import open_source
from jaxpolicy.data.process import select_spec
from jaxpolicy.networks import describe as describe_lib
from jaxpolicy.pipeline import stages
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.stages import PathLike
from jaxpolicy.training import factory, online, prepare, sharding

__all__ = ["Description", "run"]


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


def run(config: ExperimentConfig, workdir: PathLike) -> Description:
    """The network that `config` trains, by module; nothing is made or written.

    What it sees is taken from the dataset, where that is not there from the world that
    demonstrations would come from. Of methods that learn in worlds, actor and critic are told.
    """
    devices = sharding.make_mesh(config.loop.devices).size
    if online.is_online(config):
        return _online(config, devices)
    entry = prepare.entries(config, workdir)[0]
    if Path(entry.dataset).exists() or config.dataset or config.mixture:
        recorded = open_source(entry.dataset, entry.data.format, entry.data).spec
    else:
        recorded = expert.dataset_spec(stages.make_world(config.env))
    policy_spec = factory.make_policy_spec(config, select_spec(recorded, entry.data))
    algorithm = factory.make_algorithm(config, policy_spec, factory.blank_norm(policy_spec))
    batch = factory.example_batch(policy_spec, config.loop.batch_size)
    return Description(describe_lib.table(algorithm, batch), policy_spec, devices)


def _online(config: ExperimentConfig, devices: int) -> Description:
    """Actor and critic of a minibatch, and memory of the worlds and of a rollout in them."""
    # Without the expert's starts, which would have to be recorded.
    arena = dataclasses.replace(config.arena, expert_starts=0.0)
    data = online.prepare(dataclasses.replace(config, arena=arena), stages.make_world(config.env))
    spec, settings = data.policy_spec, factory.method_settings(config)
    algorithm = factory.make_algorithm(config, spec, data.norm, devices=devices)
    n = settings.n_worlds * settings.steps // settings.minibatches
    table = describe_lib.table(algorithm, ppo.example_samples(algorithm, spec, n))
    worlds, rollout = online.shapes(config, data, algorithm)
    others = {
        f"{settings.n_worlds:,} worlds": describe_lib.tree_bytes(worlds),
        f"a rollout of {settings.steps} decisions in each": describe_lib.tree_bytes(rollout),
    }
    return Description(dataclasses.replace(table, others=others), spec, devices)
