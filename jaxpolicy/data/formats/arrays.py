"""How the arrays of a file become fields of a step, for formats that keep an array per field."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeVar

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import images
from jaxpolicy.data.reader import Field, check_size

__all__ = ["Stored", "digest", "fields", "first_readable", "scalars", "values"]

T = TypeVar("T")

_IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG")
# Rows of bytes shorter than this are vectors; no JPEG or PNG is.
_MIN_ENCODED = 32
# Episodes that are tried when what a step holds is looked up.
_MAX_TRIED = 8


class Stored(Protocol):
    """One array of a file, [T, ...], not read yet.

    Attributes:
      where: file and name, for messages.
      shape, dtype: as declared by the file.
      kind: "number"; "bytes", rows of bytes of any length; "text"; or "other".
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype
    kind: str

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop); raises InputError where the file is damaged."""
        ...


def first_readable(n_episodes: int, describe: Callable[[int], T]) -> T:
    """What `describe` tells of the first episode that is whole.

    Raises:
      InputError: none of the first few is; what is wrong with the first of them.
    """
    errors = []
    for i in range(min(n_episodes, _MAX_TRIED)):
        try:
            return describe(i)
        except InputError as e:
            errors.append(e)
    raise errors[0]


def fields(
    arrays: Mapping[str, Stored], n_rows: Collection[int], observations: str = ""
) -> dict[str, Field]:
    """What a step holds, judged by one episode.

    Pictures are uint8 [T, H, W, 3] or [T, 3, H, W], and rows of bytes that hold a JPEG or PNG.

    Args:
      arrays: of the episode.
      n_rows: lengths that an array with a row for each step may have.
      observations: prefix of the names of arrays that must have one; "" for none.

    Raises:
      InputError: an observation has another length, or its first picture is damaged.
    """
    for name, array in arrays.items() if observations else ():
        if name.startswith(observations) and array.shape[:1] not in {(n,) for n in n_rows}:
            wanted = " or ".join(map(str, sorted(n_rows)))
            raise InputError(f"{array.where}: must have {wanted} rows, got {list(array.shape)}")
    return {name: _field(name, array, n_rows) for name, array in arrays.items()}


def _field(name: str, array: Stored, n_rows: Collection[int]) -> Field:
    shape, dtype = tuple(array.shape[1:]), array.dtype.name
    if not array.shape or array.shape[0] not in n_rows:
        return Field(name, "other", array.shape, dtype)
    if _is_picture(array):
        return Field(name, "image", (*_size(array), 3), "uint8")
    frame = _first_frame(array)
    if frame is not None:
        return Field(name, "image", frame.shape, "uint8")
    return Field(name, array.kind if array.kind in ("number", "text") else "other", shape, dtype)


def _is_picture(array: Stored) -> bool:
    is_byte = array.kind == "number" and array.dtype == np.uint8
    return is_byte and len(array.shape) == 4 and 3 in (array.shape[1], array.shape[3])


def _size(array: Stored) -> tuple[int, int]:
    """(height, width) of raw pictures; the last axis is that of colours if it can be."""
    _, a, b, c = array.shape
    return (a, b) if c == 3 else (b, c)


def _is_encoded(array: Stored) -> bool:
    if array.kind == "number":
        is_row = array.dtype == np.uint8 and len(array.shape) == 2
        return is_row and array.shape[1] >= _MIN_ENCODED
    return array.kind in ("bytes", "text") and len(array.shape) == 1


def _first_frame(array: Stored) -> np.ndarray | None:
    """The first picture, decoded; None where the array holds no encoded pictures."""
    if not _is_encoded(array):
        return None
    for row in array.read(0, 1):
        data = _row_bytes(row)
        if data.startswith(_IMAGE_MAGIC):
            return images.decode(data, f"{array.where}, step 0")
    return None


def _row_bytes(row: object) -> bytes:
    if isinstance(row, np.ndarray):
        return row.astype(np.uint8).tobytes()
    return row if isinstance(row, bytes) else str(row).encode("utf-8", "surrogateescape")


def values(
    arrays: Mapping[str, Stored],
    known: Mapping[str, Field],
    names: Collection[str],
    rows: tuple[int, int],
    where: str,
) -> dict[str, np.ndarray]:
    """Rows [start, stop) of the fields `names`, as Steps.values; what is missing is left out.

    Numbers of 64 bits are narrowed to float32, what a step holds.

    Raises:
      InputError: a file is damaged, or an array is of another kind than its field.
    """
    wanted = [n for n in names if n in arrays and known[n].kind != "other"]
    check_size(rows[1] - rows[0], [known[n] for n in wanted], where)
    return {n: _value(arrays[n], known[n], rows) for n in wanted}


def _value(array: Stored, field: Field, rows: tuple[int, int]) -> np.ndarray:
    if field.kind == "image":
        return _pictures(array, field, rows)
    if array.kind != field.kind:
        raise InputError(f"{array.where}: must be {field.kind}, got {array.dtype}")
    value = array.read(*rows)
    if value.dtype != np.float64:
        return value
    with np.errstate(over="ignore"):
        return value.astype(np.float32)


def _pictures(array: Stored, field: Field, rows: tuple[int, int]) -> np.ndarray:
    """Frames of one episode, uint8 [T, H, W, 3]."""
    if _is_picture(array):
        frames = array.read(*rows)
        return frames if array.shape[3] == 3 else np.moveaxis(frames, 1, 3)
    if not _is_encoded(array):
        raise InputError(f"{array.where}: must be pictures, got {list(array.shape)} {array.dtype}")
    places = (f"{array.where}, step {t}" for t in range(*rows))
    encoded = array.read(*rows)
    decoded = [images.decode(_row_bytes(r), p) for r, p in zip(encoded, places, strict=False)]
    for t, frame in enumerate(decoded):
        if frame.shape != field.shape:
            raise InputError(
                f"{array.where}, step {t}: must be {list(field.shape)}, got {list(frame.shape)}"
            )
    return np.stack(decoded) if decoded else array.read(0, 0)


def scalars(
    arrays: Mapping[str, Stored], names: Collection[str], rows: tuple[int, int]
) -> np.ndarray | None:
    """A number of every step, [T], of the first of `names` that there is; else None.

    Raises:
      InputError: it is not a number a step.
    """
    for name in names:
        array = arrays.get(name)
        if array is None:
            continue
        n_steps, n_others = rows[1] - rows[0], int(np.prod(array.shape[1:]))
        if array.kind != "number" or n_others != 1 or array.shape[0] < rows[1]:
            raise InputError(
                f"{array.where}: must be {n_steps} numbers, got {list(array.shape)} {array.dtype}"
            )
        with np.errstate(over="ignore"):
            return array.read(*rows).reshape(-1).astype(np.float32)
    return None


def digest(arrays: Mapping[str, Stored], rows: tuple[int, int | None], text: str) -> str:
    """SHA-256 over rows of all arrays as stored, one in memory at a time, and a text."""
    found = hashlib.sha256(text.encode("utf-8", "replace"))
    for name in sorted(arrays):
        array = arrays[name]
        if array.kind == "other" or not array.shape:
            continue
        value = array.read(*rows)
        found.update(f"{name}{value.dtype}{value.shape}".encode())
        for part in [value] if array.kind == "number" else map(_row_bytes, value.flat):
            data = part if isinstance(part, bytes) else part.tobytes()
            found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()
