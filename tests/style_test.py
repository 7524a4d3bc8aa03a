"""Rules of the code that no linter we use checks. Each test lists every offence."""

import ast
import importlib
import re
import statistics
import subprocess

import pytest

from tests import layers

LIBRARY = layers.modules(*layers.LIBRARY)
CODE = layers.modules(*layers.LIBRARY, *layers.PROGRAMS)
EVERYTHING = layers.modules(*layers.ALL)

LONGEST = 80
# Of all functions of the library and the programs: the middle one, and the 90th percentile.
MEDIAN = 10
P90 = 40


def _report(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    docstring = ast.get_docstring(function, clean=False) or ""
    return function.end_lineno - function.lineno + 1 - len(docstring.splitlines())


def test_no_function_is_long():
    _report(
        [
            m.at(f, f"{f.name} has {_lines(f)} lines, at most {LONGEST}")
            for m in EVERYTHING
            for f in m.functions()
            if _lines(f) > LONGEST
        ]
    )


def test_functions_are_small_as_a_rule():
    lengths = sorted(_lines(f) for m in CODE for f in m.functions())
    assert statistics.median(lengths) <= MEDIAN
    assert lengths[int(0.9 * len(lengths))] <= P90


def _public(nodes: list[ast.stmt]) -> list[ast.stmt]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return [n for n in nodes if isinstance(n, kinds) and not n.name.startswith("_")]


def test_public_symbols_are_documented():
    missing = [f"{m.path} has no docstring" for m in CODE if m.text and not _documented(m.tree)]
    for m in CODE:
        symbols = _public(m.tree.body)
        methods = [n for c in symbols if isinstance(c, ast.ClassDef) for n in _public(c.body)]
        missing += [
            m.at(n, f"{n.name} has no docstring")
            for n in symbols + methods
            if not _documented(n) and not _is_overload(n)
        ]
    _report(missing)


def _documented(node: ast.AST) -> bool:
    return bool(ast.get_docstring(node))


def _is_overload(node: ast.stmt) -> bool:
    return any("overload" in ast.unparse(d) for d in node.decorator_list)


def _exported(module: layers.Module) -> list[str] | None:
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return None


def test_modules_say_what_is_public():
    found = []
    for m in LIBRARY:
        public = {n.name for n in _public(m.tree.body)}
        exported = _exported(m)
        if exported is None:
            found += [f"{m.path} has public symbols and no __all__"] if public else []
            continue
        found += [f"{m.path} __all__ lacks {n}" for n in sorted(public - set(exported))]
        found += [f"{m.path} __all__ exports {n}" for n in exported if n.startswith("_")]
        found += [f"{m.path} __all__ repeats a name"] if len(set(exported)) < len(exported) else []
    _report(found)


@pytest.mark.parametrize("name", [m.name for m in LIBRARY if _exported(m)])
def test_exported_names_exist(name):
    module = importlib.import_module(name)
    assert not [n for n in module.__all__ if not hasattr(module, n)]


def _calls(node: ast.AST, name: str) -> list[ast.Call]:
    return [n for n in ast.walk(node) if isinstance(n, ast.Call) and ast.unparse(n.func) == name]


def test_nothing_is_printed():
    _report([m.at(c, "print") for m in CODE for c in _calls(m.tree, "print")])


def test_no_assert_outside_tests():
    _report(
        [
            m.at(n, "raise InputError instead of assert")
            for m in CODE
            for n in ast.walk(m.tree)
            if isinstance(n, ast.Assert)
        ]
    )


def test_no_pickle():
    names = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    found = [
        f"{m.path}:{i.line} imports {i.target}"
        for m in EVERYTHING
        for i in layers.imports(m)
        if i.target.split(".")[0] in names
    ]
    found += [
        m.at(n, "allow_pickle=True")
        for m in EVERYTHING
        for n in ast.walk(m.tree)
        if isinstance(n, ast.keyword) and ast.unparse(n) == "allow_pickle=True"
    ]
    _report(found)


def _mutable(node: ast.expr | None) -> bool:
    literals = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in {"list", "dict", "set", "bytearray", "defaultdict"}
    return isinstance(node, literals)


def test_no_mutable_defaults():
    _report(
        [
            m.at(f, f"{f.name} has a mutable default")
            for m in EVERYTHING
            for f in m.functions()
            if any(map(_mutable, [*f.args.defaults, *f.args.kw_defaults]))
        ]
    )


def test_functions_take_few_parameters():
    # Eight hyperparameters at most, beside what a function works on; more belong in a
    # frozen dataclass. Twelve arguments of any kind are too many whatever they are.
    _report(
        [
            m.at(f, f"{f.name} has {n} parameters, {d} of them with defaults")
            for m in CODE
            for f in m.functions()
            for d in [len(f.args.defaults) + sum(v is not None for v in f.args.kw_defaults)]
            for n in [len(f.args.posonlyargs) + len(f.args.args) + len(f.args.kwonlyargs)]
            if d > 8 or n > 12
        ]
    )


# A call at the top level of a module acts on import. Registering a type or a derivative is
# how JAX is told about them.
_REGISTERS = re.compile(r"register|\.def(vjp|jvp|jvps)$")


def test_importing_changes_nothing():
    found = []
    for m in LIBRARY:
        for node in m.tree.body:
            is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
            if is_call and not _REGISTERS.search(ast.unparse(node.value.func)):
                found.append(m.at(node, ast.unparse(node)))
            if isinstance(node, ast.Assign) and "environ" in ast.unparse(node.targets[0]):
                found.append(m.at(node, ast.unparse(node)))
    _report(found)


def test_todos_have_owners():
    unowned = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\(\w+\))")
    _report(
        [
            f"{m.path}:{i} {line.strip()}"
            for m in CODE
            for i, line in enumerate(m.text.splitlines(), 1)
            if unowned.search(line)
        ]
    )


# Bracketed, so that this file does not match itself. Packages are found by name and hash,
# and a path of one machine means nothing on another.
_FOREIGN = re.compile(
    r"pypi[.]org|python[h]osted|registry[.]npmjs|deb[.]debian"
    r"|/wor[k]/|/tm[p]/[a-z]|/roo[t]/|/far[m]/|/hom[e]/\w+/"
)
_TEXT_LIMIT = 2_000_000


def _tracked() -> list[str]:
    git = ["git", "-C", str(layers.ROOT), "ls-files", "-co", "--exclude-standard"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which files belong to the project is unknown")
    return done.stdout.splitlines()


def test_no_file_names_a_registry_or_a_machine():
    found = []
    for name in _tracked():
        path = layers.ROOT / name
        if not path.is_file() or path.stat().st_size > _TEXT_LIMIT:
            continue
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{name}:{i} {line}" for i, line in enumerate(lines, 1) if _FOREIGN.search(line)]
    _report(found)
