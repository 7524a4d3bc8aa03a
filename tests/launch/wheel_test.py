"""The wheel: what it installs, and the program `jaxpolicy` beside foreign packages of our names."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests import layers

ROOT = layers.ROOT
SOURCES = ("jaxpolicy", "launch", "configs")
FOREIGN = 'raise ImportError("a package of somebody else")\n'
OWN = """
from jaxpolicy.pipeline.experiment import ExperimentConfig
import dataclasses, ml_collections

def get_config(variant=""):
    return ml_collections.ConfigDict(dataclasses.asdict(ExperimentConfig(name="own" + variant)))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the sources as they are."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, source], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """(folder of installed packages, a working directory with a foreign launch and configs)."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", folder, wheel], check=True, capture_output=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("launch", "configs"):
        (elsewhere / name).mkdir()
        (elsewhere / name / "__init__.py").write_text(FOREIGN)
    return folder, elsewhere


def run(installed, *args):
    """The console script, as an installed one runs, in the other directory."""
    folder, elsewhere = installed
    script = "import sys; from jaxpolicy.launch.__main__ import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", script, *args],
        cwd=elsewhere,
        # Before the checkout that the environment's .pth file names, and after the directory.
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(elsewhere), str(folder)))},
        capture_output=True,
        text=True,
    )


def test_the_wheel_installs_jaxpolicy_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry = next(n for n in names if n.endswith("entry_points.txt"))
        points = archive.read(entry).decode()
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"jaxpolicy"}
    assert "jaxpolicy = jaxpolicy.launch.__main__:main" in points
    want = {f"jaxpolicy/{m.path.removeprefix('jaxpolicy/')}" for m in layers.modules(*SOURCES)}
    assert {n for n in names if n.endswith(".py")} == want


def test_packages_of_the_project_file_are_those_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    moved = {"launch": "jaxpolicy.launch", "configs": "jaxpolicy.configs"}
    folders = {Path(m.path).parent.as_posix().replace("/", ".") for m in layers.modules(*SOURCES)}
    want = {moved.get(folder, folder) for folder in folders}
    assert set(project["tool"]["setuptools"]["packages"]) == want


def test_the_program_works_beside_foreign_packages(installed):
    done = run(installed, "--help")
    assert done.returncode == 0, done.stderr
    assert "8 deploy   jaxpolicy export" in done.stdout
    done = run(installed, "train", "--help")
    assert done.returncode == 0, done.stderr
    assert "bc.py" in done.stdout
    done = run(installed, "trian")
    assert done.returncode == 2
    assert done.stderr == "error: no command 'trian'; did you mean 'train'?\n"


def test_shipped_and_own_configurations_are_found(installed):
    _, elsewhere = installed
    shipped = ["train", "--config=dppo.py:lift:debug", "--workdir=run", "--print_config"]
    done = run(installed, *shipped, "--config.seed=3")
    assert done.returncode == 0, done.stderr
    assert "--config.algorithm=dppo\n" in done.stdout
    assert "--config.seed=3\n" in done.stdout
    (elsewhere / "own.py").write_text(OWN)
    own = ["train", "--config=own.py:_1", "--workdir=run", "--print_config"]
    assert "--config.name=own_1\n" in run(installed, *own).stdout
    assert not (elsewhere / "run").exists()


def test_what_there_is_to_choose_from_is_listed(installed):
    done = run(installed, "list")
    assert done.returncode == 0, done.stderr
    for name in ("bc.py", "pick_by_instruction", "ur5e", "dppo", "patch_cnn", "gmm", "lerobot"):
        assert name in done.stdout, name
