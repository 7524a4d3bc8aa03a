"""tf.train.Example <-> NumPy, with the protos of tensorflow_datasets (no TensorFlow).

tensorflow_datasets is imported at first use: it takes a second, and only programs that
touch a dataset need it.
"""

import functools
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats.features import Feature

__all__ = ["Value", "column", "decode", "encode"]

# What an Example can hold: numbers, or byte strings.
Value = np.ndarray | Sequence[bytes]


@functools.cache
def _message() -> Any:
    """The class of the Example message."""
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example


def encode(values: Mapping[str, Value]) -> bytes:
    """Serialises numbers (any shape, row-major) and lists of byte strings."""
    example = _message()()
    for name, value in values.items():
        feature = example.features.feature[name]
        if not isinstance(value, np.ndarray):
            feature.bytes_list.value.extend(value)
        elif value.dtype.kind == "f":
            feature.float_list.value.extend(value.astype(np.float32).ravel().tolist())
        elif value.dtype.kind in "bui":
            feature.int64_list.value.extend(value.astype(np.int64).ravel().tolist())
        else:
            raise InputError(f"feature '{name}': dtype {value.dtype} cannot be stored")
    return example.SerializeToString(deterministic=True)


def decode(payload: bytes, where: str) -> dict[str, Value]:
    """Parses an Example: float32 and int64 vectors, and lists of byte strings.

    Raises:
      InputError: the payload is no Example.
    """
    try:
        example = _message().FromString(payload)
    except DecodeError as e:
        raise InputError(f"{where}: not a tf.train.Example: {e}") from e
    return {name: _value(f) for name, f in example.features.feature.items()}


def _value(feature: Any) -> Value:
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        return list(feature.bytes_list.value)
    if kind == "float_list":
        return np.array(feature.float_list.value, np.float32)
    return np.array(feature.int64_list.value if kind else (), np.int64)


def column(values: Mapping[str, Value], feature: Feature, n_steps: int, where: str) -> np.ndarray:
    """The numbers of `feature` as [n_steps, *feature.shape] of its dtype.

    Raises:
      InputError: the key is missing, holds bytes, or has another size than declared.
    """
    value = values.get(feature.path)
    if value is None:
        raise InputError(f"{where}: feature '{feature.path}' is missing")
    if None in feature.shape:
        raise InputError(f"{where}: feature '{feature.path}' has no fixed shape {feature.shape}")
    if feature.encoding:
        return _decode_steps(value, feature, n_steps, where)
    if not isinstance(value, np.ndarray):
        raise InputError(f"{where}: feature '{feature.path}' must hold numbers, holds bytes")
    shape = (n_steps, *(d or 0 for d in feature.shape))
    if value.size != math.prod(shape):
        raise InputError(
            f"{where}: feature '{feature.path}' must hold {list(shape)} = {math.prod(shape)} "
            f"values by features.json, holds {value.size}"
        )
    return value.reshape(shape).astype(feature.dtype)


def _decode_steps(value: Value, feature: Feature, n_steps: int, where: str) -> np.ndarray:
    """A tensor that each step holds as bytes, raw or compressed."""
    if isinstance(value, np.ndarray) or len(value) != n_steps:
        raise InputError(f"{where}: feature '{feature.path}' must hold {n_steps} byte strings")
    shape = tuple(d or 0 for d in feature.shape)
    dtype = np.dtype("uint8" if feature.dtype == "bool" else feature.dtype).newbyteorder("<")
    size = math.prod(shape) * dtype.itemsize
    steps = [_inflate(v, size) if feature.encoding == "zlib" else v for v in value]
    for t, step in enumerate(steps):
        if len(step) != size:
            raise InputError(
                f"{where}, step {t}: feature '{feature.path}' must be {size} bytes of "
                f"{feature.dtype} {list(shape)}, and is not, or is damaged"
            )
    return np.frombuffer(b"".join(steps), dtype).reshape(n_steps, *shape).astype(feature.dtype)


def _inflate(data: bytes, size: int) -> bytes:
    """The `size` bytes of a zlib stream; one byte more where it holds more or is damaged."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, size + 1)
    except zlib.error:
        found = b""
    return found if stream.eof else bytes(size + 1)
