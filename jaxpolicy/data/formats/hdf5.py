"""HDF5 files from anywhere, read without trusting them.

A file is first walked in a process of its own (`survey`), because the HDF5 library can crash
on a damaged one. After that only what the walk found harmless is touched, nothing outside the
file is followed (links, external storage, virtual datasets), and nothing is allocated on the
word of a header that the bytes in the file cannot back.
"""

import contextlib
import functools
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats import hdf5_probe
from jaxpolicy.data.reader import MAX_EPISODE_BYTES

__all__ = ["Array", "Group", "Survey", "files", "looks_like", "natural", "opened", "survey"]

_SUFFIXES = (".hdf5", ".h5")
_MAGIC = b"\x89HDF\r\n\x1a\n"
# Deflate packs at most 1032:1, the best of HDF5's own filters; 1 MiB may go unwritten.
_MAX_RATIO, _UNWRITTEN = 1032, 2**20
# Of the process that walks: address space, seconds for one object, restarts for one file.
_PROBE_BYTES = 2 * 2**30
_PROBE_SECONDS = 20
_PROBE_RESTARTS = 3
_MAX_TEXT = 2**16


class Survey(NamedTuple):
    """What a walk through a file found.

    Attributes:
      top: member of the root -> "group", "array", "link" or "damaged".
      bad: object -> why it must not be touched; "/" for the whole file.
    """

    top: Mapping[str, str]
    bad: Mapping[str, str]


