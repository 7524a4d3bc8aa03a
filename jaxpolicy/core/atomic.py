"""Output that appears whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from jaxpolicy.core.schema import InputError

__all__ = [
    "append_line",
    "discard",
    "discard_later",
    "make_directory",
    "make_parent",
    "new_directory",
    "new_file",
    "point",
    "remove",
    "remove_empty",
    "require_free",
    "scratch",
    "tidy",
    "unfinished",
    "write_bytes",
    "write_text",
]

PathLike = str | os.PathLike[str]

# What this process has under construction, and folders that it made: what is left of them is
# removed when the process must end in the middle, or has refused to begin.
_UNFINISHED: set[pathlib.Path] = set()
_MADE: list[pathlib.Path] = []


@contextlib.contextmanager
def unfinished(path: pathlib.Path) -> Iterator[None]:
    """`path`, a file or folder, is of no use to anyone unless the block ends."""
    _UNFINISHED.add(path)
    try:
        yield
    finally:
        _UNFINISHED.discard(path)


def discard_later(path: pathlib.Path) -> None:
    """As `unfinished`, for what lives as long as the process."""
    _UNFINISHED.add(path)


def tidy() -> None:
    """For a process that ends in the middle: leaves nothing that is of no use."""
    discard()
    remove_empty()


def discard() -> None:
    """Removes all that is unfinished."""
    for path in tuple(_UNFINISHED):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_empty() -> None:
    """Removes folders that `make_directory` made in this process and nobody wrote into."""
    for path in reversed(_MADE):
        with contextlib.suppress(OSError):
            path.rmdir()
    _MADE.clear()


@contextlib.contextmanager
def scratch(path: PathLike) -> Iterator[pathlib.Path]:
    """A folder for what is needed while `path` is made, beside it, removed after the block.

    Raises:
      OSError: it cannot be made.
    """
    path = pathlib.Path(path)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = pathlib.Path(folder)
        with unfinished(temporary):
            yield temporary


def write_text(path: PathLike, text: str) -> None:
    """Writes a file in UTF-8, as `new_file` does."""
    write_bytes(path, text.encode())


def write_bytes(path: PathLike, data: bytes) -> None:
    """Writes a file, as `new_file` does."""
    with new_file(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def new_file(path: PathLike) -> Iterator[pathlib.Path]:
    """A temporary neighbour that takes the place of `path` when the block succeeds.

    The block writes it; its name ends like that of `path`, for programs that go by the
    suffix. The block's exception removes it and leaves `path` as it was.

    Raises:
      InputError: the folder cannot be made, or the file cannot be written.
    """
    path = pathlib.Path(path)
    make_parent(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with unfinished(temporary):
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
    except OSError as e:
        raise InputError(f"{path}: cannot write: {e.strerror or e}") from e
    finally:
        temporary.unlink(missing_ok=True)


def remove(path: PathLike) -> None:
    """Deletes a file if it is there; raises InputError where that is not allowed."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as e:
        raise InputError(f"{os.fspath(path)}: cannot delete: {e.strerror}") from e


def point(link: PathLike, target: PathLike) -> None:
    """Makes `link` a relative link to `target`, in one step, whatever was there.

    A folder there is one that a copy made of a link, by following it.
    """
    link = pathlib.Path(link)
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    temporary = link.with_name(f".{os.getpid()}.{link.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    os.replace(temporary, link)


def append_line(path: PathLike, line: str) -> None:
    """Appends one line, on disk when this returns."""
    make_parent(pathlib.Path(path))
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        raise InputError(f"{os.fspath(path)}: cannot write: {e.strerror}") from e


@contextlib.contextmanager
def new_directory(path: PathLike) -> Iterator[pathlib.Path]:
    """A temporary directory beside `path`, renamed to it when the block succeeds.

    The block's exception removes everything it wrote. An empty directory at `path`
    is replaced; the rename fails when `path` holds files by then.

    Raises:
      InputError: the parent cannot be written, or `path` is a file or not empty.
    """
    path = pathlib.Path(path)
    require_free(path)
    make_parent(path)
    try:
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as e:
        raise InputError(f"{path.parent}: cannot write here: {e.strerror}") from e
    try:
        with unfinished(temporary):
            yield temporary
            temporary.chmod(0o755)
            _sync(*temporary.iterdir(), temporary)
            os.replace(temporary, path)
    except OSError as e:
        raise InputError(f"{path}: cannot write: {e.strerror}") from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_parent(path: pathlib.Path) -> None:
    """Creates the folder that `path` lies in; raises InputError where that fails."""
    make_directory(path.parent)


def make_directory(path: PathLike) -> None:
    """Creates a folder if it is not there; raises InputError where that fails."""
    path = pathlib.Path(path)
    missing = [p for p in (path, *path.parents) if not p.exists()]
    try:
        os.makedirs(path, exist_ok=True)
        _MADE.extend(p.absolute() for p in reversed(missing))
    except OSError as e:
        raise InputError(f"{os.fspath(path)}: cannot create this folder: {e.strerror}") from e


def require_free(path: pathlib.Path) -> None:
    """Raises InputError where `path` is a file, or a folder that holds something."""
    if path.is_file():
        raise InputError(f"{path}: is a file; give a new folder")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path}: exists and is not empty; remove it or give a new folder")


def _sync(*paths: pathlib.Path) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
