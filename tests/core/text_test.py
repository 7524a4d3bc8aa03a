import subprocess
import sys

import numpy as np
import pytest

from jaxpolicy.core import text
from jaxpolicy.core.specs import InputError

HASH = text.HashEncoder()


def likeness(a, b, encoder=HASH):
    x, y = encoder.encode([a, b])
    return float(x @ y)


def test_vectors_are_unit_float32():
    vectors = HASH.encode(["lift the red cube", "push"])
    assert (vectors.shape, vectors.dtype) == ((2, 64), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_one_letter_by_hand():
    # "A" -> features "w a" (weight 4) and the trigram "t a " (weight 1); each gives the
    # bits of its SHAKE-128 as signs. With 8 bits the vector is 4 s1 + s2 over its norm.
    s1 = 2.0 * np.array([1, 0, 0, 1, 0, 1, 0, 0]) - 1.0  # shake_128("w a") = 94...
    s2 = 2.0 * np.array([1, 0, 0, 1, 1, 0, 1, 1]) - 1.0  # shake_128("t a ") = 9b...
    expected = 4 * s1 + s2
    expected /= np.sqrt(np.sum(expected**2))
    np.testing.assert_allclose(text.HashEncoder(8).encode(["A"])[0], expected, atol=1e-7)


def test_another_process_gives_the_same_bits():
    """PYTHONHASHSEED would move anything that came from Python's own hash."""
    code = (
        "from jaxpolicy.core import text; import hashlib; "
        "print(hashlib.sha256(text.HashEncoder().encode(['pick the blue cup']).tobytes())"
        ".hexdigest())"
    )
    got = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    # The figure is a record: what a policy was trained with must not move later.
    assert got == {"e91766b1076774d43420e30a880b5b534bb60a73db2bc58545d86bc7d0e41dde"}


def test_case_and_punctuation_do_not_matter():
    assert likeness("Lift the red cube.", "lift the  RED cube") == pytest.approx(1.0, abs=1e-6)


def test_similar_sentences_are_nearer():
    assert likeness("lift the red cube", "lift up the red cube") > 0.6
    assert likeness("lift the red cube", "open the drawer slowly") < 0.5
    assert likeness("open the drawer", "open the drawers") > likeness(
        "open the drawer", "open the window"
    )


@pytest.mark.parametrize("size", [64, 128])
def test_colours_are_clearly_apart(size):
    encoder = text.HashEncoder(size)
    colours = ["red", "green", "blue", "yellow"]
    vectors = encoder.encode([f"lift the {c} cube" for c in colours])
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    assert distances[~np.eye(4, dtype=bool)].min() > 0.5


def test_word_order_counts():
    assert likeness("put the cup on the plate", "put the plate on the cup") < 0.99


def test_nothing_gives_zero():
    np.testing.assert_array_equal(HASH.encode(["", " ... "]), np.zeros((2, 64)))
    assert HASH.encode([]).shape == (0, 64)


def test_a_bare_string_is_refused():
    with pytest.raises(InputError, match="list of texts"):
        HASH.encode("lift")


@pytest.fixture
def table():
    return text.TableEncoder(("lift the cube", "push it"), np.eye(2, 3, dtype=np.float32))


def test_table_survives_the_disk(table, tmp_path):
    table.save(tmp_path / "t.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["t.npz"]
    read = text.get(str(tmp_path / "t.npz"))
    assert (read.size, read.texts) == (3, table.texts)
    np.testing.assert_array_equal(
        read.encode(["push it", "push it", "lift the cube"]), [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    )


def test_unknown_text_names_the_nearest(table):
    with pytest.raises(InputError, match="does not have 'lift a cube'.* is 'lift the cube'"):
        table.encode(["lift a cube"])


@pytest.mark.parametrize(
    ("texts", "vectors", "message"),
    [
        (["a", "a"], np.zeros((2, 3), np.float32), "'a' occurs twice"),
        (["a"], np.zeros((2, 3), np.float32), "1 texts and 2 vectors"),
        (["a"], np.zeros((1, 3)), "must be float32"),
        (["a"], np.zeros(1, np.float32), "must be float32"),
        (["a"], np.full((1, 3), np.nan, np.float32), "vector of 'a' is not finite"),
        ([], np.zeros((0, 3), np.float32), "N must be 1"),
        (["a"], np.zeros((1, 9000), np.float32), "L 1 .. 8192"),
        ([1], np.zeros((1, 3), np.float32), "list of strings"),
    ],
)
def test_bad_tables_are_refused(tmp_path, texts, vectors, message):
    path = tmp_path / "t.npz"
    np.savez(path, texts=np.array(texts, dtype=None if texts else "U1"), table=vectors)
    with pytest.raises(InputError, match=message) as e:
        text.TableEncoder.load(path)
    assert str(path) in str(e.value)


def test_files_that_are_no_tables_are_refused(tmp_path):
    bad, lacking, pickled = (tmp_path / f"{n}.npz" for n in ("bad", "lacking", "pickled"))
    bad.write_bytes(b"hello")
    np.savez(lacking, texts=np.array(["a"]))
    np.savez(pickled, texts=np.array(["a"], object), table=np.zeros((1, 3), np.float32))
    for path, message in [
        (bad, "is not an .npz"),
        (lacking, "expected the arrays"),
        (pickled, "is not an .npz"),
        (tmp_path / "none.npz", "cannot read"),
    ]:
        with pytest.raises(InputError, match=message):
            text.TableEncoder.load(path)


def test_oversized_files_are_not_unpacked(tmp_path, table, monkeypatch):
    table.save(tmp_path / "t.npz")
    monkeypatch.setattr(text, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="at most 100 are read"):
        text.TableEncoder.load(tmp_path / "t.npz")


def test_table_is_not_half_written(tmp_path, table):
    with pytest.raises(InputError, match="cannot write"):
        table.save(tmp_path)
    assert not list(tmp_path.iterdir())
    assert [p for p in tmp_path.parent.iterdir() if p.name.endswith(tmp_path.name)] == [tmp_path]


def test_names():
    assert (text.get("hash").size, text.get("hash:128").size) == (64, 128)
    for name, message in [
        ("bert", "unknown text encoder 'bert'"),
        ("hash:big", "must be a number"),
        ("hash:0", "must be 1 .. 8192"),
        ("hash:99999", "must be 1 .. 8192"),
    ]:
        with pytest.raises(InputError, match=message):
            text.get(name)
