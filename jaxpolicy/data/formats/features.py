"""features.json of a TFDS directory: which features an example holds.

Parsed here rather than by tensorflow_datasets because that imports whatever Python
class the file names; a dataset is data, not code.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from jaxpolicy.core.specs import InputError

__all__ = ["STEPS", "Feature", "parse", "to_json"]

STEPS = "steps/"

_CORE = "tensorflow_datasets.core.features."
_CLASS = {
    "dict": _CORE + "features_dict.FeaturesDict",
    "steps": _CORE + "dataset_feature.Dataset",
    "image": _CORE + "image_feature.Image",
    "text": _CORE + "text_feature.Text",
    "tensor": _CORE + "tensor_feature.Tensor",
    "scalar": _CORE + "scalar.Scalar",
}


_NUMBERS = ("bool", "float16", "float32", "float64") + tuple(
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
)


_ENCODINGS = ("", "bytes", "zlib")


@dataclasses.dataclass(frozen=True)
class Feature:
    """One leaf of the feature tree.

    Attributes:
      path: names joined by "/"; those of steps begin with "steps/".
      kind: "tensor", "image", "text", or "other" for what is not read here.
      shape: of one step (or of the episode), None where it varies.
      dtype: NumPy dtype name, "" for text.
      encoding: "jpeg" or "png" for images; of a tensor "" for a list of numbers, "bytes" for
        the raw little-endian values of each step, "zlib" for those compressed.
      doc: description, units included.
    """

    path: str
    kind: str
    shape: tuple[int | None, ...] = ()
    dtype: str = ""
    encoding: str = ""
    doc: str = ""


def parse(text: str, where: str) -> dict[str, Feature]:
    """features.json -> features by path.

    Raises:
      InputError: not JSON, or not an RLDS feature tree (no `steps`).
    """
    try:
        found = {f.path: f for f in _walk(json.loads(text), "", 0)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise InputError(f"{where}: not a TFDS feature description: {e!r}") from e
    if not any(path.startswith(STEPS) for path in found):
        raise InputError(f"{where}: no 'steps' feature; this is not an RLDS dataset")
    return found


def _walk(node: Mapping[str, Any], path: str, n_sequences: int) -> Iterable[Feature]:
    if "featuresDict" in node:
        for name, child in node["featuresDict"]["features"].items():
            yield from _walk(child, f"{path}/{name}" if path else name, n_sequences)
    elif "sequence" in node and n_sequences == 0 and f"{path}/" == STEPS:
        yield from _walk(node["sequence"]["feature"], path, 1)
    else:
        yield _leaf(node, path)


def _leaf(node: Mapping[str, Any], path: str) -> Feature:
    doc = str(node.get("description", ""))
    if "image" in node:
        image = node["image"]
        encoding = image.get("encodingFormat") or "png"
        return Feature(path, "image", _shape(image), image.get("dtype", "uint8"), encoding, doc)
    if "tensor" in node:
        tensor = node["tensor"]
        encoding = str(tensor.get("encoding") or "").lower().replace("none", "")
        if tensor["dtype"] in ("string", "object"):
            return Feature(path, "text", _shape(tensor), doc=doc)
        if tensor["dtype"] in _NUMBERS and encoding in _ENCODINGS:
            return Feature(path, "tensor", _shape(tensor), tensor["dtype"], encoding, doc)
    return Feature(path, "text" if "text" in node else "other", doc=doc)


def _shape(node: Mapping[str, Any]) -> tuple[int | None, ...]:
    dimensions = node.get("shape", {}).get("dimensions", [])
    return tuple(None if int(d) < 0 else int(d) for d in dimensions)


def to_json(features: Iterable[Feature]) -> str:
    """features.json text; inverse of `parse`."""
    tree: dict[str, Any] = {}
    for feature in features:
        *parents, name = feature.path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = feature
    return json.dumps(_emit(tree, ""), indent=2) + "\n"


def _emit(node: Any, path: str) -> dict[str, Any]:
    if isinstance(node, Feature):
        return _emit_leaf(node)
    children = {k: _emit(v, f"{path}{k}/") for k, v in sorted(node.items())}
    tree = {"pythonClassName": _CLASS["dict"], "featuresDict": {"features": children}}
    if path != STEPS:
        return tree
    return {"pythonClassName": _CLASS["steps"], "sequence": {"feature": tree, "length": "-1"}}


def _emit_leaf(feature: Feature) -> dict[str, Any]:
    shape = {"dimensions": [str(-1 if d is None else d) for d in feature.shape]}
    if feature.kind == "text":
        leaf: dict[str, Any] = {"pythonClassName": _CLASS["text"], "text": {}}
    elif feature.kind == "image":
        image = {"shape": shape, "dtype": "uint8", "encodingFormat": feature.encoding}
        leaf = {"pythonClassName": _CLASS["image"], "image": image}
    else:
        tensor = {"shape": shape if feature.shape else {}, "dtype": feature.dtype}
        name = _CLASS["tensor" if feature.shape else "scalar"]
        tensor["encoding"] = feature.encoding or "none"
        leaf = {"pythonClassName": name, "tensor": tensor}
    return {**leaf, "description": feature.doc} if feature.doc else leaf
