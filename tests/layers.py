"""The import table, and the source tree as the structure tests read it.

`TABLE` is the one place that says which package may import which. architecture_test
holds the code to it, build_test holds BUILD to it, docs/architecture.md explains it.
"""

import ast
import dataclasses
import functools
import pathlib
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Folders whose Python files are the project's own.
LIBRARY = ("jaxpolicy",)
PROGRAMS = ("launch", "configs")
ALL = (*LIBRARY, *PROGRAMS, "benchmarks", "tests")

CORE = ("jaxpolicy.core",)
# What a controller needs of it: NumPy at most.
LIGHT = (
    "jaxpolicy.core.schema",
    "jaxpolicy.core.specs",
    "jaxpolicy.core.atomic",
    "jaxpolicy.core.chunking",
    "jaxpolicy.core.counting",
    "jaxpolicy.core.json_file",
    "jaxpolicy.core.registry",
    "jaxpolicy.core.text",
    "jaxpolicy.core.versions",
)
STAGES = (
    "jaxpolicy.sim",
    "jaxpolicy.data",
    "jaxpolicy.networks",
    "jaxpolicy.collect",
    "jaxpolicy.algorithms",
    "jaxpolicy.training",
    "jaxpolicy.evaluation",
    "jaxpolicy.export",
    "jaxpolicy.deploy",
    *CORE,
)
CONFIGS = (
    "jaxpolicy.core.schema",
    "jaxpolicy.sim.config",
    "jaxpolicy.collect.config",
    "jaxpolicy.data.config",
    "jaxpolicy.networks.augment",
    "jaxpolicy.networks.denoisers",
    "jaxpolicy.networks.encoder",
    "jaxpolicy.algorithms",
    "jaxpolicy.training.config",
    "jaxpolicy.evaluation.config",
    "jaxpolicy.export.config",
    "jaxpolicy.pipeline.experiment",
)
POLICY = ("jaxpolicy.training.checkpoint", "jaxpolicy.training.factory")

# Module or package -> what it may import of ours, besides itself. Core imports downward.
TABLE = {
    "jaxpolicy.core": (),
    "jaxpolicy.core.schema": (),
    "jaxpolicy.core.specs": ("jaxpolicy.core.schema",),
    "jaxpolicy.core.atomic": ("jaxpolicy.core.schema",),
    "jaxpolicy.core.chunking": (),
    "jaxpolicy.core.counting": (),
    "jaxpolicy.core.interruption": ("jaxpolicy.core.atomic",),
    "jaxpolicy.core.json_file": ("jaxpolicy.core.atomic",),
    "jaxpolicy.core.registry": ("jaxpolicy.core.schema",),
    "jaxpolicy.core.text": (
        "jaxpolicy.core.specs",
        "jaxpolicy.core.atomic",
        "jaxpolicy.core.registry",
    ),
    "jaxpolicy.core.versions": (),
    "jaxpolicy.core.types": LIGHT,
    "jaxpolicy.core.normalization": LIGHT,
    "jaxpolicy.sim": CORE,
    "jaxpolicy.data": CORE,
    "jaxpolicy.networks": CORE,
    "jaxpolicy.collect": ("jaxpolicy.sim", "jaxpolicy.data", *CORE),
    "jaxpolicy.algorithms": ("jaxpolicy.networks", *CORE),
    "jaxpolicy.training": (
        "jaxpolicy.algorithms",
        "jaxpolicy.networks",
        "jaxpolicy.data",
        "jaxpolicy.sim",
        *CORE,
    ),
    "jaxpolicy.evaluation": (*POLICY, "jaxpolicy.sim", "jaxpolicy.data", *CORE),
    "jaxpolicy.advisor": ("jaxpolicy.data", "jaxpolicy.evaluation.report", *CORE),
    "jaxpolicy.robot": ("jaxpolicy.evaluation.metrics", "jaxpolicy.deploy", *CORE),
    "jaxpolicy.export": (*POLICY, "jaxpolicy.algorithms", "jaxpolicy.deploy", *CORE),
    "jaxpolicy.deploy": LIGHT,
    # The stages in a row: the only package that sees all of the library.
    "jaxpolicy.pipeline": STAGES,
    "configs": CONFIGS,
    "launch": ("jaxpolicy", "configs"),
}


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
      target: the module, as far as it is one of ours; else the dotted name.
      line: where.
      deferred: inside a function.
    """

    target: str
    line: int
    deferred: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Module:
    """A parsed source file.

    Attributes:
      path: relative to the root, with slashes.
      name: dotted name; a package's is that of its folder.
      text: source.
      tree: its syntax tree.
    """

    path: str
    name: str
    text: str
    tree: ast.Module

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method, nested ones too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def at(self, node: ast.AST, text: str) -> str:
        """`path:line text`, for messages."""
        return f"{self.path}:{node.lineno} {text}"


@functools.cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Modules of the given top folders, by path."""
    found = [p for f in folders for p in sorted((ROOT / f).rglob("*.py"))]
    return tuple(_parse(p) for p in found)


def _parse(path: pathlib.Path) -> Module:
    relative = path.relative_to(ROOT)
    parts = relative.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text()
    return Module(relative.as_posix(), name, text, ast.parse(text, str(relative)))


@functools.cache
def names() -> frozenset[str]:
    """Dotted names of all modules and packages of ours."""
    return frozenset(m.name for m in modules(*ALL))


@functools.cache
def imports(module: Module) -> tuple[Import, ...]:
    """What a module imports, wherever the statement stands."""
    return tuple(_imports(module.tree, False))


def _imports(node: ast.AST, deferred: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, deferred)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                yield Import(_target(child, alias.name), child.lineno, deferred)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, deferred or is_function)


def _target(node: ast.ImportFrom, name: str) -> str:
    base = "." * node.level + (node.module or "")
    full = f"{base}.{name}"
    ours = base.split(".")[0] in ALL
    return full if not ours or full in names() else base


def row(name: str) -> str | None:
    """The entry of TABLE that a module belongs to, the longest that matches."""
    matching = [key for key in TABLE if within(name, key)]
    return max(matching, key=len, default=None)


def within(name: str, package: str) -> bool:
    """True when `name` is `package` or inside it."""
    return name == package or name.startswith(package + ".")
