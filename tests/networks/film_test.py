import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.networks.film import FiLM


def test_starts_as_the_identity():
    x = jnp.arange(24.0).reshape(2, 2, 2, 3)
    y, variables = FiLM().init_with_output(jax.random.key(0), x, jnp.ones((2, 5)))
    np.testing.assert_array_equal(y, x)
    # A gamma and a beta for each of 3 channels, from 5 numbers and a bias.
    assert sum(p.size for p in jax.tree.leaves(variables)) == (5 + 1) * 2 * 3


def test_by_hand():
    # One channel; gamma = 2 c, beta = 10 c + 1: 3 (1 + 2 c) + 10 c + 1 is 4 for c = 0 and
    # 3 * 2 + 6 = 12 for c = 0.5.
    parameters = {"Dense_0": {"kernel": jnp.asarray([[2.0, 10.0]]), "bias": jnp.asarray([0.0, 1])}}
    condition = jnp.asarray([[0.0], [0.5]])
    y = FiLM().apply({"params": parameters}, jnp.full((2, 4, 1), 3.0), condition)
    np.testing.assert_allclose(y[:, 0, 0], [4, 12])
