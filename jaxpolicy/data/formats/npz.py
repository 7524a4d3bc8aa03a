"""npz datasets: a folder of <episode>.npz files, arrays with a row per step.

There is no standard; names are taken as they come and mapped like those of other formats
(`action`, `image_<camera>`, `state`, ...). Known by name, where they are there: `reward` or
`rewards`; `success`, one value or the last of one per step; `terminal`, `terminals`,
`is_terminal`, `done` or `dones` and `timeouts`, likewise; texts `language_instruction`, `task`,
`robot`, `operator`; `seed`.
"""

import contextlib
import math
import os
import pathlib
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import IO

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import EpisodeMetadata
from jaxpolicy.data.formats import arrays
from jaxpolicy.data.formats.hdf5 import natural
from jaxpolicy.data.reader import MAX_EPISODE_BYTES, Declared, Field, Steps, hash_files

__all__ = ["NpzArray", "NpzReader", "matches"]

_SUFFIX = ".npz"
_ACTIONS = ("action", "actions")
_REWARDS = ("reward", "rewards")
_SUCCESS = ("success", "is_success")
_TERMINAL = ("is_terminal", "terminal", "terminals", "done", "dones")
_INSTRUCTIONS = ("language_instruction", "instruction")
# Longest header of an array that NumPy itself accepts, bytes; most arrays of one file.
_MAX_HEADER, _MAX_ARRAYS = 10_000, 10_000
# Deflate packs at most 1032:1, bzip2 and LZMA more: only the former is read.
_MAX_RATIO = 1032
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpzReader:
    """Episodes of a folder of npz files.

    Attributes:
      location: file or folder.
      fields, declared: see data.reader.Reader.
    """

    location: pathlib.Path
    fields: Mapping[str, Field]
    declared: Declared

    def __init__(self, path: str | os.PathLike[str]):
        """Lists the files; reads of the first how large things are.

        Args:
          path: npz file, or a folder of them.

        Raises:
          InputError: names the file and array that is missing or corrupt.
        """
        self.location = pathlib.Path(path)
        self._files = _files(self.location)
        if not self._files:
            raise InputError(f"{self.location}: no {_SUFFIX} file here")
        self.declared = Declared()
        self.fields = arrays.first_readable(len(self), self._describe)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._files)

    def read(self, i: int, names: Collection[str]) -> Steps:
        """Episode `i`; `values` holds the fields `names`, nothing else is unpacked."""
        path = self._files[i]
        with _opened(path) as stored:
            n_steps = _n_steps(stored, path)
            ended, timeout = _flag(stored, _TERMINAL), _flag(stored, ("timeouts", "truncated"))
            return Steps(
                values=arrays.values(stored, self.fields, names, (0, n_steps), str(path)),
                n_steps=n_steps,
                metadata=EpisodeMetadata(
                    episode_id=path.stem,
                    success=_flag(stored, _SUCCESS),
                    operator=_text(stored, ("operator",)),
                    source=path.parent.name,
                    robot=_text(stored, ("robot",)),
                    task=_text(stored, ("task",)),
                    seed=_seed(stored),
                    complete=not (ended is False and timeout is False),
                ),
                instruction=_text(stored, _INSTRUCTIONS),
                reward=arrays.scalars(stored, _REWARDS, (0, n_steps)),
                is_terminal=bool(ended),
            )

    def content_hash(self, i: int) -> str:
        """Digest of everything in the steps of episode `i` as stored."""
        with _opened(self._files[i]) as stored:
            return arrays.digest(stored, (0, None), _text(stored, _INSTRUCTIONS))

    def fingerprint(self) -> str:
        """Digest of the files."""
        root = self.location if self.location.is_dir() else self.location.parent
        return hash_files(self._files, root)

    def _describe(self, i: int) -> Mapping[str, Field]:
        with _opened(self._files[i]) as stored:
            steps = {n: a for n, a in stored.items() if a.shape}
            return arrays.fields(steps, (_n_steps(stored, self._files[i]),))


def matches(path: pathlib.Path) -> bool:
    """Whether `path` is an npz file or a folder that holds one."""
    return bool(_files(path))


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    if path.is_file():
        return [path] if path.suffix == _SUFFIX else []
    found: list[pathlib.Path] = []
    with contextlib.suppress(OSError):
        found = [p for p in path.iterdir() if p.suffix == _SUFFIX and p.name[0] != "."]
    return sorted(found, key=lambda p: natural(p.name))


def _n_steps(stored: Mapping[str, "NpzArray"], path: pathlib.Path) -> int:
    """T, the length of the action; else the length that most arrays have."""
    found = next((stored[n] for n in _ACTIONS if n in stored), None)
    if found is not None and found.shape:
        return found.shape[0]
    lengths = [a.shape[0] for a in stored.values() if a.shape]
    if not lengths:
        raise InputError(
            f"{path}: must hold arrays with a row per step, such as 'action'; "
            f"there are: {', '.join(stored) or 'none'}"
        )
    return max(lengths, key=lengths.count)


