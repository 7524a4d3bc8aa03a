"""ACT, action chunking with transformers, of every task from pictures.

COMMAND   python -m launch.pipeline --config=configs/act.py:TASK --workdir=runs/act_TASK
          (three seeds: --config.seeds=3)
HARDWARE  2 CPU cores (:reference wants an accelerator)
EXPECTED  success and minutes of what was measured: docs/results.md
VARIANTS  :TASK            one of those in configs/tasks.py, e.g. :lift
          :TASK:debug      every stage in about a minute; the policy is not expected to work
          :TASK:reference  the paper's values (https://arxiv.org/abs/2304.13705, table III):
                           ResNet-18, width 512, 4 and 7 layers, latent 32, dropout 0.1, batch 8,
                           1e-5, chunks of 2 s (40 steps here, 100 at its 50 Hz), ensembled with
                           m = 0.01; but 224 pixels, and without its pretrained weights
"""

from dataclasses import replace

import ml_collections

from jaxpolicy.algorithms.act import ACTConfig
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training.config import LoopConfig, OptimizerConfig

from . import common, tasks


def full(task: ExperimentConfig) -> ExperimentConfig:
    """As it is meant to be run on two CPU cores: 64 tokens per camera, 128 wide."""
    return replace(
        task,
        name=f"act_{task.name}",
        algorithm="act",
        network=NetworkConfig(patch=8, widths=(64,), depths=(2,), token_features=128),
        augment=AugmentConfig(shift=0),
        act=ACTConfig(),
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=100, weight_decay=1e-4),
        loop=LoopConfig(steps=4500, batch_size=64, eval_every=500),
        horizon=8,
        temporal_ensemble=0.01,
    )


def debug(task: ExperimentConfig) -> ExperimentConfig:
    """See tasks.debug."""
    return tasks.debug(full(task))


def reference(task: ExperimentConfig) -> ExperimentConfig:
    """See the top of this file."""
    return replace(
        full(task),
        network=NetworkConfig(backbone="resnet18", image_size=224, token_features=512, dropout=0.1),
        act=ACTConfig(latent=32, encoder_layers=4, decoder_layers=7),
        optimizer=OptimizerConfig(
            learning_rate=1e-5, schedule="constant", warmup_steps=0, weight_decay=1e-4
        ),
        loop=LoopConfig(epochs=2000, batch_size=8, eval_every=0),
        horizon=40,
    )


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the top of this file."""
    return common.select_task({"": full, "debug": debug, "reference": reference}, variant)
