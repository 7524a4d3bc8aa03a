import json
import os
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import TrainState
from jaxpolicy.training import checkpoint, sharding
from jaxpolicy.training.checkpoint import Checkpointer
from tests.training import fixtures


def make_state(value):
    stats = NormStats(*[jnp.full(3, value, jnp.float32)] * 6)
    params = {"network": {"w": jnp.full((4, 4), value, jnp.float32)}, "norm": {"action": stats}}
    return TrainState(jnp.int32(value), params, (jnp.ones(2),), jax.random.key(value))


def like(n_devices=1):
    return sharding.abstract(make_state, sharding.make_mesh(n_devices), 0)


def save(directory, scores, max_to_keep=1):
    """Checkpoints with parameters = step / 10, and the given scores."""
    keeper = Checkpointer(directory, max_to_keep)
    for step, score in scores.items():
        keeper.save(step, make_state(step // 10), {"step": step}, score)
    keeper.close()


def steps_of(directory):
    return sorted(int(p.name) for p in (directory / "checkpoints").iterdir() if p.name.isdigit())


def test_round_trip(tmp_path):
    keeper = Checkpointer(tmp_path)
    keeper.save(10, make_state(1), {"config": {"a": [1, 2]}, "best": None}, 0.5)
    keeper.wait()
    fixtures.assert_same_bits(keeper.restore(10, like()), make_state(1))
    fixtures.assert_same_bits(keeper.params(10, like().params), make_state(1).params)
    assert keeper.assets(10) == {"config": {"a": [1, 2]}, "best": None}
    keeper.close()


def test_items_are_split(tmp_path):
    save(tmp_path, {10: 0.5})
    names = {p.name for p in (tmp_path / "checkpoints" / "10").iterdir()}
    assert {"params", "train_state", "assets"} <= names


def test_restores_onto_another_number_of_devices(tmp_path):
    save(tmp_path, {10: 0.5})
    params = checkpoint.load_params(tmp_path, 10, like(8).params)
    assert len(params["network"]["w"].sharding.device_set) == 8
    fixtures.assert_same_bits(params, make_state(1).params)


def test_keeps_the_newest_and_the_best(tmp_path):
    save(tmp_path, {10: 0.9, 20: 0.5, 30: 0.7, 40: None, 50: 0.6})
    assert steps_of(tmp_path) == [20, 50]
    assert checkpoint.resolve_step(tmp_path, "best") == 20
    assert checkpoint.resolve_step(tmp_path, "latest") == 50
    assert checkpoint.resolve_step(tmp_path, 50) == 50
    assert os.readlink(tmp_path / "checkpoints" / "best") == "20"


def test_forgetting_what_came_later(tmp_path):
    keeper = Checkpointer(tmp_path, max_to_keep=3)
    for step, score in {10: 0.9, 20: 0.7, 30: 0.5}.items():
        keeper.save(step, make_state(step // 10), {"step": step}, score)
    assert keeper.forget(25) == 20
    assert steps_of(tmp_path) == [10, 20]
    assert os.readlink(tmp_path / "checkpoints" / "best") == "20"
    # The step may be saved again.
    keeper.save(30, make_state(4), {"step": 30}, 0.8)
    assert keeper.forget(30) == 30
    assert keeper.best_step() == 20
    fixtures.assert_same_bits(keeper.restore(30, like()), make_state(4))
    assert keeper.forget(-1) is None
    assert not os.path.lexists(tmp_path / "checkpoints" / "best")
    keeper.close()


def test_without_validation_the_newest_is_best(tmp_path):
    save(tmp_path, {10: None, 20: None, 30: None}, max_to_keep=2)
    assert checkpoint.resolve_step(tmp_path) == 30
    assert steps_of(tmp_path) == [20, 30]


def test_best_survives_reopening(tmp_path):
    save(tmp_path, {10: 0.1})
    save(tmp_path, {20: 0.5, 30: 0.4})
    assert steps_of(tmp_path) == [10, 30]
    assert checkpoint.resolve_step(tmp_path) == 10


def test_saving_does_not_see_later_donations(tmp_path):
    keeper = Checkpointer(tmp_path)
    double = jax.jit(lambda tree: jax.tree.map(lambda x: x * 2, tree), donate_argnums=0)
    params = {"w": jnp.arange(2.0**20)}
    expected = np.asarray(params["w"]).copy()
    state = TrainState(jnp.int32(0), params, (), jax.random.key(0))
    keeper.save(1, state, {}, None)
    for _ in range(3):
        params = double(params)
    keeper.wait()
    shape = jax.ShapeDtypeStruct(expected.shape, expected.dtype)
    np.testing.assert_array_equal(keeper.params(1, {"w": shape})["w"], expected)
    keeper.close()


def test_unfinished_checkpoints_are_ignored_and_removed(tmp_path):
    save(tmp_path, {10: 0.5})
    root = tmp_path / "checkpoints"
    # What a kill leaves: the directory Orbax had not renamed yet.
    unfinished = root / "20.orbax-checkpoint-tmp"
    shutil.copytree(root / "10", unfinished)
    (unfinished / "assets" / "metadata").write_text('{"half')
    assert checkpoint.resolve_step(tmp_path, "latest") == 10
    keeper = Checkpointer(tmp_path)
    assert keeper.latest_step() == 10
    keeper.save(20, make_state(2), {}, 0.4)
    keeper.wait()
    fixtures.assert_same_bits(keeper.restore(20, like()), make_state(2))
    keeper.close()
    assert not unfinished.exists()


def test_half_deleted_checkpoints_do_no_harm(tmp_path):
    save(tmp_path, {10: 0.9, 20: 0.5, 30: 0.7}, max_to_keep=3)
    root = tmp_path / "checkpoints"
    # What a kill leaves while an old checkpoint is being deleted.
    shutil.rmtree(root / "10" / "params")
    shutil.rmtree(root / "10" / "metrics")
    save(tmp_path, {40: 0.6})
    assert steps_of(tmp_path) == [20, 40]
    assert checkpoint.resolve_step(tmp_path) == 20


def test_reading_changes_nothing(tmp_path):
    save(tmp_path, {10: 0.5})
    unfinished = tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "10", unfinished)
    checkpoint.resolve_step(tmp_path)
    checkpoint.load_assets(tmp_path, 10)
    assert unfinished.exists()


def test_assets_are_plain_json(tmp_path):
    save(tmp_path, {10: 0.5})
    text = (tmp_path / "checkpoints" / "10" / "assets" / "metadata").read_text()
    assert json.loads(text) == {"step": 10}


def test_missing_checkpoints_are_named(tmp_path):
    with pytest.raises(InputError, match="checkpoints not found: --workdir must be"):
        checkpoint.resolve_step(tmp_path)
    assert checkpoint.latest_assets(tmp_path) == {}
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="no finished checkpoint; train first"):
        checkpoint.resolve_step(tmp_path)
    assert checkpoint.latest_assets(tmp_path) == {}
    save(tmp_path, {10: 0.5})
    with pytest.raises(InputError, match=r"no checkpoint '7'; there are best, latest, \[10\]"):
        checkpoint.resolve_step(tmp_path, 7)
    assert checkpoint.latest_assets(tmp_path) == {"step": 10}


# ------------------------------------------------------------------ full disks


@pytest.fixture
def small_disk(tmp_path):
    """A file system of three megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as e:
        pytest.skip(f"cannot mount a small file system: {e}")
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def incompressible(step):
    """A state of about 1.2 MB."""
    noise = np.random.default_rng(step).normal(size=300_000).astype(np.float32)
    return TrainState(jnp.int32(step), {"w": jnp.asarray(noise)}, (), jax.random.key(step))


def test_a_full_disk_stops_the_run_and_spares_what_was_saved(small_disk, capfd):
    keeper = Checkpointer(small_disk, 2)
    for step in (1, 2, 3):
        keeper.save(step, incompressible(step), {"step": step})
    with pytest.raises(InputError, match="could not be written: No space left on device"):
        keeper.wait()
    keeper.close()
    assert "Traceback" not in capfd.readouterr().err
    again = Checkpointer(small_disk, 2)
    assert again.latest_step() == 2
    fixtures.assert_same_bits(again.params(2, incompressible(2).params), incompressible(2).params)
    again.close()


def test_a_save_that_fails_later_is_found_by_looking(tmp_path, monkeypatch):
    keeper = Checkpointer(tmp_path)
    keeper.check()

    def fail():
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write [os_error_code='28']")

    monkeypatch.setattr(keeper._manager, "check_for_errors", fail)
    with pytest.raises(InputError, match="checkpoints: a checkpoint could not .*: No space left"):
        keeper.check()
    keeper.close()


def test_other_failures_are_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    keeper = Checkpointer(tmp_path)

    def fail():
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(keeper._manager, "check_for_errors", fail)
    with pytest.raises(ValueError, match="a mistake of ours"):
        keeper.check()
    keeper.close()


def test_a_step_may_be_saved_again(tmp_path):
    keeper = Checkpointer(tmp_path)
    keeper.save(10, make_state(1), {"step": 10})
    keeper.save(10, make_state(2), {"step": 11}, 0.5)
    keeper.wait()
    fixtures.assert_same_bits(keeper.restore(10, like()), make_state(2))
    assert keeper.assets(10) == {"step": 11}
    keeper.close()