# ------------------------------------------------------------------ which files


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key that puts demo_2 before demo_10."""
    parts = re.split(r"(\d{1,18})", name)
    return tuple((int(p), "") if i % 2 else (-1, p) for i, p in enumerate(parts))


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """The HDF5 files at `path`: itself, or those in the folder by number; [] for none."""
    if path.is_file():
        return [path] if path.suffix in _SUFFIXES or _has_magic(path) else []
    if not path.is_dir():
        return []
    with contextlib.suppress(OSError):
        found = [p for p in path.iterdir() if p.suffix in _SUFFIXES and p.is_file()]
        return sorted((p for p in found if p.name[0] != "."), key=lambda p: natural(p.name))
    return []


def _has_magic(path: pathlib.Path) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC
    return False


def looks_like(
    path: pathlib.Path,
    by_contents: Callable[[Mapping[str, str]], bool],
    by_name: Callable[[str], bool],
) -> bool:
    """Whether the first HDF5 file at `path` is of a format.

    Args:
      path: file or folder.
      by_contents: members of the root -> whether it is.
      by_name: file name -> whether it is, for files that cannot be opened.
    """
    found = files(path)
    if not found:
        return False
    try:
        first = survey(found[:1])[found[0]]
    except InputError:
        return by_name(found[0].name)
    return by_contents(first.top) if first.top else by_name(found[0].name)


# ------------------------------------------------------------------ the walk


def survey(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, Survey]:
    """Walks every file in one other process, once for as long as none changes.

    Raises:
      InputError: h5py is not installed, or a file is not there.
    """
    _h5py()
    return dict(zip(paths, _survey(tuple(map(_identity, paths))), strict=True))


def _identity(path: pathlib.Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError as e:
        raise InputError(f"{path}: cannot read: {e.strerror}") from e
    return str(path), status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=64)
def _survey(identities: tuple[tuple[str, int, int], ...]) -> tuple[Survey, ...]:
    found: dict[str, Survey] = {}
    skip: dict[str, dict[str, str]] = {}
    names = list(dict.fromkeys(name for name, _, _ in identities))
    while remaining := [name for name in names if name not in found]:
        done, place, why = _probe(remaining, skip)
        found |= {n: Survey(s.top, {**s.bad, **skip.get(n, {})}) for n, s in done.items()}
        name, item = place if place[0] in remaining else (remaining[0], "/")
        if why and name not in found:
            bad = skip.setdefault(name, {})
            bad[item] = why
            if item == "/" or len(bad) > _PROBE_RESTARTS:
                found[name] = Survey({}, {"/": f"{why} at {item}"})
    return tuple(found[name] for name, _, _ in identities)


def _probe(
    names: Sequence[str], skip: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, Survey], tuple[str, str], str]:
    """Surveys by file, the last (file, object) visited, and why the process ended early."""
    with tempfile.NamedTemporaryFile() as progress:
        request = {
            "files": names,
            "skip": {n: list(s) for n, s in skip.items()},
            "progress": progress.name,
            "memory": _PROBE_BYTES,
            "seconds": _PROBE_SECONDS,
        }
        lines, why = _run(json.dumps(request))
        done = {v["file"]: Survey(v["top"], v["bad"]) for v in map(json.loads, lines)}
        last = _last_visited(progress)
    if set(names) - set(done):
        why = why or "the HDF5 library gives no answer"
    return done, last, why


def _last_visited(progress: IO[bytes]) -> tuple[str, str]:
    progress.seek(0)
    with contextlib.suppress(ValueError):
        name, item = json.loads(progress.readline())
        return name, item
    return "", ""


def _run(request: str) -> tuple[list[str], str]:
    """Lines of complete answers, and why the walk ended early."""
    # -P: this folder holds modules whose names others use.
    command = [sys.executable, "-P", hdf5_probe.__file__]
    # Linear algebra reserves address space for every core.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            input=request,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            # Else Ctrl-C on the terminal would look as if the file had ended it.
            start_new_session=True,
        )
    except OSError as e:
        raise InputError(f"cannot start {command[0]} to check HDF5 files: {e.strerror}") from e
    lines = [line for line in done.stdout.splitlines(keepends=True) if line.endswith("\n")]
    if done.returncode == -signal.SIGALRM:
        return lines, f"the HDF5 library hangs on it (over {_PROBE_SECONDS} s)"
    if done.returncode < 0:
        return lines, f"the HDF5 library crashes on it (signal {-done.returncode})"
    return lines, _last_line(done.stderr) if done.returncode else ""


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "the HDF5 library fails on it"


# ------------------------------------------------------------------ open files


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as e:
        raise InputError("HDF5 needs h5py: pip install 'jaxpolicy[hdf5]'") from e
    return h5py


@contextlib.contextmanager
def _guard(where: str) -> Iterator[None]:
    """Whatever h5py objects to becomes one line."""
    try:
        yield
    except InputError:
        raise
    except (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        MemoryError,
        AttributeError,
        ArithmeticError,
        SystemError,
    ) as e:
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise InputError(f"{where}: truncated or corrupt: {reason}") from e


@contextlib.contextmanager
def opened(path: pathlib.Path, found: Survey) -> Iterator["Group"]:
    """The root of a file, open for reading inside the block.

    Args:
      path: of the file.
      found: what `survey` says of it.

    Raises:
      InputError: it is not HDF5 or damaged.
    """
    if "/" in found.bad:
        raise InputError(f"{path}: truncated or corrupt: {found.bad['/']}")
    with _guard(str(path)):
        file = _h5py().File(path, "r", locking="best-effort")
    try:
        yield Group(file, str(path), "", found.bad)
    finally:
        with contextlib.suppress(RuntimeError, OSError, ValueError):
            file.close()


class Group:
    """A group of an open file.

    Attributes:
      where: file and place in it, for messages.
    """

    def __init__(self, value: Any, file: str, path: str, bad: Mapping[str, str]):
        """Wraps an h5py group that `opened` or a Group has checked."""
        self._value, self._file, self._path, self._bad = value, file, path, bad
        self.where = f"{file}: {path or '/'}"

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Members by number, readable or not; names that damage made unprintable are left out."""
        with _guard(self.where):
            if len(self._value) > hdf5_probe.MAX_MEMBERS:
                raise InputError(f"{self.where}: holds over {hdf5_probe.MAX_MEMBERS} members")
            return tuple(sorted(filter(str.isprintable, self._value), key=natural))

    def __contains__(self, name: str) -> bool:
        # Asks for the link alone: what it leads to is not opened, and there may be many others.
        with _guard(self.where):
            return bool(self._value.id.links.exists(name.encode("utf-8", "surrogateescape")))

    def get(self, name: str) -> "Group | Array | None":
        """Member `name` ("a/b": of a group in it), None where there is none.

        Raises:
          InputError: it is damaged or a link to elsewhere.
        """
        head, _, rest = name.partition("/")
        if head not in self:
            return None
        member = self._member(head)
        if not rest:
            return member
        return member.get(rest) if isinstance(member, Group) else None

    def _member(self, name: str) -> "Group | Array":
        h5py, path = _h5py(), f"{self._path}/{name}"
        where = f"{self._file}: {path}"
        if path in self._bad:
            raise InputError(f"{where}: truncated or corrupt: {self._bad[path]}")
        with _guard(where):
            if not isinstance(self._value.get(name, getlink=True), h5py.HardLink):
                raise InputError(f"{where}: is a link to elsewhere, which is not followed")
            value = self._value[name]
            if isinstance(value, h5py.Group):
                return Group(value, self._file, path, self._bad)
            if isinstance(value, h5py.Dataset):
                return Array(value, where)
        raise InputError(f"{where}: is neither a group nor an array")

    def group(self, name: str) -> "Group":
        """The group `name`; raises InputError where there is none."""
        found = self.get(name)
        if not isinstance(found, Group):
            raise InputError(f"{self.where}: must hold a group '{name}'; {self._there()}")
        return found

    def array(self, name: str) -> "Array":
        """The array `name`; raises InputError where there is none."""
        found = self.get(name)
        if not isinstance(found, Array):
            raise InputError(f"{self.where}: must hold an array '{name}'; {self._there()}")
        return found

    def _there(self) -> str:
        return f"there are: {', '.join(self.names[:20]) or 'none'}"

    def pick(self, *names: str) -> dict[str, "Array"]:
        """Those of `names` ("a/b": of a group in it) that are arrays here; nothing else is opened.

        Raises:
          InputError: one is damaged or a link to elsewhere.
        """
        found = {name: self.get(name) for name in names}
        return {name: value for name, value in found.items() if isinstance(value, Array)}

    def arrays(self, leave_out: Sequence[str] = ()) -> dict[str, "Array"]:
        """All arrays below, levels joined by "/".

        Args:
          leave_out: members of this group that are not entered.
        """
        return dict(self._arrays(leave_out, "", 0))

    def _arrays(
        self, leave_out: Sequence[str], prefix: str, depth: int
    ) -> Iterator[tuple[str, "Array"]]:
        if depth > hdf5_probe.MAX_DEPTH:
            raise InputError(f"{self.where}: groups are nested too deep")
        for name in self.names:
            member = None if name in leave_out else self._member(name)
            if isinstance(member, Array):
                yield prefix + name, member
            elif member is not None:
                yield from member._arrays((), f"{prefix}{name}/", depth + 1)  # noqa: SLF001

    def attribute(self, name: str) -> Any:
        """Attribute as bool, int, float or str; None where there is none or it is another."""
        with _guard(f"{self.where}, attribute '{name}'"):
            value = self._value.attrs.get(name)
        if isinstance(value, np.ndarray | np.generic) and value.size == 1:
            value = value.reshape(-1)[0]
            value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        return value if isinstance(value, bool | int | float | str) else None

    def text(self, *names: str) -> str:
        """The first of these attributes that is a text, "" where none is."""
        found = (self.attribute(n) for n in names)
        return next((v[:_MAX_TEXT] for v in found if isinstance(v, str) and v), "")

    def json(self, name: str) -> dict[str, Any]:
        """Attribute that holds a JSON object; {} where there is none.

        Raises:
          InputError: it is there and anything else.
        """
        text = self.attribute(name)
        if text is None:
            return {}
        try:
            value = json.loads(text)
        except (ValueError, TypeError, RecursionError) as e:
            raise InputError(f"{self.where}, attribute '{name}': not valid JSON: {e}") from e
        if not isinstance(value, dict):
            raise InputError(f"{self.where}, attribute '{name}': must be a JSON object")
        return value


