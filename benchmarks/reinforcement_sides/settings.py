"""What benchmarks/reinforcement.py measures, on both sides."""

from dataclasses import replace

from configs import ppo, tasks
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training.rollouts import ArenaConfig

TASK = tasks.TASKS["lift"]


def reference() -> ExperimentConfig:
    """4 worlds, 500 steps, 3 epochs; nothing about the worlds that another library's lack."""
    plain = ppo.full(TASK).env
    return replace(ppo.reference(TASK), env=replace(plain, workers=1), arena=ArenaConfig())


def full() -> ExperimentConfig:
    """As configs/ppo.py:lift trains, on one thread."""
    config = ppo.full(TASK)
    return replace(config, env=replace(config.env, workers=1))


def debug() -> ExperimentConfig:
    """Done in seconds."""
    config = reference()
    small = replace(config.ppo, n_worlds=2, steps=8, epochs=1, minibatches=2)
    return replace(config, ppo=small, env=replace(config.env, episode_length=5))


SETTINGS = {"reference": reference, "full": full, "debug": debug}
