"""U-Net of action chunks: size of the reference architecture, conditioning, shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.networks.unet1d import FiLMBlock, UNet1D

TINY = UNet1D(widths=(8, 16), size=3, groups=4, embedding=8)
APPLY = jax.jit(TINY.apply)


def arguments(batch=2, horizon=4, action=3, features=5):
    rng = np.random.default_rng(0)
    noisy = rng.normal(size=(batch, horizon, action)).astype(np.float32)
    condition = rng.normal(size=(batch, features)).astype(np.float32)
    return noisy, np.arange(batch, dtype=np.float32), condition


@pytest.fixture(scope="module")
def params():
    # Random everywhere: a fresh head and fresh FiLMs are silent.
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(TINY.init, jax.random.key(0), *arguments())
    return jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), shapes)


def block(c_in, c_out, condition, k=5):
    """Parameters of a residual block: two convolutions and norms, FiLM, 1x1 where sizes differ."""
    convolutions = k * c_in * c_out + c_out + k * c_out * c_out + c_out + 2 * 2 * c_out
    film = (condition + 1) * 2 * c_out
    return convolutions + film + ((c_in + 1) * c_out if c_in != c_out else 0)


def test_parameters_of_the_reference_architecture():
    # real-stanford/diffusion_policy: widths 256, 512, 1024, k 5, embedding 256, A = 2, and a
    # condition of 132: D = 256 + 132 = 388.
    a, d = 2, 388
    time = 257 * 1024 + 1025 * 256
    down = block(a, 256, d) + block(256, 256, d) + (3 * 256 + 1) * 256
    down += block(256, 512, d) + block(512, 512, d) + (3 * 512 + 1) * 512
    down += block(512, 1024, d) + block(1024, 1024, d)
    middle = 2 * block(1024, 1024, d)
    up = block(2048, 512, d) + block(512, 512, d) + (4 * 512 + 1) * 512
    up += block(1024, 256, d) + block(256, 256, d) + (4 * 256 + 1) * 256
    last = (5 * 256 + 1) * 256 + 2 * 256 + 257 * a
    total = time + down + middle + up + last
    noisy, condition = jnp.zeros((1, 16, a)), jnp.zeros((1, 132))
    shapes = jax.eval_shape(UNet1D().init, jax.random.key(0), noisy, jnp.zeros(1), condition)
    assert sum(x.size for x in jax.tree.leaves(shapes)) == total


def test_everything_matters(params):
    noisy, time, condition = arguments()
    base = APPLY(params, noisy, time, condition)
    assert base.shape == noisy.shape
    assert base.dtype == jnp.float32
    first = np.array([[[1.0]], [[0.0]]], np.float32)
    changes = (
        (noisy + 0.1 * first, time, condition),
        (noisy, time + first[:, 0, 0], condition),
        (noisy, time, condition + 0.1 * first[:, 0]),
    )
    for changed in changes:
        difference = np.abs(APPLY(params, *changed) - base).max((1, 2))
        assert difference[0] > 1e-3
        # The rows of a batch do not see each other.
        assert difference[1] < 1e-6


def test_film_block_by_hand():
    # All parameters 0 but for the norms' scales (1), the FiLM's second shift (3) and the second
    # kernel's middle tap, the identity. First block: mish(0) = 0. FiLM: 0 and 3. The second norm
    # (one group) sees mean 1.5 and deviation 1.5: -1 and 1. mish(-1) = -.303401, mish(1) = .865098;
    # x is added.
    module = FiLMBlock(2, 3, 1)
    x, condition = jnp.ones((1, 4, 2)), jnp.ones((1, 3))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, condition)["params"]
    params = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
    for name in ("first", "second"):
        params[name]["norm"]["scale"][:] = 1.0
    params["film"]["Dense_0"]["bias"][3] = 3.0
    params["second"]["conv"]["kernel"][1] = np.eye(2)
    got = jax.jit(module.apply)({"params": params}, x, condition)
    np.testing.assert_allclose(got[0], [[0.696599, 1.865098]] * 4, atol=1e-5)


def test_bfloat16(params):
    noisy, time, condition = arguments()
    half = jax.jit(TINY.copy(dtype=jnp.bfloat16).apply)(params, noisy, time, condition)
    full = APPLY(params, noisy, time, condition)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, full, atol=0.1 * float(jnp.abs(full).max()))


def test_horizon_must_be_divisible():
    with pytest.raises(InputError, match="divisible by 4, got 6"):
        jax.eval_shape(UNet1D().init, jax.random.key(0), *arguments(horizon=6))
