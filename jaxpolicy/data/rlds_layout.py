"""Which RLDS feature becomes which key of ours, for our datasets and those of others."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from jaxpolicy import schema
from jaxpolicy.data.config import DataConfig
from jaxpolicy.data.features import STEPS, Feature
from jaxpolicy.specs import IMAGE_PREFIX, MASK_PREFIX, ActionSpec, ArraySpec, InputError, is_camera
from jaxpolicy.types import DatasetSpec

__all__ = ["FACTS_FILE", "UNBOUNDED", "Facts", "Layout", "feature_name", "from_facts", "guess"]

# Beside features.json: what TFDS has no place for.
FACTS_FILE = "jaxpolicy.json"
OBSERVATION = STEPS + "observation/"
METADATA = "episode_metadata/"
VARIATION = METADATA + "variation_json"
# Bounds of actions that nobody declared.
UNBOUNDED = 3.0e38

_PROPRIO_NAMES = ("proprio", "state", "robot_state")
_LANGUAGE_NAMES = (
    "steps/language_embedding",
    "steps/natural_language_embedding",
    "steps/observation/language_embedding",
    "steps/observation/natural_language_embedding",
)


@dataclasses.dataclass(frozen=True)
class Facts:
    """Contents of jaxpolicy.json."""

    format_version: int
    observation: tuple[ArraySpec, ...]
    action: ActionSpec

    def to_json(self) -> str:
        """JSON text; inverse of `from_json`."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "Facts":
        """Parses and validates."""
        try:
            value = json.loads(text)
        except ValueError as e:
            raise InputError(f"{where}: not valid JSON: {e}") from e
        facts = schema.from_mapping(cls, value, where)
        if facts.format_version != 1:
            raise InputError(f"{where}: format_version must be 1, got {facts.format_version}")
        return facts


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the parts of a step are found.

    Attributes:
      observation: key of ours -> paths of features that are joined into it.
      flags: camera key (`image/<camera>`) -> path of an episode flag that says
        whether the camera was there.
      action: paths of features that are joined into the action.
      spec: what a step then holds.
    """

    observation: Mapping[str, tuple[str, ...]]
    flags: Mapping[str, str]
    action: tuple[str, ...]
    spec: DatasetSpec


def feature_name(key: str) -> str:
    """Name of an observation key inside a file, where '/' means nesting.

    `image/wrist` -> `image_wrist`, `proprio` -> `state`: the names that tools for
    Open X-Embodiment datasets look for.
    """
    return "state" if key == "proprio" else key.replace("/", "_")


def from_facts(facts: Facts, features: Mapping[str, Feature], where: str) -> Layout:
    """Layout of a dataset that this library wrote."""
    observation = {s.name: (OBSERVATION + feature_name(s.name),) for s in facts.observation}
    for array in facts.observation:
        _match(_require(features, *observation[array.name], where), array.shape, where)
    _match(_require(features, STEPS + "action", where), (facts.action.size,), where)
    spec = DatasetSpec(facts.observation, facts.action)
    return Layout(observation, {}, (STEPS + "action",), spec)


def guess(features: Mapping[str, Feature], config: DataConfig, where: str) -> Layout:
    """Layout of anybody's RLDS dataset, by common names and `config`."""
    action = tuple(_require(features, STEPS + k, where).path for k in config.action_keys)
    observation = {**_cameras(features), **_proprio(features, config, where)}
    language = next((n for n in _LANGUAGE_NAMES if n in features), None)
    if language:
        observation["language"] = (language,)
    flags = _flags(features, observation)
    specs = [_array_spec(k, [features[p] for p in paths]) for k, paths in observation.items()]
    specs += [ArraySpec(_mask(k), (), "bool") for k in flags]
    size = _total_size([features[p] for p in action])
    spec = DatasetSpec(tuple(sorted(specs, key=lambda s: s.name)), _unknown_action(size))
    return Layout(observation, flags, action, spec)


def _match(feature: Feature, shape: tuple[int, ...], where: str) -> None:
    if feature.shape != shape:
        raise InputError(
            f"{where}: feature '{feature.path}' is {list(feature.shape)}, {FACTS_FILE} says "
            f"{list(shape)}"
        )


def _require(features: Mapping[str, Feature], path: str, where: str) -> Feature:
    if path in features:
        return features[path]
    near = sorted(p.removeprefix(STEPS) for p in features if p.startswith(STEPS))
    raise InputError(
        f"{where}: no feature '{path.removeprefix(STEPS)}' in the steps; there are: "
        f"{', '.join(near)}"
    )


def _cameras(features: Mapping[str, Feature]) -> dict[str, tuple[str, ...]]:
    images = [f for f in features.values() if f.kind == "image" and f.path.startswith(OBSERVATION)]
    colour = [f.path for f in images if len(f.shape) == 3 and f.shape[2] == 3]
    return {IMAGE_PREFIX + p.removeprefix(OBSERVATION).replace("/", "_"): (p,) for p in colour}


def _proprio(
    features: Mapping[str, Feature], config: DataConfig, where: str
) -> dict[str, tuple[str, ...]]:
    if config.proprio_keys:
        paths = [OBSERVATION + k for k in config.proprio_keys]
        return {"proprio": tuple(_require(features, p, where).path for p in paths)}
    for name in _PROPRIO_NAMES:
        feature = features.get(OBSERVATION + name)
        if feature and feature.kind == "tensor" and len(feature.shape) == 1:
            return {"proprio": (feature.path,)}
    return {}


def _flags(features: Mapping[str, Feature], observation: Mapping[str, Any]) -> dict[str, str]:
    flags = {}
    for key in filter(is_camera, observation):
        path = f"{METADATA}has_{key.removeprefix(IMAGE_PREFIX)}"
        if path in features:
            flags[key] = path
    return flags


def _mask(key: str) -> str:
    return MASK_PREFIX + key.removeprefix(IMAGE_PREFIX)


def _array_spec(key: str, parts: list[Feature]) -> ArraySpec:
    doc = parts[0].doc if len(parts) == 1 else ""
    if is_camera(key):
        return ArraySpec(key, tuple(d or 0 for d in parts[0].shape), "uint8", "")
    return ArraySpec(key, (_total_size(parts),), "float32", "" if key == "language" else doc)


def _total_size(parts: list[Feature]) -> int:
    for part in parts:
        if part.kind != "tensor" or len(part.shape) > 1 or None in part.shape:
            raise InputError(
                f"feature '{part.path}' must be a vector of fixed size to be joined, "
                f"it is {part.kind} {list(part.shape)}"
            )
    return sum((part.shape[0] or 0) if part.shape else 1 for part in parts)


def _unknown_action(size: int) -> ActionSpec:
    names = tuple(f"action_{i}" for i in range(size))
    bounds = (-UNBOUNDED,) * size, (UNBOUNDED,) * size
    return ActionSpec("unknown", names, ("1",) * size, *bounds, control_hz=0.0)
