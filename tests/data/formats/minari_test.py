import json
import shutil

import h5py
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import DataConfig, detect, open_source
from tests.data.formats import hdf5_files
from tests.data.formats.hdf5_files import FOREIGN

FLAT, NESTED = FOREIGN / "minari_flat", FOREIGN / "minari_dict"


@pytest.fixture(autouse=True)
def _walk_here(monkeypatch):
    hdf5_files.walk_here(monkeypatch)


class TestPendulum:
    """Three episodes of 8 steps, cut off by time, by Minari's own collector."""

    PATHS = ("", "pendulum", "pendulum/random-v0", "pendulum/random-v0/data")

    @pytest.mark.parametrize("below", [*PATHS, PATHS[-1] + "/main_data.hdf5"])
    def test_any_folder_will_do(self, below):
        assert detect(FLAT / below) == "minari"
        assert len(open_source(FLAT / below)) == 3

    def test_episodes_hold_what_h5py_reads(self):
        source = open_source(FLAT)
        assert source.spec.keys == ("proprio",)
        with h5py.File(source.reader.location) as file:
            for i, episode in enumerate(source):
                group = file[f"episode_{i}"]
                # T + 1 observations; the last has no action.
                assert len(group["observations"]) == 9
                np.testing.assert_array_equal(
                    episode.observation["proprio"], group["observations"][:8]
                )
                np.testing.assert_array_equal(episode.action, group["actions"][:])
                np.testing.assert_array_equal(
                    episode.reward, group["rewards"][:].astype(np.float32)
                )
                assert not episode.is_terminal

    def test_metadata(self):
        facts = open_source(FLAT)[2].metadata
        assert (facts.episode_id, facts.seed, facts.success) == ("episode_2", 2, None)
        assert (facts.source, facts.task) == ("pendulum/random-v0", "Pendulum-v1")
        assert facts.complete


class TestPush:
    """Nested observations with images packed by Minari; episode 2 ends by success at step 5."""

    def test_nested_fields(self):
        source = open_source(
            NESTED, config=DataConfig(proprio_keys=("robot/state", "desired_goal"))
        )
        with h5py.File(source.reader.location) as file:
            state = file["episode_1/observations/robot/state"][:8]
            goal = file["episode_1/observations/desired_goal"][:8]
        expected = np.concatenate([state, goal], 1).astype(np.float32)
        np.testing.assert_array_equal(source[1].observation["proprio"], expected)

    def test_images(self):
        source = open_source(NESTED)
        frames = source[0].observation["image/image"]
        assert frames.shape == (8, 32, 40, 3)
        # PushEnv brightens by 20 a step: a JPEG of smooth texture keeps that within 2.
        means = frames.reshape(8, -1).mean(1)
        np.testing.assert_allclose(np.diff(means[:4]), 20, atol=2)
        # Grey JPEGs become RGB; frames too small for Minari's JPEG are raw.
        for t in range(8):
            grey = source[0].observation["image/grey"][t]
            assert np.abs(grey.astype(int) - 20 * t).max() <= 1
            assert (source[0].observation["image/tiny"][t] == 20 * t).all()

    def test_success_and_end(self):
        episodes = list(open_source(NESTED))
        assert [len(e) for e in episodes] == [8, 8, 5]
        assert [e.metadata.success for e in episodes] == [False, False, True]
        assert [e.is_terminal for e in episodes] == [False, False, True]
        assert all(e.metadata.complete for e in episodes)

    def test_hashes(self):
        source = open_source(NESTED)
        assert len({source.content_hash(i) for i in range(3)}) == 3


def episode(i, n_steps=3, **extra):
    arrays = {
        "observations": np.arange(n_steps + 1.0)[:, None],
        "actions": np.full((n_steps, 2), float(i)),
        "rewards": np.zeros(n_steps),
        "terminations": np.zeros(n_steps, bool),
        "truncations": np.zeros(n_steps, bool),
        **extra,
    }
    return {f"episode_{i}/{k}": v for k, v in arrays.items()}


def write(folder, *episodes):
    merged = {k: v for e in episodes for k, v in e.items()}
    return hdf5_files.write(folder / "data" / "main_data.hdf5", merged)


