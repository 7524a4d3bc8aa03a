import shutil

import h5py
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import detect, images, open_source
from tests.data.formats import hdf5_files

CAMERAS = ("cam_high", "cam_left_wrist")


@pytest.fixture(autouse=True)
def _walk_here(monkeypatch):
    hdf5_files.walk_here(monkeypatch)


def packed(frames):
    """JPEGs padded to one length, as Mobile ALOHA stores them: uint8 [T, N]."""
    rows = [np.frombuffer(images.encode(f), np.uint8) for f in frames]
    padded = np.zeros((len(rows), max(map(len, rows)) + 7), np.uint8)
    for to, row in zip(padded, rows, strict=True):
        to[: len(row)] = row
    return padded


def episode(n_steps=4, i=0, compress=False):
    """Arrays as record_sim_episodes.py writes them: qpos [t] is (t, i, ...), action is one more."""
    t = np.arange(n_steps, dtype=np.float64)
    qpos = np.full((n_steps, 14), float(i))
    qpos[:, 0] = t
    frames = hdf5_files.pictures(n_steps)
    arrays = {
        "observations/qpos": qpos,
        "observations/qvel": np.zeros((n_steps, 14)),
        "observations/effort": np.zeros((n_steps, 14)),
        "action": qpos + 1,
        **{f"observations/images/{c}": packed(frames) if compress else frames for c in CAMERAS},
    }
    if compress:
        arrays["compress_len"] = np.zeros((len(CAMERAS), n_steps), np.float32)
        arrays["base_action"] = np.zeros((n_steps, 2))
    return arrays


def write(path, **options):
    attributes = {"sim": True, **options.pop("attributes", {})}
    return hdf5_files.write(path, episode(**options), {"/": attributes})


@pytest.fixture
def folder(tmp_path):
    """Episodes 0 to 10, but 3 to 9."""
    for i in (10, 1, 0, 2):
        write(tmp_path / "d" / f"episode_{i}.hdf5", i=i, n_steps=4 + i)
    return tmp_path / "d"


def test_a_folder_of_episodes(folder):
    assert detect(folder) == "aloha"
    source = open_source(folder)
    assert source.spec.keys == ("image/cam_high", "image/cam_left_wrist", "proprio")
    action = source.spec.action
    assert (action.kind, action.control_hz) == ("joint_position", 0.0)
    assert action.units == ("rad",) * 6 + ("1",) + ("rad",) * 6 + ("1",)
    assert [e.metadata.episode_id for e in source] == [f"episode_{i}" for i in (0, 1, 2, 10)]
    assert [len(e) for e in source] == [4, 5, 6, 14]


def test_an_episode(folder):
    found = open_source(folder)[2]
    assert found.observation["proprio"].dtype == np.float32
    assert found.observation["proprio"][:3, :2].tolist() == [[0, 2], [1, 2], [2, 2]]
    assert found.action[:3, :2].tolist() == [[1, 3], [2, 3], [3, 3]]
    np.testing.assert_array_equal(found.observation["image/cam_high"], hdf5_files.pictures(6))
    assert not found.reward.any()
    assert (found.is_terminal, found.language_instruction) == (False, "")
    assert (found.metadata.success, found.metadata.source) == (None, "d")


def test_one_file(folder):
    assert detect(folder / "episode_2.hdf5") == "aloha"
    assert len(open_source(folder / "episode_2.hdf5")) == 1


def test_packed_images_are_decoded(tmp_path):
    path = write(tmp_path / "episode_0.hdf5", compress=True, attributes={"compress": True})
    source = open_source(path)
    assert source.spec["image/cam_high"].shape == (16, 20, 3)
    assert "compress_len" not in source.reader.fields
    found = source[0].observation["image/cam_high"].astype(int)
    # Even colours: the JPEG is off by rounding alone.
    assert np.abs(found - hdf5_files.pictures(4)).max() <= 3
    assert source.load(0, ()).observation.keys() == {"proprio"}


