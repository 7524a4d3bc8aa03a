"""Demonstrations: reading, writing, cleaning, splitting and feeding them to training."""

import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from jaxpolicy.core.registry import Registry
from jaxpolicy.core.specs import InputError
from jaxpolicy.data.config import CleaningConfig, DataConfig
from jaxpolicy.data.formats import (
    aloha,
    d4rl,
    lerobot,
    lerobot_writer,
    minari,
    npz,
    rlds,
    rlds_writer,
    robomimic,
    robomimic_writer,
)
from jaxpolicy.data.mapped import MappedSource
from jaxpolicy.data.reader import Reader
from jaxpolicy.data.resample import ResampledSource
from jaxpolicy.data.source import EpisodeSource, MemorySource

__all__ = [
    "SOURCES",
    "WRITERS",
    "CleaningConfig",
    "DataConfig",
    "EpisodeSource",
    "Format",
    "MappedSource",
    "MemorySource",
    "detect",
    "open_source",
]


class Format(NamedTuple):
    """One way in which datasets lie on disk.

    Attributes:
      open: path -> Reader.
      matches: path -> whether the files look like it; cheap, reads no data.
      looks_for: what `matches` looks for, for messages.
    """

    open: Callable[[pathlib.Path], Reader]
    matches: Callable[[pathlib.Path], bool]
    looks_for: str


# A new format is a module in formats/ and an entry here.
_SOURCES: dict[str, Format] = {
    "rlds": Format(rlds.RldsReader, rlds.matches, "a folder with dataset_info.json"),
    "lerobot": Format(
        lerobot.LeRobotReader, lerobot.matches, "meta/info.json with a codebase_version"
    ),
    "robomimic": Format(
        robomimic.RobomimicReader, robomimic.matches, "HDF5 with a group 'data' of demo_0, ..."
    ),
    "aloha": Format(
        aloha.AlohaReader, aloha.matches, "HDF5 with 'observations/' and 'action', one per episode"
    ),
    "minari": Format(minari.MinariReader, minari.matches, "data/main_data.hdf5"),
    "d4rl": Format(
        d4rl.D4rlReader, d4rl.matches, "one HDF5 with 'observations', 'actions', 'terminals'"
    ),
    "npz": Format(npz.NpzReader, npz.matches, "a folder of .npz files"),
}
SOURCES: Registry[Format] = Registry("format", _SOURCES, Format)

# Formats that can be written: write(path, episodes, spec, name) -> number of episodes.
_WRITERS: dict[str, Callable[..., int]] = {
    "rlds": rlds_writer.write,
    "lerobot": lerobot_writer.write,
    "robomimic": robomimic_writer.write,
}
WRITERS: Registry[Callable[..., int]] = Registry("writer", _WRITERS, Callable)


def detect(path: str | os.PathLike[str]) -> str:
    """Format of the dataset at `path`, judged by its files.

    Raises:
      InputError: nothing there, no known format (says what was looked for), or several.
    """
    root = pathlib.Path(path)
    if not root.exists():
        raise InputError(f"{root}: no such dataset")
    found = [name for name, form in SOURCES.items() if form.matches(root)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{root}: looks like {' and '.join(found)}; say which with --config.data.format"
        )
    looked = "; ".join(f"{name}: {form.looks_for}" for name, form in SOURCES.items())
    raise InputError(f"{root}: not a dataset of a known format. Looked for {looked}")


def open_source(
    path: str | os.PathLike[str], format: str = "auto", config: DataConfig | None = None
) -> EpisodeSource:
    """Opens a dataset of any known format, at the rate that `config` asks for.

    Args:
      path: file or folder.
      format: key of SOURCES, or "auto".
      config: which fields are cameras, proprio and action, where common names do not tell.

    Raises:
      InputError: unknown format, or whatever is wrong with the files.
    """
    name = detect(path) if format == "auto" else format
    if name not in SOURCES:
        raise InputError(f"data.format must be 'auto' or one of {sorted(SOURCES)}, got '{name}'")
    config = config or DataConfig()
    source = MappedSource(SOURCES[name].open(pathlib.Path(path)), config)
    if not config.resample_hz:
        return source
    kind = config.action_kind or source.spec.action.kind
    names = config.action_names
    return ResampledSource(source, config.resample_hz, kind, config.control_hz, names)
