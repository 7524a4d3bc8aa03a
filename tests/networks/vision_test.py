import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.networks import pooling, vision


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _count(shapes):
    return sum(x.size for x in jax.tree.leaves(shapes))


@pytest.mark.parametrize("group_norm", [False, True])
def test_patch_cnn_shapes(group_norm):
    network = vision.PatchCNN(4, (8, 16), (1, 2), group_norm)
    y, variables = jax.jit(network.init_with_output)(jax.random.key(0), _normal(0, 3, 16, 24, 3))
    assert y.shape == (3, 2, 3, 16)
    # Stems: 4*4*3*8 + 8 and 2*2*8*16 + 16; convolutions: 9*8*8 + 8 and 2 (9*16*16 + 16),
    # the last one without bias.
    # Group norms: two vectors per convolution, 8 and twice 16 channels.
    want = 392 + 528 + 584 + 2 * 2320 - 16 + (2 * 8 + 2 * 32 if group_norm else 0)
    assert _count(variables) == want


def test_patch_cnn_takes_images_that_the_patch_does_not_divide():
    network = vision.PatchCNN(4, (8,), (1,))
    shape = jax.eval_shape(network.init_with_output, jax.random.key(0), _normal(0, 1, 10, 13, 3))
    assert shape[0].shape == (1, 3, 4, 8)


def test_patch_cnn_in_bfloat16_stays_close():
    x = _normal(0, 2, 16, 16, 3)
    network = vision.PatchCNN(4, (8,), (2,))
    want, variables = jax.jit(network.init_with_output)(jax.random.key(0), x)
    half = vision.PatchCNN(4, (8,), (2,), dtype=jnp.bfloat16)
    got = half.apply(variables, x)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.1)


def _gradient(network, variables, x, weights):
    """Of a sum over the pooled features."""

    def value(variables):
        return (pooling.spatial_softmax(network.apply(variables, x)) * weights).sum()

    return jax.jit(jax.grad(value))(variables)


@pytest.fixture(scope="module")
def gradient():
    x, weights = _normal(0, 4, 16, 16, 3), _normal(1, 4, 16)
    network = vision.PatchCNN(4, (8, 8), (1, 2))
    variables = jax.jit(network.init)(jax.random.key(0), x)
    return variables, x, weights, _gradient(network, variables, x, weights)


def test_every_parameter_has_a_gradient(gradient):
    # Parameters that the output ignores would be moved by Adam on rounding errors, and
    # runs on different numbers of devices would part.
    smallest = min(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient[-1]))
    assert smallest > 1e-4


def test_rematerialisation_changes_no_parameter_and_no_gradient(gradient):
    variables, x, weights, want = gradient
    network = vision.PatchCNN(4, (8, 8), (1, 2), remat=True)
    got = _gradient(network, variables, x, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


def test_condition_starts_without_effect_and_then_has_one():
    x, condition = _normal(0, 2, 8, 8, 3), _normal(1, 2, 5)
    network = vision.PatchCNN(4, (8,), (1,), group_norm=True)
    y, variables = jax.jit(network.init_with_output)(jax.random.key(0), x, condition)
    film = variables["params"]["stage0_block0"].pop("film")
    np.testing.assert_allclose(network.apply(variables, x), y, atol=1e-6)
    # Gamma and beta of 8 channels from 5 numbers and a bias.
    assert _count(film) == (5 + 1) * 2 * 8
    variables["params"]["stage0_block0"]["film"] = jax.tree.map(lambda p: p + 0.5, film)
    apply = jax.jit(network.apply)
    assert not np.allclose(apply(variables, x, condition), apply(variables, x, -condition))
