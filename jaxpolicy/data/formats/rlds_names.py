"""Names inside RLDS examples."""

from jaxpolicy.data.formats.features import STEPS

__all__ = ["METADATA", "OBSERVATION", "VARIATION", "feature_name"]

OBSERVATION = STEPS + "observation/"
METADATA = "episode_metadata/"
VARIATION = METADATA + "variation_json"


def feature_name(key: str) -> str:
    """Name of an observation key inside a file, where '/' means nesting.

    `image/wrist` -> `image_wrist`, `proprio` -> `state`: the names that tools for
    Open X-Embodiment datasets look for.
    """
    return "state" if key == "proprio" else key.replace("/", "_")
