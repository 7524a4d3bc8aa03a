import dataclasses
import os

import numpy as np
import pytest

from jaxpolicy.core.specs import PREVIOUS_ACTION, InputError
from jaxpolicy.data import DataConfig, MemorySource, cache, open_source, process
from tests.data.episodes import BRIDGE, SPEC, make_episode

KEYS = ("image/wrist", "mask/wrist", "proprio")


class CountingSource(MemorySource):
    """Counts how many episodes were read."""

    reads = 0

    def load(self, i, cameras=None):
        self.reads += 1
        return super().load(i, cameras)


@pytest.fixture
def source():
    # Lengths 3, 4, 5.
    return CountingSource([make_episode(i, 3 + i) for i in range(3)], SPEC)


def test_frames_lie_in_the_order_of_indices(source, tmp_path):
    built = cache.build(source, [2, 0], KEYS, tmp_path)
    # Episode 2 has 5 steps at 0..4, episode 0 has 3 at 5..7.
    np.testing.assert_array_equal(built.starts, [0, 5])
    np.testing.assert_array_equal(built.lengths, [5, 3])
    assert built.n_frames == 8
    assert set(built.arrays) == {*KEYS, "action"}
    for key in KEYS:
        wanted = np.concatenate([source[i].observation[key] for i in (2, 0)])
        np.testing.assert_array_equal(built.arrays[key], wanted)
        assert built.arrays[key].dtype == wanted.dtype
    np.testing.assert_array_equal(built.arrays["action"][5:], source[0].action)
    # Bytes: images 8 * 8 * 3 = 192, mask 1, proprio 2 * 4, action 2 * 4: 209 per frame.
    assert built.n_bytes == 8 * 209


def test_arrays_are_memory_maps_that_cannot_be_written(source, tmp_path):
    array = cache.build(source, [0], KEYS, tmp_path).arrays["image/wrist"]
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable


def test_it_is_built_once(source, tmp_path):
    first = cache.build(source, [0, 1], KEYS, tmp_path)
    assert source.reads == 2
    again = cache.build(source, [0, 1], KEYS, tmp_path)
    assert source.reads == 2
    assert again.directory == first.directory


def test_other_contents_get_another_cache(source, tmp_path):
    other = MemorySource([make_episode(i + 1, 3 + i) for i in range(3)], SPEC)
    places = {
        cache.build(source, [0, 1], KEYS, tmp_path).directory,
        cache.build(source, [1, 0], KEYS, tmp_path).directory,
        cache.build(source, [0, 1], KEYS[:1], tmp_path).directory,
        cache.build(other, [0, 1], KEYS, tmp_path).directory,
    }
    assert len(places) == 4


@pytest.mark.parametrize("name", ["proprio.bin", "meta.json"])
def test_a_damaged_cache_is_built_again(source, tmp_path, name):
    first = cache.build(source, [0, 1], KEYS, tmp_path)
    expected = np.array(first.arrays["proprio"])
    path = os.path.join(first.directory, name)
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) - 1)
    again = cache.build(source, [0, 1], KEYS, tmp_path)
    assert source.reads == 4
    np.testing.assert_array_equal(again.arrays["proprio"], expected)


def test_losing_a_race_uses_what_the_winner_wrote(source, tmp_path):
    winner = CountingSource([source[i] for i in range(3)], SPEC)

    def overtake(done, total):
        if done == total == 1:
            cache.build(winner, [0], KEYS, tmp_path)

    built = cache.build(source, [0], KEYS, tmp_path, progress=overtake)
    assert (source.reads, winner.reads) == (1, 1)
    np.testing.assert_array_equal(built.arrays["action"], source[0].action)


def test_progress_is_reported(source, tmp_path):
    calls = []
    cache.build(source, [0, 1, 2], KEYS, tmp_path, progress=lambda *a: calls.append(a))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_errors_are_named_and_leave_nothing(source, tmp_path):
    with pytest.raises(InputError, match="no observation 'image/front' in the dataset"):
        cache.build(source, [0], ("image/front",), tmp_path / "c")
    with pytest.raises(InputError, match="this part of the split is empty"):
        cache.build(source, [], KEYS, tmp_path / "c")
    wrong = dataclasses.replace(make_episode(1), action=np.zeros((4, 3), np.float32))
    mixed = MemorySource([make_episode(0), wrong], SPEC)
    with pytest.raises(InputError, match="episode 'e-001': 'action' must have shape"):
        cache.build(mixed, [0, 1], KEYS, tmp_path / "c", corrupt="error")
    assert not (tmp_path / "c").exists() or list((tmp_path / "c").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: cannot create this folder"):
        cache.build(source, [0], KEYS, tmp_path / "file")


def test_bridge(tmp_path):
    source = open_source(BRIDGE)
    processed = process.process(source, DataConfig(), tmp_path)
    built = cache.build(source, processed.indices("val"), processed.spec.keys, tmp_path / "c")
    assert built.n_frames == 40
    assert built.arrays["image/image_3"].shape == (40, 64, 64, 3)
    assert built.arrays["language"].shape == (40, 512)
    assert not built.arrays["mask/image_3"].any()
    assert built.arrays["mask/image_0"].all()


def test_previous_action_is_zero_first_and_stays_within_its_episode(source, tmp_path):
    built = cache.build(source, [0, 1], (PREVIOUS_ACTION,), tmp_path)
    previous, action = built.arrays[PREVIOUS_ACTION], built.arrays["action"]
    # Episode 0 has frames 0..2, episode 1 frames 3..6.
    np.testing.assert_array_equal(previous[[0, 3]], np.zeros((2, 2)))
    np.testing.assert_array_equal(previous[[1, 2, 4, 5, 6]], action[[0, 1, 3, 4, 5]])


def test_what_cannot_be_decoded_is_left_out_and_noted(tmp_path):
    wrong = dataclasses.replace(make_episode(1), action=np.zeros((4, 3), np.float32))
    mixed = MemorySource([make_episode(0), wrong, make_episode(2)], SPEC)
    built = cache.build(mixed, [0, 1, 2], KEYS, tmp_path)
    assert built.episodes.tolist() == [0, 2]
    assert built.lengths.tolist() == [4, 4]
    assert list(built.skipped) == [1]
    assert "'action' must have shape" in built.skipped[1]
    np.testing.assert_array_equal(built.arrays["action"][4:], make_episode(2).action)
    with pytest.raises(InputError, match="'action' must have shape"):
        cache.build(mixed, [1], KEYS, tmp_path)


def test_frames_can_be_resized(source, tmp_path):
    built = cache.build(source, [0], KEYS, tmp_path, image_size=4)
    frames = source[0].observation["image/wrist"]
    assert built.arrays["image/wrist"].shape == (3, 4, 4, 3)
    # 8 -> 4 pixels: the triangle filter reaches two source pixels to each side; inside, its
    # weights are 1/8, 3/8, 3/8, 1/8.
    weights = np.array([1, 3, 3, 1]) / 8
    expected = np.einsum("i,j,tijc->tc", weights, weights, frames[:, 1:5, 1:5].astype(float))
    np.testing.assert_allclose(built.arrays["image/wrist"][:, 1, 1], expected, atol=1.1)
    assert built.directory != cache.build(source, [0], KEYS, tmp_path).directory
