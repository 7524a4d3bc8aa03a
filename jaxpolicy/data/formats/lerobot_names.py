"""Names under which LeRobot datasets hold what is ours, and facts that LeRobot has no place for."""

import dataclasses
import json

from jaxpolicy.core import schema
from jaxpolicy.core.specs import IMAGE_PREFIX, InputError, is_camera
from jaxpolicy.core.types import EpisodeMetadata
from jaxpolicy.data.mapping import UNBOUNDED

__all__ = ["RECORD_COLUMN", "Record", "feature_name"]

# Column of meta/episodes that holds a Record of each episode; LeRobot ignores it.
RECORD_COLUMN = "jaxpolicy/record"


def feature_name(key: str) -> str:
    """LeRobot's name of an observation key.

    Only cameras and `proprio` get the names that LeRobot's policies take for inputs;
    `privileged` state must not become one.
    """
    if is_camera(key):
        return "observation.images." + key.removeprefix(IMAGE_PREFIX).replace("/", ".")
    return "observation.state" if key == "proprio" else key.replace("/", ".")


@dataclasses.dataclass(frozen=True)
class Record:
    """Facts about one episode.

    Attributes:
      metadata: see EpisodeMetadata.
      is_terminal: the episode ended for good.
    """

    metadata: EpisodeMetadata
    is_terminal: bool

    def to_json(self) -> str:
        """JSON text; inverse of `from_json`."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> "Record":
        """Parses and validates; raises InputError that names `where`."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise InputError(f"{where}: {RECORD_COLUMN} is not valid JSON: {e}") from e
        record = schema.from_mapping(cls, value, f"{where}: {RECORD_COLUMN}")
        numbers = [record.metadata.seconds, *record.metadata.variation.values()]
        if not all(abs(n) < UNBOUNDED for n in numbers):
            raise InputError(f"{where}: {RECORD_COLUMN} holds numbers that are not finite")
        return record
