import dataclasses

import jax
import numpy as np
import pytest

from jaxpolicy.core import normalization
from jaxpolicy.core.specs import ArraySpec, InputError
from jaxpolicy.core.types import DatasetSpec
from jaxpolicy.data import MemorySource, cache, loader
from jaxpolicy.data.mixture import MixtureLoader, columns, common_spec, deal, merge_norms
from tests.data.episodes import SPEC, make_episode

KEYS = ("image/wrist", "mask/wrist", "proprio")
WINDOW = (2, 3)


def part(directory, first, lengths, keys=KEYS, mode="host"):
    episodes = [make_episode(first + i, n) for i, n in enumerate(lengths)]
    frames = cache.build(MemorySource(episodes, SPEC), range(len(lengths)), keys, directory)
    return loader.make_loader(frames, *WINDOW, batch_size=6, seed=first, mode=mode)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Episodes 0, 1, 2 and 10, 11; the second dataset has no mask."""
    directory = tmp_path_factory.mktemp("mixture")
    modes = ("host", "device")
    return {
        m: [part(directory, 0, [3, 4, 5], mode=m), part(directory, 10, [6, 2], KEYS[::2], mode=m)]
        for m in modes
    }


def mixture(parts, mode="host", weights=(2, 1)):
    return MixtureLoader(parts[mode], weights, 6, WINDOW)


def owners(batch):
    """Which episode each sample is of: the first element of proprio."""
    return batch.observation["proprio"][:, -1, 0].astype(int).tolist()


def test_deal_by_hand():
    # Shares 2/3, 1/3; to the one that lacks most (the first of equals):
    # 1: lacks 2/3, 1/3 -> a; 2: 1/3, 2/3 -> b; 3: 1, 0 -> a; and so on.
    expected = [[0, 0], [1, 0], [1, 1], [2, 1], [3, 1], [3, 2], [4, 2]]
    assert deal((2, 1), 6).tolist() == expected
    assert deal((1, 1, 2), 4).tolist()[-1] == [1, 1, 2]


def test_every_stretch_has_the_weights():
    for weights in [(0.7, 0.2, 0.1), (5, 1), (1,), (1, 1, 1, 1)]:
        table = deal(weights)
        shares = np.array(weights) / sum(weights)
        assert (table.sum(1) == np.arange(1025)).all()
        assert (np.abs(table - np.arange(1025)[:, None] * shares) <= 1).all()
        assert (np.diff(table, axis=0) >= 0).all()


def test_a_weight_that_would_never_be_drawn_is_refused():
    with pytest.raises(InputError, match="less than one in 1024 samples"):
        deal((1, 1e-4))


def test_batches_hold_the_weights(parts):
    made = mixture(parts)
    for step in range(5):
        first = [o < 10 for o in owners(made.batch(step))]
        assert first == [True] * 4 + [False] * 2
    assert made.lengths.tolist() == [3, 4, 5, 6, 2]
    # 12 frames in 2 batches of 6, 8 in 2.
    assert made.batches_per_epoch == 4


def test_every_sample_of_a_part_comes_once_an_epoch(parts):
    # 12 frames of the first dataset, 4 a batch: three batches.
    made = mixture(parts)
    for epoch in range(2):
        batches = [made.batch(3 * epoch + s) for s in range(3)]
        frames = [tuple(r) for b in batches for r in b.observation["proprio"][:4, -1]]
        assert len(set(frames)) == 12


def test_a_step_depends_on_its_number_alone(parts):
    unbroken = mixture(parts)
    batches = [unbroken.batch(s) for s in range(8)]
    resumed = mixture(parts)
    for step in (7, 4, 5):
        jax.tree.map(np.testing.assert_array_equal, resumed.batch(step), batches[step])


def test_host_and_device_see_the_same(parts):
    host, device = mixture(parts, "host"), mixture(parts, "device")
    assert (host.mode, device.mode) == ("host", "device")
    assert device.reason == "mixture of device: asked for; device: asked for"
    arrays = device.arrays
    for step in (0, 3):
        gathered = loader.gather_on_host(arrays, device.indices(step), *WINDOW)
        jax.tree.map(np.testing.assert_array_equal, gathered, host.batch(step))


def test_missing_masks_are_true(parts):
    masks = mixture(parts).batch(0).observation["mask/wrist"]
    assert masks.shape == (6, 2)
    assert masks[4:].all()
    whole = mixture(parts).arrays
    # Of the first dataset, episodes 0 and 2 have the camera: 3 + 5 frames; all 8 of the second.
    assert whole["mask/wrist"].sum() == 3 + 5 + 8
    assert whole["mask/wrist"].shape == (20,)


def test_modes_of_parts_that_differ(parts):
    class Streamed:
        mode, reason = "stream", "stream: asked for"

    def mode(*members):
        return MixtureLoader(members, (1,) * len(members), 2, WINDOW).mode

    assert mode(parts["host"][0], parts["device"][0]) == "host"
    # Streaming has an order of its own, which a resumed run must know.
    assert mode(parts["device"][0], Streamed()) == "stream"
    streamed = MixtureLoader([parts["host"][0], Streamed()], (1, 1), 2, WINDOW)
    with pytest.raises(InputError, match="a mixture with a streaming dataset has no indices"):
        streamed.indices(0)


class TestCommonSpec:
    """What all datasets hold; errors name both."""

    def joined(self, other, image_size=0):
        return common_spec([SPEC, other], ["a/one", "b/two"], image_size)

    def change(self, **facts):
        return dataclasses.replace(SPEC, action=dataclasses.replace(SPEC.action, **facts))

    def without(self, *keys):
        return DatasetSpec(tuple(s for s in SPEC.observation if s.name not in keys), SPEC.action)

    def test_masks_of_any_and_the_widest_bounds(self):
        other = self.change(minimum=(-2.0, 0.5), maximum=(0.5, 1.0))
        found = self.joined(
            dataclasses.replace(other, observation=self.without("mask/wrist").observation)
        )
        assert found.observation == SPEC.observation
        assert (found.action.minimum, found.action.maximum) == ((-2.0, 0.0), (1.0, 1.0))
        assert common_spec([self.without("mask/wrist"), SPEC], ["a", "b"], 0).keys == SPEC.keys

    @pytest.mark.parametrize(
        ("facts", "message"),
        [
            ({"kind": "joint_position"}, r"actions are joint_position \[2\] and joint_delta \[2\]"),
            ({"control_hz": 5.0}, "steps are at 5 and 20 Hz; give the faster data.resample_hz=5"),
            ({"units": ("m", "1")}, "action 'dq' is in m and in rad"),
        ],
    )
    def test_other_actions(self, facts, message):
        with pytest.raises(InputError, match=f"mixture: b/two and a/one: {message}"):
            self.joined(self.change(**facts))

    @pytest.mark.parametrize(
        ("first", "second", "joint"),
        [
            ("robot", "robot", "robot"),
            ("robot", "settings", "settings"),
            ("robot", "", ""),
            ("data extremes", "settings", "data extremes"),
        ],
    )
    def test_limits_come_from_the_least_certain_source(self, first, second, joint):
        specs = [self.change(limits_from=source) for source in (first, second)]
        assert common_spec(specs, ("a", "b"), 0).action.limits_from == joint

    def test_what_nobody_said_is_no_contradiction(self):
        assert self.joined(self.change(control_hz=0.0, units=("1", "1"))).action == SPEC.action

    def test_other_keys_and_shapes(self):
        with pytest.raises(InputError, match="b/two and a/one do not hold the same: proprio is in"):
            self.joined(self.without("proprio"))
        small = (ArraySpec("image/wrist", (4, 4, 3), "uint8"), *SPEC.observation[1:])
        other = dataclasses.replace(SPEC, observation=small)
        with pytest.raises(InputError, match=r"'image/wrist' is \[4, 4, 3\] and \[8, 8, 3\]; set"):
            self.joined(other)
        assert self.joined(other, image_size=6)["image/wrist"].shape == (8, 8, 3)


def test_norms_are_those_of_the_weighted_samples():
    # Weights 3 : 1 over 100 and 50 rows: as if rows of the first came 3 times, of the
    # second twice: 300 and 100 samples.
    draw = np.random.default_rng(0)
    a = draw.normal(2, 3, (100, 2)).astype(np.float32)
    b = draw.normal(-1, 0.5, (50, 2)).astype(np.float32)
    merged = merge_norms([normalization.fit(iter([x])) for x in (a, b)], (3, 1))
    rows = np.concatenate([a, a, a, b, b]).astype(np.float64)
    np.testing.assert_allclose(merged.mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(merged.std, rows.std(0), rtol=1e-5)
    np.testing.assert_array_equal(merged.minimum, rows.min(0).astype(np.float32))
    np.testing.assert_array_equal(merged.maximum, rows.max(0).astype(np.float32))
    assert (merged.q01 <= np.percentile(rows, 1, axis=0)).all()
    assert (merged.q99 >= np.percentile(rows, 99, axis=0)).all()
    assert all(v.dtype == np.float32 for v in merged)


def test_a_mask_that_a_dataset_lacks_is_true():
    arrays = {"image/front": np.zeros((3, 4, 4, 3), np.uint8), "action": np.zeros((3, 2))}
    found = columns(arrays, ("image/front", "mask/front", "action"))
    assert found["mask/front"].tolist() == [True, True, True]
    assert found["action"] is arrays["action"]
