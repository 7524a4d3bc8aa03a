import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.networks import attention
from jaxpolicy.networks.attention import Attention, TransformerBlock


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_attend_by_hand():
    # One head of width 4. The query meets keys with products 0 and 2 log 3; over sqrt(4) that
    # is 0 and log 3: weights 1 : 3 of the values 8 and 16 are (8 + 48) / 4 = 14.
    query = jnp.asarray([1.0, 0, 0, 0]).reshape(1, 1, 1, 4)
    key = jnp.zeros((1, 2, 1, 4)).at[0, 1, 0, 0].set(2 * np.log(3.0))
    value = jnp.asarray([8.0, 16.0]).reshape(1, 2, 1, 1)
    np.testing.assert_allclose(attention.attend(query, key, value).ravel(), [14.0], rtol=1e-6)
    mask = jnp.asarray([[[True, False]]])
    np.testing.assert_allclose(attention.attend(query, key, value, mask).ravel(), [8.0])


def test_attend_equals_jax():
    query, key, value = _normal(0, 2, 3, 2, 4), _normal(1, 2, 5, 2, 4), _normal(2, 2, 5, 2, 4)
    mask = jnp.asarray(np.random.default_rng(3).random((2, 3, 5)) < 0.7).at[:, :, 0].set(True)
    want = jax.nn.dot_product_attention(query, key, value, mask=mask[:, None])
    np.testing.assert_allclose(attention.attend(query, key, value, mask), want, atol=1e-6)


def test_attend_where_nothing_is_allowed_is_the_mean():
    value = _normal(0, 1, 5, 2, 4)
    got = attention.attend(value[:, :3], value, value, jnp.zeros((1, 3, 5), bool))
    np.testing.assert_allclose(
        got, jnp.broadcast_to(value.mean(1, keepdims=True), got.shape), atol=1e-6
    )


def test_attend_with_huge_scores_is_finite():
    x = 1e4 * _normal(0, 1, 3, 1, 4)
    gradient = jax.jit(jax.grad(lambda x: attention.attend(x, x, x).sum()))(x)
    assert np.isfinite(gradient).all()


def test_parameters_of_a_block():
    width, memory = 8, 6
    shapes = jax.eval_shape(
        TransformerBlock(2, 3).init,
        jax.random.key(0),
        jnp.zeros((1, 4, width)),
        False,
        jnp.zeros((1, 5, memory)),
    )
    # qkv, out, MLP in and out with biases; q, kv and out of cross-attention; three norms.
    own = (8 + 1) * 24 + (8 + 1) * 8 + (8 + 1) * 24 + (24 + 1) * 8
    cross = (8 + 1) * 8 + (6 + 1) * 16 + (8 + 1) * 8
    assert sum(x.size for x in jax.tree.leaves(shapes)) == own + cross + 3 * 2 * 8


@pytest.fixture(scope="module")
def causal():
    block, x = TransformerBlock(2, causal=True), _normal(0, 2, 4, 8)
    memory = _normal(1, 2, 3, 6)
    variables = jax.jit(block.init, static_argnums=2)(jax.random.key(0), x, False, memory)
    return jax.jit(block.apply, static_argnums=2), variables, x, memory


def test_a_causal_block_does_not_see_the_future(causal):
    apply, variables, x, memory = causal
    before = apply(variables, x, False, memory)
    after = apply(variables, x.at[:, 2].add(x[:, 0]), False, memory)
    np.testing.assert_allclose(after[:, :2], before[:, :2], atol=1e-6)
    assert (jnp.abs(after - before)[:, 2:].max((0, 2)) > 1e-3).all()


def test_masked_memory_does_not_matter(causal):
    apply, variables, x, memory = causal
    mask = jnp.asarray([True, False, True])[None, None]
    before = apply(variables, x, False, memory, None, mask)
    np.testing.assert_allclose(
        apply(variables, x, False, memory.at[:, 1].add(5.0), None, mask), before, atol=1e-6
    )
    assert not np.allclose(apply(variables, x, False, memory), before, atol=1e-3)


def test_bfloat16_stays_close_and_keeps_float32_parameters():
    x = _normal(0, 2, 4, 16)
    want, variables = jax.jit(TransformerBlock(2).init_with_output)(jax.random.key(0), x)
    half = TransformerBlock(2, dtype=jnp.bfloat16)
    got = jax.jit(half.apply)(variables, x.astype(jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.1)
    shapes = jax.eval_shape(half.init, jax.random.key(0), x)
    assert {s.dtype for s in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_condition_starts_without_effect_and_then_has_one():
    x, condition = _normal(0, 2, 4, 8), _normal(1, 2, 3)
    block = TransformerBlock(2)
    y, variables = jax.jit(block.init_with_output)(jax.random.key(0), x, condition=condition)
    plain = {k: v for k, v in variables["params"].items() if not k.startswith("film")}
    np.testing.assert_allclose(jax.jit(block.apply)({"params": plain}, x), y, atol=1e-6)
    moved = jax.tree.map(lambda p: p + 0.1, variables)
    apply = jax.jit(block.apply)
    a, b = (apply(moved, x, condition=c) for c in (condition, -condition))
    assert not np.allclose(a, b, atol=1e-3)


def test_dropout_only_while_training():
    x = _normal(0, 2, 4, 8)
    block = TransformerBlock(2, dropout=0.5)
    variables = jax.jit(block.init)(jax.random.key(0), x)
    rngs = {"dropout": jax.random.key(1)}
    dropped = block.apply(variables, x, True, rngs=rngs)
    assert not np.allclose(dropped, block.apply(variables, x), atol=1e-3)


def test_heads_are_separate():
    # With two heads of width 2 and identity projections each half of the width attends alone.
    x = _normal(0, 1, 3, 4)
    eye = jnp.eye(4)
    parameters = {
        "qkv": {"kernel": jnp.concatenate([eye] * 3, 1), "bias": jnp.zeros(12)},
        "out": {"kernel": eye, "bias": jnp.zeros(4)},
    }
    got = Attention(2).apply({"params": parameters}, x)
    halves = [attention.attend(*[x[:, :, None, s]] * 3)[:, :, 0] for s in (slice(2), slice(2, 4))]
    np.testing.assert_allclose(got, jnp.concatenate(halves, -1), atol=1e-6)
