import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxpolicy.core.specs import InputError
from jaxpolicy.training import factory, sharding
from tests.training import fixtures


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


# ------------------------------------------------------------------ sharded state


@pytest.mark.parametrize(
    ("shape", "split"),
    [
        # The largest axis that 8 divides; of two alike the last; small arrays are copied.
        ((3, 3, 64, 256), (1, 1, 1, 8)),
        ((1024, 256), (8, 1)),
        ((256, 256), (1, 8)),
        ((1023, 256), (1, 8)),
        ((1023, 255), (1, 1)),
        ((1024,), (1,)),
        ((), ()),
    ],
)
def test_spread_by_hand(shape, split):
    where = sharding.spread(shape, sharding.make_mesh(8))
    assert where.shard_shape(shape) == tuple(n // k for n, k in zip(shape, split, strict=True))


def test_auto_shards_what_is_large():
    several, one = sharding.make_mesh(8), sharding.make_mesh(1)
    assert sharding.shards_state("auto", several, sharding.AUTO_BYTES + 1)
    assert not sharding.shards_state("auto", several, sharding.AUTO_BYTES)
    assert not sharding.shards_state("auto", one, 100 * sharding.AUTO_BYTES)
    assert sharding.shards_state("on", several, 1)
    assert not sharding.shards_state("on", one, 1)
    assert not sharding.shards_state("off", several, 100 * sharding.AUTO_BYTES)


def wide(**loop_values):
    """A network with two arrays that are large enough to be split."""
    config = fixtures.config(devices=8, steps=4, eval_every=2, checkpoint_every=2, **loop_values)
    return fixtures.change(config, "network", hidden=256, layers=2)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same run with state split and copied, and their directories."""
    found = {}
    for mode in ("on", "off"):
        workdir = tmp_path_factory.mktemp(mode)
        found[mode] = fixtures.train(wide(shard_params=mode), workdir), workdir
    return found


def test_sharded_training_is_the_same(both):
    (split, _), (copied, _) = both["on"], both["off"]
    fixtures.assert_close(split.params, copied.params, 1e-6)
    for name, value in copied.metrics.items():
        if name.startswith(("train/", "val/")):
            assert split.metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-7), name


def test_a_device_holds_its_share(both):
    (split, _), (copied, _) = both["on"], both["off"]
    large = [x for x in jax.tree.leaves(split.state) if x.size >= sharding.MIN_SIZE]
    # One kernel [256, 256] with its two moments.
    assert [x.shape for x in large] == [(256, 256)] * 3
    for x in large:
        assert {s.data.shape for s in x.addressable_shards} == {(256, 32)}
    whole = sharding.bytes_per_device(copied.state)
    assert whole == sum(x.nbytes for x in jax.tree.leaves(copied.state))
    saved = 3 * 256 * 256 * 4 * 7 // 8
    assert sharding.bytes_per_device(split.state) == whole - saved


def test_checkpoints_fit_any_sharding(both, tmp_path):
    policy = factory.load_policy(both["on"][1])
    fixtures.assert_same_bits(policy.params, jax.device_get(both["on"][0].params))
    workdir = shutil.copytree(both["on"][1], tmp_path / "run", symlinks=True)
    again = fixtures.train(wide(shard_params="off"), workdir)
    assert again.resumed_from == 4
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(again.state))
    fixtures.assert_same_bits(jax.device_get(again.state), jax.device_get(both["on"][0].state))


def test_the_compiled_step_gathers_weights_and_takes_a_share_of_the_state(both):
    result, _ = both["on"]
    mesh = sharding.make_mesh(8)
    batch = sharding.put_batch(factory.example_batch(result.policy_spec, 16), mesh)
    where = jax.tree.map(lambda x: x.sharding, result.state)
    step = jax.jit(result.algorithm.train_step, out_shardings=(where, sharding.replicated(mesh)))
    compiled = step.lower(result.state, batch).compile()
    assert "all-gather" in compiled.as_text()
    share = sharding.bytes_per_device(result.state)
    taken = compiled.memory_analysis().argument_size_in_bytes
    assert share <= taken < share + 4096
