"""Configuration files: found by name or path, loaded, and listed with their variants.

A checkout has the shipped files in `configs/` beside `launch/`, an installed wheel has both in
`jaxpolicy/`. They are loaded as modules of one package, `jaxpolicy.configs`, and so is a user's
own file: a copy of a shipped one works anywhere, with what it imports from beside it.
"""

import ast
import difflib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jaxpolicy.core.schema import InputError

__all__ = ["FOLDER", "Listed", "find", "listing", "load", "tasks"]

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


def tasks() -> list[str]:
    """What stands for TASK in the variants of shipped configurations; nothing is imported."""
    for node in ast.parse((FOLDER / "tasks.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_TASKS":
            return [ast.literal_eval(key) for key in getattr(node.value, "keys", ())]
    return []


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
    known = [p.stem for p in _shipped()]
    close = difflib.get_close_matches(path.stem, known, n=1)
    told = f"did you mean {close[0]}.py?" if close else f"there are {', '.join(known)}"
    raise InputError(f"--config={name}: no such file, and no configuration of that name; {told}")


def load(text: str) -> dict[str, Any]:
    """The contents of the ConfigDict that `get_config` of NAME[:VARIANT] returns.

    Raises:
      InputError: no such file or variant, or a file that cannot be run.
    """
    name, _, variant = text.partition(":")
    path = find(name)
    try:
        found = _experiment(path, variant)
    except InputError:
        raise
    except (Exception, SystemExit) as e:  # the file is the user's, and so is whatever it raises
        raise InputError(f"--config={name}: {_place(e, path)}{type(e).__name__}: {e}") from e
    mapping = found.to_dict() if hasattr(found, "to_dict") else found
    if not isinstance(mapping, dict):
        kind = type(found).__name__
        raise InputError(f"--config={name}: get_config returned {kind}, not a ConfigDict")
    return mapping


def _experiment(path: Path, variant: str) -> Any:
    function = getattr(_module(path), "get_config", None)
    if function is None:
        raise InputError(f"--config={path}: there is no function get_config(variant) in this file")
    return function(variant) if variant else function()


def _place(error: BaseException, path: Path) -> str:
    """'line 3: ', the last line of the file that had a part in an error."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename) == path.absolute()]
    return f"line {lines[-1]}: " if lines else ""


def _module(path: Path) -> ModuleType:
    _package()
    if path.resolve().parent == FOLDER:
        return importlib.import_module(f"{PACKAGE}.{path.stem}")
    name = f"{PACKAGE}.own_" + re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--config={path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses that the file defines look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
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
