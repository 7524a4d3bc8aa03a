"""What every array is: name, shape, dtype, unit and range. NumPy only, no JAX.

Axis letters used across the library:
  B batch, T time in an episode, O observation steps, H horizon (predicted
  actions), A action dimension, E environments, P proprioception, L language.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxpolicy.core import schema
from jaxpolicy.core.schema import InputError

__all__ = [
    "ACTION_KINDS",
    "ActionSpec",
    "ArraySpec",
    "InputError",
    "LIMITS",
    "PREVIOUS_ACTION",
    "PRIVILEGED",
    "VECTORS",
    "PolicyManifest",
    "RELATIVE_KINDS",
    "camera_names",
    "check_chunks",
    "is_camera",
    "mask_key",
]

ACTION_KINDS = (
    "cartesian_delta",
    "cartesian_position",
    "joint_delta",
    "joint_position",
    "unknown",
)
# Kinds whose elements mean "move by".
RELATIVE_KINDS = ("cartesian_delta", "joint_delta")

# Where limits of an action come from: the configuration, the robot (or the world) that was
# recorded, or, where nobody knew them, the smallest and largest actions of the training data.
FROM_SETTINGS, FROM_ROBOT, FROM_DATA = "settings", "robot", "data extremes"
LIMITS = (FROM_SETTINGS, FROM_ROBOT, FROM_DATA)

IMAGE_PREFIX = "image/"
MASK_PREFIX = "mask/"
# Observation [A] of the action executed before this one, zeros at the start of an episode.
# Datasets derive it from their actions, and whatever runs a policy remembers it.
PREVIOUS_ACTION = "previous_action"
PRIVILEGED = "privileged"

# Observations of a policy that are normalised as proprioception is.
VECTORS = (PRIVILEGED, "proprio")


def is_camera(key: str) -> bool:
    """True for observation keys that hold images (`image/<camera>`)."""
    return key.startswith(IMAGE_PREFIX)


def mask_key(image_key: str) -> str:
    """`image/<camera>` -> `mask/<camera>`, the key that says whether it was there."""
    return MASK_PREFIX + image_key.removeprefix(IMAGE_PREFIX)


def camera_names(keys: Sequence[str]) -> tuple[str, ...]:
    """Names of the cameras among observation keys, sorted."""
    return tuple(sorted(k.removeprefix(IMAGE_PREFIX) for k in keys if is_camera(k)))


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """One named array.

    Attributes:
      name: key under which it is found, e.g. `image/wrist` or `proprio`.
      shape: shape of one time step, without batch and time axes.
      dtype: NumPy dtype name.
      unit: unit of the values, or one per element separated by commas.
      minimum, maximum: bounds, empty when unbounded, one value for all elements
        or one per element of the last axis.
      names: one per element of the last axis, e.g. ("joint1", "gripper_width"); empty
        where they have none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    unit: str = ""
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.names and len(self.names) != self._size:
            raise InputError(
                f"'{self.name}' has {self._size} elements, and {len(self.names)} names: "
                f"{', '.join(self.names)}"
            )

    @property
    def _size(self) -> int:
        return self.shape[-1] if self.shape else 1

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each element of the last axis, "" where it is unknown."""
        parts = tuple(u.strip() for u in self.unit.split(","))
        if len(parts) == self._size:
            return parts
        return (parts[0] if len(parts) == 1 else "",) * self._size

    @property
    def elements(self) -> tuple[str, ...]:
        """Names of the elements of the last axis; by position where they have none."""
        return self.names or tuple(f"{self.name}_{i}" for i in range(self._size))

    def describe(self) -> str:
        """Elements with their units, for people: "joint1 (rad), gripper_width (m)"."""
        pairs = zip(self.elements, self.units, strict=True)
        return ", ".join(f"{name} ({unit or 'unit unknown'})" for name, unit in pairs)

    def validate(self, value: Any, where: str = "") -> None:
        """Checks trailing shape, dtype and finiteness of `value` ([..., *shape]).

        Raises:
          InputError: names the array, `where` it came from, expected and got.
        """
        array = np.asarray(value)
        place = f"{where}: " if where else ""
        n = len(self.shape)
        if array.ndim < n or array.shape[array.ndim - n :] != self.shape:
            told = f"; its elements are {self.describe()}" if self.names else ""
            raise InputError(
                f"{place}'{self.name}' must have shape [..., {_dims(self.shape)}], "
                f"got {list(array.shape)}{told}"
            )
        if array.dtype != np.dtype(self.dtype):
            raise InputError(f"{place}'{self.name}' must be {self.dtype}, got {array.dtype}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{place}'{self.name}' holds NaN or infinite values{self._bad(array)}")

    def _bad(self, array: np.ndarray) -> str:
        """Which of the named elements are not finite, for the message."""
        if not self.names:
            return ""
        bad = ~np.isfinite(array.reshape(-1, self._size)).all(axis=0)
        return " in " + ", ".join(n for n, b in zip(self.names, bad, strict=True) if b)

    def to_dict(self) -> dict[str, Any]:
        """Plain dict for JSON; inverse of `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "ArraySpec":
        """Inverse of `to_dict`; raises InputError on unknown keys."""
        return schema.from_mapping(cls, value, "ArraySpec")


def _dims(shape: Sequence[int]) -> str:
    return ", ".join(str(d) for d in shape)


@dataclasses.dataclass(frozen=True)
class ActionSpec:
    """The action vector [A] in physical units, as executed by the robot.

    Attributes:
      kind: one of ACTION_KINDS.
      names: one per element, e.g. ("dx", "dy", "dz", "dyaw", "gripper").
      units: one per element: "m", "rad", or "1" for the normalised gripper
        opening (0 closed, 1 open).
      minimum, maximum: one per element; what the robot accepts, as far as it is known.
      control_hz: control rate.
      limits_from: where the limits come from, one of LIMITS; "" where nobody says.
    """

    kind: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    control_hz: float
    limits_from: str = ""

    def __post_init__(self) -> None:
        if self.limits_from not in ("", *LIMITS):
            raise InputError(f"limits_from must be one of {LIMITS}, got '{self.limits_from}'")
        if self.kind not in ACTION_KINDS:
            raise InputError(f"action kind must be one of {ACTION_KINDS}, got '{self.kind}'")
        sizes = {f: len(getattr(self, f)) for f in ("names", "units", "minimum", "maximum")}
        if len(set(sizes.values())) != 1:
            raise InputError(f"action names, units and bounds must have one length, got {sizes}")

    @property
    def size(self) -> int:
        """A, the number of elements."""
        return len(self.names)

    def indices_of_unit(self, unit: str) -> tuple[int, ...]:
        """Positions of the elements measured in `unit`."""
        return tuple(i for i, u in enumerate(self.units) if u == unit)

    def to_dict(self) -> dict[str, Any]:
        """Plain dict for JSON; inverse of `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "ActionSpec":
        """Inverse of `to_dict`; raises InputError on unknown keys."""
        return schema.from_mapping(cls, value, "ActionSpec")


