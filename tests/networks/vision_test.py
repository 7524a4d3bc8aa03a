import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.networks import vision


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_spatial_softmax_by_hand():
    # 2x2 pixels, weights e^0 : e^log3 = 1 : 3 between the left and the right column,
    # in both rows: x = (-1 * 2 + 1 * 6) / 8 = 0.5, y = 0.
    logits = jnp.asarray([[0.0, np.log(3.0)], [0.0, np.log(3.0)]]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(vision.spatial_softmax(logits), [[0.5, 0.0]], atol=1e-6)


def test_spatial_softmax_finds_a_peak_and_orders_x_before_y():
    # Channel 0 peaks at row 0, column 4 of 5: (x, y) = (1, -1); channel 1 in the centre.
    logits = np.zeros((1, 5, 5, 2), np.float32)
    logits[0, 0, 4, 0] = logits[0, 2, 2, 1] = 1e4
    got = vision.spatial_softmax(jnp.asarray(logits))
    np.testing.assert_allclose(got, [[1, 0, -1, 0]], atol=1e-6)


def test_spatial_softmax_equals_the_textbook_form():
    logits = _normal(0, 2, 3, 4, 5)
    p = jax.nn.softmax(logits.reshape(2, 12, 5), axis=1).reshape(2, 3, 4, 5)
    x = jnp.einsum("nhwc,w->nc", p, jnp.linspace(-1, 1, 4))
    y = jnp.einsum("nhwc,h->nc", p, jnp.linspace(-1, 1, 3))
    np.testing.assert_allclose(
        vision.spatial_softmax(logits), jnp.concatenate([x, y], -1), atol=1e-6
    )


def test_spatial_softmax_of_huge_logits_is_finite():
    logits = 1e8 * _normal(0, 1, 4, 4, 2)
    assert np.isfinite(vision.spatial_softmax(logits)).all()
    assert np.isfinite(jax.grad(lambda x: vision.spatial_softmax(x).sum())(logits)).all()


def test_group_norm_equals_flax():
    x = 3 * _normal(0, 2, 4, 5, 16) + 1
    ours, theirs = vision.GroupNorm(groups=4), nn.GroupNorm(num_groups=4, epsilon=1e-5)
    got, variables = ours.init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(got, theirs.apply(variables, x), atol=1e-5)


@pytest.mark.parametrize("group_norm", [False, True])
def test_patch_cnn_shapes(group_norm):
    network = vision.PatchCNN(4, (8, 16), (1, 2), group_norm)
    y, variables = network.init_with_output(jax.random.key(0), _normal(0, 3, 16, 24, 3))
    assert y.shape == (3, 32)
    assert y.dtype == jnp.float32
    # Stems: 4*4*3*8 + 8 and 2*2*8*16 + 16; convolutions: 9*8*8 + 8 and 2 (9*16*16 + 16),
    # the last one without bias.
    # Group norms: two vectors per convolution, 8 and twice 16 channels.
    want = 392 + 528 + 584 + 2 * 2320 - 16 + (2 * 8 + 2 * 32 if group_norm else 0)
    assert sum(x.size for x in jax.tree.leaves(variables)) == want


def test_patch_cnn_takes_images_that_the_patch_does_not_divide():
    network = vision.PatchCNN(4, (8,), (1,))
    y, _ = network.init_with_output(jax.random.key(0), _normal(0, 1, 10, 13, 3))
    assert y.shape == (1, 16)


def test_patch_cnn_in_bfloat16_stays_close():
    x = _normal(0, 2, 16, 16, 3)
    network = vision.PatchCNN(4, (8,), (2,))
    want, variables = network.init_with_output(jax.random.key(0), x)
    half = vision.PatchCNN(4, (8,), (2,), dtype=jnp.bfloat16)
    np.testing.assert_allclose(half.apply(variables, x), want, atol=0.1)


def test_every_parameter_has_a_gradient():
    # Parameters that the output ignores would be moved by Adam on rounding errors, and
    # runs on different numbers of devices would part.
    x = _normal(0, 4, 16, 16, 3)
    network = vision.PatchCNN(4, (8, 8), (1, 2))
    variables = network.init(jax.random.key(0), x)
    weights = _normal(1, 4, 16)
    gradient = jax.jit(jax.grad(lambda v: (network.apply(v, x) * weights).sum()))(variables)
    smallest = min(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient))
    assert smallest > 1e-4
