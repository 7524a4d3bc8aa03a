"""Which versions made something: of this library, with its commit, and of packages."""

import functools
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from jaxpolicy import __version__

__all__ = ["NOT_INSTALLED", "library", "of"]

NOT_INSTALLED = "not installed"

_ROOT = Path(__file__).resolve().parents[2]
# Characters of a commit that are told, as many as are unique in large repositories.
_DIGITS = 12


def of(packages: Iterable[str]) -> dict[str, str]:
    """Version by name; "jaxpolicy" and "python" are names too.

    What is not installed has NOT_INSTALLED for its version, so none is ever empty.
    """
    return {name: _of_one(name) for name in packages}


@functools.cache
def library(root: str | os.PathLike[str] = _ROOT) -> str:
    """Version of this library: "0.1.0", in a git checkout "0.1.0+g" and the commit.

    Changes that are not committed do not show in it.

    Args:
      root: the folder that holds the package.
    """
    commit = _commit(Path(root))
    return f"{__version__}+g{commit[:_DIGITS]}" if commit else __version__


def _of_one(name: str) -> str:
    if name == "jaxpolicy":
        return library()
    if name == "python":
        return platform.python_version()
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _commit(root: Path) -> str:
    """Of the checkout in `root`, "" where there is none.

    Read from git's files rather than by running git, which may be missing, and which would
    find the repository that an installed package happens to lie in.
    """
    try:
        git = _git_folder(root)
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return _hex(head)
        return _hex(_resolve(git, head.removeprefix("ref:").strip()))
    except (OSError, UnicodeDecodeError):
        return ""


def _git_folder(root: Path) -> Path:
    """`.git`, or what that file points to in a worktree."""
    git = root / ".git"
    if git.is_dir():
        return git
    return root / git.read_text(encoding="utf-8").strip().removeprefix("gitdir:").strip()


def _resolve(git: Path, ref: str) -> str:
    """The commit of a reference, which worktrees share with their repository."""
    common = git / "commondir"
    shared = git / common.read_text(encoding="utf-8").strip() if common.exists() else git
    for folder in (git, shared):
        if (folder / ref).is_file():
            return (folder / ref).read_text(encoding="utf-8").strip()
    lines = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), "")


def _hex(text: str) -> str:
    return text if len(text) >= 40 and set(text) <= set("0123456789abcdef") else ""
