import h5py
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import detect, open_source
from tests.data.formats import hdf5_files


@pytest.fixture(autouse=True)
def _walk_here(monkeypatch):
    hdf5_files.walk_here(monkeypatch)


def arrays(terminals=(4,), timeouts=(6,), n=10):
    """Ten steps as D4RL lays them out: observation [t] is (t, -t), reward t; flags at `at`."""
    t = np.arange(n, dtype=np.float32)
    return {
        "observations": np.stack([t, -t], 1),
        "next_observations": np.stack([t + 1, -t - 1], 1),
        "actions": 10 * t[:, None],
        "rewards": t,
        "terminals": np.isin(np.arange(n), terminals),
        "timeouts": np.isin(np.arange(n), timeouts),
        "infos/qpos": np.zeros((n, 3)),
        "metadata/algorithm": np.bytes_("SAC"),
    }


@pytest.fixture
def path(tmp_path):
    return hdf5_files.write(tmp_path / "hopper_medium-v2.hdf5", arrays())


def test_flags_end_episodes(path):
    assert detect(path) == "d4rl"
    source = open_source(path)
    # Ends at steps 4 (terminal) and 6 (timeout); steps 7 to 9 break off.
    assert [e.action[:, 0].tolist() for e in source] == [
        [0, 10, 20, 30, 40],
        [50, 60],
        [70, 80, 90],
    ]
    assert source[1].observation["proprio"].tolist() == [[5, -5], [6, -6]]
    assert source[1].reward.tolist() == [5, 6]
    assert [e.is_terminal for e in source] == [True, False, False]
    assert [e.metadata.complete for e in source] == [True, True, False]


def test_metadata_and_fields(path):
    source = open_source(path.parent)
    facts = source[2].metadata
    assert (facts.episode_id, facts.task) == ("episode-000002", "hopper_medium-v2")
    assert (facts.source, facts.success) == ("hopper_medium-v2.hdf5", None)
    assert set(source.reader.fields) == set(arrays()) - {"next_observations", "metadata/algorithm"}


def test_the_last_step_may_end_the_last_episode(tmp_path):
    path = hdf5_files.write(tmp_path / "f.hdf5", arrays(terminals=(9,), timeouts=()))
    (episode,) = open_source(path)
    assert (len(episode), episode.metadata.complete, episode.is_terminal) == (10, True, True)


def test_without_timeouts(tmp_path):
    whole = arrays()
    del whole["timeouts"]
    source = open_source(hdf5_files.write(tmp_path / "f.hdf5", whole))
    assert [len(e) for e in source] == [5, 5]


def test_only_the_steps_of_the_episode_are_read(path, monkeypatch):
    source = open_source(path)
    asked = []
    read = h5py.Dataset.__getitem__

    def watched(dataset, key, **options):
        asked.append((dataset.name, key))
        return read(dataset, key, **options)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)
    source[1]
    assert dict(asked) == {f"/{n}": slice(5, 7) for n in ("observations", "actions", "rewards")}


def test_hashes(tmp_path):
    whole = arrays(terminals=(4, 9), timeouts=())
    for name, value in whole.items():
        if name not in ("terminals", "metadata/algorithm"):
            value[5:] = value[:5]
    source = open_source(hdf5_files.write(tmp_path / "f.hdf5", whole))
    assert source.content_hash(0) == source.content_hash(1)
    before = source.fingerprint()
    hdf5_files.replace(tmp_path / "f.hdf5", "actions", np.zeros((10, 1)))
    changed = open_source(tmp_path / "f.hdf5")
    assert changed.content_hash(0) == changed.content_hash(1)
    assert changed.fingerprint() != before


DAMAGE = {
    "no actions": ("actions", None, "/: must hold an array 'actions'; there are: infos"),
    "no steps": ("actions", np.zeros((0, 1)), "holds no steps"),
    "few flags": ("terminals", np.zeros(3, bool), r"/terminals: must be 10 numbers, got \[3\]"),
    "flags of text": ("timeouts", np.array([b"x"] * 10), "/timeouts: must be 10 numbers"),
    "group of flags": ("timeouts/x", np.zeros(10), "/: must hold an array 'timeouts'"),
    "few observations": (
        "observations",
        np.zeros((6, 2)),
        r"/observations: must have 10 rows, got \[6, 2\]",
    ),
    "few rewards": ("rewards", np.zeros(4), "/rewards: must be 5 numbers|must be 10 numbers"),
    "link": ("actions", h5py.ExternalLink("/etc/passwd", "/x"), "/actions: is a link to else"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_one_line(path, name):
    key, value, message = DAMAGE[name]
    if "/" in key:
        hdf5_files.replace(path, key.split("/")[0], None)
    hdf5_files.replace(path, key, value)
    with pytest.raises(InputError, match=message) as error:
        list(open_source(path, "d4rl"))
    assert "\n" not in str(error.value)


def test_absurd_flags_take_no_memory(path):
    hdf5_files.claim(path, "actions", (10**12, 1), "f4")
    hdf5_files.claim(path, "terminals", (10**12,), "i1")
    with pytest.raises(InputError, match="(claims|holds).*damaged"):
        open_source(path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file(path, share):
    hdf5_files.truncate(path, share)
    with pytest.raises(InputError, match="hopper_medium-v2.hdf5: truncated or corrupt"):
        open_source(path, "d4rl")


def test_a_folder_of_two(path):
    hdf5_files.write(path.parent / "other.hdf5", arrays())
    with pytest.raises(InputError, match="must be, or hold, one HDF5 file of D4RL"):
        open_source(path.parent, "d4rl")
