import os

import pytest

from jaxpolicy.core import atomic
from jaxpolicy.core.specs import InputError


def test_write_text_replaces_and_leaves_no_neighbour(tmp_path):
    path = tmp_path / "below" / "f.json"
    atomic.write_text(path, "one")
    atomic.write_text(path, "two")
    assert path.read_text() == "two"
    assert os.listdir(path.parent) == ["f.json"]


def test_write_bytes(tmp_path):
    atomic.write_bytes(tmp_path / "below" / "f", b"\0a")
    assert (tmp_path / "below" / "f").read_bytes() == b"\0a"


def test_a_new_file_appears_at_the_end_and_keeps_its_suffix(tmp_path):
    with atomic.new_file(tmp_path / "f.png") as temporary:
        temporary.write_text("x")
        assert temporary.suffix == ".png"
        assert not (tmp_path / "f.png").exists()
    assert os.listdir(tmp_path) == ["f.png"]


def replace_and_fail(path):
    with atomic.new_file(path) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError


def test_an_exception_leaves_the_old_file(tmp_path):
    atomic.write_text(tmp_path / "f", "old")
    with pytest.raises(ZeroDivisionError):
        replace_and_fail(tmp_path / "f")
    assert (tmp_path / "f").read_text() == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match="f: cannot write: No such file"):
        with atomic.new_file(tmp_path / "f"):
            pass


def test_append_line(tmp_path):
    for line in ("a", "b"):
        atomic.append_line(tmp_path / "below" / "f", line)
    assert (tmp_path / "below" / "f").read_text() == "a\nb\n"


def test_a_new_directory_appears_at_the_end(tmp_path):
    with atomic.new_directory(tmp_path / "d") as directory:
        (directory / "f").write_text("x")
        assert not (tmp_path / "d").exists()
    assert (tmp_path / "d" / "f").read_text() == "x"
    assert os.listdir(tmp_path) == ["d"]


def test_an_empty_directory_is_replaced(tmp_path):
    (tmp_path / "d").mkdir()
    with atomic.new_directory(tmp_path / "d") as directory:
        (directory / "f").write_text("x")
    assert os.listdir(tmp_path / "d") == ["f"]


def test_remove(tmp_path):
    (tmp_path / "f").write_text("")
    for _ in range(2):
        atomic.remove(tmp_path / "f")
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match="cannot delete: Is a directory"):
        atomic.remove(tmp_path)


def write_and_fail(path):
    with atomic.new_directory(path) as directory:
        (directory / "f").write_text("x")
        raise ZeroDivisionError


def write_while_another_does(path):
    with atomic.new_directory(path):
        path.mkdir()
        (path / "other").write_text("")


def test_an_exception_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_and_fail(tmp_path / "d")
    assert os.listdir(tmp_path) == []


def test_losing_a_race_is_one_line(tmp_path):
    with pytest.raises(InputError, match="d: cannot write: Directory not empty"):
        write_while_another_does(tmp_path / "d")
    assert os.listdir(tmp_path / "d") == ["other"]


def test_unwritable_places_are_named(tmp_path):
    # A file where a folder is needed: refused even to root, unlike a mode without w.
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "f"
    with pytest.raises(InputError, match="file: cannot create this folder"):
        atomic.write_text(place, "")
    with pytest.raises(InputError, match="file: cannot create this folder"):
        atomic.append_line(place, "")
    with pytest.raises(InputError, match="file: cannot create this folder"):
        with atomic.new_directory(place):
            pass
    with pytest.raises(InputError, match="file: cannot create this folder"):
        atomic.make_directory(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: cannot write: Is a directory"):
        atomic.write_text(tmp_path / "folder", "")
    with pytest.raises(InputError, match="folder: cannot write: Is a directory"):
        atomic.append_line(tmp_path / "folder", "")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_folders_that_nobody_wrote_into_are_removed(tmp_path):
    (tmp_path / "there").mkdir()
    atomic.make_directory(tmp_path / "there" / "a" / "b")
    atomic.make_directory(tmp_path / "c")
    (tmp_path / "c" / "file").write_text("x")
    atomic.remove_empty()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["c", "file", "there"]


def test_what_is_unfinished_can_be_discarded(tmp_path):
    with atomic.new_directory(tmp_path / "kept") as folder:
        (folder / "a").write_text("x")
    lost = tmp_path / "lost"
    lost.mkdir()
    with atomic.unfinished(lost):
        atomic.discard()
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_a_link_takes_the_place_of_what_a_copy_made_of_it(tmp_path):
    (tmp_path / "20").mkdir()
    for _ in range(2):
        atomic.point(tmp_path / "best", tmp_path / "20")
        assert os.readlink(tmp_path / "best") == "20"
    (tmp_path / "best").unlink()
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "file").write_text("a copy that followed the link")
    atomic.point(tmp_path / "best", tmp_path / "20")
    assert os.readlink(tmp_path / "best") == "20"
    assert sorted(os.listdir(tmp_path)) == ["20", "best"]