def check_chunks(horizon: int, n_action_steps: int, temporal_ensemble: float) -> None:
    """Checks how chunks of actions are executed; see PolicyManifest.

    Raises:
      InputError: names what cannot be executed.
    """
    if min(horizon, n_action_steps) < 1:
        raise InputError(
            f"horizon and n_action_steps must be at least 1, got {horizon} and {n_action_steps}"
        )
    if n_action_steps > horizon:
        raise InputError(f"n_action_steps ({n_action_steps}) exceeds horizon ({horizon})")
    if temporal_ensemble >= 0 and n_action_steps > 1:
        raise InputError(
            f"temporal_ensemble predicts at every step: n_action_steps must be 1, "
            f"got {n_action_steps}"
        )


@dataclasses.dataclass(frozen=True)
class PolicyManifest:
    """What a controller must know to run an exported policy, without JAX.

    The exported graph takes every array of `observation` as [B, O, *shape] (raw,
    oldest step first) and every array of `noise` as [B, *shape], and returns
    `action` [B, H, A] in physical units; its first action belongs to the newest
    observation.

    Attributes:
      format_version: raised when a reader must change.
      name: name of the experiment.
      algorithm: key of the algorithm registry, for information.
      observation: one ArraySpec per input, sorted by name.
      noise: sampling noise inputs (standard normal), empty for deterministic
        policies; drawn by the runtime from its own seed.
      action: the action vector.
      n_obs_steps: O.
      horizon: H.
      n_action_steps: how many actions of a chunk are executed before the next
        prediction.
      temporal_ensemble: temperature of chunking.TemporalEnsemble, below 0: there is none.
      artefacts: artefact kind ("onnx", "tflite", ...) -> file name.
      sha256: file name -> hex digest.
      provenance: dataset_hash, checkpoint, versions and other plain strings.
    """

    format_version: int
    name: str
    algorithm: str
    observation: tuple[ArraySpec, ...]
    noise: tuple[ArraySpec, ...]
    action: ActionSpec
    n_obs_steps: int
    horizon: int
    n_action_steps: int
    temporal_ensemble: float = -1.0
    artefacts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format_version != 1:
            raise InputError(f"manifest format_version must be 1, got {self.format_version}")
        if self.n_obs_steps < 1:
            raise InputError(f"n_obs_steps must be at least 1, got {self.n_obs_steps}")
        check_chunks(self.horizon, self.n_action_steps, self.temporal_ensemble)

    def to_json(self) -> str:
        """JSON text; inverse of `from_json`."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "manifest.json") -> "PolicyManifest":
        """Parses and validates; raises InputError naming what is wrong."""
        try:
            value = json.loads(text)
        except ValueError as e:
            raise InputError(f"{where} is not valid JSON: {e}") from e
        return schema.from_mapping(cls, value, where)
