import dataclasses
import tracemalloc

import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import DatasetSpec, Episode, EpisodeMetadata
from jaxpolicy.data import DataConfig, MemorySource, process, scan
from tests.data.episodes import SPEC, make_episode


class Broken(MemorySource):
    """Episode 1 cannot be read."""

    def load(self, i, cameras=None):
        if i == 1:
            raise InputError("file: corrupt")
        assert cameras == ()
        return super().load(i, cameras)


def run(directory, episodes, source=MemorySource):
    directory.mkdir(exist_ok=True)
    return scan.scan(source(episodes, SPEC), directory)


def test_facts_of_every_episode(tmp_path):
    episodes = [
        make_episode(0, 3, success=None),
        make_episode(1, 4),
        make_episode(2, 5, success=False, complete=False, task=""),
    ]
    found = run(tmp_path, episodes).episodes
    assert found["length"].tolist() == [3, 4, 5]
    assert found["success"].tolist() == [-1, 1, 0]
    assert found["complete"].tolist() == [True, True, False]
    assert found["readable"].all()
    # Where no task is named, the instruction stands for it.
    assert found["task"][0] == scan.hash64("lift")
    assert found["task"][2] == scan.hash64("lift cube 2")
    assert found["key"][1] == scan.hash64("e-001")


def test_unreadable_ones_are_noted_and_take_no_part(tmp_path):
    episodes = [make_episode(i, 3) for i in range(4)]
    episodes[2].observation["proprio"][1, 0] = np.inf
    found = run(tmp_path, episodes, Broken)
    assert found.episodes["readable"].tolist() == [True, False, False, True]
    assert found.episodes["length"].tolist() == [3, 0, 0, 3]
    problems = [t.problem for t in found.texts()]
    assert problems == [
        "",
        "file: corrupt",
        "episode 'e-002', step 1: proprio holds NaN or infinite values",
        "",
    ]
    rows = np.concatenate(list(found.rows(np.ones(4, bool))))
    assert rows[:, 2].tolist() == [0, 0, 0, 3, 3, 3]


def test_rows_are_action_and_proprio_side_by_side(tmp_path):
    # action (i + t / 10, t % 2), proprio (i, t).
    found = run(tmp_path, [make_episode(i, 2) for i in range(3)])
    assert (found.width, found.n_action) == (4, 2)
    (rows,) = found.rows(np.array([False, True, True]))
    expected = [[1, 0, 1, 0], [1.1, 1, 1, 1], [2, 0, 2, 0], [2.1, 1, 2, 1]]
    np.testing.assert_allclose(rows, expected, rtol=1e-6)
    ((place, low, high),) = found.extremes()
    assert (place.start, place.stop) == (0, 3)
    np.testing.assert_allclose(low[1], [1, 0, 1, 0])
    np.testing.assert_allclose(high[1], [1.1, 1, 1, 1], rtol=1e-6)


def test_blocks_end_where_they_will(tmp_path, monkeypatch):
    # Episodes of 3, 1, 4, 2 steps in blocks of 3 rows: 0 0 0 | 1 2 2 | 2 2 3 | 3.
    monkeypatch.setattr(scan, "_BLOCK", 3)
    found = run(tmp_path, [make_episode(i, n) for i, n in enumerate([3, 1, 4, 2])])
    blocks = [b[:, 2].tolist() for b in found.rows(np.array([True, False, True, True]))]
    assert blocks == [[0, 0, 0], [2, 2], [2, 2, 3], [3]]
    assert [(p.start, len(low)) for p, low, _ in found.extremes()] == [(0, 3), (3, 1)]


def test_texts_that_utf8_cannot_hold(tmp_path):
    # JSON may hold half of a surrogate pair; files and digests are UTF-8.
    episodes = [make_episode(0, 3, task="lift \ud800", episode_id="e\udfff"), make_episode(1, 3)]
    processed = process.process(MemorySource(episodes, SPEC), DataConfig(), tmp_path)
    assert [(e.episode_id, e.task) for e in processed.episodes][0] == ("e?", "lift ?")
    assert "lift ?" in (tmp_path / "card.html").read_text()


def test_no_episodes_at_all(tmp_path):
    with pytest.raises(InputError, match="the dataset holds no episodes"):
        process.process(MemorySource([], SPEC), DataConfig(), tmp_path / "p")


class Tiny:
    """Any number of episodes of two steps that take no memory."""

    spec = DatasetSpec((dataclasses.replace(SPEC["proprio"]),), SPEC.action)

    def __init__(self, n):
        self._n = n

    def __len__(self):
        return self._n

    def load(self, i, cameras=None):
        step = np.array([[i % 7, 0], [i % 5, 1]], np.float32)
        facts = EpisodeMetadata(f"episode-{i:08d}", True, task=f"task {i % 20}")
        return Episode({"proprio": step}, step, np.zeros(2, np.float32), True, "", facts)

    def content_hash(self, i):
        return str(i)

    def fingerprint(self):
        return str(self._n)


def peak(n, directory):
    tracemalloc.start()
    process.process(Tiny(n), DataConfig(), directory)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_memory_per_episode(tmp_path):
    # EPISODE is 47 bytes; sorting digests, the split and blocks that are not full yet take
    # more for a while (at 30,000 episodes it is 96 in all). Objects would take thousands.
    assert scan.EPISODE.itemsize == 47
    _, small, large = (peak(n, tmp_path / str(n)) for n in (20, 300, 1500))
    assert 0 < (large - small) / 1200 < 300, (small, large)
