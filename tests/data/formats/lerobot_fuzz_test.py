"""Valid datasets with random edits: what comes is episodes or one line, soon, and no output.

Examples are drawn the same way in every run; raise `EXAMPLES` to search.
"""

import json
import pathlib
import shutil
import tempfile

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import open_source

FOREIGN = pathlib.Path(__file__).parents[1] / "foreign"
NAMES = ("lerobot_v21_images", "lerobot_v21_video", "lerobot_v3_h264", "lerobot_v3_images")
EXAMPLES = 50
QUICK = settings(
    max_examples=EXAMPLES,
    deadline=5000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["video", "image", "float32", "{x.__class__}", "../../../etc/passwd"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


def files(name):
    found = (FOREIGN / name).rglob("*")
    return sorted(p.relative_to(FOREIGN / name) for p in found if p.is_file())


def read_all(folder):
    """All episodes of `folder`, or the error's text."""
    try:
        source = open_source(folder, "lerobot")
        episodes = list(source)
        digests = [source.content_hash(i) for i in range(len(source))]
    except InputError as error:
        return str(error)
    assert len(digests) == len(episodes)
    return episodes


def check(found, capfd):
    if isinstance(found, str):
        assert "\n" not in found
        assert len(found) < 800
    else:
        for episode in found:
            assert all(len(v) == len(episode.action) for v in episode.observation.values())
            assert episode.action.dtype == np.float32
    assert capfd.readouterr() == ("", "")


@given(
    name=st.sampled_from(NAMES),
    which=st.integers(0, 99),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)), min_size=1, max_size=4),
    kept=st.just(1.0) | st.floats(0, 1),
)
@QUICK
def test_random_bytes(capfd, name, which, edits, kept):
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory) / name
        shutil.copytree(FOREIGN / name, folder, copy_function=shutil.copyfile)
        path = folder / files(name)[which % len(files(name))]
        data = bytearray(path.read_bytes())
        for place, new in edits:
            start = int(place * len(data))
            data[start : start + len(new)] = new
        path.write_bytes(data[: int(kept * len(data))])
        check(read_all(folder), capfd)


def places(value, path=()):
    """Paths to every value in a JSON object."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


@given(name=st.sampled_from(NAMES), which=st.integers(0, 999), value=VALUES)
@QUICK
def test_random_values_in_info(capfd, name, which, value):
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory) / name
        shutil.copytree(FOREIGN / name, folder, copy_function=shutil.copyfile)
        info = json.loads((folder / "meta/info.json").read_text())
        paths = list(places(info))
        *above, key = paths[which % len(paths)]
        inner = info
        for k in above:
            inner = inner[k]
        inner[key] = value
        (folder / "meta/info.json").write_text(json.dumps(info))
        check(read_all(folder), capfd)
