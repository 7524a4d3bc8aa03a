import dataclasses

import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import DataConfig, MemorySource, open_source
from jaxpolicy.data.resample import ResampledSource, kept_steps, resample
from tests.data.episodes import BRIDGE, SPEC, make_episode

BOTH = np.array([True, False])


@pytest.mark.parametrize(
    ("n_steps", "ratio", "expected"),
    [
        (6, 2.0, [0, 2, 4]),
        (7, 2.0, [0, 2, 4, 6]),
        (1, 2.0, [0]),
        (7, 3.0, [0, 3, 6]),
        (8, 3.0, [0, 3, 6]),
        (4, 1.0, [0, 1, 2, 3]),
        # 0, 2.5, 5, 7.5, 10 rounded half up.
        (11, 2.5, [0, 3, 5, 8, 10]),
        (8, 2.5, [0, 3, 5]),
        # 0, 1.2, 2.4, 3.6, 4.8: the last would be step 5, which there is not.
        (5, 1.2, [0, 1, 2, 4]),
        (0, 2.0, []),
    ],
)
def test_kept_steps(n_steps, ratio, expected):
    assert kept_steps(n_steps, ratio).tolist() == expected


def test_steps_are_kept_once_and_start_at_the_first():
    for ratio in np.linspace(1, 4, 61):
        for n in range(1, 60):
            kept = kept_steps(n, ratio)
            assert kept[0] == 0
            assert kept[-1] < n
            assert (np.diff(kept) > 0).all()


def test_by_hand():
    # action[t] = (1 + t / 10, t % 2) for t = 0..4, kept 0, 2, 4 of ratio 2:
    #   deltas add up: 1.0 + 1.1, 1.2 + 1.3, 1.4; positions are the last: t = 1, 3, 4.
    # reward[t] = t: 0 + 1, 2 + 3, 4. Observations are those of steps 0, 2, 4.
    episode = make_episode(1, 5)
    thin = resample(episode, kept_steps(5, 2.0), BOTH)
    np.testing.assert_allclose(thin.action, [[2.1, 1], [2.5, 1], [1.4, 0]], rtol=1e-6)
    np.testing.assert_array_equal(thin.reward, [1, 5, 4])
    np.testing.assert_array_equal(thin.observation["proprio"][:, 1], [0, 2, 4])
    assert all(len(v) == 3 for v in thin.observation.values())
    assert (thin.action.dtype, thin.reward.dtype) == (np.float32, np.float32)
    assert thin.metadata == episode.metadata


@pytest.mark.parametrize("ratio", [1.0, 1.2, 2.0, 2.5, 3.0, 100.0])
def test_deltas_lead_to_the_same_place(ratio):
    episode = make_episode(2, 17)
    thin = resample(episode, kept_steps(17, ratio), BOTH)
    np.testing.assert_allclose(thin.action[:, 0].sum(), episode.action[:, 0].sum(), rtol=1e-5)
    assert thin.action[-1, 1] == episode.action[-1, 1]
    assert thin.reward.sum() == episode.reward.sum()


def test_source():
    # 20 Hz to 8 Hz is 2.5 to 1; elements are "dq", a delta, and "gripper", never added.
    source = MemorySource([make_episode(i, 11) for i in range(2)], SPEC)
    thin = ResampledSource(source, 8.0, "joint_delta")
    assert (len(thin), thin.spec.action.control_hz) == (2, 8.0)
    assert [len(e) for e in thin] == [5, 5]
    np.testing.assert_array_equal(thin[0].action[:, 1], [0, 0, 1, 1, 0])  # t = 2, 4, 7, 9, 10
    assert "image/wrist" not in thin.load(0, ()).observation
    assert thin.content_hash(0) == source.content_hash(0)
    assert thin.fingerprint() != source.fingerprint()
    assert thin.fingerprint() != ResampledSource(source, 10.0, "joint_delta").fingerprint()


def test_positions_are_not_added():
    source = MemorySource([make_episode(0, 4)], SPEC)
    thin = ResampledSource(source, 10.0, "joint_position")
    np.testing.assert_allclose(thin[0].action[:, 0], [0.1, 0.3])


def unnamed():
    names = ("action_0", "action_1")
    action = dataclasses.replace(SPEC.action, names=names, control_hz=0.0)
    return MemorySource([make_episode(0)], dataclasses.replace(SPEC, action=action))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((5.0, "joint_position"), "does not say its rate; give data.control_hz"),
        ((30.0, "joint_position", 20.0), "resample_hz=30.0 is higher than the dataset's 20.0 Hz"),
        ((5.0, "unknown", 20.0), "give data.action_kind"),
        ((5.0, "joint_delta", 20.0), "does not name its actions; give data.action_names"),
    ],
)
def test_what_must_be_known(args, message):
    with pytest.raises(InputError, match=message):
        ResampledSource(unnamed(), *args)


def test_configured_names_tell_the_gripper():
    names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    config = DataConfig(
        resample_hz=2.5, control_hz=5.0, action_kind="cartesian_delta", action_names=names
    )
    plain, thin = open_source(BRIDGE), open_source(BRIDGE, config=config)
    assert thin.layout == plain.layout
    before, after = plain[0].action, thin[0].action
    assert (len(before), len(after)) == (10, 5)
    np.testing.assert_allclose(after[:, :6], before[0::2, :6] + before[1::2, :6], rtol=1e-6)
    np.testing.assert_array_equal(after[:, 6], before[1::2, 6])
