"""Demonstrations: reading, writing, cleaning, splitting and feeding them to training."""

import os
import pathlib
from collections.abc import Callable

from jaxpolicy.data import rlds
from jaxpolicy.data.config import DataConfig
from jaxpolicy.data.source import EpisodeSource, MemorySource
from jaxpolicy.specs import InputError

__all__ = ["SOURCES", "DataConfig", "EpisodeSource", "MemorySource", "detect", "open_source"]

# Format name -> opener(path, config). A new format is a module and a line here (and
# one in `detect`).
SOURCES: dict[str, Callable[..., EpisodeSource]] = {
    "rlds": rlds.RldsSource,
}


def detect(path: str | os.PathLike[str]) -> str:
    """Format of the dataset at `path`, judged by its files.

    Raises:
      InputError: nothing there, or no known format.
    """
    root = pathlib.Path(path)
    if not root.exists():
        raise InputError(f"{root}: no such dataset")
    rlds.find_directory(root)
    return "rlds"


def open_source(
    path: str | os.PathLike[str], format: str = "auto", config: DataConfig | None = None
) -> EpisodeSource:
    """Opens a dataset of any known format.

    Args:
      path: file or folder.
      format: key of SOURCES, or "auto".
      config: which features are action and proprio, for datasets of others.

    Raises:
      InputError: unknown format, or whatever is wrong with the files.
    """
    name = detect(path) if format == "auto" else format
    if name not in SOURCES:
        raise InputError(f"data.format must be 'auto' or one of {sorted(SOURCES)}, got '{name}'")
    return SOURCES[name](path, config or DataConfig())
