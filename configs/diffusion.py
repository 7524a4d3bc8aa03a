"""Diffusion policies of every task from pictures.

COMMAND   python -m launch.pipeline --config=configs/diffusion.py:TASK --workdir=runs/diffusion_TASK
          (three seeds: --config.seeds=3)
HARDWARE  2 CPU cores (:reference wants an accelerator)
EXPECTED  success and minutes of what was measured: docs/results.md
VARIANTS  :TASK            one of those in configs/tasks.py, e.g. :detour
          :TASK:debug      every stage in about a minute; the policy is not expected to work
          :TASK:reference  the source document's values: images resized to 224, the 2M-parameter
                           encoder, U-Net [256, 512, 1024], 1000 forward and 100 inference
                           steps, cosine schedule, batch 64, 1e-4, 100 epochs; and the diffusion
                           policy paper's 2 observations, horizon 16, 8 actions executed
"""

from dataclasses import replace

import ml_collections

from jaxpolicy.algorithms.diffusion import DiffusionConfig
from jaxpolicy.algorithms.imitation import EMAConfig
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.denoisers import DenoiserConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training.config import LoopConfig, OptimizerConfig

from . import common, tasks


def full(task: ExperimentConfig) -> ExperimentConfig:
    """As it is meant to be run on two CPU cores: a small denoiser and many draws of noise."""
    return replace(
        task,
        name=f"diffusion_{task.name}",
        algorithm="diffusion",
        network=NetworkConfig(backbone="patch_cnn", size="tiny"),
        augment=AugmentConfig(shift=0),
        diffusion=DiffusionConfig(
            denoiser="mlp",
            denoisers=DenoiserConfig(embedding=64),
            prediction="sample",
            train_steps=50,
            sample_steps=10,
            noise_draws=8,
            ema=EMAConfig(max_decay=0.999),
        ),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100, weight_decay=1e-4),
        loop=LoopConfig(steps=3000, batch_size=64, eval_every=500),
        horizon=8,
        n_action_steps=4,
    )


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
        diffusion=DiffusionConfig(
            denoiser="unet1d", prediction="epsilon", train_steps=1000, sample_steps=100
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-4, warmup_steps=500, weight_decay=1e-6, betas=(0.95, 0.999)
        ),
        loop=LoopConfig(epochs=100, batch_size=64, eval_every=0),
        n_obs_steps=2,
        horizon=16,
        n_action_steps=8,
    )


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the top of this file."""
    return common.select_task({"": full, "debug": debug, "reference": reference}, variant)
