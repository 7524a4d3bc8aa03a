"""What people state about a dataset where its files do not say: names, units, limits."""

import dataclasses

import numpy as np

from jaxpolicy.core import specs
from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.data.config import DataConfig
from jaxpolicy.data.mapping import UNBOUNDED

__all__ = ["bounded", "described", "limited", "named"]


def described(spec: ArraySpec, config: DataConfig) -> ArraySpec:
    """`proprio` with the names and units that the configuration gives; the others as they are.

    Raises:
      InputError: their number is not that of the elements.
    """
    if spec.name != "proprio":
        return spec
    for field in ("proprio_names", "proprio_units"):
        given = getattr(config, field)
        if given and len(given) != spec.shape[-1]:
            raise InputError(f"data.{field} has {len(given)} entries, proprio has {spec.shape[-1]}")
    return dataclasses.replace(
        spec,
        names=config.proprio_names or spec.names,
        unit=",".join(config.proprio_units) or spec.unit,
    )


def named(action: ActionSpec, config: DataConfig) -> ActionSpec:
    """`action` with all that the configuration says of it.

    Raises:
      InputError: names, units or limits of another number than its elements.
    """
    for field in ("action_names", "action_units"):
        given = getattr(config, field)
        if given and len(given) != action.size:
            raise InputError(f"data.{field} has {len(given)} entries, the action has {action.size}")
    told = dataclasses.replace(
        action,
        kind=config.action_kind or action.kind,
        names=config.action_names or action.names,
        units=config.action_units or action.units,
        control_hz=config.resample_hz or config.control_hz or action.control_hz,
    )
    return limited(told, config)


def limited(action: ActionSpec, config: DataConfig) -> ActionSpec:
    """`action` with the limits that the configuration gives; without any, as it is.

    Raises:
      InputError: their number is not that of the action's elements.
    """
    low, high = config.action_minimum, config.action_maximum
    if not low:
        return action
    if len(low) != action.size:
        raise InputError(
            f"data.action_minimum and data.action_maximum have {len(low)} entries, the action "
            f"has {action.size}: {', '.join(action.names)}"
        )
    return dataclasses.replace(action, minimum=low, maximum=high, limits_from=specs.FROM_SETTINGS)


def bounded(action: ActionSpec, stats: NormStats) -> ActionSpec:
    """Bounds nobody declared become those of the train part, and `limits_from` says so."""
    low, high = np.array(action.minimum), np.array(action.maximum)
    no_low, no_high = low <= -UNBOUNDED, high >= UNBOUNDED
    # A dataset that was recorded before there was `limits_from` declares those of its robot.
    declared = action.limits_from or specs.FROM_ROBOT
    return dataclasses.replace(
        action,
        minimum=tuple(map(float, np.where(no_low, stats.minimum, low))),
        maximum=tuple(map(float, np.where(no_high, stats.maximum, high))),
        limits_from=specs.FROM_DATA if (no_low | no_high).any() else declared,
    )
