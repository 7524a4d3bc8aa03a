import dataclasses
import errno
import gc
import json
import os
import weakref

import numpy as np
import pytest
from tensorflow_datasets.core import example_parser
from tensorflow_datasets.core import features as tfds_features

from jaxpolicy.core import atomic
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import DatasetSpec
from jaxpolicy.data import open_source
from jaxpolicy.data.formats import rlds_writer, tfrecord
from tests.data.episodes import SPEC, assert_same, make_episode

FILES = {"dataset_info.json", "features.json", "jaxpolicy.json"}


def write(path, episodes, **options):
    return rlds_writer.write(path, episodes, SPEC, "lift", image_encoding="png", **options)


@pytest.mark.parametrize("success", [True, False, None])
def test_round_trip_keeps_everything(tmp_path, success):
    episodes = [make_episode(i, n_steps=1 + i, success=success) for i in range(3)]
    assert write(tmp_path / "d", iter(episodes)) == 3
    source = open_source(tmp_path / "d", "rlds")
    assert source.spec == SPEC
    assert source.reader.name == "lift"
    assert len(source) == 3
    for wrote, read in zip(episodes, source, strict=True):
        assert_same(wrote, read)


def test_jpeg_is_the_default_and_close(tmp_path):
    y, x = np.mgrid[0:8, 0:8]
    frame = np.stack([20 * x, 20 * y, 10 * (x + y)], -1).astype(np.uint8)
    episode = make_episode(0)
    episode.observation["image/wrist"][:] = frame
    rlds_writer.write(tmp_path / "d", [episode], SPEC, "lift")
    found = open_source(tmp_path / "d", "rlds")[0].observation["image/wrist"].astype(int)
    assert np.abs(found - frame).max() <= 12


def test_shards_are_numbered_and_counted(tmp_path):
    # shard_mb = 0: every record finds its file already too large, so 3 files of 1.
    write(tmp_path / "d", [make_episode(i) for i in range(3)], shard_mb=0)
    names = {f"lift-train.tfrecord-0000{i}-of-00003" for i in range(3)}
    assert {p.name for p in (tmp_path / "d").iterdir()} == FILES | names
    info = json.loads((tmp_path / "d" / "dataset_info.json").read_text())
    assert info["splits"][0]["shardLengths"] == ["1", "1", "1"]
    assert [e.metadata.seed for e in open_source(tmp_path / "d", "rlds")] == [0, 1, 2]


def test_tfds_parses_the_records_without_tensorflow(tmp_path):
    episode = make_episode(1)
    write(tmp_path / "d", [episode])
    tree = tfds_features.FeaturesDict.from_json(
        json.loads((tmp_path / "d" / "features.json").read_text())
    )
    parser = example_parser.ExampleParserNp(tree.get_serialized_info())
    (record,) = tfrecord.index(tmp_path / "d" / "lift-train.tfrecord-00000-of-00001")
    found = parser.parse_example(tfrecord.read(record))
    np.testing.assert_array_equal(found["steps"]["action"], episode.action)
    np.testing.assert_array_equal(found["steps"]["is_first"], [True, False, False, False])
    np.testing.assert_array_equal(found["steps"]["is_last"], [False, False, False, True])
    np.testing.assert_array_equal(found["steps"]["is_terminal"], [False, False, False, True])
    np.testing.assert_array_equal(found["steps"]["observation"]["mask_wrist"], [False] * 4)
    assert found["episode_metadata"]["seed"] == 1
    assert found["steps"]["language_instruction"][0] == b"lift cube 1"


def watched(n, alive):
    """`n` episodes; after each, `alive` gets how many of them are still referenced."""
    references = []
    for i in range(n):
        episode = make_episode(i)
        references.append(weakref.ref(episode))
        yield episode
        del episode
        gc.collect()
        alive.append(sum(r() is not None for r in references))


def test_writing_streams(tmp_path):
    # While the next episode is made, the writer may hold the last one: 1 of 20.
    alive = []
    write(tmp_path / "d", watched(20, alive))
    assert len(alive) == 20
    assert max(alive) <= 1


def broken(**changes):
    return dataclasses.replace(make_episode(1), **changes)


def with_observation(key, value):
    observation = dict(make_episode(1).observation)
    observation[key] = value
    return broken(observation=observation)


