"""Walks HDF5 files in a process of its own, for `hdf5.survey`.

The HDF5 library can crash, hang or fill the memory on a damaged file, which no caller can
catch. Whatever it does here, it does to this process, and the parent learns at which object.

Run as a program that needs h5py alone, not as a module of the package, so that it starts
fast. Standard input is JSON {"files": [path, ...], "skip": {path: [object, ...]}, "progress":
path, "memory": bytes, "seconds": for one step}. The file and object visited last are kept in
`progress`; standard output gets a line of JSON for each file: {"file": path, "top": {name:
kind}, "bad": {object: why}}.
"""

import contextlib
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

__all__ = ["MAX_DEPTH", "MAX_MEMBERS", "MAX_OBJECTS", "Walk", "main"]

# Deepest nesting, most members of one group, most objects of one file. 1M: a robomimic file
# of 50,000 demonstrations with 20 arrays each.
MAX_DEPTH = 8
MAX_MEMBERS = 200_000
MAX_OBJECTS = 1_000_000
# Longest string or array of an attribute that is read, bytes; MuJoCo models are the longest.
_MAX_ATTRIBUTE = 2**24
_ERRORS = (OSError, RuntimeError, ValueError, TypeError, LookupError, MemoryError, SystemError)


class Walk:
    """One pass over the objects of one file.

    Attributes:
      top: member of the root -> "group", "array", "link" or "damaged".
      bad: object -> why it must not be touched.
    """

    def __init__(self, path: str, skip: Collection[str], progress: int, seconds: int):
        """Nothing is opened yet.

        Args:
          path: of the file.
          skip: objects to leave out: they ended a process before.
          progress: descriptor of the file that names what is being visited.
          seconds: after which one step ends the process, with SIGALRM; 0: none.
        """
        self.top: dict[str, str] = {}
        self.bad: dict[str, str] = {}
        self._path, self._skip, self._progress = path, frozenset(skip), progress
        self._seconds, self._n = seconds, 0

    def run(self) -> None:
        """Visits everything; what cannot be read is noted in `bad`."""
        import h5py

        self._note("/")
        with self._noting("/"), h5py.File(self._path, "r", locking="best-effort") as file:
            self._visit(file.id, "", 0)

    # h5py's low-level objects from here on: a file may hold a million.

    def _visit(self, group: Any, prefix: str, depth: int) -> None:
        import h5py

        if len(group) > MAX_MEMBERS or depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_MEMBERS} members or {MAX_DEPTH} levels")
        for name in group:
            path, kind = f"{prefix}/{os.fsdecode(name)}", "damaged"
            if path not in self._skip:
                self._note(path)
                with self._noting(path):
                    is_inside = group.links.get_info(name).type == h5py.h5l.TYPE_HARD
                    item = h5py.h5o.open(group, name) if is_inside else None
                    kind = self._enter(item, path, depth)
            if not prefix:
                self.top[path[1:]] = kind

    def _enter(self, item: Any, path: str, depth: int) -> str:
        import h5py

        self._n += 1
        if self._n > MAX_OBJECTS:
            raise ValueError(f"more than {MAX_OBJECTS} objects")
        if isinstance(item, h5py.h5g.GroupID):
            _read_attributes(item)
            self._visit(item, path, depth + 1)
            return "group"
        if isinstance(item, h5py.h5d.DatasetID):
            _read_attributes(item)
            _check_dataset(item, self._go_on)
            return "array"
        return "link"

    def _note(self, path: str) -> None:
        text = json.dumps([self._path, path]).encode()
        os.pwrite(self._progress, text + b"\n", 0)
        self._go_on()

    def _go_on(self) -> None:
        if self._seconds:
            signal.alarm(self._seconds)

    @contextlib.contextmanager
    def _noting(self, path: str) -> Iterator[None]:
        try:
            yield
        except _ERRORS as e:
            self.bad[path] = " ".join(str(e).split())[:200] or type(e).__name__


def _read_attributes(item: Any) -> None:
    import h5py

    if not h5py.h5a.get_num_attrs(item):
        return
    is_group = isinstance(item, h5py.h5g.GroupID)
    attributes = (h5py.Group if is_group else h5py.Dataset)(item).attrs
    for name in attributes:
        attribute = h5py.h5a.open(item, os.fsencode(name))
        if attribute.get_storage_size() > _MAX_ATTRIBUTE:
            raise ValueError(f"attribute '{name}' is too large")
        attributes[name]


def _check_dataset(dataset: Any, go_on: Callable[[], None]) -> None:
    """Parses the index of packed chunks; elements of varying length are read."""
    import h5py

    properties, dtype = dataset.get_create_plist(), dataset.dtype
    if properties.get_layout() == h5py.h5d.CHUNKED and properties.get_nfilters():
        limit = 2 * _chunk_bytes(properties.get_chunk(), dtype.itemsize) + 4096
        dataset.chunk_iter(lambda chunk: _check_chunk(chunk.size, limit, go_on))
    if dtype.kind == "O":
        values = h5py.Dataset(dataset)
        for start in range(0, len(values) if values.ndim else 0, 64):
            go_on()
            values[start : start + 64]


def _chunk_bytes(shape: Sequence[int], itemsize: int) -> int:
    size = math.prod(shape) * itemsize
    if size > 2**30:
        raise ValueError(f"chunks of {size} bytes")
    return size


def _check_chunk(stored: int, limit: int, go_on: Callable[[], None]) -> None:
    """Compression makes nothing much larger; what is would burst when it is unpacked."""
    go_on()
    if stored > limit:
        raise ValueError(f"a packed chunk of {stored} bytes where at most {limit} are possible")


def _limit_memory(n_bytes: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answers one request on standard input."""
    import h5py  # noqa: F401  Before the limit, which is for what files make it do.

    request = json.load(sys.stdin)
    _limit_memory(request["memory"])
    progress = os.open(request["progress"], os.O_WRONLY)
    for path in request["files"]:
        walk = Walk(path, request["skip"].get(path, ()), progress, request["seconds"])
        walk.run()
        sys.stdout.write(json.dumps({"file": path, "top": walk.top, "bad": walk.bad}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
