"""Holds the code to the import table of tests/layers.py and to the rules beside it."""

import graphlib
import subprocess
import sys

import pytest

from tests import layers
from tests.layers import Import, Module

CODE = layers.modules(*layers.LIBRARY, *layers.PROGRAMS)

# Third-party name -> where of ours it may be imported.
ONLY_IN = {
    "absl.flags": ("launch",),
    "absl.app": ("launch",),
    "dm_robotics.agentflow": ("jaxpolicy.robot",),
    "dm_robotics.manipulation": ("jaxpolicy.robot",),
    "dm_robotics.moma": ("jaxpolicy.robot",),
    "jax2onnx": ("jaxpolicy.export.onnx",),
    "ml_collections": ("configs", "launch"),
    "onnx": ("jaxpolicy.export.onnx",),
    "tensorflow": ("jaxpolicy.export",),
}
# Imported inside functions only: slow, large or optional.
DEFERRED = ("tensorflow",)
# Must run on a controller without the training stack.
WITHOUT_JAX = (*layers.LIGHT, "jaxpolicy.deploy")
TRAINING_STACK = ("jax", "jaxlib", "flax", "optax", "orbax", "brax", "chex", "ml_collections")


def _ours(target: str) -> bool:
    return target.split(".")[0] in layers.ALL


def _all_imports() -> list[tuple[Module, Import]]:
    return [(m, i) for m in CODE for i in layers.imports(m)]


def _report(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)


def test_every_module_has_a_row_in_the_table():
    known = {"jaxpolicy"}
    _report([m.path for m in CODE if m.name not in known and layers.row(m.name) is None])


def _allowed(module: Module, target: str) -> bool:
    # The face of the library holds its version and nothing else.
    if target == "jaxpolicy":
        return True
    key = layers.row(module.name)
    permitted = (key, *layers.TABLE[key]) if key else ()
    return any(layers.within(target, p) for p in permitted)


def test_imports_follow_the_table():
    _report(
        [
            f"{m.path}:{i.line} {m.name} may not import {i.target}"
            for m, i in _all_imports()
            if _ours(i.target) and not _allowed(m, i.target)
        ]
    )


def test_relative_imports_are_those_of_packages_with_two_names():
    """`launch` and `configs` are `jaxpolicy.launch` and `jaxpolicy.configs` once installed."""
    relative = [(m, i) for m, i in _all_imports() if i.target.startswith(".")]
    inside = {p: {m.name for m in CODE if layers.within(m.name, p)} for p in layers.PROGRAMS}
    for module, found in relative:
        package = module.name.split(".")[0]
        target = package + "." + found.target.lstrip(".")
        if package not in inside or target not in inside[package]:
            pytest.fail(f"{module.path}:{found.line} {found.target}")
    absolute = [
        f"{m.path}:{i.line} imports {i.target}"
        for m, i in _all_imports()
        if i.target.split(".")[0] in layers.PROGRAMS and m.name.split(".")[0] in layers.PROGRAMS
    ]
    _report(absolute)


def test_a_newcomer_finds_the_stages_at_the_top():
    top = {p.name for p in (layers.ROOT / "jaxpolicy").iterdir() if p.name != "__pycache__"}
    stages = {key.split(".")[1] for key in layers.TABLE if key.startswith("jaxpolicy.")}
    assert top - {"__init__.py", "py.typed"} <= stages
    assert {p for p in top if p.endswith(".py")} == {"__init__.py"}


def test_files_of_the_pipeline_are_short():
    lengths = {m.path: m.text.count("\n") for m in CODE if m.name.startswith("jaxpolicy.pipeline")}
    _report([f"{path}: {n} lines" for path, n in lengths.items() if n > 300])


def test_no_import_cycles():
    graph = {
        m.name: {i.target for i in layers.imports(m) if _ours(i.target) and not i.deferred}
        for m in layers.modules(*layers.ALL)
    }
    # A package face imports its own modules; only a way back is a cycle.
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as e:
        pytest.fail(" -> ".join(e.args[1]))


def test_third_party_packages_stay_where_they_belong():
    _report(
        [
            f"{m.path}:{i.line} {i.target} belongs in {' or '.join(places)} only"
            for m, i in _all_imports()
            for name, places in ONLY_IN.items()
            if layers.within(i.target, name)
            if not any(layers.within(m.name, p) for p in places)
        ]
    )


