import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.networks.positions import grid_positions
from jaxpolicy.networks.vit import ViT


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _count(shapes):
    return sum(x.size for x in jax.tree.leaves(shapes))


@pytest.fixture(scope="module")
def small():
    network, x = ViT(4, 8, 2, 2), _normal(0, 2, 8, 12, 3)
    y, variables = jax.jit(network.init_with_output)(jax.random.key(0), x)
    return network, variables, x, y


def test_shapes_and_parameters(small):
    _, variables, _, y = small
    assert y.shape == (2, 2, 3, 8)
    # Stem 4*4*3*8 + 8, positions 6 * 8; a block has 12 F^2 weights, 9 F biases and 4 F of its
    # norms; the last norm 2 F.
    assert _count(variables) == 392 + 48 + 2 * (12 * 64 + 13 * 8) + 16


def test_sincos_positions_are_no_parameters(small):
    network, variables, x, _ = small
    fixed = ViT(4, 8, 2, 2, positions="sincos")
    shapes = jax.eval_shape(fixed.init, jax.random.key(0), x)
    assert _count(variables) - _count(shapes) == 48
    learned = {**variables["params"], "positions": jnp.asarray(grid_positions(2, 3, 8))[None]}
    without = {k: v for k, v in variables["params"].items() if k != "positions"}
    np.testing.assert_allclose(
        jax.jit(fixed.apply)({"params": without}, x),
        jax.jit(network.apply)({"params": learned}, x),
        atol=1e-5,
    )


def test_every_patch_sees_every_other(small):
    network, variables, x, y = small
    other = network.apply(variables, x.at[:, :4, :4].set(_normal(1, 2, 4, 4, 3)))
    assert (jnp.abs(other - y).max((0, 3)) > 1e-4).all()


def _gradient(network, variables, x):
    weights = _normal(1, 2, 2, 3, 8)
    return jax.jit(jax.grad(lambda v: (network.apply(v, x) * weights).sum()))(variables)


def test_rematerialisation_changes_no_parameter_and_no_gradient(small):
    network, variables, x, _ = small
    got = _gradient(network.clone(remat=True), variables, x)
    want = _gradient(network, variables, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), got, want)


def test_bfloat16_stays_close(small):
    network, variables, x, y = small
    got = jax.jit(network.clone(dtype=jnp.bfloat16).apply)(variables, x)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), y, atol=0.1)


def test_condition_starts_without_effect_and_then_has_one(small):
    network, variables, x, y = small
    condition = _normal(2, 2, 5)
    conditioned = jax.jit(network.init)(jax.random.key(0), x, condition)["params"]
    # Gamma and beta of 8 features, before attention and MLP of two blocks.
    assert _count(conditioned) - _count(variables) == 2 * 2 * (5 + 1) * 16
    apply = jax.jit(network.apply)
    np.testing.assert_allclose(apply({"params": conditioned}, x, condition), y, atol=1e-5)
    moved = {"params": jax.tree.map(lambda p: p + 0.05, conditioned)}
    assert not np.allclose(apply(moved, x, condition), apply(moved, x, -condition), atol=1e-3)
