"""Verification notices wrong answers and damaged files, and needs no JAX."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.deploy import artefact
from jaxpolicy.export import verify

ROOT = Path(__file__).parents[2]

WITHOUT_JAX = """
import sys


class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "flax", "optax"):
            raise ImportError(name + " is blocked")


sys.meta_path.insert(0, Block())
from jaxpolicy.export import verify

print(verify.verify(sys.argv[1])["passed"])
"""


@pytest.fixture
def copy(bundle, tmp_path):
    return Path(shutil.copytree(bundle, tmp_path / "export"))


def rewrite_golden(directory, **changes):
    """Changes arrays of golden.npz and the hash that protects it."""
    with np.load(directory / "golden.npz") as file:
        arrays = {k: file[k] for k in file.files} | changes
    np.savez(directory / "golden.npz", **arrays)
    rehash(directory, "golden.npz")


def rehash(directory, name):
    path = directory / "manifest.json"
    value = json.loads(path.read_text())
    value["sha256"][name] = artefact.digest((directory / name).read_bytes())
    path.write_text(json.dumps(value))


def test_passes(bundle):
    result = verify.verify(bundle)
    assert result["passed"]
    assert result["n"] == 40
    for kind in ("onnx", "tflite"):
        assert result["artefacts"][kind]["max_abs_error"] <= 1e-4
        assert result["artefacts"][kind]["operators"]


def test_needs_no_jax(bundle):
    command = [sys.executable, "-c", WITHOUT_JAX, str(bundle)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_notices_one_wrong_element(copy):
    action = verify.read_golden(copy, artefact.read_manifest(copy))[2]
    action[-1, 2, 1] += 2e-4
    rewrite_golden(copy, action=action)
    result = verify.verify(copy)
    assert not result["passed"]
    # The one element is off by 2e-4, all others by rounding.
    assert result["artefacts"]["onnx"]["max_abs_error"] == pytest.approx(2e-4, rel=0.02)
    assert verify.verify(copy, tolerance=1e-3)["passed"]


def test_notices_nan(copy):
    action = verify.read_golden(copy, artefact.read_manifest(copy))[2]
    action[0, 0, 0] = np.nan
    rewrite_golden(copy, action=action)
    result = verify.verify(copy)
    assert not result["passed"]
    assert not result["artefacts"]["tflite"]["finite"]


def test_golden_with_other_shapes(copy):
    action = verify.read_golden(copy, artefact.read_manifest(copy))[2]
    rewrite_golden(copy, action=action[:, :2])
    with pytest.raises(InputError, match="the artefact gives"):
        verify.verify(copy)


def test_golden_without_an_input(copy):
    with np.load(copy / "golden.npz") as file:
        arrays = {k: file[k] for k in file.files if "language" not in k}
    np.savez(copy / "golden.npz", **arrays)
    rehash(copy, "golden.npz")
    with pytest.raises(InputError, match="must hold the keys"):
        verify.verify(copy)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"x" * 100])
def test_golden_that_is_not_an_archive(copy, content):
    (copy / "golden.npz").write_bytes(content)
    rehash(copy, "golden.npz")
    with pytest.raises(InputError, match=r"golden\.npz cannot be read"):
        verify.verify(copy)


@pytest.mark.parametrize("name", ["golden.npz", "policy.onnx", "policy.tflite"])
def test_altered_file(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(bytes(data))
    with pytest.raises(InputError, match=f"{name} does not match the manifest"):
        verify.verify(copy)


@pytest.mark.parametrize("name", ["golden.npz", "policy.onnx", "policy.tflite"])
def test_missing_file(copy, name):
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"{name} is listed in the manifest"):
        verify.verify(copy)


@pytest.mark.parametrize("name", ["policy.onnx", "policy.tflite"])
def test_truncated_graph_with_a_matching_hash(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:900])
    rehash(copy, name)
    with pytest.raises(InputError, match="cannot be loaded"):
        verify.verify(copy)
