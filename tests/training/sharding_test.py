import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxpolicy.specs import InputError
from jaxpolicy.training import sharding


def init(key, n):
    return {"w": jax.random.normal(key, (8, 3)), "step": jnp.int32(n)}


def test_mesh_takes_the_first_devices():
    mesh = sharding.make_mesh(2)
    assert list(mesh.devices.flat) == jax.devices()[:2]
    assert mesh.axis_types == (AxisType.Auto,)
    assert sharding.make_mesh().size == len(jax.devices())


def test_too_many_devices():
    with pytest.raises(InputError, match=r"loop.devices asks for 99 devices, \d+ are there"):
        sharding.make_mesh(99)


def test_batch_must_divide():
    mesh = sharding.make_mesh(8)
    sharding.check_batch_size(16, mesh)
    with pytest.raises(InputError, match=r"loop.batch_size \(12\) must be a multiple of the 8"):
        sharding.check_batch_size(12, mesh)


def test_abstract_matches_what_init_makes():
    mesh = sharding.make_mesh(8)
    args = (jax.random.key(0), 3)
    like = sharding.abstract(init, mesh, *args)
    made = sharding.init_as(init, like, *args)
    for name in ("w", "step"):
        assert (like[name].shape, like[name].dtype) == (made[name].shape, made[name].dtype)
        assert like[name].sharding == made[name].sharding
        assert made[name].sharding.is_fully_replicated
    np.testing.assert_array_equal(made["w"], init(*args)["w"])


@pytest.mark.parametrize("axis", [0, 1])
def test_put_batch_splits_one_axis(axis):
    mesh = sharding.make_mesh(8)
    batch = np.arange(16 * 16).reshape(16, 16)
    array = sharding.put_batch({"x": batch}, mesh, axis)["x"]
    np.testing.assert_array_equal(array, batch)
    # 16 rows over 8 devices: 2 each.
    shape = (2, 16) if axis == 0 else (16, 2)
    assert {s.data.shape for s in array.addressable_shards} == {shape}


def test_put_replicated_copies():
    array = sharding.put_replicated([np.ones(3)], sharding.make_mesh(8))[0]
    assert {s.data.shape for s in array.addressable_shards} == {(3,)}
    assert len(array.addressable_shards) == 8