class Array:
    """A dataset of an open file.

    Attributes:
      where: file and place in it, for messages.
      shape: as in the file.
      dtype: NumPy's; bool for HDF5's enumeration of FALSE and TRUE.
      kind: "number"; "bytes", rows of bytes of any length; "text"; or "other".
    """

    def __init__(self, value: Any, where: str):
        """Wraps an h5py dataset; reads nothing."""
        self._value, self.where = value, where
        with _guard(where):
            self.shape: tuple[int, ...] = value.shape or ()
            self.dtype = value.dtype
            self.kind = _kind(value.dtype)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop), or the value of an array without axes.

        Raises:
          InputError: it is damaged, kept outside this file, or claims to be absurdly large.
        """
        if self.kind == "other":
            raise InputError(f"{self.where}: {self.dtype} is not a type that is read")
        stop = len(self) if stop is None else min(stop, len(self))
        with _guard(self.where):
            self._check(start, stop)
            value = self._value[start:stop] if self.shape else self._value[()]
        return np.asarray(value)

    def _check(self, start: int, stop: int) -> None:
        h5py, value = _h5py(), self._value
        properties = value.id.get_create_plist()
        if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
            raise InputError(f"{self.where}: its values lie in another file, not followed")
        n_bytes = math.prod(self.shape) * self.dtype.itemsize
        stored = value.id.get_storage_size()
        if n_bytes > _MAX_RATIO * stored + _UNWRITTEN:
            raise InputError(
                f"{self.where}: claims {list(self.shape)} {self.dtype} and holds {stored} bytes; "
                "the file is damaged"
            )
        wanted = math.prod(self.shape[1:]) * self.dtype.itemsize * max(0, stop - start)
        if wanted > MAX_EPISODE_BYTES:
            raise InputError(
                f"{self.where}: {wanted} bytes are more than {MAX_EPISODE_BYTES >> 30} GiB; "
                "the file is damaged, or split the episode"
            )


def _kind(dtype: np.dtype) -> str:
    h5py = _h5py()
    if h5py.check_string_dtype(dtype) is not None:
        return "text"
    if h5py.check_vlen_dtype(dtype) == np.dtype(np.uint8):
        return "bytes"
    is_plain = dtype.names is None and dtype.subdtype is None
    return "number" if is_plain and dtype.kind in "biuf" and dtype.itemsize <= 8 else "other"