def test_what_attributes_say(tmp_path):
    facts = {"success": np.bool_(False), "task": "insertion", "fps": 30, "instruction": "insert"}
    source = open_source(write(tmp_path / "episode_0.hdf5", attributes=facts))
    found = source[0]
    assert found.metadata.success is False
    assert (found.metadata.task, found.language_instruction) == ("insertion", "insert")
    assert source.spec.action.control_hz == 30.0


def test_one_arm_of_unknown_units(tmp_path):
    arrays = episode() | {"action": np.zeros((4, 7)), "observations/qpos": np.zeros((4, 7))}
    source = open_source(hdf5_files.write(tmp_path / "episode_0.hdf5", arrays))
    assert source.spec.action.units == ("1",) * 7


def test_hashes(folder):
    source = open_source(folder)
    write(folder / "episode_11.hdf5", i=1, n_steps=5)
    longer = open_source(folder)
    hashes = [longer.content_hash(i) for i in range(5)]
    assert hashes[1] == hashes[4]
    assert len(set(hashes)) == 4
    assert source.fingerprint() != longer.fingerprint()


DAMAGE = {
    "no action": ("action", None, "/: must hold an array 'action'; there are: observations"),
    "no qpos": ("observations/qpos", None, "field 'observations/qpos' is missing"),
    "no steps": ("action", np.zeros((0, 14)), "'episode_1': holds no steps"),
    "other length": (
        "observations/qpos",
        np.zeros((3, 14)),
        r"'observations/qpos' must be \[5, 14\], got \[3, 14\]",
    ),
    "texts": ("action", np.array([b"a"] * 5), "/action: must be number"),
    "few frames": (
        "observations/images/cam_high",
        hdf5_files.pictures(2),
        r"cam_high' must be \[5, 16, 20, 3\], got \[2, 16, 20, 3\]",
    ),
    "no frames": (
        "observations/images/cam_high",
        np.zeros((5, 100), np.uint8),
        "cam_high, step 0: cannot decode the image",
    ),
    "vectors for frames": (
        "observations/images/cam_high",
        np.zeros((5, 3)),
        r"cam_high: must be pictures, got \[5, 3\] float64",
    ),
    "larger frames": (
        "observations/images/cam_high",
        packed(hdf5_files.pictures(5, height=24)),
        r"cam_high, step 0: must be \[16, 20, 3\], got \[24, 20, 3\]",
    ),
    "link": (
        "observations/images/cam_high",
        h5py.ExternalLink("/etc/passwd", "/x"),
        "cam_high: is a link to elsewhere",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_episode_spares_the_others(folder, name):
    key, value, message = DAMAGE[name]
    hdf5_files.replace(folder / "episode_1.hdf5", key, value)
    source = open_source(folder)
    assert len(source[0]) == 4
    with pytest.raises(InputError, match=message) as error:
        source[1]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_episode_spares_the_others(folder, share):
    hdf5_files.truncate(folder / "episode_0.hdf5", share)
    assert detect(folder) == "aloha"
    source = open_source(folder)
    assert len(source[1]) == 5
    with pytest.raises(InputError, match="episode_0.hdf5: truncated or corrupt"):
        source[0]


def test_all_files_damaged(folder):
    for path in folder.iterdir():
        hdf5_files.truncate(path, 0.5)
    with pytest.raises(InputError, match="episode_0.hdf5: truncated or corrupt") as error:
        open_source(folder)
    assert "\n" not in str(error.value)


def test_absurd_images(folder):
    path, key = folder / "episode_1.hdf5", "observations/images/cam_high"
    hdf5_files.claim(path, key, (10**6, 1000, 1000, 3), "u1")
    with pytest.raises(InputError, match="cam_high: (claims|chunks)"):
        open_source(folder)[1]


def test_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no episode_0.hdf5 here"):
        open_source(tmp_path, "aloha")
    shutil.rmtree(tmp_path)
    with pytest.raises(InputError, match="no such dataset"):
        open_source(tmp_path)
