import json
import shutil

import h5py
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import DataConfig, detect, open_source
from jaxpolicy.data.formats import robomimic_writer
from tests.data.episodes import SPEC, make_episode
from tests.data.formats import hdf5_files
from tests.data.formats.hdf5_files import FOREIGN

IMAGE = FOREIGN / "robomimic" / "image.hdf5"


@pytest.fixture(autouse=True)
def _walk_here(monkeypatch):
    hdf5_files.walk_here(monkeypatch)


class TestRobosuite:
    """Two demonstrations of 12 steps by robosuite's recorder and robomimic's own scripts."""

    @pytest.mark.parametrize("name", ["image.hdf5", "low_dim.hdf5", "raw.hdf5"])
    def test_detection_and_length(self, name):
        source = open_source(IMAGE.parent / name)
        assert isinstance(source.reader.declared.control_hz, float)
        assert detect(IMAGE.parent / name) == "robomimic"
        assert len(source) == 2
        assert source.spec.action.kind == "cartesian_delta"
        assert source.spec.action.control_hz == 10.0

    def test_episodes_hold_what_h5py_reads(self):
        source = open_source(IMAGE)
        assert source.spec.keys == ("image/agentview", "proprio")
        with h5py.File(IMAGE) as file:
            for episode, name in zip(source, ("demo_1", "demo_2"), strict=True):
                demo = file["data"][name]
                parts = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
                proprio = np.concatenate([demo["obs"][p][:] for p in parts], 1)
                np.testing.assert_array_equal(
                    episode.observation["proprio"], proprio.astype(np.float32)
                )
                np.testing.assert_array_equal(
                    episode.observation["image/agentview"], demo["obs/agentview_image"][:]
                )
                np.testing.assert_array_equal(episode.action, demo["actions"][:].astype(np.float32))
                np.testing.assert_array_equal(episode.reward, demo["rewards"][:])

    def test_metadata(self):
        facts = open_source(IMAGE)[1].metadata
        assert (facts.episode_id, facts.task, facts.robot) == ("demo_2", "Lift", "Panda")
        assert facts.source == "image.hdf5/valid"
        assert open_source(IMAGE)[0].metadata.source == "image.hdf5/train"
        # The recorder stops when the cube is up: reward 1 at the last step.
        assert facts.success is True
        assert open_source(IMAGE)[1].is_terminal

    def test_without_rewards_success_is_unknown(self):
        episode = open_source(IMAGE.parent / "raw.hdf5")[0]
        assert episode.metadata.success is None
        assert not episode.reward.any()
        assert episode.observation == {}

    def test_a_folder_with_the_same_demonstrations_twice(self):
        with pytest.raises(InputError, match="hold the same demonstrations; name one file"):
            open_source(IMAGE.parent)

    def test_hashes(self):
        source = open_source(IMAGE)
        assert source.content_hash(0) != source.content_hash(1)
        assert source.content_hash(0) == open_source(IMAGE).content_hash(0)
        assert source.fingerprint() == open_source(IMAGE).fingerprint()

    def test_the_hash_of_the_files_changes_with_any_byte(self, tmp_path):
        copy = shutil.copy(IMAGE, tmp_path / IMAGE.name)
        before = open_source(copy).fingerprint()
        assert before == open_source(IMAGE).fingerprint()
        hdf5_files.replace(copy, "data/demo_2/rewards", np.zeros(12))
        assert open_source(copy).fingerprint() != before


def demo(i, n_steps=3, reward=None, **extra):
    """Arrays of demonstration `i`: action [t] is (i, t)."""
    t = np.arange(n_steps)
    arrays = {
        "actions": np.stack([np.full(n_steps, i), t], 1).astype(np.float64),
        "obs/state": t[:, None].astype(np.float64),
        "next_obs/state": t[:, None] + 1.0,
        **extra,
    }
    if reward is not None:
        arrays["rewards"] = np.array(reward, np.float64)
    return {f"data/demo_{i}/{k}": v for k, v in arrays.items()}


def write(path, *demos, **attributes):
    merged = {k: v for d in demos for k, v in d.items()}
    return hdf5_files.write(path, merged, {"data": attributes})


def test_demonstrations_come_by_number(tmp_path):
    source = open_source(write(tmp_path / "d.hdf5", demo(10), demo(9), demo(1)))
    assert [e.action[0, 0] for e in source] == [1, 9, 10]
    assert [e.metadata.episode_id for e in source] == ["demo_1", "demo_9", "demo_10"]
    assert "next_obs/state" not in source.reader.fields