# ------------------------------------------------------------------ facts of an episode


def _last(stored: Mapping[str, "NpzArray"], names: Sequence[str], kind: str) -> object:
    """The only or last value of the first of `names` that is one per episode or step."""
    for name in names:
        array = stored.get(name)
        if array is not None and array.kind == kind and math.prod(array.shape[1:]) == 1:
            values = array.read().reshape(-1)
            return values[-1].item() if values.size else None
    return None


def _flag(stored: Mapping[str, "NpzArray"], names: Sequence[str]) -> bool | None:
    value = _last(stored, names, "number")
    return None if value is None else bool(value)


def _text(stored: Mapping[str, "NpzArray"], names: Sequence[str]) -> str:
    value = _last(stored, names, "text")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _seed(stored: Mapping[str, "NpzArray"]) -> int:
    value = _last(stored, ("seed",), "number")
    return value if type(value) is int else -1


# ------------------------------------------------------------------ files


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[dict[str, "NpzArray"]]:
    """The arrays of a file by name; none is unpacked before it is read.

    Raises:
      InputError: it is no zip file of arrays, or what it claims cannot be.
    """
    with _guard(str(path)), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > _MAX_ARRAYS:
            raise InputError(f"{path}: holds over {_MAX_ARRAYS} arrays")
        # Names that damage made unprintable are left out.
        named = {_name(e): e for e in entries if e.filename.isprintable()}
        yield {n: NpzArray(archive, e, f"{path}: '{n}'") for n, e in named.items()}


def _name(entry: zipfile.ZipInfo) -> str:
    return entry.filename.removesuffix(".npy")


@contextlib.contextmanager
def _guard(where: str) -> Iterator[None]:
    """Whatever zipfile and NumPy object to becomes one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as e:  # zlib.error, struct.error, SyntaxError, ... : any of the parsers'.
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise InputError(f"{where}: truncated or corrupt: {reason}") from e


class NpzArray:
    """One array of an open npz file; see arrays.Stored."""

    def __init__(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str):
        """Reads the header and compares what it claims with the bytes that there are.

        Raises:
          InputError: they differ, or it holds Python objects.
        """
        self.where, self._archive, self._entry = where, archive, entry
        with _guard(where):
            self._check_packing()
            with archive.open(entry) as file:
                self.shape, self._fortran, self.dtype = _header(file, where)
                header_bytes = file.tell()
            self.kind = _kind(self.dtype)
            self._check_size(entry.file_size - header_bytes)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop), or the value of an array without axes.

        Raises:
          InputError: the file is damaged.
        """
        with _guard(self.where), self._archive.open(self._entry) as file:
            _header(file, self.where)
            data = file.read()
            value = np.ndarray(self.shape, self.dtype, data, order="F" if self._fortran else "C")
            return value[start:stop].copy() if self.shape else value.copy()

    def _check_packing(self) -> None:
        entry = self._entry
        if entry.compress_type not in _METHODS:
            raise InputError(f"{self.where}: must be stored or deflated, is {entry.compress_type}")
        if entry.file_size > _MAX_RATIO * entry.compress_size + _MAX_HEADER:
            raise InputError(
                f"{self.where}: {entry.compress_size} bytes cannot unpack to {entry.file_size}; "
                "the file is damaged"
            )

    def _check_size(self, n_bytes: int) -> None:
        claimed = math.prod(self.shape) * self.dtype.itemsize
        if claimed != n_bytes or min((0, *self.shape)) < 0:
            raise InputError(
                f"{self.where}: claims {list(self.shape)} {self.dtype}, {claimed} bytes, and holds "
                f"{n_bytes}; the file is damaged"
            )
        if claimed > MAX_EPISODE_BYTES:
            raise InputError(
                f"{self.where}: {claimed} bytes are more than {MAX_EPISODE_BYTES >> 30} GiB; "
                "the file is damaged, or split the episode"
            )


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran order, type) of a .npy member."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise InputError(f"{where}: .npy version {version} is not known")
    shape, fortran, dtype = _HEADERS[version](file, max_header_size=_MAX_HEADER)
    if dtype.hasobject:
        raise InputError(f"{where}: holds Python objects, which are not read; save plain arrays")
    return shape, fortran, dtype


def _kind(dtype: np.dtype) -> str:
    if dtype.kind in "US":
        return "text"
    is_plain = dtype.names is None and dtype.subdtype is None
    return "number" if is_plain and dtype.kind in "biuf" and dtype.itemsize <= 8 else "other"
