"""Diffusion policies of every task, improved in the simulated world by policy gradients (DPPO).

COMMAND   python -m launch.pipeline --config=configs/dppo.py:TASK --workdir=runs/dppo_TASK \
          --config.init_from=runs/diffusion_TASK
          where runs/diffusion_TASK is of configs/diffusion.py:TASK (three seeds:
          --config.seeds=3)
HARDWARE  2 CPU cores (physics in C MuJoCo); an accelerator with --config.env.backend=mjx
EXPECTED  success and minutes of what was measured: docs/results.md
VARIANTS  :TASK            one of those in configs/tasks.py, e.g. :lift
          :TASK:clone      a diffusion policy from 12 demonstrations and the simulator's state, to
                           go on from (quick to train, with room for improvement)
          :TASK:finetune   DPPO from such a clone: --config.init_from=runs/clone_TASK
          :TASK:debug      every stage in about a minute; the policy is not expected to work

The policy sees the pictures it was trained on, and is exported as before; only the critic sees
the simulator's state. Without init_from it starts at random, which is for testing alone.
"""

from dataclasses import replace

import ml_collections

from jaxpolicy.algorithms.dppo import DPPOConfig
from jaxpolicy.collect.config import CollectConfig
from jaxpolicy.pipeline.experiment import ExperimentConfig

from . import common, diffusion, ppo, tasks


def full(task: ExperimentConfig) -> ExperimentConfig:
    """As it is meant to be run on two CPU cores: a million control steps in 40 updates."""
    trained = diffusion.full(task)
    return replace(
        trained,
        name=f"dppo_{task.name}",
        algorithm="dppo",
        dppo=DPPOConfig(
            diffusion=trained.diffusion, n_worlds=128, steps=50, epochs=4, discount=0.9
        ),
        optimizer=replace(ppo.OPTIMIZER, learning_rate=1e-4),
        # Over all denoising steps together a healthy update moves the policy by 0.4 nats.
        loop=ppo.judged_in_worlds(40, 5, max_kl=5.0),
    )


def clone(task: ExperimentConfig) -> ExperimentConfig:
    """A diffusion policy that sees the simulator's state, from few demonstrations."""
    config = diffusion.full(task)
    return replace(
        config,
        name=f"diffusion_clone_{task.name}",
        env=replace(task.env, cameras=()),
        data=ppo.STATE,
        collect=CollectConfig(n_episodes=12),
        loop=replace(config.loop, steps=500),
        min_success=0.0,
    )


def finetune(task: ExperimentConfig) -> ExperimentConfig:
    """Goes on from `clone`, for half a million control steps."""
    config = full(task)
    return replace(
        config,
        name=f"dppo_clone_{task.name}",
        env=replace(task.env, cameras=()),
        data=ppo.STATE,
        loop=replace(config.loop, steps=20),
    )


def debug(task: ExperimentConfig) -> ExperimentConfig:
    """See tasks.debug."""
    config = full(task)
    small = tasks.debug(config)
    loop = replace(config.loop, steps=2, eval_every=2, rollouts=4, steps_per_dispatch=1)
    dppo = replace(config.dppo, n_worlds=4, steps=4, minibatches=2, epochs=1, critic_warmup=1)
    return replace(small, loop=loop, dppo=dppo)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the top of this file."""
    methods = {"": full, "clone": clone, "debug": debug, "finetune": finetune}
    return common.select_task(methods, variant)