def test_files_of_several_tasks_are_one_dataset(tmp_path):
    # LIBERO: a file per task, the instruction in problem_info.
    for i, words in enumerate(["open the drawer", ["put the bowl", "on the stove"]]):
        info = json.dumps({"language_instruction": words})
        write(tmp_path / f"task_{i}_demo.hdf5", demo(i), problem_info=info)
    source = open_source(tmp_path)
    assert [e.language_instruction for e in source] == [
        "open the drawer",
        "put the bowl, on the stove",
    ]
    assert [e.metadata.episode_id for e in source] == ["task_0_demo/demo_0", "task_1_demo/demo_1"]


def test_the_instruction_of_robocasa(tmp_path):
    path = write(tmp_path / "d.hdf5", demo(0))
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": "close the door"})
    assert open_source(path)[0].language_instruction == "close the door"


@pytest.mark.parametrize(
    ("reward", "dones", "success"),
    [
        ([0, 0, 1], None, True),
        ([0, 0, 0], [0, 0, 1], False),
        ([0, 0, 0], None, None),
        ([0, 1, 0], [0, 0, 1], None),
        ([0.1, 0.2, 0.9], [0, 0, 1], None),
        (None, [0, 0, 1], None),
    ],
)
def test_success_is_what_sparse_rewards_say(tmp_path, reward, dones, success):
    extra = {} if dones is None else {"dones": np.array(dones)}
    source = open_source(write(tmp_path / "d.hdf5", demo(0, reward=reward, **extra)))
    assert source[0].metadata.success is success
    assert source[0].is_terminal is (dones is not None)


CONTROLLERS = {
    "before 1.5": ({"type": "OSC_POSE", "control_delta": False}, "cartesian_position"),
    "joints": ({"type": "JOINT_POSITION"}, "joint_delta"),
    "1.5": (
        {"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSE", "input_type": "delta"}}},
        "cartesian_delta",
    ),
    "two arms": (
        {"body_parts": {a: {"type": "OSC_POSE"} for a in ("left", "right")}},
        "unknown",
    ),
    "unknown": ({"type": "IK"}, "unknown"),
    "nonsense": ("OSC_POSE", "unknown"),
}


@pytest.mark.parametrize("name", CONTROLLERS)
def test_the_controller_says_what_actions_are(tmp_path, name):
    controller, kind = CONTROLLERS[name]
    args = json.dumps({"env_name": "Lift", "env_kwargs": {"controller_configs": controller}})
    source = open_source(write(tmp_path / "d.hdf5", demo(0), env_args=args))
    assert source.spec.action.kind == kind
    assert source.spec.action.control_hz == 0.0


def test_pictures_with_colour_first(tmp_path):
    frames = hdf5_files.pictures(3)
    extra = {"obs/a_image": frames, "obs/b_image": np.moveaxis(frames, 3, 1)}
    source = open_source(write(tmp_path / "d.hdf5", demo(0, **extra)))
    observation = source[0].observation
    np.testing.assert_array_equal(observation["image/a"], frames)
    np.testing.assert_array_equal(observation["image/b"], frames)
    assert source.load(0, ("b",)).observation.keys() == {"image/b", "proprio"}


def test_configured_keys(tmp_path):
    path = write(tmp_path / "d.hdf5", demo(0, **{"obs/extra": np.ones((3, 2))}))
    source = open_source(path, config=DataConfig(proprio_keys=("extra", "state")))
    np.testing.assert_array_equal(source[0].observation["proprio"][:, 2], [0, 1, 2])


def break_file(path, name):
    """Damages a file of three demonstrations of three steps; demo_1 is the one to suffer."""
    edits = {
        "missing actions": ("actions", None),
        "missing observation": ("obs/state", None),
        "wrong type": ("obs/state", np.array([b"a", b"b", b"c"])),
        "wrong shape": ("obs/state", np.zeros((3, 4))),
        "short": ("obs/state", np.zeros((2, 1))),
        "no steps": ("actions", np.zeros((0, 2))),
        "few rewards": ("rewards", np.zeros(2)),
        "vectors of rewards": ("rewards", np.zeros((3, 2))),
        "link": ("obs/state", h5py.ExternalLink("/etc/passwd", "/x")),
    }
    if name == "absurd":
        hdf5_files.claim(path, "data/demo_1/obs/state", (3, 10**9), "f8")
    elif name == "group for array":
        hdf5_files.replace(path, "data/demo_1/actions", None)
        hdf5_files.replace(path, "data/demo_1/actions/x", np.zeros(3))
    elif name == "masks of numbers":
        hdf5_files.replace(path, "mask/train", np.zeros(3))
    elif name in edits:
        key, value = edits[name]
        hdf5_files.replace(path, f"data/demo_1/{key}", value)
    else:
        with h5py.File(path, "a") as file:
            file["data"].attrs["env_args"] = {"bad JSON": "{", "JSON list": "[1]"}[name]


