"""From the dataset that a configuration names to loaders of its train and val parts."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxpolicy.core import atomic
from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import InputError, is_camera
from jaxpolicy.core.types import DatasetSpec, PolicySpec
from jaxpolicy.data import cache, mixture, open_source, stream
from jaxpolicy.data.config import DataConfig, MixtureEntry
from jaxpolicy.data.loader import BatchLoader, Loader, Sampler, choose_mode
from jaxpolicy.data.mixture import MixtureLoader
from jaxpolicy.data.process import Processed, process
from jaxpolicy.data.source import EpisodeSource
from jaxpolicy.data.stream import Plan, StreamLoader
from jaxpolicy.training import checkpoint, factory, run_directory, sharding
from jaxpolicy.training.config import TrainConfig
from jaxpolicy.training.rollouts import Arena

__all__ = [
    "Opened",
    "Prepared",
    "dataset_path",
    "entries",
    "make_prepared",
    "open_entry",
    "prepare_data",
    "processed_path",
]

DATASET = "dataset"
PROCESSED = "processed"
CACHE = "cache"
QUARANTINE = "quarantine.jsonl"

Progress = Callable[[int, int], None]


class Prepared(NamedTuple):
    """Data, ready to train on.

    Attributes:
      train_loader: shuffled batches of the train part.
      val_loader: ordered batches of the val part, None where it is empty.
      policy_spec: what the policy sees and does.
      norm: statistics by key, of the train part.
      dataset_hash: of the dataset and how it was processed.
      processed: split, counts and statistics in full, one per dataset.
      arena: worlds to learn in instead of a dataset, see training.rollouts; None: there are none.
    """

    train_loader: BatchLoader
    val_loader: BatchLoader | None
    policy_spec: PolicySpec
    norm: Mapping[str, NormStats]
    dataset_hash: str
    processed: tuple[Processed, ...]
    arena: Arena | None = None


class Opened(NamedTuple):
    """A dataset that is open and processed.

    Attributes:
      entry: where it is and how it is read.
      source: its episodes.
      processed: its split and statistics.
    """

    entry: MixtureEntry
    source: EpisodeSource
    processed: Processed


def dataset_path(config: TrainConfig, workdir: str | os.PathLike[str]) -> Path:
    """Where the demonstrations are."""
    return Path(config.dataset) if config.dataset else Path(workdir) / DATASET


def entries(config: TrainConfig, workdir: str | os.PathLike[str]) -> tuple[MixtureEntry, ...]:
    """The datasets of `config`, one or several."""
    return config.mixture or (MixtureEntry(str(dataset_path(config, workdir)), data=config.data),)


def processed_path(workdir: str | os.PathLike[str], number: int = 0) -> Path:
    """Where split and statistics of dataset `number` of a run are."""
    return Path(workdir) / (f"{PROCESSED}_{number}" if number else PROCESSED)


def open_entry(entry: MixtureEntry, directory: Path, progress: Progress | None = None) -> Opened:
    """Opens and processes one dataset into `directory`."""
    source = open_source(entry.dataset, entry.data.format, entry.data)
    return Opened(entry, source, process(source, entry.data, directory, progress))


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
        opened = [
            open_entry(entry, processed_path(workdir, n))
            for n, entry in enumerate(entries(config, workdir))
        ]
        return make_prepared(config, opened, Path(workdir) / CACHE, progress)


def make_prepared(
    config: TrainConfig,
    opened: Sequence[Opened],
    directory: str | os.PathLike[str],
    progress: Progress | None = None,
) -> Prepared:
    """Loaders of processed datasets; decoded frames lie in `directory`.

    Raises:
      InputError: datasets that do not go together, or an image size that is not the network's.
    """
    _check_image_size(config, [o.entry.data for o in opened])
    loaders = {p: _part(config, opened, p, Path(directory), progress) for p in ("train", "val")}
    train_loader = loaders["train"]
    if train_loader is None:
        raise InputError("the train part is empty")
    hashes = [o.processed.dataset_hash for o in opened]
    return Prepared(
        train_loader=train_loader,
        val_loader=loaders["val"],
        policy_spec=factory.make_policy_spec(config, _spec(opened)),
        norm=_norm(opened),
        dataset_hash=hashes[0] if len(hashes) == 1 else _joint_hash(opened),
        processed=tuple(o.processed for o in opened),
    )


def _check_image_size(config: TrainConfig, data: Sequence[DataConfig]) -> None:
    sizes = {d.image_size for d in data}
    if len(sizes) > 1:
        raise InputError(
            f"mixture: data.image_size must be the same for all datasets, got {sorted(sizes)}"
        )
    if sizes - {0, config.network.image_size}:
        raise InputError(
            f"data.image_size ({max(sizes)}) must be network.image_size "
            f"({config.network.image_size}): the exported policy resizes raw frames to the latter"
        )


def _spec(opened: Sequence[Opened]) -> DatasetSpec:
    names = [o.entry.dataset for o in opened]
    size = opened[0].entry.data.image_size
    return mixture.common_spec([o.processed.spec for o in opened], names, size)


def _norm(opened: Sequence[Opened]) -> Mapping[str, NormStats]:
    if len(opened) == 1:
        return opened[0].processed.norm
    norms, weights = [o.processed.norm for o in opened], [o.entry.weight for o in opened]
    return {k: mixture.merge_norms([n[k] for n in norms], weights) for k in norms[0]}


def _joint_hash(opened: Sequence[Opened]) -> str:
    facts = [(o.processed.dataset_hash, o.entry.weight) for o in opened]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _part(
    config: TrainConfig,
    opened: Sequence[Opened],
    part: str,
    directory: Path,
    progress: Progress | None,
) -> BatchLoader | None:
    """Loader of one part of all datasets, None where it is empty."""
    found = [o for o in opened if len(o.processed.indices(part))]
    # The budgets of memory and disk are for all datasets together.
    n_bytes = sum(_part_bytes(o, part) for o in found)
    loaders = [
        (o.entry.weight, _loader(config, o, part, n_bytes, directory, progress)) for o in found
    ]
    if len(loaders) < 2:
        return loaders[0][1] if loaders else None
    weights, parts = zip(*loaders, strict=True)
    window = (config.n_obs_steps, config.horizon)
    return MixtureLoader(parts, weights, config.loop.batch_size, window)


def _loader(
    config: TrainConfig,
    opened: Opened,
    part: str,
    n_bytes: int,
    directory: Path,
    progress: Progress | None,
) -> BatchLoader:
    """Loader of one part of one dataset; `n_bytes` is the size of that part of all of them."""
    data, source, keys = opened.entry.data, opened.source, opened.processed.spec.keys
    indices = opened.processed.indices(part)
    is_cached = cache.exists(source, indices, keys, directory, data.image_size)
    disk = None if is_cached else _disk_budget(directory, data)
    mode, reason = choose_mode(n_bytes, data.loader, data.cache_budget_mb, disk)
    if mode == "stream":
        return _stream(config, opened, part, directory, reason)
    corrupt = data.cleaning.corrupt
    frames = cache.build(source, indices, keys, directory, progress, data.image_size, corrupt)
    _note_skipped(frames, opened.processed)
    hosts = (jax.process_index(), jax.process_count())
    sampler = Sampler(
        frames.lengths, config.loop.batch_size, config.seed, hosts, shuffle=part == "train"
    )
    return Loader(frames, sampler, (config.n_obs_steps, config.horizon), mode, reason)


def _stream(
    config: TrainConfig, opened: Opened, part: str, directory: Path, reason: str
) -> StreamLoader:
    """Every host takes every n-th episode."""
    indices, lengths = opened.processed.indices(part), opened.processed.lengths(part)
    host = slice(jax.process_index(), None, jax.process_count())
    block = stream.block_episodes(_part_bytes(opened, part), len(indices))
    plan = Plan(lengths[host], block, config.seed, shuffle=part == "train")
    keys = opened.processed.spec.keys
    atomic.make_directory(directory)
    return StreamLoader(
        stream.Dataset(opened.entry.dataset, opened.entry.data, keys),
        indices[host],
        lengths,
        (config.n_obs_steps, config.horizon),
        config.loop.batch_size,
        plan,
        directory,
        reason,
    )


def _part_bytes(opened: Opened, part: str) -> int:
    """Bytes of the decoded frames of one part."""
    processed = opened.processed
    frame = _frame_bytes(processed.spec, opened.entry.data.image_size)
    return int(processed.lengths(part).sum()) * frame


def _frame_bytes(spec: DatasetSpec, image_size: int) -> int:
    """Bytes of a decoded frame with its action."""
    total = 4 * spec.action.size
    for array in spec.observation:
        square = (image_size, image_size, 3)
        shape = square if image_size and is_camera(array.name) else array.shape
        total += int(np.prod(shape, dtype=np.int64)) * np.dtype(array.dtype).itemsize
    return total


def _disk_budget(directory: Path, data: DataConfig) -> int:
    """Bytes of decoded frames that may be written."""
    if data.disk_budget_mb:
        return data.disk_budget_mb * 2**20
    parent = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    return shutil.disk_usage(parent).free // 2


def _note_skipped(frames: cache.Cache, processed: Processed) -> None:
    """Episodes that could not be decoded, into quarantine.jsonl beside the split."""
    lines = "".join(
        f"{processed.describe(index, why)}\n" for index, why in sorted(frames.skipped.items())
    )
    path = Path(processed.directory) / QUARANTINE
    known = path.read_text() if path.exists() else ""
    if lines and lines not in known:
        atomic.write_text(path, known + lines)
