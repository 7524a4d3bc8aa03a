"""From the dataset that a configuration names to loaders of its train and val parts."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxpolicy.data import cache, open_source
from jaxpolicy.data.loader import Loader, make_loader
from jaxpolicy.data.process import Processed, process
from jaxpolicy.data.source import EpisodeSource
from jaxpolicy.normalization import NormStats
from jaxpolicy.training import checkpoint, factory, run_directory, sharding
from jaxpolicy.training.config import TrainConfig
from jaxpolicy.types import PolicySpec

__all__ = ["Prepared", "dataset_path", "make_prepared", "prepare_data", "processed_path"]

DATASET = "dataset"
PROCESSED = "processed"
CACHE = "cache"

Progress = Callable[[int, int], None]


class Prepared(NamedTuple):
    """Data, ready to train on.

    Attributes:
      train_loader: shuffled batches of the train part.
      val_loader: ordered batches of the val part, None where it is empty.
      policy_spec: what the policy sees and does.
      norm: statistics by key, of the train part.
      dataset_hash: of the dataset and how it was processed.
      processed: split, counts and statistics in full.
    """

    train_loader: Loader
    val_loader: Loader | None
    policy_spec: PolicySpec
    norm: Mapping[str, NormStats]
    dataset_hash: str
    processed: Processed


def dataset_path(config: TrainConfig, workdir: str | os.PathLike[str]) -> Path:
    """Where the demonstrations are."""
    return Path(config.dataset) if config.dataset else Path(workdir) / DATASET


def processed_path(workdir: str | os.PathLike[str]) -> Path:
    """Where split and statistics of a run are."""
    return Path(workdir) / PROCESSED


def prepare_data(
    config: TrainConfig, workdir: str | os.PathLike[str], progress: Progress | None = None
) -> Prepared:
    """Opens, processes, decodes (once) and wraps the dataset of `config`.

    Args:
      config: see TrainConfig.
      workdir: run directory; holds the split, the statistics and decoded frames.
      progress: called with (episodes decoded, episodes in all).

    Raises:
      InputError: whatever is wrong with the dataset, or `workdir` holds checkpoints of
        another configuration.
    """
    # Before anything of an earlier run is touched.
    run_directory.check_same_config(config, checkpoint.latest_assets(workdir), workdir)
    with sharding.first_host_first("prepare_data"):
        path = dataset_path(config, workdir)
        source = open_source(path, config.data.format, config.data)
        processed = process(source, config.data, processed_path(workdir))
        return make_prepared(config, source, processed, Path(workdir) / CACHE, progress)


def make_prepared(
    config: TrainConfig,
    source: EpisodeSource,
    processed: Processed,
    directory: str | os.PathLike[str],
    progress: Progress | None = None,
) -> Prepared:
    """Loaders of a processed dataset; decoded frames lie in `directory`."""
    parts = {p: processed.indices(p) for p in ("train", "val")}
    loaders = {
        part: _loader(config, source, processed, indices, directory, part, progress)
        for part, indices in parts.items()
        if len(indices)
    }
    return Prepared(
        train_loader=loaders["train"],
        val_loader=loaders.get("val"),
        policy_spec=factory.make_policy_spec(config, processed.spec),
        norm=processed.norm,
        dataset_hash=processed.dataset_hash,
        processed=processed,
    )


def _loader(
    config: TrainConfig,
    source: EpisodeSource,
    processed: Processed,
    indices: np.ndarray,
    directory: str | os.PathLike[str],
    part: str,
    progress: Progress | None,
) -> Loader:
    frames = cache.build(source, indices, processed.spec.keys, directory, progress)
    return make_loader(
        frames,
        config.n_obs_steps,
        config.horizon,
        config.loop.batch_size,
        config.seed,
        mode=config.data.loader,
        budget_mb=config.data.cache_budget_mb,
        shuffle=part == "train",
    )
