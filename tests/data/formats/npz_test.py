import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import DataConfig, detect, open_source
from jaxpolicy.data.formats import npz
from tests.data.formats import hdf5_files


def arrays(i=0, n_steps=3, **extra):
    """Action [t] is (i, t), state [t] is (t, -t)."""
    t = np.arange(n_steps, dtype=np.float64)
    return {
        "action": np.stack([np.full(n_steps, float(i)), t], 1),
        "state": np.stack([t, -t], 1),
        "image_wrist": hdf5_files.pictures(n_steps, 4, 5),
        "reward": t,
        **extra,
    }


@pytest.fixture
def folder(tmp_path):
    """Episodes 0, 2 and 10, of 3, 5 and 13 steps."""
    (tmp_path / "d").mkdir()
    for i in (10, 2, 0):
        np.savez_compressed(tmp_path / "d" / f"ep{i}.npz", **arrays(i, 3 + i))
    return tmp_path / "d"


def test_a_folder_of_episodes(folder):
    assert detect(folder) == detect(folder / "ep2.npz") == "npz"
    source = open_source(folder)
    assert [e.metadata.episode_id for e in source] == ["ep0", "ep2", "ep10"]
    assert [len(e) for e in source] == [3, 5, 13]
    assert len(open_source(folder / "ep2.npz")) == 1


def test_an_episode(folder):
    source = open_source(folder)
    (camera,) = [k for k in source.spec.keys if k.startswith("image/")]
    found = source[1]
    assert found.action[:3].tolist() == [[2, 0], [2, 1], [2, 2]]
    assert found.action.dtype == np.float32
    assert found.observation["proprio"][:3].tolist() == [[0, 0], [1, -1], [2, -2]]
    assert found.reward.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(found.observation[camera], hdf5_files.pictures(5, 4, 5))
    assert found.metadata.success is None
    assert found.metadata.complete
    assert source.load(1, ()).observation.keys() == {"proprio"}


def save(path, **values):
    np.savez(path, **values)
    return path


def test_facts_by_name(tmp_path):
    facts = {
        "success": np.array(True),
        "terminals": np.array([0, 0, 1], bool),
        "language_instruction": np.array("lift the cube"),
        "task": np.array(["lift"] * 3),
        "robot": np.array("panda"),
        "operator": np.array(b"me"),
        "seed": np.array(7),
    }
    found = open_source(save(tmp_path / "e.npz", **arrays(**facts)))[0]
    facts = found.metadata
    assert (facts.success, facts.seed, facts.complete) == (True, 7, True)
    assert (facts.task, facts.robot, facts.operator) == ("lift", "panda", "me")
    assert (found.is_terminal, found.language_instruction) == (True, "lift the cube")


@pytest.mark.parametrize(
    ("flags", "complete"),
    [
        ({"done": np.zeros(3)}, True),
        ({"done": np.zeros(3), "timeouts": np.zeros(3)}, False),
        ({"done": np.zeros(3), "timeouts": np.array([0, 0, 1])}, True),
    ],
)
def test_a_recording_that_breaks_off(tmp_path, flags, complete):
    found = open_source(save(tmp_path / "e.npz", **arrays(**flags)))[0]
    assert found.metadata.complete is complete


def test_other_names_of_the_action(tmp_path):
    values = arrays()
    values["u"] = values.pop("action")
    source = open_source(save(tmp_path / "e.npz", **values), config=DataConfig(action_keys=("u",)))
    assert source[0].action[:, 1].tolist() == [0, 1, 2]


def test_fortran_order(tmp_path):
    values = arrays(state=np.asfortranarray(np.arange(6.0).reshape(3, 2)))
    source = open_source(save(tmp_path / "e.npz", **values))
    assert source[0].observation["proprio"].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_hashes(folder):
    source = open_source(folder)
    np.savez(folder / "ep11.npz", **arrays(2, 5))
    longer = open_source(folder)
    hashes = [longer.content_hash(i) for i in range(4)]
    # Packed or not, equal steps are equal.
    assert hashes[1] == hashes[3]
    assert len(set(hashes)) == 3
    assert source.fingerprint() != longer.fingerprint()


