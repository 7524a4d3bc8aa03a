"""Files of a LeRobot dataset: places that its descriptions name, text, and open handles.

A dataset comes from strangers: a name in it must not lead out of its folder, and nothing in
it is ever formatted, evaluated or unpickled.
"""

import collections
import contextlib
import importlib
import json
import os
import pathlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxpolicy.core.specs import InputError

__all__ = ["Folder", "Handles", "fill", "one_line", "package"]

_MAX_TEXT = 64 * 2**20
_SLOT = re.compile(r"\{(\w{1,40})(?::0?(\d{1,2})d)?\}")


def fill(template: str, values: Mapping[str, int | str], where: str) -> str:
    """`template` with `{name}` and `{name:03d}` replaced, and nothing else in braces.

    Raises:
      InputError: the template asks for anything else.
    """

    def one(match: re.Match) -> str:
        name, width = match.groups()
        if name not in values or (width and isinstance(values[name], str)):
            raise InputError(
                f"{where}: path '{template[:200]}' asks for {{{name}}}; there are "
                f"{', '.join(values)}"
            )
        return str(values[name]).zfill(int(width or 0))

    literal = _SLOT.sub("", template)
    if "{" in literal or "}" in literal or "\0" in literal:
        raise InputError(f"{where}: path '{template[:200]!r}' is malformed")
    return _SLOT.sub(one, template)


def one_line(error: BaseException) -> str:
    """What a library says of a file, fit for one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def package(name: str) -> Any:
    """An optional package; raises InputError that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise InputError(
            f"LeRobot datasets need {name.split('.')[0]}: pip install 'jaxpolicy[lerobot]'"
        ) from e


class Folder:
    """A dataset's folder. Only regular files inside it are handed out.

    Symbolic links are followed within the folder, and from a snapshot of the Hugging Face
    cache (`<repo>/snapshots/<revision>`) into the `blobs` of that repository.
    """

    def __init__(self, root: pathlib.Path):
        """Resolves the places that files may lie in."""
        self.root = root
        self._homes = [root.resolve()]
        if root.resolve().parent.name == "snapshots":
            self._homes.append(root.resolve().parent.parent / "blobs")

    def file(self, relative: str) -> pathlib.Path:
        """Path of an existing file.

        Raises:
          InputError: there is none, or it lies outside the folder.
        """
        path = self.root / relative
        try:
            target = path.resolve()
            inside = any(target.is_relative_to(home) for home in self._homes)
            if inside and target.is_file():
                return path
        except (OSError, ValueError, RuntimeError) as e:
            raise InputError(f"{self.root}: cannot reach '{relative[:200]!r}'") from e
        if not inside:
            raise InputError(f"{self.root}: '{relative[:200]}' leaves the folder of the dataset")
        raise InputError(f"{path}: missing; the dataset's descriptions name it")

    def has(self, relative: str) -> bool:
        """Whether `file` would give a path."""
        try:
            return bool(self.file(relative))
        except InputError:
            return False

    def files(self, pattern: str) -> list[pathlib.Path]:
        """All files that match a glob, sorted."""
        found = sorted(self.root.glob(pattern))
        return [self.file(os.path.relpath(p, self.root)) for p in found]

    def json(self, relative: str) -> dict[str, Any]:
        """A JSON object; raises InputError where there is none."""
        path = self.file(relative)
        return _object(_read(path), str(path))

    def lines(self, relative: str) -> Iterator[dict[str, Any]]:
        """JSON objects, one a line; raises InputError where that is not so."""
        path = self.file(relative)
        try:
            with open(path, "rb") as file:
                for number, line in enumerate(iter(lambda: file.readline(_MAX_TEXT), b""), 1):
                    if line.strip():
                        yield _object(line, f"{path}: line {number}")
        except OSError as e:
            raise InputError(f"{path}: cannot read: {e.strerror}") from e


def _read(path: pathlib.Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_TEXT + 1)
    except OSError as e:
        raise InputError(f"{path}: cannot read: {e.strerror}") from e
    if len(data) > _MAX_TEXT:
        raise InputError(f"{path}: larger than {_MAX_TEXT >> 20} MiB; not a description")
    return data


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise InputError(f"{where}: not valid JSON: {one_line(e)}") from e
    if not isinstance(value, dict):
        raise InputError(f"{where}: must hold a JSON object")
    return value


class Handles:
    """A few open files, the most recently used.

    A handle is lent to one thread at a time, and a forked process opens its own: the position
    in a file is shared by all who hold it.
    """

    def __init__(self, limit: int, close: Callable[[Any], None]):
        """At most `limit` idle handles stay open; `close` closes one."""
        self._limit, self._close = limit, close
        self._lock = threading.Lock()
        self._idle: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        self._process = os.getpid()

    def __reduce__(self) -> tuple:
        return (Handles, (self._limit, self._close))

    @contextlib.contextmanager
    def lend(self, key: Any, opener: Callable[[], Any]) -> Iterator[Any]:
        """The handle of `key`, from `opener` where none is idle; closed if the block fails."""
        with self._lock:
            if self._process != os.getpid():
                self._idle, self._process = collections.OrderedDict(), os.getpid()
            handle = self._idle.pop(key, None)
        handle = opener() if handle is None else handle
        try:
            yield handle
        except BaseException:
            self._close(handle)
            raise
        self._give_back(key, handle)

    def _give_back(self, key: Any, handle: Any) -> None:
        with self._lock:
            spare = [self._idle.pop(key)] if key in self._idle else []
            self._idle[key] = handle
            if len(self._idle) > self._limit:
                spare.append(self._idle.popitem(last=False)[1])
        for other in spare:
            self._close(other)
