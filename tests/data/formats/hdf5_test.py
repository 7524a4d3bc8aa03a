import os
import pathlib
import sys
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import detect
from jaxpolicy.data.formats import hdf5, hdf5_probe
from tests.data.formats import hdf5_files


@pytest.fixture(autouse=True)
def _walk_here(monkeypatch):
    hdf5_files.walk_here(monkeypatch)


@pytest.fixture
def path(tmp_path):
    arrays = {"a/b/x": np.arange(6.0).reshape(3, 2), "a/n2": np.arange(3), "a/n10": np.arange(3)}
    attributes = {"a": {"word": "lift", "count": np.int64(3), "json": '{"k": [1]}', "flag": True}}
    return hdf5_files.write(tmp_path / "f.hdf5", arrays, attributes)


def opened(path):
    return hdf5.opened(path, hdf5.survey([path])[path])


def test_members_and_rows(path):
    with opened(path) as root:
        group = root.group("a")
        assert group.names == ("b", "n2", "n10")
        assert list(group.arrays(leave_out=("n2",))) == ["b/x", "n10"]
        array = root.get("a/b/x")
        assert (array.shape, array.dtype, array.kind, len(array)) == ((3, 2), "f8", "number", 3)
        assert array.read(1, 2).tolist() == [[2.0, 3.0]]
        assert array.read(2, 9).tolist() == [[4.0, 5.0]]
        assert root.get("a/none") is None
        assert list(root.pick("a/n2", "a", "a/none", "a/b/x")) == ["a/n2", "a/b/x"]
        assert root.get("a/n2/below") is None
        with pytest.raises(InputError, match="f.hdf5: /a: must hold a group 'n2'; there are: b"):
            group.group("n2")
        with pytest.raises(InputError, match="f.hdf5: /: must hold an array 'actions'"):
            root.array("actions")


def test_attributes(path):
    with opened(path) as root:
        group = root.group("a")
        found = [group.attribute(n) for n in ("word", "count", "flag", "none")]
        assert found == ["lift", 3, True, None]
        assert group.text("none", "count", "word") == "lift"
        assert group.json("json") == {"k": [1]}
        assert group.json("none") == {}
        with pytest.raises(InputError, match="attribute 'word': not valid JSON"):
            group.json("word")
        with pytest.raises(InputError, match="attribute 'count': not valid JSON"):
            group.json("count")


def test_natural_order():
    names = ["demo_10", "demo_9", "demo", "a", "demo_010", "9" * 400]
    expected = ["9" * 400, "a", "demo", "demo_9", "demo_10", "demo_010"]
    assert sorted(names, key=hdf5.natural) == expected


def test_files_are_found_by_number(tmp_path):
    for name in ("e_10.hdf5", "e_9.h5", ".hidden.hdf5", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "g").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert [p.name for p in hdf5.files(tmp_path)] == ["e_9.h5", "e_10.hdf5"]
    assert hdf5.files(tmp_path / "g") == [tmp_path / "g"]
    assert hdf5.files(tmp_path / "notes.txt") == []
    assert hdf5.files(tmp_path / "nothing") == []


def hostile(tmp_path):
    """A file that reaches for a secret beside it in every way that HDF5 has."""
    secret = hdf5_files.write(tmp_path / "secret.hdf5", {"x": np.full(3, 42.0)})
    (tmp_path / "raw").write_bytes(b"42" * 12)
    with h5py.File(tmp_path / "f.hdf5", "w") as file:
        file["external"] = h5py.ExternalLink(str(secret), "/x")
        file["soft"] = h5py.SoftLink("/external")
        file["dangling"] = h5py.SoftLink("/nowhere")
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "x", (3,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])
        file["loop/x"] = np.arange(3)
        file["loop/again"] = file["loop"]
    return tmp_path / "f.hdf5"


