"""Valid files with bytes changed or cut: what comes out is an Episode or an InputError."""

import contextlib
import pathlib
import tempfile

import pytest

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis")

from hypothesis import strategies as st  # noqa: E402

from jaxpolicy.core.specs import InputError  # noqa: E402
from jaxpolicy.core.types import Episode  # noqa: E402
from jaxpolicy.data import open_source  # noqa: E402
from jaxpolicy.data.formats import hdf5  # noqa: E402
from tests.data.formats import hdf5_files  # noqa: E402
from tests.data.formats.examples import MAKERS, SUFFIX  # noqa: E402

# One child, which costs 0.3 s, walks all files of an example; nothing is walked for npz. The
# first example of hypothesis is the simplest: files without a change.
N_FILES, N_EXAMPLES = 16, 2
N_FILES_NPZ, N_EXAMPLES_NPZ = 4, 30


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """Format -> bytes of a valid file."""
    folder = tmp_path_factory.mktemp("valid")
    found = {}
    for name, make in MAKERS.items():
        path = folder / (name + SUFFIX[name])
        make(path)
        found[name] = path.read_bytes()
    return found


byte = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
# Where: a share of the file, mostly of its head, where HDF5 keeps its structure.
share = st.floats(0, 1) | st.floats(0, 0.1)
mutation = st.tuples(st.lists(st.tuples(share, byte), max_size=6), st.just(1.0) | share)


def mutate(data, change):
    edits, kept = change
    mutant = bytearray(data)
    for where, value in edits:
        mutant[int(where * (len(data) - 1))] = value
    return bytes(mutant[: int(kept * len(data))])


def read_all(path, name):
    """Episodes that could be read and messages of those that could not."""
    found = []
    try:
        source = open_source(path, name)
    except InputError as e:
        return [e]
    for i in range(len(source)):
        with contextlib.suppress(InputError):
            source.content_hash(i)
        try:
            found.append(source[i])
        except InputError as e:
            found.append(e)
    return found


def check(name, data, changes, monkeypatch):
    """Types of what comes of every file."""
    suffix = SUFFIX[name]
    with tempfile.TemporaryDirectory() as folder, monkeypatch.context() as patch:
        paths = []
        for i, change in enumerate(changes):
            paths.append(pathlib.Path(folder) / f"episode_{i}{suffix}")
            paths[-1].write_bytes(mutate(data, change))
        if suffix == ".hdf5":
            walked = hdf5.survey(paths)
            patch.setattr(hdf5, "survey", lambda some: {p: walked[p] for p in some})
        for path in paths:
            for found in read_all(path, name):
                assert isinstance(found, Episode) or "\n" not in str(found)
                yield type(found)


@pytest.mark.parametrize("name", MAKERS)
def test_mutants_are_read_or_refused(valid, name, monkeypatch):
    n_files, n_examples = N_FILES, N_EXAMPLES
    if name == "npz":
        n_files, n_examples = N_FILES_NPZ, N_EXAMPLES_NPZ
    outcomes = set()

    @hypothesis.settings(
        max_examples=n_examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(st.lists(mutation, min_size=n_files, max_size=n_files))
    def run(changes):
        outcomes.update(check(name, valid[name], changes, monkeypatch))

    run()
    # Mutations are neither all harmless nor all fatal.
    assert outcomes == {Episode, InputError}


@pytest.mark.parametrize("name", MAKERS)
def test_the_files_are_valid(valid, name, monkeypatch, tmp_path):
    hdf5_files.walk_here(monkeypatch)
    path = tmp_path / ("e" + SUFFIX[name])
    path.write_bytes(valid[name])
    assert all(isinstance(e, Episode) for e in read_all(path, name))
