"""Embedding of noise levels against values worked by hand."""

import jax
import numpy as np

from jaxpolicy.networks.time_embedding import TimeEmbedding, mish, sinusoidal


def test_sinusoidal():
    # Size 4: frequencies 1 and 1 / 10000; time 2: sin 2, sin .0002, cos 2, cos .0002.
    got = sinusoidal(np.array([2.0, 0.0], np.float32), 4)
    expected = [[0.909297, 0.0002, -0.416147, 1.0], [0.0, 0.0, 1.0, 1.0]]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_mish():
    # x = 1: softplus = ln(1 + e) = 1.313262, tanh = .865098. Far out: x, and 0.
    x = np.array([1.0, 0.0, 30.0, 1000.0, -1000.0], np.float32)
    np.testing.assert_allclose(mish(x), [0.865098, 0.0, 30.0, 1000.0, 0.0], atol=1e-6)
    x = np.linspace(-30, 30, 121).astype(np.float32)
    np.testing.assert_allclose(mish(x), jax.nn.mish(x), rtol=1e-5, atol=1e-6)
    slope = jax.vmap(jax.grad(mish))(np.array([-1000.0, 0.0, 1000.0], np.float32))
    # At 0: tanh(ln 2) = .6.
    np.testing.assert_allclose(slope, [0.0, 0.6, 1.0], atol=1e-6)


def test_time_embedding():
    module, time = TimeEmbedding(8), np.arange(3.0)
    variables = module.init(jax.random.key(0), time)
    # 8 -> 32 -> 8.
    assert sum(x.size for x in jax.tree.leaves(variables)) == 9 * 32 + 33 * 8
    got = module.apply(variables, time)
    assert got.shape == (3, 8)
    assert np.ptp(got, axis=0).min() > 0.0