HOSTILE = {
    "external": "is a link to elsewhere",
    "soft": "is a link to elsewhere",
    "dangling": "is a link to elsewhere",
    "virtual": "its values lie in another file",
    "raw": "its values lie in another file",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_outside_the_file_is_read(tmp_path, name):
    with (
        opened(hostile(tmp_path)) as root,
        pytest.raises(InputError, match=f"f.hdf5: /{name}.*{HOSTILE[name]}"),
    ):
        root.array(name).read()


def test_a_name_with_a_line_break_is_no_member(tmp_path):
    path = hdf5_files.write(tmp_path / "f.hdf5", {"a/x\ny": np.zeros(3), "a/z": np.zeros(3)})
    with opened(path) as root:
        assert list(root.arrays()) == ["a/z"]


def test_a_group_within_itself_ends(tmp_path):
    with (
        opened(hostile(tmp_path)) as root,
        pytest.raises(InputError, match="/loop/again.*(levels|too deep)"),
    ):
        root.group("loop").arrays()


def absurd(tmp_path, name):
    path = tmp_path / "f.hdf5"
    with h5py.File(path, "w") as file:
        if name == "unwritten":
            file.create_dataset("x", (10**12,), "f4", chunks=(1024,))
        if name == "little":
            file.create_dataset("x", (10**9,), "f4", chunks=(1024,), compression="gzip")[0] = 1
        if name == "contiguous":
            file.create_dataset("x", (2**31,), "f4")
        if name == "objects":
            file.create_dataset("x", (3,), h5py.ref_dtype)
        if name == "compound":
            file["x"] = np.zeros(3, [("a", "f4"), ("b", "i4")])
        if name == "burst":
            # A chunk of 64 bytes whose packed form is 8 kB, 8 MB when it is unpacked.
            dataset = file.create_dataset("x", (64,), "u1", chunks=(64,), compression="gzip")
            dataset.id.write_direct_chunk((0,), zlib.compress(bytes(8_000_000)))
    return path


ABSURD = {
    "unwritten": "claims .1000000000000. float32 and holds 0 bytes",
    "little": "claims .1000000000. float32 and holds [0-9]+ bytes",
    "contiguous": "claims .2147483648. float32 and holds 0 bytes",
    "objects": "object is not a type that is read",
    "compound": "is not a type that is read",
    "burst": "a packed chunk of [0-9]+ bytes where at most 4224 are possible",
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_arrays_are_refused_before_memory_is_taken(tmp_path, name):
    path = absurd(tmp_path, name)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    with opened(path) as root, pytest.raises(InputError, match=f"f.hdf5: /x.*{ABSURD[name]}"):
        root.array("x").read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


def test_an_episode_larger_than_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "MAX_EPISODE_BYTES", 1000)
    path = hdf5_files.write(tmp_path / "f.hdf5", {"x": np.zeros((300, 1))})
    with opened(path) as root:
        # 8 bytes a row: 125 rows are the most.
        assert len(root.array("x").read(0, 125)) == 125
        with pytest.raises(InputError, match="/x: 1008 bytes are more than"):
            root.array("x").read(0, 126)


BROKEN = {
    "empty": (b"", "truncated or corrupt"),
    "no HDF5": (b"PK" * 400, "truncated or corrupt"),
    "magic only": (b"\x89HDF\r\n\x1a\n", "truncated or corrupt"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_hdf5_is_one_line(tmp_path, name):
    data, message = BROKEN[name]
    path = tmp_path / "f.hdf5"
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"f.hdf5: {message}") as error, opened(path):
        pass
    assert "\n" not in str(error.value)


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(InputError, match="f.hdf5: cannot read: No such file"):
        hdf5.survey([tmp_path / "f.hdf5"])


def test_without_h5py(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'jaxpolicy\[hdf5\]'"):
        hdf5.survey([path])
    assert detect(path) == "robomimic"


class TestWalk:
    """The process of its own."""

    @pytest.fixture(autouse=True)
    def _real_walk(self, _walk_here, monkeypatch):
        monkeypatch.undo()
        monkeypatch.setattr(hdf5, "_PROBE_SECONDS", 1)
        self.set_program = lambda program: monkeypatch.setattr(
            hdf5_probe, "__file__", os.fspath(program)
        )

    def test_it_reports_members_and_damage_of_all_files(self, tmp_path, path):
        broken = tmp_path / "g.hdf5"
        broken.write_bytes(path.read_bytes()[:500])
        found = hdf5.survey([path, broken])
        assert found[path] == hdf5.Survey({"a": "group"}, {})
        assert found[broken].top == {}
        assert "truncated file" in found[broken].bad["/"]

    @pytest.mark.parametrize(
        ("deed", "message"),
        [
            ("os.kill(os.getpid(), 11)", r"crashes on it \(signal 11\)"),
            ("time.sleep(30)", r"hangs on it \(over 1 s\)"),
        ],
    )
    def test_what_kills_it_is_left_out_from_then_on(self, tmp_path, path, deed, message):
        # A library that dies at /a/n2 of f.hdf5, as the real one does at some damage.
        program = tmp_path / "probe.py"
        source = pathlib.Path(hdf5_probe.__file__).read_text()
        wicked = f"import time\n        if path == '/a/n2' and 'f.hdf5' in self._path: {deed}"
        program.write_text(source.replace("self._n += 1", f"self._n += 1\n        {wicked}"))
        self.set_program(program)
        other = hdf5_files.write(tmp_path / "z.hdf5", {"x": np.zeros(3)})
        found = hdf5.survey([path, other])
        assert found[other] == hdf5.Survey({"x": "array"}, {})
        assert found[path].top == {"a": "group"}
        assert list(found[path].bad) == ["/a/n2"]
        with hdf5.opened(path, found[path]) as root:
            assert root.get("a/n10").read().tolist() == [0, 1, 2]
            with pytest.raises(InputError, match=f"f.hdf5: /a/n2.*{message}"):
                root.get("a/n2")

    def test_a_program_that_does_not_start(self, tmp_path, path):
        self.set_program(tmp_path / "nothing.py")
        with pytest.raises(InputError, match="f.hdf5: truncated or corrupt: .*nothing.py"):
            opened(path).__enter__()