def header(shape, descr="<f8"):
    """A .npy header of any claim."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def member(name, data, method=zipfile.ZIP_DEFLATED):
    def change(path):
        with zipfile.ZipFile(path) as old:
            kept = {e: old.read(e) for e in old.namelist() if e != f"{name}.npy"}
        with zipfile.ZipFile(path, "w", method) as new:
            for entry, content in {**kept, f"{name}.npy": data}.items():
                new.writestr(entry, content)

    return change


def change_bytes(path, change):
    path.write_bytes(change(path.read_bytes()))


def saved(**values):
    return lambda path: np.savez(path, **{**arrays(2, 5), **values})


def without(name):
    return lambda path: np.savez(path, **{k: v for k, v in arrays(2, 5).items() if k != name})


class Evil:
    """Would leave a mark if it were unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemError('unpickled')",))


def forge_sizes(path):
    """The zip directory claims that 'state' unpacks to 3 GB."""
    data = path.read_bytes()
    at = data.rindex(b"state.npy") - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    size = struct.pack("<I", 3_000_000_000)
    path.write_bytes(data[: at + 24] + size + data[at + 28 :])


DAMAGE = {
    "empty": (lambda p: p.write_bytes(b""), "truncated or corrupt: File is not a zip file"),
    "text": (lambda p: p.write_text("action"), "truncated or corrupt: File is not a zip file"),
    "truncated": (lambda p: change_bytes(p, lambda b: b[: len(b) // 2]), "not a zip file"),
    "flipped": (
        lambda p: change_bytes(
            p, lambda b: b[:200] + bytes(~x & 255 for x in b[200:400]) + b[400:]
        ),
        "truncated or corrupt",
    ),
    "no action": (without("action"), "field 'action' is missing"),
    "no state": (without("state"), "field 'state' is missing"),
    "no steps": (saved(action=np.zeros((0, 2))), "'ep2': holds no steps"),
    "texts": (saved(state=np.array(["a"] * 5)), "'state': must be number, got <U1"),
    "shape": (saved(state=np.zeros((5, 3))), r"'state' must be \[5, 2\], got \[5, 3\]"),
    "length": (saved(state=np.zeros((4, 2))), r"'state' must be \[5, 2\], got \[4, 2\]"),
    "rewards": (saved(reward=np.zeros(2)), r"'reward': must be 5 numbers, got \[2\]"),
    "frames": (saved(image_wrist=np.zeros((5, 4, 5))), "'image_wrist': must be pictures"),
    "objects": (saved(state=np.array([Evil()])), "'state': holds Python objects"),
    "absurd": (member("state", header((10**12, 2))), "claims .1000000000000, 2. float64, 16"),
    "negative": (member("state", header((-1, -2))), "claims .-1, -2. float64"),
    "name": (
        lambda p: change_bytes(p, lambda b: b.replace(b"state.npy", b"st\nte.npy")),
        "field 'state' is missing",
    ),
    "no header": (member("state", b"\x93NUM"), "'state': truncated or corrupt"),
    "other version": (member("state", b"\x93NUMPY\x09\x00" + bytes(80)), "version .9, 0."),
    "code": (member("state", header("__import__('os')")), "'state': truncated or corrupt"),
    "deep": (member("state", header("(" * 3000)), "'state': truncated or corrupt"),
    "method": (member("state", b"", zipfile.ZIP_BZIP2), "must be stored or deflated, is 12"),
    "forged": (forge_sizes, "bytes cannot unpack to 3000000000"),
    "bomb": (member("state", header((10**8,)) + bytes(10**7)), "claims .100000000. float64"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_episode_spares_the_others(folder, name):
    change, message = DAMAGE[name]
    change(folder / "ep2.npz")
    tracemalloc.start()
    source = open_source(folder)
    assert len(source[0]) == 3
    with pytest.raises(InputError, match=message) as error:
        source[1]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert "ep2" in str(error.value)
    assert peak < 5e6


def test_an_episode_larger_than_memory_is_refused(folder, monkeypatch):
    # Frames of 4 x 5 x 3 bytes: 300 bytes for the 5 steps of ep2, 780 for the 13 of ep10.
    monkeypatch.setattr(npz, "MAX_EPISODE_BYTES", 700)
    source = open_source(folder)
    assert len(source[1]) == 5
    with pytest.raises(InputError, match="ep10.npz: 'image_wrist': 780 bytes are more than"):
        source[2]


def test_a_damaged_first_episode_does_not_hide_the_others(folder):
    (folder / "ep0.npz").write_bytes(b"")
    source = open_source(folder)
    assert len(source[1]) == 5
    with pytest.raises(InputError, match="ep0.npz: truncated or corrupt"):
        source[0]


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match="no .npz file here"):
        open_source(tmp_path, "npz")
    save(tmp_path / "e.npz", task=np.array("lift"))
    with pytest.raises(InputError, match="must hold arrays with a row per step.*are: task"):
        open_source(tmp_path)
