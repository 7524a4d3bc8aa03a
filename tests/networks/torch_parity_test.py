"""ResNet and U-Net equal an independent PyTorch implementation with the same weights.

PyTorch lives in an environment of its own, which `make venv-torch` makes; without it the
comparison is skipped. Weights and results travel through files.
"""

import os
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.networks.resnet import ResNet
from jaxpolicy.networks.unet1d import UNet1D
from tests import layers

PYTHON = layers.ROOT / os.environ.get("TORCH_VENV", ".venv-torch") / "bin" / "python"

# Runs in PyTorch's environment: loads weights and inputs, saves the result.
THEIRS = """
import sys
import numpy as np
import torch
from benchmarks.training_sides import torch_networks as networks

make, file = sys.argv[1:]
network = {
    "resnet18": lambda: networks.ResNet(18, 16),
    "resnet50": lambda: networks.ResNet(50, 16),
    "unet": lambda: networks.UNet1D((16, 32, 64), 7, 5),
}[make]()
data = {k: torch.from_numpy(v) for k, v in np.load(file).items()}
inputs = [data.pop(f"input{i}") for i in range(sum(k.startswith("input") for k in data))]
network.load_state_dict(data)
with torch.inference_mode():
    np.save(file + ".npy", network(*inputs).numpy())
"""

# Axes of a kernel of ours in PyTorch's order, by the number of its axes.
AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1)}
NAMES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def _normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _for_torch(path, x):
    """Name and value of a parameter over there."""
    *modules, leaf = [k.key for k in path]
    if leaf == "kernel":
        # Transposed convolutions keep input channels first.
        axes = (1, 2, 0) if modules[-1].startswith("up") else AXES[x.ndim]
        x = np.transpose(x, axes)
    return ".".join([*modules, NAMES[leaf]]), np.ascontiguousarray(x)


def _theirs(make, params, inputs, directory):
    if not PYTHON.exists():
        pytest.skip(f"no PyTorch: {PYTHON} does not exist; `make venv-torch` makes it")
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    data = dict(_for_torch(path, np.asarray(x)) for path, x in flat)
    file = str(directory / "data.npz")
    np.savez(file, **data, **{f"input{i}": x for i, x in enumerate(inputs)})
    command = [str(PYTHON), "-c", THEIRS, make, file]
    done = subprocess.run(command, cwd=layers.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(file + ".npy")


def _random_params(network, *inputs):
    """Parameters that are all different, scales and shifts too."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(0)

    def draw(path, like):
        x = rng.normal(size=like.shape) / np.sqrt(max(1, np.prod(like.shape[:-1])))
        return jnp.asarray(x + (path[-1].key == "scale"), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.mark.parametrize("n_layers", [18, 50])
def test_resnet_equals_pytorch(n_layers, tmp_path):
    network, images = ResNet(n_layers, width=16), _normal(1, 2, 40, 56, 3)
    params = _random_params(network, images)
    nchw = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    want = _theirs(f"resnet{n_layers}", params, [nchw], tmp_path)
    got = jax.jit(network.apply)({"params": params}, images)
    np.testing.assert_allclose(got, want.transpose(0, 2, 3, 1), atol=1e-4)


def test_unet_equals_pytorch(tmp_path):
    network = UNet1D((16, 32, 64))
    inputs = _normal(1, 2, 8, 7), np.asarray([3.0, 77.0], np.float32), _normal(2, 2, 5)
    params = _random_params(network, *inputs)
    want = _theirs("unet", params, inputs, tmp_path)
    got = jax.jit(network.apply)({"params": params}, *inputs)
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_parameters_of_the_unet():
    # One level of width 8, 2 actions, condition 3, embedding 4, kernel 5: d = 3 + 4.
    # Time: 4*16 + 16, 16*4 + 4. Blocks are encode (2 -> 8, 8 -> 8) and middle (8 -> 8,
    # 8 -> 8): convolutions 5*2*8 + 8 and seven of 5*8*8 + 8, eight norms of 2*8, four FiLMs
    # of 7*16 + 16, one residual of 2*8 + 8. Last: 5*8*8 + 8 and 2*8; head 8*2 + 2.
    network = UNet1D((8,), embedding=4)
    inputs = jnp.zeros((1, 4, 2)), jnp.zeros(1), jnp.zeros((1, 3))
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    want = (80 + 68) + (88 + 7 * 328) + 8 * 16 + 4 * 128 + 24 + (328 + 16) + 18
    assert sum(x.size for x in jax.tree.leaves(shapes)) == want
