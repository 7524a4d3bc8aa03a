"""Which parts of a dataset a policy sees, and how they are cleaned, split and loaded."""

import dataclasses
import math

from jaxpolicy.core.specs import ACTION_KINDS, InputError

__all__ = ["CORRUPT_POLICIES", "LOADER_MODES", "CleaningConfig", "DataConfig", "MixtureEntry"]

LOADER_MODES = ("auto", "device", "host", "stream")
CORRUPT_POLICIES = ("quarantine", "error")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"data.{name} must be one of {choices}, got '{value}'")


@dataclasses.dataclass(frozen=True)
class CleaningConfig:
    """Rules that leave episodes out; each is counted and lists what it dropped.

    Attributes:
      corrupt: what happens to an episode that cannot be read or holds NaN or infinity:
        "quarantine" sets it aside with the reason, "error" stops.
      failed: drops episodes with success=False (unknown success stays).
      truncated: drops episodes whose recording breaks off, by the flags of the format (which
        are not believed where they say so of every episode).
      min_steps: drops episodes shorter than this, as truncated.
      min_length_share: drops episodes shorter than this share of their task's median length,
        as truncated; 0: none.
      duplicates: drops episodes whose steps were seen before, in whatever part.
      idle: drops episodes in which nothing moves: no element of action or proprio covers
        more than this share of the range it has in the dataset (1st to 99th percentile);
        0: none.
      outliers: drops episodes with an action or proprio farther than this many such ranges
        beyond them; 0: none.
    """

    corrupt: str = "quarantine"
    failed: bool = True
    truncated: bool = True
    min_steps: int = 2
    min_length_share: float = 0.1
    duplicates: bool = True
    idle: float = 0.02
    outliers: float = 10.0

    def __post_init__(self) -> None:
        _check_choice("cleaning.corrupt", self.corrupt, CORRUPT_POLICIES)
        for name in ("min_steps", "min_length_share", "idle", "outliers"):
            if getattr(self, name) < 0:
                raise InputError(f"data.cleaning.{name} must not be negative")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Reading, cleaning, splitting and loading of one dataset.

    Names of fields are those of the file, levels joined by "/" (LeRobot: "."); the last part
    is enough where it is unique, and "name[a:b]" takes elements a to b - 1.

    Attributes:
      format: key of `jaxpolicy.data.SOURCES`, or "auto" to look at the files.
      cameras: names of the cameras the policy sees; empty: all of the dataset.
      proprio: whether the policy sees `proprio`, where the dataset has it.
      privileged: whether it sees the simulator's state, where that was recorded. Such a policy
        cannot leave the simulator: it is for teachers, and for learning quickly in worlds.
      language: whether the policy sees `language`, where the dataset has it.
      previous_action: whether the policy also sees the action before each step. It helps
        where motion is smooth and history short, and it can teach a policy to copy itself
        instead of looking, so test in closed loop where that is possible.
      camera_keys: "camera=field" for each camera; empty: every colour picture of a step.
      action_keys: fields joined into the action; empty: by common names.
      proprio_keys: fields joined into `proprio`; empty: by common names.
      action_kind, action_names, action_units, control_hz: what the action means, for
        datasets that do not say; empty or 0: as the dataset says, else kind
        "unknown", names action_0.., units "1".
      action_minimum, action_maximum: what the robot accepts, one value per element of the
        action as the policy gives it, in its physical units; the runtime clips to them.
        Empty: as the dataset says, else the extremes of the training data, beyond which a
        policy then cannot act.
      resample_hz: rate to which episodes are thinned out; 0: as recorded.
      image_size: side in pixels to which frames are resized when they are decoded; 0: as
        recorded. If given, it must be that of the network (network.image_size), which
        resizes inside jit whatever has another size, as raw frames do after export.
      split: shares of episodes in train, val and test; they sum to 1.
      cleaning: see CleaningConfig.
      loader: "device" keeps the training data on the accelerator, "host" gathers on
        the CPU from files of decoded frames, "stream" decodes while training, "auto" picks
        the first of them that fits its budget.
      cache_budget_mb: memory for device-resident data; 0 is 30 % of the device's.
      disk_budget_mb: disk for decoded frames; 0 is half of what is free.
      workers: processes that decode for "stream"; 0: one a core, at most 8.
    """

    format: str = "auto"
    cameras: tuple[str, ...] = ()
    proprio: bool = True
    privileged: bool = False
    language: bool = True
    previous_action: bool = False
    camera_keys: tuple[str, ...] = ()
    action_keys: tuple[str, ...] = ()
    proprio_keys: tuple[str, ...] = ()
    action_kind: str = ""
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    control_hz: float = 0.0
    action_minimum: tuple[float, ...] = ()
    action_maximum: tuple[float, ...] = ()
    resample_hz: float = 0.0
    image_size: int = 0
    split: tuple[float, float, float] = (0.70, 0.15, 0.15)
    cleaning: CleaningConfig = CleaningConfig()
    loader: str = "auto"
    cache_budget_mb: int = 0
    disk_budget_mb: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        _check_choice("loader", self.loader, LOADER_MODES)
        _check_choice("action_kind", self.action_kind, ("", *ACTION_KINDS))
        if min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-6 or self.split[0] == 0:
            raise InputError(
                f"data.split must be three shares that sum to 1, train above 0, got {self.split}"
            )
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise InputError(f"data.{name} must not be negative, got {getattr(self, name)}")
        _check_limits(self.action_minimum, self.action_maximum)
        pairs = [pair.partition("=") for pair in self.camera_keys]
        if not all(camera and field for camera, _, field in pairs):
            raise InputError(f"data.camera_keys must be pairs camera=field, got {self.camera_keys}")
        if len({camera for camera, _, _ in pairs}) < len(pairs):
            raise InputError(f"data.camera_keys must name no camera twice, got {self.camera_keys}")


def _check_limits(minimum: tuple[float, ...], maximum: tuple[float, ...]) -> None:
    """Raises InputError unless every limit has its counterpart on the other side."""
    if len(minimum) != len(maximum):
        raise InputError(
            "data.action_minimum and data.action_maximum belong together: they have "
            f"{len(minimum)} and {len(maximum)} entries"
        )
    for i, (low, high) in enumerate(zip(minimum, maximum, strict=True)):
        if not -math.inf < low < high < math.inf:
            raise InputError(
                f"data.action_minimum[{i}] must be below data.action_maximum[{i}], and both "
                f"finite, got {low:g} and {high:g}"
            )


_NOT_NEGATIVE = (
    "cache_budget_mb",
    "control_hz",
    "disk_budget_mb",
    "image_size",
    "resample_hz",
    "workers",
)


@dataclasses.dataclass(frozen=True)
class MixtureEntry:
    """One dataset of a mixture.

    Attributes:
      dataset: its path.
      weight: its share of the samples, relative to the others'.
      data: how it is read; all entries must end up with the same keys and action.
    """

    dataset: str
    weight: float = 1.0
    data: DataConfig = DataConfig()

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise InputError(f"mixture: the weight of {self.dataset} must be above 0")
