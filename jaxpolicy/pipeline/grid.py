"""Which runs a sweep has: every combination of the grid's values, with every seed."""

import itertools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxpolicy.core import schema
from jaxpolicy.core.schema import InputError
from jaxpolicy.pipeline import experiment, overrides
from jaxpolicy.pipeline.experiment import ExperimentConfig

__all__ = ["Cell", "cells", "is_sweep", "parse_grid"]

# What all runs share cannot differ between them.
SHARED = ("collect", "dataset", "env", "grid", "mixture", "name", "plugins", "seed", "seeds")
_HOW = "write key=value,value;key=value,..., e.g. optimizer.learning_rate=1e-4,3e-4"


class Cell(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: its directory, below the sweep's.
      values: key -> value of the grid, empty without one.
      config: of the run.
    """

    name: str
    values: Mapping[str, Any]
    config: ExperimentConfig


def is_sweep(config: ExperimentConfig) -> bool:
    """Whether `config` asks for more than one run."""
    return config.seeds > 1 or bool(config.grid)


def cells(config: ExperimentConfig) -> tuple[Cell, ...]:
    """All runs of `config`: every combination of the grid's values, with every seed.

    Raises:
      InputError: a grid that cannot be read, or a value that does not fit its key.
    """
    grid = parse_grid(config.grid)
    combinations = [dict(zip(grid, v, strict=True)) for v in itertools.product(*grid.values())]
    seeds = range(config.seed, config.seed + config.seeds)
    found = tuple(_cell(config, values, seed) for values in combinations for seed in seeds)
    names = [cell.name for cell in found]
    if len(set(names)) < len(names):
        raise InputError("config.grid: two values give the same directory name")
    return found


def _cell(config: ExperimentConfig, values: Mapping[str, Any], seed: int) -> Cell:
    mapping = schema.to_mapping(config) | {"seed": seed, "seeds": 1, "grid": ""}
    for key, value in values.items():
        overrides.assign(mapping, key, value, "config.grid")
    parts = [",".join(f"{k}={_plain(v)}" for k, v in values.items()), f"seed_{seed}"]
    name = "/".join(filter(None, parts))
    return Cell(name, values, experiment.from_mapping(mapping, "config.grid: config"))


def _plain(value: Any) -> str:
    """A value as part of a file name."""
    return re.sub(r"[^\w.+-]+", "_", str(value)).strip("_")


def parse_grid(text: str) -> dict[str, tuple[Any, ...]]:
    """'a.b=1,2;c=x,y' -> {"a.b": (1, 2), "c": ("x", "y")}.

    Values are Python literals (numbers, tuples in brackets), true, false, or words.

    Raises:
      InputError: not of this form, a key twice, or a key that all runs must share.
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for axis in overrides.split(text, ";") if text.strip() else []:
        key, equals, values = (part.strip() for part in axis.partition("="))
        found = tuple(map(overrides.literal, overrides.split(values, ",")))
        if not equals or not re.fullmatch(r"\w+(\.\w+)*", key) or "" in found:
            raise InputError(f"config.grid: cannot read '{axis}'; {_HOW}")
        if key in grid:
            raise InputError(f"config.grid names '{key}' twice; give all its values at once")
        if key.split(".")[0] in SHARED:
            raise InputError(f"config.grid cannot vary '{key}': all runs of a sweep share it")
        grid[key] = found
    return grid
