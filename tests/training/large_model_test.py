"""The 500M policy, from shapes alone: what a device holds, and that it lowers for TPU."""

import jax
import pytest
from jax import export

from jaxpolicy.core.specs import ArraySpec
from jaxpolicy.core.types import PolicySpec
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.training import factory, sharding
from jaxpolicy.training.config import TrainConfig
from tests.training import fixtures

OBSERVATION = (ArraySpec("image/front", (224, 224, 3), "uint8"), ArraySpec("proprio", (20,)))
SPEC = PolicySpec(OBSERVATION, fixtures.ACTION, 1, 8, 8)


@pytest.fixture(scope="module")
def large():
    """Algorithm, mesh of 8 devices, and the sharded state as shapes."""
    network = NetworkConfig(backbone="vit", size="large", remat=True, dtype="bfloat16")
    config = TrainConfig(network=network, horizon=8)
    algorithm = factory.make_algorithm(config, SPEC, factory.blank_norm(SPEC))
    mesh = sharding.make_mesh(8)
    example = jax.random.key(0), factory.example_batch(SPEC)
    return algorithm, mesh, sharding.abstract(algorithm.init, mesh, *example, shard="auto")


def test_a_device_holds_an_eighth_of_parameters_and_moments(large):
    _, _, like = large
    n = sum(x.size for x in jax.tree.leaves(like.params["network"]))
    assert 450e6 < n < 550e6
    assert all(x.dtype == "float32" for x in jax.tree.leaves(like.params["network"]))
    # Parameters and two moments, 4 bytes each; small arrays are copied: less than 1 % more.
    share = 3 * 4 * n / 8
    assert share < sharding.bytes_per_device(like) < 1.01 * share


def test_forward_and_backward_lower_for_tpu(large):
    algorithm, mesh, like = large
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.split(mesh)),
        factory.example_batch(SPEC, 8),
    )
    out = jax.tree.map(lambda x: x.sharding, like), sharding.replicated(mesh)
    step = jax.jit(algorithm.train_step, out_shardings=out)
    exported = export.export(step, platforms=["tpu"])(like, batch)
    assert exported.platforms == ("tpu",)
    assert exported.nr_devices == 8
    # All of the state comes back, with the metrics.
    leaves = len(jax.tree.leaves(like))
    assert [x.shape for x in exported.out_avals[:leaves]] == [
        x.shape for x in jax.tree.leaves(like)
    ]
    assert "bf16" in exported.mlir_module()
