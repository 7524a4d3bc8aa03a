"""Holds BUILD to the import table of tests/layers.py and to the files that exist.

BUILD is run with recorders in place of Bazel's rules: Starlark is read as Python, which
it is a subset of, so comprehensions and globs are what they are to Bazel.
"""

import ast
import dataclasses
from collections.abc import Sequence

import pytest

from tests import layers

LOAD = "@rules_python//python:defs.bzl"
# Targets that the table does not name: shared by tests.
OTHER = {"testing"}


@dataclasses.dataclass(frozen=True)
class Rule:
    """One call of py_library or py_test."""

    kind: str
    name: str
    srcs: tuple[str, ...] = ()
    deps: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    main: str = ""


class _Recorder:
    """What BUILD sees of Bazel."""

    def __init__(self):
        self.rules: list[Rule] = []

    def scope(self) -> dict:
        return {
            "__builtins__": {"len": len},
            "load": self._load,
            "package": lambda default_visibility: None,
            "glob": _glob,
            "py_library": lambda **values: self._add("py_library", values),
            "py_test": lambda **values: self._add("py_test", values),
        }

    def _load(self, source: str, *names: str) -> None:
        assert (source, set(names)) == (LOAD, {"py_library", "py_test"})

    def _add(self, kind: str, values: dict) -> None:
        fields = {f.name for f in dataclasses.fields(Rule)} - {"kind"}
        known = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in fields
        }
        self.rules.append(Rule(kind, **known))


def _glob(include: Sequence[str], exclude: Sequence[str] = ()) -> list[str]:
    paths = {p for pattern in include for p in layers.ROOT.glob(pattern)}
    paths -= {p for pattern in exclude for p in layers.ROOT.glob(pattern)}
    return sorted(p.relative_to(layers.ROOT).as_posix() for p in paths if p.is_file())


def _read(text: str) -> list[Rule]:
    recorder = _Recorder()
    exec(compile(ast.parse(text), "BUILD", "exec"), recorder.scope())
    return recorder.rules


RULES = _read((layers.ROOT / "BUILD").read_text())
LIBRARIES = {r.name: r for r in RULES if r.kind == "py_library" and r.name not in OTHER}
TESTS = [r for r in RULES if r.kind == "py_test"]


def _target(name: str) -> str:
    """The library that holds a module or package of the table."""
    if name in layers.LIGHT or name in ("jaxpolicy", "jaxpolicy.core"):
        return "light"
    parts = name.split(".")
    return parts[1] if parts[0] == "jaxpolicy" else parts[0]


def _needed(name: str) -> str:
    """The library that who may import `name` depends on."""
    return "core" if name == "jaxpolicy.core" else _target(name)


def _expected_deps() -> dict[str, set[str]]:
    """Library -> libraries it depends on by the table; those without files are left out."""
    existing = {_target(m.name) for m in layers.modules(*layers.LIBRARY, *layers.PROGRAMS)}
    deps: dict[str, set[str]] = {name: set() for name in existing}
    for name, allowed in layers.TABLE.items():
        target = _target(name)
        if target not in existing:
            continue
        wanted = {_needed(a) for a in allowed if a != "jaxpolicy"}
        if "jaxpolicy" in allowed:
            wanted |= existing - set(layers.PROGRAMS)
        deps[target] |= (wanted & existing) - {target}
    return {name: _without_implied(d) for name, d in deps.items()}


def _without_implied(deps: set[str]) -> set[str]:
    """`core` brings `light`; only who uses all of the libraries names both."""
    return deps - {"light"} if "core" in deps else deps


def test_there_is_a_library_per_layer():
    assert set(LIBRARIES) == set(_expected_deps())


@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_deps_are_the_import_table(name):
    deps = {d.removeprefix(":") for d in LIBRARIES[name].deps}
    assert deps == _expected_deps()[name]


def test_every_module_is_in_the_library_of_its_layer():
    want = {m.path: _target(m.name) for m in layers.modules(*layers.LIBRARY, *layers.PROGRAMS)}
    assert {path: r.name for r in LIBRARIES.values() for path in r.srcs} == want
    assert sum(len(r.srcs) for r in LIBRARIES.values()) == len(want)


def test_every_test_file_has_a_target_that_runs_it():
    files = [m.path for m in layers.modules("tests") if m.path.endswith("_test.py")]
    assert sorted(t.args[0] for t in TESTS) == sorted(files)
    for test in TESTS:
        assert test.args[0] == f"{test.name}.py"
        assert set(test.srcs) == {test.args[0], test.main}
        assert (layers.ROOT / test.main).is_file()


def test_targets_depend_on_targets_that_exist():
    names = {r.name for r in RULES}
    assert len(names) == len(RULES)
    assert {d.removeprefix(":") for r in RULES for d in r.deps} <= names


def test_lists_are_sorted():
    for rule in LIBRARIES.values():
        assert list(rule.deps) == sorted(rule.deps)


def test_module_marks_the_root():
    tree = ast.parse((layers.ROOT / "MODULE.bazel").read_text())
    (module,) = [c for c in ast.walk(tree) if isinstance(c, ast.Call) and c.func.id == "module"]
    assert {k.arg: k.value.value for k in module.keywords} == {
        "name": "jaxpolicy",
        "version": _version(),
    }


def _version() -> str:
    tree = ast.parse((layers.ROOT / "jaxpolicy/__init__.py").read_text())
    (node,) = [n for n in tree.body if isinstance(n, ast.Assign)]
    return node.value.value