def test_slow_packages_are_imported_inside_functions():
    _report(
        [
            f"{m.path}:{i.line} import {i.target} inside the function that needs it"
            for m, i in _all_imports()
            if not i.deferred and any(layers.within(i.target, name) for name in DEFERRED)
        ]
    )


def test_schema_needs_the_standard_library_only():
    (schema,) = [m for m in CODE if m.name == "jaxpolicy.core.schema"]
    roots = {i.target.split(".")[0] for i in layers.imports(schema)}
    assert roots <= sys.stdlib_module_names


@pytest.mark.parametrize("name", [f"jaxpolicy.core.{n}" for n in ("specs", "chunking", "text")])
def test_numeric_core_needs_numpy_only(name):
    (module,) = [m for m in CODE if m.name == name]
    roots = {i.target.split(".")[0] for i in layers.imports(module)}
    assert roots <= sys.stdlib_module_names | {"numpy", "jaxpolicy"}


def test_no_jax_where_a_controller_runs():
    _report(
        [
            f"{m.path}:{i.line} imports {i.target}"
            for m, i in _all_imports()
            if any(layers.within(m.name, p) for p in WITHOUT_JAX)
            if i.target.split(".")[0] in TRAINING_STACK
        ]
    )


def _run(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=layers.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_import_jaxpolicy_pulls_in_no_other_package():
    # What the interpreter loads by itself (.pth files) is subtracted.
    _run(
        "import sys; before = set(sys.modules); import jaxpolicy; "
        "new = set(sys.modules) - before; assert new == {'jaxpolicy'}, new"
    )


def test_controller_side_imports_without_the_training_stack():
    modules = [m.name for m in CODE if any(layers.within(m.name, p) for p in WITHOUT_JAX)]
    # None in sys.modules makes any import of that name fail.
    _run(
        f"import importlib, sys; sys.modules.update(dict.fromkeys({TRAINING_STACK!r}))\n"
        f"for name in {modules!r}: importlib.import_module(name)"
    )


def test_programs_are_not_imported_by_the_library():
    _report(
        [
            f"{m.path}:{i.line} imports {i.target}"
            for m, i in _all_imports()
            if m.name.startswith("jaxpolicy") and i.target.split(".")[0] in layers.PROGRAMS
        ]
    )


def test_stages_do_not_know_the_whole():
    whole = "jaxpolicy.pipeline"
    _report(
        [
            f"{m.path}:{i.line} imports {i.target}"
            for m, i in _all_imports()
            if layers.within(i.target, whole)
            if m.name.startswith("jaxpolicy") and not layers.within(m.name, whole)
        ]
    )


# The checks above must be able to fail: a table that allows all, or a reader that
# misses a form of import, would pass silently.
def test_reader_sees_every_form_of_import():
    source = (
        "import tensorflow.lite as t, numpy\n"
        "from jaxpolicy.core import chunking\n"
        "from jaxpolicy.core.specs import ArraySpec\n"
        "from . import x\n"
        "def f():\n  from onnx import helper\n"
    )
    module = Module("m.py", "m", source, layers.ast.parse(source))
    assert [(i.target, i.line, i.deferred) for i in layers.imports(module)] == [
        ("tensorflow.lite", 1, False),
        ("numpy", 1, False),
        ("jaxpolicy.core.chunking", 2, False),
        ("jaxpolicy.core.specs", 3, False),
        ("..x", 4, False),
        ("onnx.helper", 6, True),
    ]


@pytest.mark.parametrize(
    ("name", "target", "allowed"),
    [
        ("jaxpolicy.deploy.runtime", "jaxpolicy.core.chunking", True),
        ("jaxpolicy.deploy.runtime", "jaxpolicy.deploy.backends", True),
        ("jaxpolicy.deploy.runtime", "jaxpolicy.core.types", False),
        ("jaxpolicy.evaluation.rollout", "jaxpolicy.training.factory", True),
        ("jaxpolicy.evaluation.rollout", "jaxpolicy.training.loop", False),
        ("jaxpolicy.networks.mlp", "jaxpolicy.sim", False),
        ("jaxpolicy.core.specs", "jaxpolicy.core.types", False),
        ("launch.train", "jaxpolicy.training.loop", True),
    ],
)
def test_table_says(name, target, allowed):
    module = Module("", name, "", layers.ast.parse(""))
    assert _allowed(module, target) is allowed
