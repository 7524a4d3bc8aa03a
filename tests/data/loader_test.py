import types

import jax
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import MemorySource, cache, loader
from jaxpolicy.data.loader import Sampler
from tests.data.episodes import SPEC, make_episode

KEYS = ("image/wrist", "mask/wrist", "proprio")
LENGTHS = np.array([3, 1, 5])


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Episodes of 3, 1 and 5 steps; proprio is (episode, t)."""
    source = MemorySource([make_episode(i, n) for i, n in enumerate(LENGTHS)], SPEC)
    return cache.build(source, [0, 1, 2], KEYS, tmp_path_factory.mktemp("cache"))


def seen(sampler, steps):
    """(start, t) of every sample of `steps`, in order."""
    samples = [sampler(s) for s in steps]
    return [(int(a), int(t)) for i in samples for a, t in zip(i.start, i.t, strict=True)]


EVERYTHING = {(start, t) for start, n in ((0, 3), (3, 1), (4, 5)) for t in range(n)}


def test_without_shuffling_samples_come_in_order():
    # 9 samples in batches of 4: 0-3, 4-7, 8 and then 0-2 of the next epoch.
    sampler = Sampler(LENGTHS, 4, seed=0, shuffle=False)
    assert sampler.batches_per_epoch == 3
    first, _, last = (sampler(s) for s in range(3))
    np.testing.assert_array_equal(first.start, [0, 0, 0, 3])
    np.testing.assert_array_equal(first.length, [3, 3, 3, 1])
    np.testing.assert_array_equal(first.t, [0, 1, 2, 0])
    np.testing.assert_array_equal(last.start, [4, 0, 0, 0])
    np.testing.assert_array_equal(last.t, [4, 0, 1, 2])
    assert first.t.dtype == np.int32


def test_every_epoch_sees_every_frame_once():
    # 9 samples, batches of 3: epoch e is steps 3e, 3e + 1, 3e + 2.
    sampler = Sampler(LENGTHS, 3, seed=1)
    epochs = [seen(sampler, range(3 * e, 3 * e + 3)) for e in range(5)]
    for epoch in epochs:
        assert len(epoch) == 9
        assert set(epoch) == EVERYTHING
    assert len({tuple(e) for e in epochs}) > 1


def test_epochs_that_do_not_divide_lose_nothing():
    # 9 samples, batches of 4: 9 steps hold 36 samples, four epochs exactly.
    samples = seen(Sampler(LENGTHS, 4, seed=1), range(9))
    assert all(samples.count(s) == 4 for s in EVERYTHING)


def test_a_batch_may_exceed_the_dataset():
    samples = seen(Sampler(LENGTHS, 18, seed=1), [0])
    assert all(samples.count(s) == 2 for s in EVERYTHING)
    assert Sampler(LENGTHS, 18, seed=1).batches_per_epoch == 1


def test_a_step_depends_on_seed_and_step_alone():
    forward, backward = Sampler(LENGTHS, 4, seed=7), Sampler(LENGTHS, 4, seed=7)
    first = [forward(s) for s in range(12)]
    for step in reversed(range(12)):
        jax.tree.map(np.testing.assert_array_equal, backward(step), first[step])
    jax.tree.map(np.testing.assert_array_equal, Sampler(LENGTHS, 4, seed=7)(10**9), forward(10**9))
    assert seen(Sampler(LENGTHS, 4, seed=8), range(9)) != seen(forward, range(9))


def test_hosts_share_the_batch():
    whole = Sampler(LENGTHS, 4, seed=3)
    hosts = [Sampler(LENGTHS, 4, seed=3, hosts=(h, 2)) for h in range(2)]
    for step in range(6):
        halves = [h(step) for h in hosts]
        joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), *halves)
        jax.tree.map(np.testing.assert_array_equal, joined, whole(step))


def test_batch_sizes_are_checked():
    with pytest.raises(InputError, match=r"batch size 5 must be a multiple of 2 host"):
        Sampler(LENGTHS, 5, seed=0, hosts=(0, 2))
    with pytest.raises(InputError, match="batch size 0"):
        Sampler(LENGTHS, 0, seed=0)


def test_batch_by_hand(frames):
    # In order, batch of 4, O = 2, H = 2: samples (episode, t) = (0,0) (0,1) (0,2) (1,0).
    batch = loader.make_loader(frames, 2, 2, 4, seed=0, shuffle=False).batch(0)
    expected = [[(0, 0), (0, 0)], [(0, 0), (0, 1)], [(0, 1), (0, 2)], [(1, 0), (1, 0)]]
    np.testing.assert_array_equal(batch.observation["proprio"], expected)
    # action[t] = (episode + t / 10, t % 2); beyond the end the last one is repeated.
    first = [[0.0, 0.1], [0.1, 0.2], [0.2, 0.2], [1.0, 1.0]]
    np.testing.assert_allclose(batch.action[..., 0], first, rtol=1e-6)
    mask = [[True, True], [True, True], [True, False], [True, False]]
    np.testing.assert_array_equal(batch.action_mask, mask)
    assert batch.observation["image/wrist"].shape == (4, 2, 8, 8, 3)
    assert batch.observation["image/wrist"].dtype == np.uint8
    # mask/wrist is True for even episodes.
    np.testing.assert_array_equal(batch.observation["mask/wrist"][:, 0], [1, 1, 1, 0])


@pytest.mark.parametrize("mode", ["device", "host"])
def test_both_modes_see_the_same(frames, mode):
    made = loader.make_loader(frames, 3, 4, 6, seed=5, mode=mode)
    arrays = jax.device_put(dict(made.arrays))
    gather = jax.jit(made.gather, static_argnums=(2, 3))
    for step in (0, 1, 17):
        on_device = gather(arrays, made.indices(step), 3, 4)
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(on_device), made.batch(step))


def test_gather_runs_inside_scan(frames):
    made = loader.make_loader(frames, 1, 2, 3, seed=5)
    stacked = jax.tree.map(lambda *x: np.stack(x), *[made.indices(s) for s in range(4)])

    def body(total, index):
        batch = made.gather(dict(made.arrays), index, 1, 2)
        return total + batch.action.sum(), batch.action

    _, actions = jax.lax.scan(body, 0.0, stacked)
    for step in range(4):
        np.testing.assert_array_equal(actions[step], made.batch(step).action)


def test_mode_follows_the_budget(frames):
    # 1 MB = 1048576 bytes.
    assert loader.choose_mode(2**20, budget_mb=1)[0] == "device"
    assert loader.choose_mode(2**20 + 1, budget_mb=1)[0] == "host"
    assert loader.choose_mode(2**50, "device") == ("device", "device: asked for")
    made = loader.make_loader(frames, 1, 1, 1, seed=0)
    assert (made.mode, made.reason) == ("device", "device: 0 MB of frames, budget 2048 MB")
    with pytest.raises(InputError, match="data.loader must be one of"):
        loader.choose_mode(1, "gpu")


def test_budget_is_a_share_of_device_memory(monkeypatch):
    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 10 * 2**20})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    # 30 % of 10 MB.
    assert loader.choose_mode(3 * 2**20)[0] == "device"
    assert loader.choose_mode(3 * 2**20 + 1)[0] == "host"


def test_window_sizes_are_checked(frames):
    with pytest.raises(InputError, match="n_obs_steps and horizon must be at least 1"):
        loader.make_loader(frames, 0, 1, 1, seed=0)
