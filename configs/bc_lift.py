"""Lift a cube from two cameras: behavioural cloning with action chunks.

COMMAND   python -m launch.pipeline --config=configs/bc_lift.py --workdir=runs/bc_lift
HARDWARE  2 CPU cores (:reference wants an accelerator)
MINUTES   not measured yet
EXPECTED  not measured yet; the gate asks for 80 % over 200 held-out seeds
VARIANTS  :debug      every stage in about a minute; the policy is not expected to work
          :reference  the source document's values: 500 demonstrations, images resized to
                      224, the 2M-parameter network, batch 32, Adam 1e-3 with cosine decay,
                      MSE + L2, at most 200 epochs, validation every epoch, patience 10
"""

from dataclasses import replace

import ml_collections

from configs import common
from jaxpolicy.algorithms.bc import BCConfig
from jaxpolicy.collect.config import CollectConfig
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.experiment import ExperimentConfig
from jaxpolicy.export.config import ExportConfig
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.training.config import LoopConfig, OptimizerConfig

FULL = ExperimentConfig(
    name="bc_lift",
    env=EnvConfig(name="lift", cameras=("front", "wrist"), image_size=64),
    collect=CollectConfig(n_episodes=300, execution_noise=0.1, bump_probability=0.03),
    network=NetworkConfig(backbone="patch_cnn", size="tiny"),
    bc=BCConfig(l2=1e-6),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100, weight_decay=1e-4),
    loop=LoopConfig(steps=3000, batch_size=64, eval_every=500),
    horizon=4,
    n_action_steps=1,
)

DEBUG = replace(
    FULL,
    collect=CollectConfig(n_episodes=12, batch=12),
    loop=LoopConfig(steps=20, batch_size=16, steps_per_dispatch=10, eval_every=10),
    evaluation=EvaluationConfig(n_episodes=8, batch=8, n_recorded=2),
    export=ExportConfig(n_golden=8),
    min_success=0.0,
)

REFERENCE = replace(
    FULL,
    collect=CollectConfig(n_episodes=500, execution_noise=0.1, bump_probability=0.03),
    network=NetworkConfig(backbone="patch_cnn", size="small", image_size=224),
    augment=AugmentConfig(shift=8),
    bc=BCConfig(l2=1e-4),
    optimizer=OptimizerConfig(name="adam", learning_rate=1e-3, warmup_steps=0, weight_decay=0.0),
    loop=LoopConfig(epochs=200, batch_size=32, eval_every=0, patience=10),
)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the top of this file."""
    return common.select({"": FULL, "debug": DEBUG, "reference": REFERENCE}, variant)
