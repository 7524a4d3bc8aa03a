import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.networks.resnet import ResNet

# torchvision's models less their classifiers (513,000 and 2,049,000 parameters): batch and
# group normalisation both have a scale and a shift per channel.
COUNTS = {
    18: 11_689_512 - 513_000,
    34: 21_797_672 - 513_000,
    50: 25_557_032 - 2_049_000,
}


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(("layers", "features"), [(18, 512), (34, 512), (50, 2048)])
def test_parameters_and_shape_at_224(layers, features):
    network = ResNet(layers)
    y, variables = jax.eval_shape(
        lambda: network.init_with_output(jax.random.key(0), jnp.zeros((2, 224, 224, 3)))
    )
    assert y.shape == (2, 7, 7, features)
    assert sum(x.size for x in jax.tree.leaves(variables)) == COUNTS[layers]


def test_the_condition_changes_nothing_at_first_and_matters_in_each_block():
    network = ResNet(18, width=16)
    images, condition = _normal(0, 1, 32, 32, 3), _normal(1, 1, 5)
    variables = jax.jit(network.init)(jax.random.key(0), images, condition)
    apply = jax.jit(network.apply)
    start = apply(variables, images, condition)
    np.testing.assert_array_equal(apply(variables, images, 2 * condition), start)
    blocks = [name for name, part in variables["params"].items() if "film" in part]
    assert len(blocks) == 8
    for name in blocks:
        film = jax.tree.map(lambda x: x + 0.1, variables["params"][name]["film"])
        block = variables["params"][name] | {"film": film}
        got = apply({"params": variables["params"] | {name: block}}, images, condition)
        assert not np.allclose(got, start, atol=1e-3)


def test_remat_keeps_parameters_and_values():
    images = _normal(0, 1, 32, 32, 3)
    plain, remat = ResNet(18, width=16), ResNet(18, width=16, remat=True)
    variables = jax.jit(plain.init)(jax.random.key(0), images)
    shapes = jax.eval_shape(remat.init, jax.random.key(0), images)
    assert jax.tree.structure(shapes) == jax.tree.structure(variables)
    np.testing.assert_allclose(
        jax.jit(remat.apply)(variables, images), jax.jit(plain.apply)(variables, images), atol=1e-5
    )