# What is wrong with a whole file.
FATAL = {
    "masks of numbers": "/mask/train: must name demonstrations",
    "bad JSON": "attribute 'env_args': not valid JSON",
    "JSON list": "attribute 'env_args': must be a JSON object",
}
# What is wrong with one demonstration, and leaves the others as they are.
DAMAGE = {
    "missing actions": "/data/demo_1: must hold an array 'actions'; there are: next_obs, obs",
    "missing observation": "field 'obs/state' is missing",
    "wrong type": "/data/demo_1/obs/state: must be number, got ",
    "wrong shape": r"field 'obs/state' must be \[3, 1\], got \[3, 4\]",
    "short": r"field 'obs/state' must be \[3, 1\], got \[2, 1\]",
    "no steps": "demo_1': holds no steps",
    "few rewards": r"/data/demo_1/rewards: must be 3 numbers, got \[2\]",
    "vectors of rewards": r"/data/demo_1/rewards: must be 3 numbers, got \[3, 2\]",
    "group for array": "/data/demo_1: must hold an array 'actions'",
    "link": "/data/demo_1/obs/state: is a link to elsewhere",
    "absurd": "/data/demo_1/obs/state: (claims|chunks)",
}


@pytest.mark.parametrize("name", FATAL)
def test_a_damaged_file_is_one_line(tmp_path, name):
    path = write(tmp_path / "d.hdf5", demo(0), demo(1))
    break_file(path, name)
    with pytest.raises(InputError, match=FATAL[name]) as error:
        open_source(path)[0]
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_demonstration_spares_the_others(tmp_path, name):
    path = write(tmp_path / "d.hdf5", demo(0), demo(1), demo(2))
    break_file(path, name)
    source = open_source(path)
    assert [source[i].metadata.episode_id for i in (0, 2)] == ["demo_0", "demo_2"]
    with pytest.raises(InputError, match=DAMAGE[name]) as error:
        source[1]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing actions", "link", "group for array"])
def test_a_damaged_first_demonstration_does_not_hide_the_others(tmp_path, name):
    path = write(tmp_path / "d.hdf5", demo(1), demo(2))
    break_file(path, name)
    source = open_source(path)
    assert source.spec.keys == ("proprio",)
    assert source[1].metadata.episode_id == "demo_2"
    with pytest.raises(InputError, match=DAMAGE[name]):
        source[0]


def test_num_samples_must_agree(tmp_path):
    path = write(tmp_path / "d.hdf5", demo(0))
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs["num_samples"] = 7
    with pytest.raises(InputError, match="num_samples is 7, 'actions' holds 3 steps"):
        open_source(path)


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match="no HDF5 file here"):
        open_source(tmp_path, "robomimic")
    with pytest.raises(InputError, match=r"holds no demonstrations \(data/demo_0\)"):
        open_source(hdf5_files.write(tmp_path / "d.hdf5", {"data/x": np.zeros(3)}), "robomimic")
    with pytest.raises(InputError, match="e.hdf5: /: must hold a group 'data'; there are: x"):
        open_source(hdf5_files.write(tmp_path / "e.hdf5", {"x": np.zeros(3)}), "robomimic")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_detected_and_named(tmp_path, share):
    path = shutil.copy(IMAGE, tmp_path / "d.hdf5")
    hdf5_files.truncate(path, share)
    with pytest.raises(InputError, match="d.hdf5: truncated or corrupt: ") as error:
        open_source(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("attribute", "text", "message"),
    [
        ("jaxpolicy", "{", "attribute 'jaxpolicy': not valid JSON"),
        ("jaxpolicy", "{}", "attribute 'jaxpolicy' lacks the key"),
    ],
)
def test_damage_to_what_we_left_beside_the_data(tmp_path, attribute, text, message):
    robomimic_writer.write(tmp_path / "d.hdf5", [make_episode(0)], SPEC, "Lift")
    with h5py.File(tmp_path / "d.hdf5", "a") as file:
        file["data"].attrs[attribute] = text
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / "d.hdf5")


def test_damage_to_what_we_know_of_an_episode(tmp_path):
    robomimic_writer.write(tmp_path / "d.hdf5", [make_episode(0)], SPEC, "Lift")
    with h5py.File(tmp_path / "d.hdf5", "a") as file:
        file["data/demo_0"].attrs["jaxpolicy_episode"] = '{"metadata": {"episode_id": 3}}'
    with pytest.raises(InputError, match="'jaxpolicy_episode'.* must be"):
        open_source(tmp_path / "d.hdf5")[0]
