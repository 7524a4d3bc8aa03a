"""A controller needs the package, NumPy and onnxruntime: `pip install --no-deps .` is enough.

The package is built and installed into a folder of its own, and an interpreter that can import
nothing else drives a bundle with it.
"""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import layers
from tests.deploy import handmade

# What the build does not need. It works on a copy, so that it leaves nothing in the checkout.
NOT_NEEDED = (".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "tests", "benchmarks")

DRIVE = """
import sys

allowed = {*sys.stdlib_module_names, "jaxpolicy", *sys.argv[3].split(",")}


class OnlyThese:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed:
            raise ImportError(name + " is not on a controller")


sys.meta_path.insert(0, OnlyThese())
import numpy as np

import jaxpolicy
from jaxpolicy.deploy import PolicyRuntime, run


class Arm:
    def observe(self):
        image = np.zeros((2, 2, 3), np.uint8)
        return {"image/wrist": image, "proprio": np.ones(3, np.float32)}

    def apply(self, action):
        print(action.shape)


report = run(Arm(), PolicyRuntime(sys.argv[1]), 2)
print(report.steps, jaxpolicy.__file__.startswith(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder into which the package alone was installed."""
    source, target = tmp_path_factory.mktemp("build") / "source", tmp_path_factory.mktemp("target")
    shutil.copytree(layers.ROOT, source, ignore=shutil.ignore_patterns(*NOT_NEEDED))
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--quiet")
    command = (sys.executable, "-m", "pip", "install", *options, "--target", target, source)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def modules_of(*distributions: str) -> set[str]:
    """Top-level modules of distributions and of what they require."""
    owners = metadata.packages_distributions().items()
    owned = {module: {canonicalize_name(n) for n in names} for module, names in owners}
    there = set().union(*owned.values())
    wanted, left = set(), set(distributions)
    while left:
        name = left.pop()
        wanted.add(name)
        needed = (Requirement(r) for r in metadata.requires(name) or ())
        names = {canonicalize_name(r.name) for r in needed if not r.marker or r.marker.evaluate()}
        left |= (names & there) - wanted
    return {module for module, names in owned.items() if names & wanted}


def test_drives_a_bundle_where_there_is_numpy_and_onnxruntime_alone(installed, tmp_path):
    bundle, allowed = handmade.write(tmp_path / "export"), modules_of("numpy", "onnxruntime")
    assert {"numpy", "onnxruntime"} <= allowed
    assert not allowed & {"jax", "flax", "mujoco", "absl", "rich"}
    command = (sys.executable, "-c", DRIVE, bundle, installed, ",".join(sorted(allowed)))
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(2,)", "(2,)", "2 True"]
