import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.networks import norms


def test_group_norm_equals_flax():
    x = jnp.asarray(3 * np.random.default_rng(0).normal(size=(2, 4, 5, 16)) + 1, jnp.float32)
    ours, theirs = norms.GroupNorm(groups=4), nn.GroupNorm(num_groups=4, epsilon=1e-5)
    got, variables = ours.init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(got, theirs.apply(variables, x), atol=1e-5)
