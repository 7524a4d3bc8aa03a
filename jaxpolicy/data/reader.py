"""What a file format has to offer. All else is done once for all formats, by `mapped`.

A reader lists the arrays of its files under the names they have there (`fields`) and reads
episodes of them; which array is a camera, proprioception or the action is not its business.
"""

import dataclasses
import hashlib
import math
import os
import pathlib
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import DatasetSpec, EpisodeMetadata

__all__ = [
    "MAX_EPISODE_BYTES",
    "Declared",
    "Field",
    "Reader",
    "Steps",
    "check_size",
    "hash_files",
    "hash_values",
]

# Largest episode that is read, bytes in memory: a file that claims more is damaged.
MAX_EPISODE_BYTES = 8 * 2**30


@dataclasses.dataclass(frozen=True)
class Field:
    """One array of every step.

    Attributes:
      name: as in the file, levels joined by "/" (LeRobot: by ".").
      kind: "image" (read as uint8 [T, H, W, 3]), "number", "text", or "other" for what no
        rule can use.
      shape: of one step; images [H, W, C]; None where it varies.
      dtype: NumPy name.
      names: of the elements, where the file gives them.
      doc: what the file says about it.
      optional: an image that some episodes lack (see Steps.absent).
    """

    name: str
    kind: str
    shape: tuple[int | None, ...] = ()
    dtype: str = "float32"
    names: tuple[str, ...] = ()
    doc: str = ""
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Declared:
    """What a dataset says about its meaning; all of it may be missing.

    Attributes:
      observation: key of ours -> field, for datasets that this library wrote.
      spec: goes with `observation`: what a step holds, exactly.
      action, proprio: fields that form them, by the rules of the format.
      action_kind, action_names, action_units: of the action, see ActionSpec.
      control_hz: rate of the steps, 0 where nobody says.
    """

    observation: Mapping[str, str] = dataclasses.field(default_factory=dict)
    spec: DatasetSpec | None = None
    action: tuple[str, ...] = ()
    proprio: tuple[str, ...] = ()
    action_kind: str = ""
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    control_hz: float = 0.0


@dataclasses.dataclass(frozen=True)
class Steps:
    """One episode as its file holds it.

    Attributes:
      values: field -> [T, *shape]; images uint8 [T, H, W, 3].
      n_steps: T.
      metadata: facts about the episode.
      instruction: text, "" where there is none.
      reward: [T], None where there is none.
      is_terminal: the episode ended for good.
      absent: image fields that the episode is said to lack; `values` may still hold them.
    """

    values: Mapping[str, np.ndarray]
    n_steps: int
    metadata: EpisodeMetadata
    instruction: str = ""
    reward: np.ndarray | None = None
    is_terminal: bool = False
    absent: frozenset[str] = frozenset()


@runtime_checkable
class Reader(Protocol):
    """Random access to the episodes of one dataset.

    Everything it raises for what is wrong with a file is an InputError of one line that
    names the file; nothing is allocated on the word of a damaged header (`check_size`).

    Attributes:
      location: file or folder.
      fields: by name. Images whose size the files do not declare have that of the first
        episode.
      declared: see Declared.
    """

    location: pathlib.Path
    fields: Mapping[str, Field]
    declared: Declared

    def __len__(self) -> int:
        """Number of episodes."""
        ...

    def read(self, i: int, names: Collection[str]) -> Steps:
        """Episode `i`; `values` holds the fields `names`, nothing else is decoded."""
        ...

    def content_hash(self, i: int) -> str:
        """Hex digest of the steps of episode `i` as stored, equal for identical episodes."""
        ...

    def fingerprint(self) -> str:
        """Hex digest that changes with any content and not with the place of the files."""
        ...


def check_size(n_steps: int, fields: Iterable[Field], where: str) -> None:
    """Raises InputError when an episode of `n_steps` of `fields` would not fit in memory."""
    per_step = sum(math.prod(d or 1 for d in f.shape) * _item_size(f) for f in fields)
    if n_steps < 0 or n_steps * per_step > MAX_EPISODE_BYTES:
        raise InputError(
            f"{where}: claims {n_steps} steps of {per_step} bytes, more than "
            f"{MAX_EPISODE_BYTES >> 30} GiB; the file is damaged, or split the episode"
        )


def _item_size(field: Field) -> int:
    return np.dtype(field.dtype).itemsize if field.kind == "number" else 1


def hash_files(paths: Iterable[pathlib.Path], root: pathlib.Path) -> str:
    """SHA-256 over names relative to `root` and contents, in the order given.

    Raises:
      InputError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as e:
            raise InputError(f"{path}: cannot read: {e.strerror}") from e
        digest.update(os.path.relpath(path, root).encode() + b"\0" + content)
    return digest.hexdigest()


def hash_values(values: Mapping[str, np.ndarray], instruction: str) -> str:
    """SHA-256 over arrays by name and the instruction."""
    digest = hashlib.sha256(instruction.encode())
    for name in sorted(values):
        array = np.ascontiguousarray(values[name])
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
