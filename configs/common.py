"""Variants of an experiment -> the ConfigDict that `--config=FILE:VARIANT` names."""

import dataclasses
from collections.abc import Mapping

import ml_collections

from jaxpolicy.experiment import ExperimentConfig
from jaxpolicy.schema import InputError

__all__ = ["select"]


def select(variants: Mapping[str, ExperimentConfig], variant: str) -> ml_collections.ConfigDict:
    """The ConfigDict of `variant`; "" is the experiment as it is meant to be run.

    Raises:
      InputError: no such variant; names those there are.
    """
    if variant not in variants:
        known = ", ".join(f"':{name}'" for name in variants if name)
        raise InputError(f"--config: no variant ':{variant}'; there are {known}")
    return ml_collections.ConfigDict(dataclasses.asdict(variants[variant]))
