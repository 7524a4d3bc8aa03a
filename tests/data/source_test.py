import dataclasses

import numpy as np
import pytest

from jaxpolicy.core.specs import ArraySpec, InputError
from jaxpolicy.data import SOURCES, DataConfig, EpisodeSource, MemorySource, detect, open_source
from jaxpolicy.data.formats import rlds_writer, robomimic_writer
from jaxpolicy.data.source import check_episode, content_hash
from tests.data.episodes import BRIDGE, SPEC, assert_same, make_episode
from tests.data.formats import examples

EPISODES = [make_episode(i) for i in range(3)]


# How EPISODES are written in the formats that keep all of them exactly.
WRITERS = {
    "rlds": lambda path: rlds_writer.write(path, EPISODES, SPEC, "lift", "png"),
    "robomimic": lambda path: robomimic_writer.write(path, EPISODES, SPEC, "Lift"),
}


@pytest.fixture(autouse=True)
def _walk_here(monkeypatch):
    examples.hdf5_files.walk_here(monkeypatch)


@pytest.fixture(params=["memory", *WRITERS])
def source(request, tmp_path):
    """The same three episodes in every format that can hold them."""
    if request.param == "memory":
        return MemorySource(EPISODES, SPEC)
    path = tmp_path / f"d.{request.param}"
    WRITERS[request.param](path)
    return open_source(path, request.param, DataConfig())


@pytest.fixture(params=sorted(set(SOURCES) - set(WRITERS)))
def example(request, tmp_path):
    """(format, a small dataset of it), for formats of which others write the files."""
    if request.param == "lerobot":
        return request.param, examples.FOREIGN / "lerobot_v3_images"
    path = tmp_path / ("episode_0" + examples.SUFFIX[request.param])
    examples.MAKERS[request.param](path)
    return request.param, path


class TestContract:
    """What every dataset format must do."""

    def test_protocol(self, source):
        assert isinstance(source, EpisodeSource)

    def test_random_access(self, source):
        assert len(source) == 3
        assert source.spec == SPEC
        for i in (2, 0, 1):
            assert_same(source[i], EPISODES[i])

    def test_cameras_are_optional(self, source):
        observation = source.load(1, ()).observation
        assert "image/wrist" not in observation
        np.testing.assert_array_equal(observation["proprio"], EPISODES[1].observation["proprio"])
        assert_same(source.load(1, ("wrist",)), EPISODES[1])
        assert_same(source.load(1), EPISODES[1])

    def test_digests(self, source):
        assert len({source.content_hash(i) for i in range(3)}) == 3
        assert source.content_hash(0) == source.content_hash(0)
        assert source.fingerprint() == source.fingerprint()


def test_contract_of_formats_that_others_write(example):
    name, path = example
    source = open_source(path, name)
    assert detect(path) == name
    assert isinstance(source, EpisodeSource)
    for i in (len(source) - 1, 0):
        assert_same(source[i], source.load(i))
        bare = source.load(i, ())
        assert len(bare) == len(source[i])
        assert not any(k.startswith(("image/", "mask/")) for k in bare.observation)
        check_episode(source[i], source.spec.observation)
        assert source.content_hash(i) == source.content_hash(i)
    assert source.fingerprint() == open_source(path, name).fingerprint()


def test_fingerprint_of_memory_follows_content():
    first = MemorySource(EPISODES, SPEC).fingerprint()
    assert MemorySource(EPISODES[:2], SPEC).fingerprint() != first
    renamed = [make_episode(0, episode_id="x"), *EPISODES[1:]]
    assert MemorySource(renamed, SPEC).fingerprint() != first


def test_content_hash_sees_arrays_and_instruction_and_no_metadata():
    episode = make_episode(0)
    assert content_hash(make_episode(0, seed=99)) == content_hash(episode)
    other_text = dataclasses.replace(episode, language_instruction="push")
    other_action = dataclasses.replace(episode, action=episode.action + 1)
    assert len({content_hash(e) for e in (episode, other_text, other_action)}) == 3


def test_detection():
    assert len(open_source(BRIDGE)) == 50
    assert len(open_source(BRIDGE, "rlds")) == 50


def test_unknown_formats_and_places_are_named(tmp_path):
    with pytest.raises(InputError, match=r"data.format must be 'auto' or one of \[.*'rlds'.*\]"):
        open_source(BRIDGE, "csv")
    with pytest.raises(InputError, match="nowhere: no such dataset"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(InputError, match="of a known format. Looked for .*rlds: a folder with"):
        open_source(tmp_path)


def test_check_episode_names_the_array():
    check_episode(EPISODES[0], (*SPEC.observation, ArraySpec("action", (2,))))
    with pytest.raises(InputError, match="episode 'e-000': 'action' must have shape"):
        check_episode(EPISODES[0], [ArraySpec("action", (3,))])
    with pytest.raises(InputError, match="episode 'e-000': observation 'depth' is missing"):
        check_episode(EPISODES[0], [ArraySpec("depth", (3,))])
