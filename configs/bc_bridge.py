"""Behavioural cloning on real WidowX data (BridgeData V2, RLDS): cameras and language.

COMMAND   python -m launch.train --config=configs/bc_bridge.py \
              --config.dataset=tests/data/bridge_dataset/1.0.0 --workdir=runs/bc_bridge
HARDWARE  2 CPU cores
MINUTES   see docs/benchmarks.md
EXPECTED  smaller errors on the validation part than the best constant action and than
          repeating the previous action; the three are printed side by side
VARIANTS  :debug      a few steps
          :reference  the source document's values: images resized to 224, the 2M-parameter
                      network, batch 32, Adam 1e-3 with cosine decay, MSE + L2, at most 50
                      epochs, validation every epoch, patience 10

Up to four cameras of 64 x 64; those an episode lacks are masked. Proprioception is the
end-effector pose (x, y, z in m, roll, pitch, yaw in rad, gripper). The arm moves smoothly at
5 Hz, so the previous action is an input and the network predicts the change from it. Actions
are pose changes per step plus the gripper (1 open, 0 closed).
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
    name="bc_bridge",
    data=DataConfig(
        previous_action=True,
        action_kind="cartesian_delta",
        action_names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
        action_units=("m", "m", "m", "rad", "rad", "rad", "1"),
        proprio_names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
        proprio_units=("m", "m", "m", "rad", "rad", "rad", "1"),
        control_hz=5.0,
    ),
    network=NetworkConfig(backbone="patch_cnn", size="tiny", share_cameras=True, dropout=0.3),
    bc=BCConfig(l2=1e-5, action_norm="mean_std", head="l1", residual=True),
    optimizer=OptimizerConfig(learning_rate=3e-4, warmup_steps=50, weight_decay=1e-2),
    loop=LoopConfig(steps=200, batch_size=32, steps_per_dispatch=10, eval_every=10, patience=6),
    n_obs_steps=2,
    horizon=4,
    n_action_steps=2,
)

DEBUG = replace(FULL, loop=LoopConfig(steps=10, batch_size=8, steps_per_dispatch=5, eval_every=5))

REFERENCE = replace(
    FULL,
    network=NetworkConfig(backbone="patch_cnn", size="small", image_size=224, share_cameras=True),
    augment=AugmentConfig(shift=8),
    bc=BCConfig(l2=1e-4, action_norm="mean_std", residual=True),
    optimizer=OptimizerConfig(name="adam", learning_rate=1e-3, warmup_steps=0, weight_decay=0.0),
    loop=LoopConfig(epochs=50, batch_size=32, eval_every=0, patience=10),
)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the top of this file."""
    return common.select({"": FULL, "debug": DEBUG, "reference": REFERENCE}, variant)
