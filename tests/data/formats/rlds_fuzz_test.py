"""Small valid datasets with bytes or descriptions changed: an Episode or an InputError."""

import contextlib
import json
import pathlib
import shutil
import tempfile

import numpy as np
import pytest

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis")

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from jaxpolicy.core.specs import InputError  # noqa: E402
from jaxpolicy.core.types import Episode  # noqa: E402
from jaxpolicy.data import open_source  # noqa: E402
from jaxpolicy.data.formats import rlds_writer, tfrecord  # noqa: E402
from tests.data.episodes import SPEC, make_episode  # noqa: E402

LIMITS = hypothesis.settings(
    max_examples=60,
    deadline=2000,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
DESCRIPTIONS = ("features.json", "dataset_info.json", "jaxpolicy.json")

byte = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
edits = st.lists(st.tuples(st.floats(0, 1), byte), max_size=4)
kept = st.just(1.0) | st.floats(0, 1)
# What a value of a description may become.
oddity = st.sampled_from(
    [None, True, -1, 0, 2**40, 10**30, 0.5, float("nan"), "", "x", "-1", "9" * 20, [], {}]
    + [["-1"], ["4", "4", "3"], {"dimensions": ["1000000000", "1000000000"]}, "../../x", "a\0"]
)


def valid(folder):
    rlds_writer.write(folder, [make_episode(i, 3) for i in range(2)], SPEC, "lift", "png")
    return folder


def as_parquet(folder):
    """The same dataset with its records in Parquet."""
    (path,) = folder.glob("*.tfrecord-*")
    records = [tfrecord.read(r) for r in tfrecord.index(path)]
    pq.write_table(pa.table({"data": records}), str(path).replace("tfrecord", "parquet"))
    path.unlink()
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("tfrecord", "parquet"))
    return folder


@pytest.fixture(scope="module", params=["tfrecord", "parquet"])
def original(request, tmp_path_factory):
    folder = valid(tmp_path_factory.mktemp("valid") / "d")
    return as_parquet(folder) if request.param == "parquet" else folder


@contextlib.contextmanager
def copied(original):
    with tempfile.TemporaryDirectory() as parent:
        yield pathlib.Path(shutil.copytree(original, pathlib.Path(parent, "d")))


def read_all(folder):
    """Every episode that can be read; all of it is of the shapes that were promised."""
    source = []
    with contextlib.suppress(InputError):
        source = open_source(folder, "rlds")
    if not source:
        return
    for i in range(len(source)):
        with contextlib.suppress(InputError):
            episode = source[i]
            assert isinstance(episode, Episode)
            assert episode.action.shape == (len(episode), source.spec.action.size)
            assert set(source.spec.keys) == set(episode.observation)
            assert all(len(v) == len(episode) for v in episode.observation.values())
        with contextlib.suppress(InputError):
            source.content_hash(i)
    source.fingerprint()


def test_the_originals_are_read(original):
    source = open_source(original)
    assert len(source) == 2
    np.testing.assert_array_equal(source[1].action, make_episode(1, 3).action)


def test_changed_bytes_of_records(original):
    (name,) = (p.name for p in original.iterdir() if "record-" in p.name or "parquet-" in p.name)

    @LIMITS
    @hypothesis.given(edits, kept)
    def check(changes, share):
        with copied(original) as folder:
            data = bytearray((folder / name).read_bytes())
            for where, value in changes:
                data[int(where * (len(data) - 1))] = value
            (folder / name).write_bytes(data[: int(share * len(data))])
            read_all(folder)

    check()


def test_payloads_that_checksums_do_not_protect(original):
    """Records whose framing is right and whose contents are not, as a hostile file has."""
    if list(original.glob("*parquet-*")):
        pytest.skip("the same records")
    (name,) = (p.name for p in original.glob("*.tfrecord-*"))
    records = [tfrecord.read(r) for r in tfrecord.index(original / name)]

    @LIMITS
    @hypothesis.given(edits, kept)
    def check(changes, share):
        data = bytearray(records[0])
        for where, value in changes:
            data[int(where * (len(data) - 1))] = value
        with copied(original) as folder:
            with open(folder / name, "wb") as file:
                tfrecord.write(file, bytes(data[: int(share * len(data))]))
                tfrecord.write(file, records[1])
            read_all(folder)

    check()


def nodes(value, path=()):
    """Paths of everything in JSON below the top."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in pairs:
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from nodes(child, (*path, key))


def change(value, share, new):
    """Replaces one node of JSON; `new` None deletes it."""
    *parents, last = list(nodes(value))[int(share * (len(list(nodes(value))) - 1))]
    for key in parents:
        value = value[key]
    if new is None:
        del value[last]
    else:
        value[last] = new


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_changed_descriptions(original, name):
    if name != "dataset_info.json" and list(original.glob("*parquet-*")):
        pytest.skip("the same description")

    @LIMITS
    @hypothesis.given(st.floats(0, 1), oddity, st.booleans())
    def check(share, new, with_facts):
        with copied(original) as folder:
            value = json.loads((folder / name).read_text())
            change(value, share, new)
            (folder / name).write_text(json.dumps(value))
            if not with_facts and name != "jaxpolicy.json":
                (folder / "jaxpolicy.json").unlink()
            read_all(folder)

    check()
