"""Variants of an experiment -> the ConfigDict that `--config=FILE:VARIANT` names."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping

import ml_collections

from jaxpolicy.core.schema import InputError
from jaxpolicy.pipeline.experiment import ExperimentConfig

from . import tasks

__all__ = ["select", "select_task"]

Method = Callable[[ExperimentConfig], ExperimentConfig]


def select(variants: Mapping[str, ExperimentConfig], variant: str) -> ml_collections.ConfigDict:
    """The ConfigDict of `variant`; "" is the experiment as it is meant to be run.

    Raises:
      InputError: no such variant; names those there are.
    """
    if variant not in variants:
        known = ", ".join(f"':{name}'" for name in variants if name)
        raise InputError(f"--config: no variant ':{variant}'; there are {known}")
    return ml_collections.ConfigDict(dataclasses.asdict(variants[variant]))


def select_task(methods: Mapping[str, Method], variant: str) -> ml_collections.ConfigDict:
    """The ConfigDict of "TASK" or "TASK:METHOD", a task of `tasks.TASKS` by one of `methods`.

    Args:
      methods: variant of the method -> what it makes of a task; "" is as meant to be run.
      variant: what follows the file in `--config=FILE:VARIANT`.

    Raises:
      InputError: no such task or variant; names those there are.
    """
    name, _, kind = variant.partition(":")
    if name not in tasks.TASKS:
        known = ", ".join(f"':{task}'" for task in tasks.TASKS)
        close = difflib.get_close_matches(name, tasks.TASKS, n=1)
        hint = f"; did you mean ':{close[0]}'?" if close else ""
        raise InputError(
            f"--config: give a task after the file, one of {known}; got ':{name}'{hint}"
        )
    return select({k: method(tasks.TASKS[name]) for k, method in methods.items()}, kind)
