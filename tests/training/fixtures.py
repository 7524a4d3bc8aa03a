"""A tiny dataset and configuration, shared by the tests of training."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.core.types import DatasetSpec, Episode, EpisodeMetadata
from jaxpolicy.data.config import DataConfig, MixtureEntry
from jaxpolicy.data.process import process
from jaxpolicy.data.source import MemorySource
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.training import loop, prepare
from jaxpolicy.training.config import LoopConfig, OptimizerConfig, TrainConfig
from jaxpolicy.training.prepare import Prepared

ACTION = ActionSpec(
    kind="cartesian_delta",
    names=("dx", "dyaw"),
    units=("m", "rad"),
    minimum=(-1.0, -1.0),
    maximum=(1.0, 1.0),
    control_hz=10.0,
)
IMAGE = ArraySpec("image/wrist", (8, 8, 3), "uint8")
PRIVILEGED = ArraySpec("privileged", (2,))
PROPRIO = ArraySpec("proprio", (3,), unit="m")


def spec(images: bool = False) -> DatasetSpec:
    """Proprioception and privileged state; a camera on request, which compiles slower."""
    return DatasetSpec((*([IMAGE] if images else []), PRIVILEGED, PROPRIO), ACTION)


def episode(seed: int, length: int, images: bool = False) -> Episode:
    """The action is a linear function of proprio, so it can be learned."""
    rng = np.random.default_rng(seed)
    proprio = rng.normal(size=(length, 3)).astype(np.float32)
    action = np.stack([0.1 * proprio[:, 0], 0.2 * proprio[:, 1]], 1).astype(np.float32)
    privileged = rng.normal(size=(length, 2)).astype(np.float32)
    observation = {"privileged": privileged, "proprio": proprio}
    if images:
        observation["image/wrist"] = rng.integers(0, 255, (length, *IMAGE.shape)).astype(np.uint8)
    facts = EpisodeMetadata(f"tiny-{seed:04d}", success=True, seed=seed)
    return Episode(observation, action, np.zeros(length, np.float32), False, "", facts)


def source(n: int = 20, images: bool = False, offset: int = 0) -> MemorySource:
    """`n` episodes of 10 to 14 steps."""
    episodes = [episode(offset + i, 10 + i % 5, images) for i in range(n)]
    return MemorySource(episodes, spec(images))


def config(**loop_values: Any) -> TrainConfig:
    """A network of some hundred parameters, trained for 12 steps in dispatches of 4."""
    values: dict[str, Any] = {"steps": 12, "batch_size": 16, "steps_per_dispatch": 4}
    values |= {"eval_every": 4, "progress": False, "tensorboard": False, "devices": 1}
    return TrainConfig(
        name="tiny",
        network=NetworkConfig(widths=(8,), depths=(1,), hidden=16, layers=1),
        augment=AugmentConfig(shift=1),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
        loop=LoopConfig(**(values | loop_values)),
        data=DataConfig(split=(0.7, 0.2, 0.1)),
    )


def prepared(settings: TrainConfig, directory: Path, episodes: MemorySource) -> Prepared:
    """`settings`' view of `episodes`, cached in `directory`."""
    processed = process(episodes, settings.data, directory / "processed")
    opened = prepare.Opened(MixtureEntry("memory", data=settings.data), episodes, processed)
    return prepare.make_prepared(settings, [opened], directory / "cache")


def train(
    settings: TrainConfig, workdir: Path, episodes: MemorySource | None = None, **options: Any
) -> loop.FitResult:
    """Trains on `episodes` (default: `source()`) in `workdir`."""
    workdir.mkdir(exist_ok=True)
    data = prepared(settings, workdir, episodes or source())
    return loop.train(settings, workdir, data, **options)


def change(settings: TrainConfig, section: str, **values: Any) -> TrainConfig:
    """`settings` with other values in one section."""
    part = dataclasses.replace(getattr(settings, section), **values)
    return dataclasses.replace(settings, **{section: part})


def leaves(tree: Any) -> list[np.ndarray]:
    """All arrays of a pytree, PRNG keys as their bits."""
    return [np.asarray(jax.random.key_data(x) if _is_key(x) else x) for x in jax.tree.leaves(tree)]


def _is_key(x: Any) -> bool:
    return hasattr(x, "dtype") and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def assert_same_bits(a: Any, b: Any) -> None:
    """Fails unless two pytrees hold identical arrays."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, strict=True)


def assert_close(a: Any, b: Any, tolerance: float) -> None:
    """Fails unless two pytrees differ by at most `tolerance`, absolutely."""
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance)
