"""Configuration files: found by name or path, loaded, and listed with their variants.

A checkout has the shipped files in `configs/` beside `launch/`, an installed wheel has both in
`jaxpolicy/`. They are loaded as modules of one package, `jaxpolicy.configs`, and so is a user's
own file: a copy of a shipped one works anywhere, with what it imports from beside it.
"""

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jaxpolicy.core.schema import InputError

__all__ = ["FOLDER", "Listed", "find", "listing", "load"]

FOLDER = Path(__file__).resolve().parent.parent / "configs"
PACKAGE = "jaxpolicy.configs"
# They hold what experiment files share.
_SHARED = ("common", "tasks")


class Listed(NamedTuple):
    """A shipped configuration.

    Attributes:
      name: as `--config` takes it, without the variant.
      summary: one line.
      variants: what may follow after a colon, as its file tells them.
    """

    name: str
    summary: str
    variants: tuple[str, ...]


def listing() -> tuple[Listed, ...]:
    """Shipped configurations by name, read from their files without running them."""
    return tuple(_listed(path) for path in _shipped())


def _shipped() -> Iterator[Path]:
    for path in sorted(FOLDER.glob("*.py")):
        if not path.stem.startswith("_") and path.stem not in _SHARED:
            yield path


def _listed(path: Path) -> Listed:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    variants = text.partition("\nVARIANTS")[2]
    names = re.findall(r"^\s+(:[\w:]+)", variants, re.MULTILINE)
    return Listed(path.name, text.partition("\n")[0], tuple(names))


def find(name: str) -> Path:
    """The file that `--config=NAME[:VARIANT]` means.

    A path that exists comes first, then a shipped file of that name: `bc.py`, `bc` and
    `configs/bc.py` are the same one in every folder.

    Raises:
      InputError: neither; names what is shipped.
    """
    path = Path(name)
    if path.is_file():
        return path
    is_name = path.parent in (Path(), Path("configs"))
    shipped = FOLDER / path.with_suffix(".py").name
    if is_name and path.suffix in ("", ".py") and shipped in _shipped():
        return shipped
    known = ", ".join(p.name for p in _shipped())
    raise InputError(f"--config: no file '{name}'; give a path, or one of the shipped {known}")


def load(text: str) -> dict[str, Any]:
    """The contents of the ConfigDict that `get_config` of NAME[:VARIANT] returns.

    Raises:
      InputError: no such file or variant, or a file that cannot be run.
    """
    name, _, variant = text.partition(":")
    path = find(name)
    module = _module(path)
    if not callable(getattr(module, "get_config", None)):
        raise InputError(f"--config: {path} has no function get_config(variant)")
    try:
        return module.get_config(variant).to_dict()
    except InputError:
        raise
    except Exception as e:
        raise InputError(f"--config: {path}: {type(e).__name__}: {e}") from e


def _module(path: Path) -> ModuleType:
    _package()
    if path.resolve().parent == FOLDER:
        return importlib.import_module(f"{PACKAGE}.{path.stem}")
    name = f"{PACKAGE}.own_" + re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--config: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except InputError:
        raise
    except Exception as e:
        raise InputError(f"--config: {path}: {type(e).__name__}: {e}") from e
    return module


def _package() -> None:
    """Makes the folder of shipped files importable as PACKAGE, wherever it lies."""
    if PACKAGE in sys.modules:
        return
    start = FOLDER / "__init__.py"
    where = [str(FOLDER)]
    spec = importlib.util.spec_from_file_location(PACKAGE, start, submodule_search_locations=where)
    if spec is None or spec.loader is None:
        raise InputError(f"{start} is missing: install jaxpolicy anew")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)
