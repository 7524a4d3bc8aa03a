"""Lift a cube from a wrist camera and proprioception: the whole road in minutes.

COMMAND   python -m launch.pipeline --config=configs/lift_demo.py --workdir=runs/lift_demo
HARDWARE  2 CPU cores
MINUTES   see docs/benchmarks.md
EXPECTED  success >= 97 % over 200 held-out seeds, before and after export
VARIANTS  :debug      every stage in about a minute; the policy is not expected to work
          :reference  the source document's values: batch 32, Adam 1e-3 with cosine decay,
                      MSE + L2, 50 epochs, validation every epoch, patience 10
"""

from dataclasses import replace

import ml_collections

from jaxpolicy.algorithms.bc import BCConfig
from jaxpolicy.collect.config import CollectConfig
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.export.config import ExportConfig
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.training.config import LoopConfig, OptimizerConfig

from . import common

FULL = ExperimentConfig(
    name="lift_demo",
    env=EnvConfig(name="lift", cameras=("wrist",), image_size=64),
    collect=CollectConfig(
        n_episodes=600, execution_noise=0.1, bump_probability=0.03, misgrasp_probability=0.01
    ),
    network=NetworkConfig(backbone="patch_cnn", size="tiny"),
    augment=AugmentConfig(shift=0),
    bc=BCConfig(l2=0.0),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100, weight_decay=1e-4),
    loop=LoopConfig(steps=4500, batch_size=64, eval_every=500),
    evaluation=EvaluationConfig(n_episodes=200),
    min_success=0.97,
)

DEBUG = replace(
    FULL,
    collect=CollectConfig(n_episodes=12, batch=12),
    loop=LoopConfig(steps=40, batch_size=16, steps_per_dispatch=10, eval_every=20),
    evaluation=EvaluationConfig(n_episodes=8, batch=8, n_recorded=2),
    export=ExportConfig(n_golden=8),
    min_success=0.0,
)

REFERENCE = replace(
    FULL,
    augment=AugmentConfig(shift=4),
    bc=BCConfig(l2=1e-4),
    optimizer=OptimizerConfig(name="adam", learning_rate=1e-3, warmup_steps=0, weight_decay=0.0),
    loop=LoopConfig(epochs=50, batch_size=32, eval_every=0, patience=10),
)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the top of this file."""
    return common.select({"": FULL, "debug": DEBUG, "reference": REFERENCE}, variant)
