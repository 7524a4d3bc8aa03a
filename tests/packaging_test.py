"""The locks pin everything that pyproject.toml asks for, and environments are made from them."""

import os
import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import jaxpolicy
from tests import layers

PROJECT = tomllib.loads((layers.ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    "requirements.lock": ("all", "test", "lint"),
    "requirements-interop.lock": ("all", "test", "tflite-loops", "interop"),
    "requirements-peers.lock": ("peers", "lerobot", "hdf5", "test"),
}
PYTHONS = ("3.11", "3.12")
# What decides a marker, on the machines we support.
LINUX = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "os_name": "posix",
    "platform_python_implementation": "CPython",
    "implementation_name": "cpython",
}

VENV = layers.ROOT / ".ci" / "venv"


def _entries(lock: str) -> list[tuple[Requirement, int]]:
    """Pinned requirements and how many hashes each has."""
    text = (layers.ROOT / lock).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(Requirement(line.split("--hash")[0].strip()), line.count("--hash")) for line in lines]


def _environment(python: str) -> dict[str, str]:
    return {**LINUX, "python_version": python, "python_full_version": f"{python}.1", "extra": ""}


def _applies(marker: Marker | None, python: str) -> bool:
    return marker is None or marker.evaluate(_environment(python))


def _pinned(lock: str, python: str) -> dict[str, str]:
    """Name -> version on one Python."""
    return {
        canonicalize_name(r.name): next(iter(r.specifier)).version
        for r, _ in _entries(lock)
        if _applies(r.marker, python)
    }


def _wanted(extras: tuple[str, ...]) -> list[Requirement]:
    """What the project asks for with `extras`, references to itself resolved."""
    optional = PROJECT["optional-dependencies"]
    found = [Requirement(r) for r in PROJECT["dependencies"]]
    for extra in extras:
        for requirement in map(Requirement, optional[extra]):
            is_self = requirement.name == PROJECT["name"]
            found += _wanted(tuple(requirement.extras)) if is_self else [requirement]
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_one_version_with_hashes(lock):
    entries = _entries(lock)
    assert len(entries) > 50
    loose = [r.name for r, hashes in entries if not hashes or not re.match("==", str(r.specifier))]
    assert not loose


@pytest.mark.parametrize("lock", [*LOCKS, "requirements-torch.lock"])
def test_locks_hold_no_addresses(lock):
    text = (layers.ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search("index-url|find-links|trusted-host", text)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS)
def test_locks_satisfy_what_the_project_asks_for(lock, python):
    pinned = _pinned(lock, python)
    missing = [
        str(r)
        for r in _wanted(LOCKS[lock])
        if _applies(r.marker, python)
        if not r.specifier.contains(pinned.get(canonicalize_name(r.name), "0.dev0"))
    ]
    assert not missing, f"run `make lock`: {missing}"


def test_one_version_everywhere():
    assert PROJECT["version"] == jaxpolicy.__version__


def _run(*args: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(VENV), *args],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_finds_an_interpreter_that_starts_rather_than_one_that_exists(tmp_path):
    # Version managers leave such commands behind.
    for version in PYTHONS:
        broken = tmp_path / f"python{version}"
        broken.write_text("#!/bin/sh\necho not installed >&2\nexit 127\n")
        broken.chmod(0o755)
    done = _run("--find", *PYTHONS, PATH=f"{tmp_path}:{os.environ['PATH']}")
    if done.returncode:
        pytest.skip("the only Python 3.11 or 3.12 here is the one that runs the tests")
    assert not done.stdout.startswith(str(tmp_path))
    assert pathlib.Path(done.stdout.strip()).exists()


def test_says_so_when_there_is_no_python(tmp_path):
    for name in ("bash", "cat", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    where = {"PATH": str(tmp_path), "HOME": str(tmp_path), "PYENV_ROOT": "", "PYTHON": ""}
    done = _run(str(tmp_path / "env"), "requirements.lock", **where)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Python 3.11 or 3.12 is needed and neither was found.")
    assert not (tmp_path / "env").exists()


def test_says_so_when_the_named_python_does_not_work(tmp_path):
    done = _run(str(tmp_path / "env"), "requirements.lock", PYTHON="/nowhere/python")
    assert done.returncode == 1
    assert "PYTHON=/nowhere/python is not a working Python 3.11 or 3.12" in done.stderr
    assert not (tmp_path / "env").exists()