def test_episodes_come_by_number_and_may_break_off(tmp_path):
    last = np.array([0, 0, 1], bool)
    write(tmp_path, episode(10), episode(9, truncations=last), episode(1, terminations=last))
    source = open_source(tmp_path)
    assert [e.action[0, 0] for e in source] == [1, 9, 10]
    assert [e.is_terminal for e in source] == [True, False, False]
    assert [e.metadata.complete for e in source] == [True, True, False]
    assert source[0].metadata.source == "main_data.hdf5"
    assert source[0].metadata.seed == -1


def test_tuples_of_observations(tmp_path):
    whole = episode(0)
    rows = whole.pop("episode_0/observations")
    parts = {f"episode_0/observations/_index_{i}": rows + i for i in range(2)}
    write(tmp_path, whole | parts)
    source = open_source(tmp_path, config=DataConfig(proprio_keys=("_index_1", "_index_0")))
    assert source[0].observation["proprio"].tolist() == [[1, 0], [2, 1], [3, 2]]


DAMAGE = {
    "no rewards": ("rewards", None, "/episode_1: must hold an array 'rewards'"),
    "no actions": ("actions", None, "field 'actions' is missing"),
    "no steps": ("rewards", np.zeros(0), "'episode_1': holds no steps"),
    "few actions": ("actions", np.zeros((2, 2)), r"'actions' must be \[3, 2\], got \[2, 2\]"),
    "texts": ("actions", np.array([b"x"] * 3), "/episode_1/actions: must be number"),
    "group": ("rewards/x", np.zeros(3), "/episode_1: must hold an array 'rewards'"),
    "link": ("actions", h5py.SoftLink("/episode_0/actions"), "actions: is a link to elsewhere"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_episode_spares_the_others(tmp_path, name):
    key, value, message = DAMAGE[name]
    path = write(tmp_path, episode(0), episode(1), episode(2))
    if name == "group":
        hdf5_files.replace(path, "episode_1/rewards", None)
    hdf5_files.replace(path, f"episode_1/{key}", value)
    source = open_source(tmp_path)
    assert [len(source[i]) for i in (0, 2)] == [3, 3]
    with pytest.raises(InputError, match=message) as error:
        source[1]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.99])
def test_a_truncated_file(tmp_path, share):
    shutil.copytree(FLAT, tmp_path / "d")
    hdf5_files.truncate(tmp_path / "d/pendulum/random-v0/data/main_data.hdf5", share)
    with pytest.raises(InputError, match="main_data.hdf5: truncated or corrupt") as error:
        open_source(tmp_path / "d")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "metadata.json: not valid JSON"), ("[]", "metadata.json: must hold a JSON object")],
)
def test_damaged_metadata(tmp_path, text, message):
    write(tmp_path, episode(0))
    (tmp_path / "data" / "metadata.json").write_text(text)
    with pytest.raises(InputError, match=message):
        open_source(tmp_path)


@pytest.mark.parametrize("spec", ["{", "[]", 3, None, '{"id": 3}'])
def test_an_environment_that_is_no_name_is_left_out(tmp_path, spec):
    write(tmp_path, episode(0))
    (tmp_path / "data" / "metadata.json").write_text(json.dumps({"env_spec": spec}))
    assert open_source(tmp_path)[0].metadata.task == ""


def test_total_steps_must_agree(tmp_path):
    path = write(tmp_path, episode(0))
    with h5py.File(path, "a") as file:
        file["episode_0"].attrs["total_steps"] = 9
    with pytest.raises(InputError, match="total_steps is 9, 'rewards' holds 3"):
        open_source(tmp_path)


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match=r"no data/main_data.hdf5 here or below"):
        open_source(tmp_path, "minari")
    hdf5_files.write(tmp_path / "a/data/main_data.hdf5", {"x": np.zeros(1)})
    with pytest.raises(InputError, match=r"the dataset holds no episodes \(episode_0\)"):
        open_source(tmp_path)
    write(tmp_path / "b", episode(0))
    with pytest.raises(InputError, match="holds several datasets, name one"):
        open_source(tmp_path)
