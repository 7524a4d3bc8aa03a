"""DAgger of every task: few clean demonstrations, then rounds labelled by the scripted expert.

COMMAND   python -m launch.dagger --config=configs/dagger.py:lift --workdir=runs/dagger_lift
          (three seeds: --config.seeds=3)
HARDWARE  2 CPU cores
EXPECTED  success and minutes of what was measured (stack:state): docs/results.md
VARIANTS  :TASK            one of those in configs/tasks.py, e.g. :lift
          :TASK:state      from the simulator's state instead of pictures
          :TASK:debug      every stage in about a minute; the policies are not expected to work

Demonstrations are 50 and undisturbed, as people's are: they show no way back from a mistake. The
network and its settings are those of configs/bc.py.
"""

from dataclasses import replace

import ml_collections

from jaxpolicy.collect.config import CollectConfig, DaggerConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.pipeline.experiment import ExperimentConfig

from . import bc, common, tasks


def full(task: ExperimentConfig) -> ExperimentConfig:
    """As it is meant to be run on two CPU cores."""
    config = bc.full(task)
    return replace(
        config,
        name=f"dagger_{task.name}",
        collect=CollectConfig(n_episodes=50),
        # Success is measured in the world: no episode is put aside for a test.
        data=replace(config.data, split=(0.85, 0.15, 0.0)),
        # The last parameters act: a handful of validation episodes cannot tell which are best,
        # and those of half-way, before the learning rate has fallen, succeed half as often.
        loop=replace(config.loop, steps=2000, eval_every=2000),
        dagger=DaggerConfig(rounds=3, episodes_per_round=50),
    )


def state(task: ExperimentConfig) -> ExperimentConfig:
    """From the simulator's state, where a round takes a minute and no picture is in the way."""
    config = full(task)
    return replace(
        config,
        name=f"dagger_state_{task.name}",
        env=replace(task.env, cameras=()),
        data=replace(config.data, proprio=False, privileged=True),
        # Half that width cannot follow an expert that changes its mind within millimetres.
        network=NetworkConfig(hidden=256, layers=2, activation="tanh"),
        loop=replace(config.loop, steps=3000, eval_every=3000),
        dagger=replace(config.dagger, schedule="exponential", beta=0.7),
    )


def debug(task: ExperimentConfig) -> ExperimentConfig:
    """See tasks.debug."""
    rounds = DaggerConfig(rounds=2, episodes_per_round=4, batch=4, eval_episodes=8)
    return replace(tasks.debug(full(task)), dagger=rounds)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the top of this file."""
    return common.select_task({"": full, "debug": debug, "state": state}, variant)
