"""Behavioural cloning on any dataset: RLDS, LeRobot, robomimic, ALOHA, Minari, D4RL, npz.

COMMAND   python -m launch.process --config=configs/bc_dataset.py --config.dataset=PATH \
              --workdir=runs/mine --dry_run
          python -m launch.train --config=configs/bc_dataset.py --config.dataset=PATH \
              --workdir=runs/mine
HARDWARE  2 CPU cores and up
MINUTES   by the dataset: 1,000 updates of batch 32
EXPECTED  smaller errors on the validation part than the best constant action; whether the
          policy works shows only in closed loop
VARIANTS  :debug      a few steps
          :full       frames resized to 224 on load, the 2M-parameter network, colour jitter
                      and crops

Look at the table that --dry_run prints first, and state with --config.data.* what it gets
wrong or does not know: camera_keys, action_keys, proprio_keys, action_kind, action_units,
control_hz.
"""

from dataclasses import replace

import ml_collections

from jaxpolicy.algorithms.bc import BCConfig
from jaxpolicy.data.config import DataConfig
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training.config import LoopConfig, OptimizerConfig

from . import common

FULL = ExperimentConfig(
    name="bc_dataset",
    data=DataConfig(image_size=96),
    network=NetworkConfig(backbone="patch_cnn", size="tiny", image_size=96, share_cameras=True),
    bc=BCConfig(l2=1e-5, action_norm="mean_std", head="l1"),
    optimizer=OptimizerConfig(learning_rate=3e-4, weight_decay=1e-2),
    loop=LoopConfig(steps=1000, batch_size=32, steps_per_dispatch=10, eval_every=100, patience=5),
    n_obs_steps=2,
    horizon=8,
    n_action_steps=4,
)

DEBUG = replace(FULL, loop=LoopConfig(steps=10, batch_size=8, steps_per_dispatch=5, eval_every=5))

LARGE = replace(
    FULL,
    data=DataConfig(image_size=224),
    network=NetworkConfig(backbone="patch_cnn", size="small", image_size=224, share_cameras=True),
    augment=AugmentConfig(shift=8, crop=0.9, brightness=0.2, contrast=0.2, saturation=0.2),
    loop=LoopConfig(epochs=50, batch_size=32, eval_every=0, patience=10),
)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the top of this file."""
    return common.select({"": FULL, "debug": DEBUG, "full": LARGE}, variant)
