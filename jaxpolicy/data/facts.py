"""What a step of a dataset holds, as this library's writers record it beside the data.

No format has a place for units, bounds and kinds of actions, so each writer leaves the same
JSON: RLDS in jaxpolicy.json, LeRobot in meta/jaxpolicy.json, robomimic in an attribute.
"""

import dataclasses
import json

from jaxpolicy.core import schema
from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.core.types import DatasetSpec

__all__ = ["FACTS_FILE", "Facts"]

FACTS_FILE = "jaxpolicy.json"


@dataclasses.dataclass(frozen=True)
class Facts:
    """Contents of the JSON.

    Attributes:
      format_version: 1; raised when readers must change.
      observation: one ArraySpec per key, sorted by name.
      action: the action vector.
    """

    format_version: int
    observation: tuple[ArraySpec, ...]
    action: ActionSpec

    @property
    def spec(self) -> DatasetSpec:
        """What a step holds."""
        return DatasetSpec(self.observation, self.action)

    def to_json(self) -> str:
        """JSON text; inverse of `from_json`."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "Facts":
        """Parses and validates.

        Raises:
          InputError: names `where` and what is wrong.
        """
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise InputError(f"{where}: not valid JSON: {e}") from e
        facts = schema.from_mapping(cls, value, where)
        if facts.format_version != 1:
            raise InputError(f"{where}: format_version must be 1, got {facts.format_version}")
        return facts
