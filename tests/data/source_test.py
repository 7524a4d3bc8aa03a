import dataclasses

import numpy as np
import pytest

from jaxpolicy.data import SOURCES, DataConfig, EpisodeSource, MemorySource, open_source
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.data.source import check_episode, content_hash
from jaxpolicy.specs import ArraySpec, InputError
from tests.data.episodes import BRIDGE, SPEC, assert_same, make_episode

EPISODES = [make_episode(i) for i in range(3)]


@pytest.fixture(params=["memory", *SOURCES])
def source(request, tmp_path):
    """Every registered format with the same three episodes."""
    if request.param == "memory":
        return MemorySource(EPISODES, SPEC)
    assert request.param == "rlds", "write EPISODES in the new format here"
    rlds_writer.write(tmp_path / "d", EPISODES, SPEC, "lift", "png")
    return open_source(tmp_path / "d", request.param, DataConfig())


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
    with pytest.raises(InputError, match=r"data.format must be 'auto' or one of \[.*'rlds'.*\], got"):
        open_source(BRIDGE, "csv")
    with pytest.raises(InputError, match="nowhere: no such dataset"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(InputError, match="not a dataset of a known format. Looked for .*rlds: a folder with"):
        open_source(tmp_path)


def test_check_episode_names_the_array():
    check_episode(EPISODES[0], (*SPEC.observation, ArraySpec("action", (2,))))
    with pytest.raises(InputError, match="episode 'e-000': 'action' must have shape"):
        check_episode(EPISODES[0], [ArraySpec("action", (3,))])
    with pytest.raises(InputError, match="episode 'e-000': observation 'depth' is missing"):
        check_episode(EPISODES[0], [ArraySpec("depth", (3,))])
