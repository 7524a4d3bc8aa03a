import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.networks import pooling


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_spatial_softmax_by_hand():
    # 2x2 pixels, weights e^0 : e^log3 = 1 : 3 between the left and the right column,
    # in both rows: x = (-1 * 2 + 1 * 6) / 8 = 0.5, y = 0.
    logits = jnp.asarray([[0.0, np.log(3.0)], [0.0, np.log(3.0)]]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(pooling.spatial_softmax(logits), [[0.5, 0.0]], atol=1e-6)


def test_spatial_softmax_finds_a_peak_and_orders_x_before_y():
    # Channel 0 peaks at row 0, column 4 of 5: (x, y) = (1, -1); channel 1 in the centre.
    logits = np.zeros((1, 5, 5, 2), np.float32)
    logits[0, 0, 4, 0] = logits[0, 2, 2, 1] = 1e4
    got = pooling.spatial_softmax(jnp.asarray(logits))
    np.testing.assert_allclose(got, [[1, 0, -1, 0]], atol=1e-6)


def test_spatial_softmax_equals_the_textbook_form():
    logits = _normal(0, 2, 3, 4, 5)
    p = jax.nn.softmax(logits.reshape(2, 12, 5), axis=1).reshape(2, 3, 4, 5)
    x = jnp.einsum("nhwc,w->nc", p, jnp.linspace(-1, 1, 4))
    y = jnp.einsum("nhwc,h->nc", p, jnp.linspace(-1, 1, 3))
    np.testing.assert_allclose(
        pooling.spatial_softmax(logits), jnp.concatenate([x, y], -1), atol=1e-6
    )


def test_spatial_softmax_of_huge_logits_is_finite():
    logits = 1e8 * _normal(0, 1, 4, 4, 2)
    assert np.isfinite(pooling.spatial_softmax(logits)).all()
    assert np.isfinite(jax.grad(lambda x: pooling.spatial_softmax(x).sum())(logits)).all()


def test_mean_pool_by_hand():
    np.testing.assert_array_equal(
        pooling.mean_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)), [[3.0, 4.0]]
    )


@pytest.fixture(scope="module")
def attention():
    x = _normal(0, 2, 3, 4, 8)
    module = pooling.AttentionPool()
    return jax.jit(module.apply), jax.jit(module.init)(jax.random.key(0), x), x


def test_attention_pool_shape_and_parameters(attention):
    apply, variables, x = attention
    assert apply(variables, x).shape == (2, 8)
    # The query; q and out 8 * 8 + 8, k and v twice that.
    assert sum(p.size for p in jax.tree.leaves(variables)) == 8 + 4 * 72


def test_attention_pool_sees_where_things_are(attention):
    # Mirrored images have the same pixels; without positions the result would be the same.
    apply, variables, x = attention
    moved = jax.tree.map(lambda p: 3 * p, variables)
    assert not np.allclose(apply(moved, x), apply(moved, x[:, :, ::-1]), atol=1e-3)
