"""A controller has no JAX: deploy neither loads it nor needs it."""

import subprocess
import sys
from pathlib import Path

from tests.deploy import handmade

ROOT = Path(__file__).parents[2]

LIST_MODULES = """
import sys
import jaxpolicy.deploy
heavy = {"jax", "jaxlib", "flax", "optax", "tensorflow", "onnxruntime", "ai_edge_litert"}
print(sorted({m.split(".")[0] for m in sys.modules} & heavy))
"""

WITHOUT_JAX = """
import sys


class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "flax", "optax"):
            raise ImportError(name + " is blocked")


sys.meta_path.insert(0, Block())
import numpy as np
from jaxpolicy.deploy import PolicyRuntime

runtime = PolicyRuntime(sys.argv[1])
runtime.reset(1)
image = np.zeros((1, 2, 2, 3), np.uint8)
print(runtime.act({"image/wrist": image, "proprio": np.ones((1, 3), np.float32)}).shape)
"""

WITHOUT_RUNTIMES = """
import sys

sys.modules["onnxruntime"] = sys.modules["ai_edge_litert"] = None
from jaxpolicy.deploy import OnnxBackend
from jaxpolicy.core.specs import InputError

try:
    OnnxBackend(sys.argv[1])
except InputError as e:
    print(e)
"""


def python(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_import_loads_neither_jax_nor_a_runtime():
    assert python(LIST_MODULES).strip() == "[]"


def test_runs_where_jax_cannot_be_imported(tmp_path):
    assert python(WITHOUT_JAX, handmade.write(tmp_path)).strip() == "(1, 2)"


def test_says_which_library_is_missing(tmp_path):
    assert "needs onnxruntime: pip install" in python(WITHOUT_RUNTIMES, handmade.write(tmp_path))
