"""A tiny dataset and configuration, shared by the tests of training."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxpolicy.algorithms.bc import BCConfig
from jaxpolicy.data.config import DataConfig
from jaxpolicy.data.process import process
from jaxpolicy.data.source import MemorySource
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.specs import ActionSpec, ArraySpec
from jaxpolicy.training import prepare
from jaxpolicy.training.config import LoopConfig, OptimizerConfig, TrainConfig
from jaxpolicy.training.prepare import Prepared
from jaxpolicy.types import DatasetSpec, Episode, EpisodeMetadata

SPEC = DatasetSpec(
    observation=(
        ArraySpec("image/wrist", (8, 8, 3), "uint8"),
        ArraySpec("privileged", (2,), "float32"),
        ArraySpec("proprio", (3,), "float32", "m"),
    ),
    action=ActionSpec(
        kind="cartesian_delta",
        names=("dx", "dyaw"),
        units=("m", "rad"),
        minimum=(-1.0, -1.0),
        maximum=(1.0, 1.0),
        control_hz=10.0,
    ),
)


def episode(seed: int, length: int = 12) -> Episode:
    """The action is a linear function of proprio, so it can be learned."""
    rng = np.random.default_rng(seed)
    proprio = rng.normal(size=(length, 3)).astype(np.float32)
    action = np.stack([0.1 * proprio[:, 0], 0.2 * proprio[:, 1]], 1).astype(np.float32)
    observation = {
        "image/wrist": rng.integers(0, 255, (length, 8, 8, 3)).astype(np.uint8),
        "privileged": rng.normal(size=(length, 2)).astype(np.float32),
        "proprio": proprio,
    }
    facts = EpisodeMetadata(f"tiny-{seed:04d}", success=True, seed=seed)
    return Episode(observation, action, np.zeros(length, np.float32), False, "", facts)


def source(n: int = 20, offset: int = 0) -> MemorySource:
    """`n` episodes of 10 to 14 steps."""
    return MemorySource([episode(offset + i, 10 + i % 5) for i in range(n)], SPEC)


def config(**loop: object) -> TrainConfig:
    """A network of a few thousand parameters, trained for 12 steps in dispatches of 4."""
    values: dict = dict(steps=12, batch_size=16, steps_per_dispatch=4, eval_every=4, progress=False)
    return TrainConfig(
        name="tiny",
        network=NetworkConfig(widths=(8,), depths=(1,), hidden=16, layers=1),
        bc=BCConfig(shift=1),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
        loop=LoopConfig(**(values | loop)),
        data=DataConfig(split=(0.7, 0.2, 0.1)),
    )


def prepared(settings: TrainConfig, directory: Path, n: int = 20) -> Prepared:
    """`settings`' view of the tiny dataset, cached in `directory`."""
    episodes = source(n)
    processed = process(episodes, settings.data, directory / "processed")
    return prepare.make_prepared(settings, episodes, processed, directory / "cache")


def with_loader(settings: TrainConfig, mode: str) -> TrainConfig:
    """`settings` with the loader in `mode`."""
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, loader=mode))
