"""Files of a run directory that are not checkpoints, and whether a run may continue there."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxpolicy.core import atomic, schema
from jaxpolicy.core import versions as installed
from jaxpolicy.core.specs import InputError
from jaxpolicy.training.config import TrainConfig

__all__ = [
    "CONFIG_FILE",
    "FREE_KEYS",
    "LENGTH_KEYS",
    "check_length",
    "check_same_config",
    "check_same_length",
    "check_writable",
    "differing_key",
    "versions",
    "write_config",
]

CONFIG_FILE = "config.json"

# Keys that change speed or bookkeeping, not the parameters: a run may be resumed with
# other values. The dataset is compared by content, not by path.
FREE_KEYS = (
    "name",
    "dataset",
    "plugins",
    "env.workers",
    "data.loader",
    "data.cache_budget_mb",
    "data.disk_budget_mb",
    "data.proprio_names",
    "data.proprio_units",
    "data.workers",
    "loop.devices",
    "loop.max_to_keep",
    "loop.profile",
    "loop.progress",
    "loop.scan",
    "loop.shard_params",
    "loop.tensorboard",
    "loop.wandb",
)
# How long a run is; it may go on for longer, see `check_length`.
LENGTH_KEYS = ("loop.steps", "loop.epochs")
_PACKAGES = ("jaxpolicy", "jax", "jaxlib", "flax", "optax", "numpy")
_ABSENT = "<absent>"


def check_writable(workdir: str | os.PathLike[str]) -> None:
    """Creates `workdir`; raises InputError where nothing can be written into it."""
    try:
        atomic.make_directory(workdir)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except (OSError, InputError) as e:
        reason = getattr(e, "strerror", "") or getattr(e.__cause__, "strerror", "")
        raise InputError(f"--workdir={os.fspath(workdir)} cannot be written: {reason}") from e


def write_config(config: TrainConfig, workdir: str | os.PathLike[str]) -> None:
    """Writes `<workdir>/config.json`, atomically."""
    text = json.dumps(schema.to_mapping(config), indent=2) + "\n"
    atomic.write_text(Path(workdir) / CONFIG_FILE, text)


def check_same_config(
    config: TrainConfig, assets: Mapping[str, Any], workdir: str | os.PathLike[str]
) -> None:
    """Raises InputError unless `config` continues the checkpoint with these assets.

    Args:
      config: what is to be trained.
      assets: of the newest checkpoint, empty without one.
      workdir: run directory, for the message.
    """
    if not assets:
        return
    wanted, found = _both(config, assets)
    _raise_if_other(
        {k: v for k, v in wanted.items() if k not in LENGTH_KEYS},
        {k: v for k, v in found.items() if k not in LENGTH_KEYS},
        workdir,
    )


def check_same_length(
    config: TrainConfig, assets: Mapping[str, Any], workdir: str | os.PathLike[str]
) -> None:
    """As `check_same_config`, of LENGTH_KEYS: for what must not go on for longer."""
    wanted, found = _both(config, assets)
    _raise_if_other(
        {k: wanted[k] for k in LENGTH_KEYS}, {k: found[k] for k in LENGTH_KEYS}, workdir
    )


def check_length(total: int, done: int, workdir: str | os.PathLike[str]) -> None:
    """Raises InputError where a run is to have `total` updates and has `done` more already."""
    if total < done:
        raise InputError(
            f"{os.fspath(workdir)} holds a run of {done} updates and {total} are asked for; a run "
            "may go on for longer (loop.steps, loop.epochs); for a shorter one use another "
            "--workdir"
        )


def _both(config: TrainConfig, assets: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Comparable keys of what is wanted, and of what made a checkpoint."""
    # A key that did not exist when the checkpoint was made had its default.
    defaults = _comparable(schema.to_mapping(TrainConfig()))
    wanted = _comparable(schema.to_mapping(config))
    return wanted, defaults | _comparable(assets["config"])


def _raise_if_other(
    wanted: Mapping[str, Any], found: Mapping[str, Any], workdir: str | os.PathLike[str]
) -> None:
    key = differing_key(wanted, found)
    if key:
        raise InputError(
            f"{os.fspath(workdir)} holds checkpoints of another configuration: {key} is "
            f"{found.get(key, _ABSENT)} there and {wanted.get(key, _ABSENT)} now; use another "
            "--workdir, or the same value to resume"
        )


def differing_key(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """First key whose values differ, "" when there is none."""
    keys = [*wanted, *(k for k in found if k not in wanted)]
    return next((k for k in keys if wanted.get(k, _ABSENT) != found.get(k, _ABSENT)), "")


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys of what decides the parameters, as JSON holds them."""
    known = TrainConfig.__dataclass_fields__
    flat = _flatten(json.loads(json.dumps({k: v for k, v in config.items() if k in known})))
    return {k: v for k, v in flat.items() if k not in FREE_KEYS}


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        nested = isinstance(item, Mapping)
        flat |= _flatten(item, f"{prefix}{name}.") if nested else {prefix + name: item}
    return flat


def versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers."""
    return installed.of(_PACKAGES)
