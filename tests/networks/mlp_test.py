import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.networks.mlp import ACTIVATIONS, MLP


def test_shapes_and_parameters():
    y, variables = MLP((4, 5)).init_with_output(jax.random.key(0), jnp.ones((2, 3)))
    assert y.shape == (2, 5)
    # 3*4 + 4 and 4*5 + 5
    assert sum(x.size for x in jax.tree.leaves(variables)) == 16 + 25
    assert (y >= 0).all()


def test_dropout_only_while_training():
    network, x = MLP((64,), dropout=0.5), jnp.ones((4, 8))
    variables = network.init(jax.random.key(0), x)
    still = network.apply(variables, x)
    np.testing.assert_array_equal(still, network.apply(variables, x))
    dropped = network.apply(variables, x, True, rngs={"dropout": jax.random.key(1)})
    positive = np.asarray(still) > 0
    kept = np.asarray(dropped)[positive] > 0
    # 4 rows of equal inputs: about half of the positive units survive, doubled.
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_allclose(dropped[dropped > 0], 2 * still[dropped > 0], rtol=1e-6)


def test_activations():
    x = jnp.linspace(-3, 3, 8)[None]
    outputs = {}
    for name in ACTIVATIONS:
        network = MLP((4,), activation=name)
        outputs[name] = network.apply(network.init(jax.random.key(0), x), x)
    assert (outputs["relu"] >= 0).all()
    assert (jnp.abs(outputs["tanh"]) <= 1).all()
    assert not np.allclose(outputs["gelu"], outputs["relu"])
