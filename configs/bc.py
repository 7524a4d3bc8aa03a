"""Behavioural cloning of every task from pictures.

COMMAND   python -m launch.pipeline --config=configs/bc.py:TASK --workdir=runs/bc_TASK
          (three seeds: --config.seeds=3)
HARDWARE  2 CPU cores (:reference wants an accelerator)
EXPECTED  success and minutes by task: docs/results.md
VARIANTS  :TASK            one of those in configs/tasks.py, e.g. :pick_place
          :TASK:debug      every stage in about a minute; the policy is not expected to work
          :TASK:reference  the source document's values: 500 demonstrations, images resized to
                           224, the 2M-parameter network, batch 32, Adam 1e-3 with cosine decay,
                           MSE + L2, at most 200 epochs, validation every epoch, patience 10
"""

from dataclasses import replace
from typing import Any

import ml_collections

from jaxpolicy.algorithms.bc import BCConfig
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training.config import LoopConfig, OptimizerConfig

from . import common, tasks


def _steps(n: int) -> LoopConfig:
    return LoopConfig(steps=n, batch_size=64, eval_every=500)


# What a task needs besides.
TUNED: dict[str, dict[str, Any]] = {
    # The chunks of configs/diffusion.py, for comparison.
    "detour": {"loop": _steps(2000), "horizon": 8, "n_action_steps": 4},
    "lift_front": {"loop": _steps(5000)},
    "lift_ur5e": {"loop": _steps(3000)},
    # Which cube to look at must be known before positions are read off the picture.
    "pick_by_instruction": {
        "network": NetworkConfig(backbone="patch_cnn", size="tiny", fusion="film")
    },
    "pick_place": {"loop": _steps(3000)},
}


def full(task: ExperimentConfig) -> ExperimentConfig:
    """As it is meant to be run on two CPU cores."""
    config = replace(
        task,
        name=f"bc_{task.name}",
        algorithm="bc",
        network=NetworkConfig(backbone="patch_cnn", size="tiny"),
        augment=AugmentConfig(shift=0),
        bc=BCConfig(l2=0.0, confidence_draws=4),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100, weight_decay=1e-4),
        loop=_steps(4500),
    )
    return replace(config, **TUNED.get(task.name, {}))


def debug(task: ExperimentConfig) -> ExperimentConfig:
    """See tasks.debug."""
    return tasks.debug(full(task))


def reference(task: ExperimentConfig) -> ExperimentConfig:
    """See the top of this file."""
    return replace(
        full(task),
        collect=replace(task.collect, n_episodes=500),
        network=NetworkConfig(backbone="patch_cnn", size="small", image_size=224),
        augment=AugmentConfig(shift=8),
        bc=BCConfig(l2=1e-4),
        optimizer=OptimizerConfig(
            name="adam", learning_rate=1e-3, warmup_steps=0, weight_decay=0.0
        ),
        loop=LoopConfig(epochs=200, batch_size=32, eval_every=0, patience=10),
    )


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the top of this file."""
    return common.select_task({"": full, "debug": debug, "reference": reference}, variant)