BAD_EPISODES = {
    "no steps": (
        broken(action=np.zeros((0, 2), np.float32)),
        "episode 'e-001': holds no steps",
    ),
    "NaN action": (
        broken(action=np.full((4, 2), np.nan, np.float32)),
        "episode 'e-001': 'action' holds NaN",
    ),
    "wrong action size": (
        broken(action=np.zeros((4, 3), np.float32)),
        r"episode 'e-001': 'action' must have shape \[..., 2\], got \[4, 3\]",
    ),
    "wrong dtype": (
        with_observation("proprio", np.zeros((4, 2))),
        "episode 'e-001': 'proprio' must be float32, got float64",
    ),
    "missing key": (
        broken(observation={}),
        "episode 'e-001': observation 'image/wrist' is missing",
    ),
    "other length": (
        with_observation("proprio", np.zeros((5, 2), np.float32)),
        r"episode 'e-001': 'proprio' must be \[4, 2\], got \[5, 2\]",
    ),
    "repeated id": (make_episode(0), "episode 'e-000': episode_id must be unique"),
    "empty id": (make_episode(1, episode_id=""), "episode '': episode_id must be unique"),
}


@pytest.mark.parametrize("name", BAD_EPISODES)
def test_a_bad_episode_is_named_and_leaves_nothing(tmp_path, name):
    episode, message = BAD_EPISODES[name]
    with pytest.raises(InputError, match=message):
        write(tmp_path / "d", [make_episode(0), episode])
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_producer_leaves_nothing(tmp_path):
    def episodes():
        yield make_episode(0)
        raise RuntimeError("simulator died")

    with pytest.raises(RuntimeError, match="simulator died"):
        write(tmp_path / "d", episodes())
    assert list(tmp_path.iterdir()) == []


def test_no_episodes_is_an_error(tmp_path):
    with pytest.raises(InputError, match="there are no episodes to write"):
        write(tmp_path / "d", [])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    write(tmp_path / "d", [make_episode(0)])
    with pytest.raises(InputError, match="d: exists and is not empty"):
        write(tmp_path / "d", [make_episode(1)])
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="f: is a file"):
        write(tmp_path / "f", [make_episode(1)])
    with pytest.raises(InputError, match="cannot create this folder"):
        write(tmp_path / "f" / "below", [make_episode(1)])


@pytest.mark.parametrize("name", ["", "3d", "a/b", "a-b", "_a"])
def test_dataset_names_are_checked(tmp_path, name):
    with pytest.raises(InputError, match=f"dataset name '{name}' must be"):
        rlds_writer.write(tmp_path / "d", [make_episode(0)], SPEC, name)


def test_options_are_checked(tmp_path):
    with pytest.raises(InputError, match="image encoding must be one of"):
        rlds_writer.write(tmp_path / "d", [make_episode(0)], SPEC, "lift", image_encoding="gif")
    first = SPEC.observation[0]
    twins = tuple(dataclasses.replace(first, name=n) for n in ("image/a_b", "image/a/b"))
    with pytest.raises(InputError, match="collide"):
        rlds_writer.write(tmp_path / "d", [], DatasetSpec(twins, SPEC.action), "lift")


SETTINGS = {"seed": 0}


def recording(path, settings=SETTINGS):
    return rlds_writer.Recording(path, SPEC, "tiny", settings)


def files(path):
    return {p.name: p.read_bytes() for p in path.iterdir()}


def test_a_recording_that_was_killed_ends_with_the_same_bits(tmp_path):
    everything = [make_episode(i) for i in range(6)]
    rlds_writer.write(tmp_path / "whole", everything, SPEC, "tiny")
    with recording(tmp_path / "parts") as part:
        part.add(everything[:2])
        part.commit({"done": 2})
        part.add(everything[2:4])  # Killed before these were committed.
    assert not (tmp_path / "parts").exists()
    with recording(tmp_path / "parts") as part:
        assert (part.told, part.n_episodes) == ({"done": 2}, 2)
        part.add(everything[2:])
        part.finish({"more.json": "{}"})
    assert files(tmp_path / "parts") == files(tmp_path / "whole") | {"more.json": b"{}"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts", "whole"]


def test_a_recording_killed_while_it_gets_its_names_is_not_lost(tmp_path, monkeypatch):
    everything = [make_episode(i) for i in range(3)]
    rlds_writer.write(tmp_path / "whole", everything, SPEC, "tiny")
    with recording(tmp_path / "parts") as part:
        part.add(everything)
        part.commit({"done": 3})
        monkeypatch.setattr(atomic, "write_text", fail)
        with pytest.raises(KeyboardInterrupt):
            part.finish({"more.json": "{}"})
    monkeypatch.undo()
    with recording(tmp_path / "parts") as part:
        assert part.n_episodes == 3
        part.finish({})
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def fail(path, text):
    del path, text
    raise KeyboardInterrupt


def test_a_recording_of_other_settings_is_refused(tmp_path):
    with recording(tmp_path / "parts") as part:
        part.add([make_episode(0)])
        part.commit({})
    with pytest.raises(InputError, match="beginning of a dataset of other settings"):
        recording(tmp_path / "parts", {"seed": 1})


def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch):
    def full(file, payload):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tfrecord, "write", full)
    with recording(tmp_path / "parts") as part:
        with pytest.raises(InputError, match="parts: cannot write: No space left on device"):
            part.add([make_episode(0)])
