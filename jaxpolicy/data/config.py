"""Which parts of a dataset a policy sees, and how they are split and loaded."""

import dataclasses

from jaxpolicy.specs import ACTION_KINDS, InputError

__all__ = ["LOADER_MODES", "NAN_POLICIES", "DataConfig"]

LOADER_MODES = ("auto", "device", "host")
NAN_POLICIES = ("error", "drop")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Reading, cleaning, splitting and loading of one dataset.

    Attributes:
      format: key of `jaxpolicy.data.SOURCES`, or "auto" to look at the files.
      cameras: names of the cameras the policy sees; empty: all of the dataset.
      proprio: whether the policy sees `proprio`, where the dataset has it.
      language: whether the policy sees `language`, where the dataset has it.
      previous_action: whether the policy also sees the action before each step. It helps
        where motion is smooth and history short, and it can teach a policy to copy itself
        instead of looking, so test in closed loop where that is possible.
      split: shares of episodes in train, val and test; they sum to 1.
      drop_failed: leaves out episodes with success=False (unknown success stays).
      drop_duplicates: leaves out episodes whose content was seen before.
      nan_actions: "error" stops at an action or proprio that is not finite, "drop"
        leaves the whole episode out and counts it.
      action_keys: step features joined into the action; for datasets of others.
      proprio_keys: observation features joined into `proprio`; empty: the first of
        proprio, state, robot_state that exists. For datasets of others.
      action_kind, action_names, action_units, control_hz: what the action means, for
        datasets that do not say; empty or 0: as the dataset says, else kind
        "unknown", names action_0.., units "1".
      loader: "device" keeps the training data on the accelerator, "host" gathers on
        the CPU, "auto" picks device where the data fits the budget.
      cache_budget_mb: memory for device-resident data; 0 is 30 % of the device's.
    """

    format: str = "auto"
    cameras: tuple[str, ...] = ()
    proprio: bool = True
    language: bool = True
    previous_action: bool = False
    split: tuple[float, float, float] = (0.70, 0.15, 0.15)
    drop_failed: bool = True
    drop_duplicates: bool = True
    nan_actions: str = "error"
    action_keys: tuple[str, ...] = ("action",)
    proprio_keys: tuple[str, ...] = ()
    action_kind: str = ""
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    control_hz: float = 0.0
    loader: str = "auto"
    cache_budget_mb: int = 0

    def __post_init__(self) -> None:
        _check_choice("loader", self.loader, LOADER_MODES)
        _check_choice("nan_actions", self.nan_actions, NAN_POLICIES)
        _check_choice("action_kind", self.action_kind, ("", *ACTION_KINDS))
        if min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-6 or self.split[0] == 0:
            raise InputError(
                f"data.split must be three shares that sum to 1, train above 0, got {self.split}"
            )
        if min(self.cache_budget_mb, self.control_hz) < 0:
            raise InputError("data.cache_budget_mb and control_hz must not be negative")
        if not self.action_keys:
            raise InputError("data.action_keys must name at least one step feature")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"data.{name} must be one of {choices}, got '{value}'")
