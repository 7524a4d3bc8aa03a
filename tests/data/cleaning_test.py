import hashlib

import numpy as np
import pytest

from jaxpolicy.data import CleaningConfig, DataConfig, MemorySource, cleaning, open_source, process
from jaxpolicy.data.scan import EPISODE, Scan, hash64
from tests.data.episodes import BRIDGE, SPEC, make_episode

RULES = list(cleaning.RULES)
OFF = CleaningConfig(
    failed=False,
    truncated=False,
    min_steps=0,
    min_length_share=0,
    duplicates=False,
    idle=0,
    outliers=0,
)


def scan_of(directory, ranges=None, **columns):
    """Scan of episodes with the given facts; `ranges` [N, 2, D]: lowest and highest of each."""
    n = len(ranges) if ranges is not None else len(next(iter(columns.values())))
    episodes = np.zeros(n, EPISODE)
    episodes["readable"], episodes["complete"], episodes["length"] = True, True, 10
    episodes["success"] = -1
    episodes["content"] = [hashlib.md5(bytes([i])).digest() for i in range(n)]
    for name, values in columns.items():
        episodes[name] = values
    ranges = np.zeros((n, 2, 2)) if ranges is None else np.asarray(ranges)
    for name, values in (("low.f32", ranges[:, 0]), ("high.f32", ranges[:, 1])):
        (directory / name).write_bytes(values.astype(np.float32).tobytes())
    return Scan(episodes, 2, 1, directory)


def find(scan, kind="joint_position", q01=(0.0, 0.0), q99=(1.0, 1.0), **config):
    """Names of the rules that drop each episode, with all others off."""
    facts = cleaning.Facts(scan, np.array(q01), np.array(q99), kind)
    settings = CleaningConfig(**{**vars(OFF), **config})
    return [RULES[k] if k >= 0 else "" for k in cleaning.find(facts, settings)]


def test_failed(tmp_path):
    scan = scan_of(tmp_path, success=[1, 0, -1])
    assert find(scan, failed=True) == ["", "failed", ""]
    assert find(scan) == ["", "", ""]


def test_corrupt_is_never_kept(tmp_path):
    assert find(scan_of(tmp_path, readable=[True, False])) == ["", "corrupt"]


class TestTruncated:
    """By flags, by steps, and by the share of the task's median."""

    def test_flags(self, tmp_path):
        scan = scan_of(tmp_path, complete=[True, False, True])
        assert find(scan, truncated=True) == ["", "truncated", ""]
        assert find(scan) == ["", "", ""]

    def test_flags_that_were_never_filled_in_are_not_believed(self, tmp_path):
        assert find(scan_of(tmp_path, complete=[False, False]), truncated=True) == ["", ""]

    def test_steps(self, tmp_path):
        assert find(scan_of(tmp_path, length=[4, 5, 6]), min_steps=5) == ["truncated", "", ""]

    def test_share_of_the_median_of_its_own_task(self, tmp_path):
        # Task 7: lengths 5, 10, 20, 30, median 15, a third of it is 5: 5 is enough.
        # Task 9: lengths 4, 30, 40, median 30, a third of it is 10: 4 is not.
        lengths, tasks = [5, 4, 10, 30, 20, 40, 30], [7, 9, 7, 9, 7, 9, 7]
        found = find(scan_of(tmp_path, length=lengths, task=tasks), min_length_share=1 / 3)
        assert found == ["", "truncated", "", "", "", "", ""]

    def test_unreadable_ones_do_not_count_for_the_median(self, tmp_path):
        # Readable: 10, 30, median 20, half of it is 10.
        columns = {"length": [10, 0, 0, 30], "readable": [True, False, False, True]}
        found = find(scan_of(tmp_path, **columns), min_length_share=0.5)
        assert found == ["", "corrupt", "corrupt", ""]


def test_duplicates_of_an_earlier_readable_one(tmp_path):
    # b is unreadable at first, so its second copy is the first that can be used.
    content, readable = [b"a", b"b", b"a", b"b", b"b"], [True, False, True, True, True]
    found = find(scan_of(tmp_path, content=content, readable=readable), duplicates=True)
    assert found == ["", "corrupt", "duplicate", "", "duplicate"]


class TestIdle:
    """Elements: one of the action, one of proprio; both range from 0 to 1."""

    # Each covers this much of action and proprio: just at 0.02 is idle, beyond is not.
    still = [[0.5, 0.5], [0.52, 0.52]]
    moves = [[0.5, 0.5], [0.52, 0.53]]
    commands = [[0.5, 0.5], [0.53, 0.52]]

    def find(self, directory, kind, **config):
        ranges = [self.still, self.moves, self.commands]
        return find(scan_of(directory, ranges), kind, idle=0.0201, **config)

    def test_positions_count_by_how_much_they_change(self, tmp_path):
        assert self.find(tmp_path, "joint_position") == ["idle", "", ""]

    def test_deltas_count_by_their_distance_from_zero(self, tmp_path):
        assert self.find(tmp_path, "joint_delta") == ["", "", ""]
        small = [[[-0.01, 0.5], [0.01, 0.5]], [[0.01, 0.5], [0.03, 0.5]]]
        assert find(scan_of(tmp_path, small), "joint_delta", idle=0.0201) == ["idle", ""]

    def test_unknown_ones_do_not_count_beside_proprio(self, tmp_path):
        assert self.find(tmp_path, "unknown") == ["idle", "", "idle"]

    def test_constant_elements_do_not_count(self, tmp_path):
        assert self.find(tmp_path, "joint_position", q99=(1.0, 0.0)) == ["idle", "idle", ""]
        assert self.find(tmp_path, "joint_position", q99=(0.0, 0.0)) == ["", "", ""]

    def test_off(self, tmp_path):
        assert find(scan_of(tmp_path, [self.still])) == [""]


def test_outliers(tmp_path):
    # Range 0 to 1, 2 ranges beyond it: -2 to 3.
    ranges = [[[-2, 0], [3, 1]], [[0, -2.01], [1, 1]], [[0, 0], [3.01, 1]]]
    scan = scan_of(tmp_path, ranges)
    assert find(scan, outliers=2.0) == ["", "outlier", "outlier"]
    assert find(scan) == ["", "", ""]
    # An element that hardly varies has no range to be beyond.
    assert find(scan, outliers=2.0, q99=(0.0, 1.0)) == ["", "outlier", ""]


def test_the_first_rule_names_the_reason(tmp_path):
    columns = {"success": [0, 0, -1, 1], "readable": [False, True, True, True]}
    columns |= {"complete": [False, False, False, True], "length": [0, 1, 1, 5]}
    found = find(scan_of(tmp_path, **columns), failed=True, truncated=True, min_steps=2)
    assert found == ["failed", "failed", "truncated", ""]
    assert RULES == ["failed", "corrupt", "truncated", "duplicate", "idle", "outlier"]


def test_a_real_dataset_holds_the_same_episodes_in_both_splits(tmp_path):
    processed = process.process(open_source(BRIDGE), DataConfig(), tmp_path)
    dropped = [e for e in processed.all_episodes() if e.dropped]
    assert len(dropped) == 25
    assert {(e.dropped, e.index >= 25) for e in dropped} == {("duplicate", True)}


def test_idle_and_outlying_episodes_of_a_whole_dataset(tmp_path):
    # Actions (i + t / 10, t % 2), positions: episode 5 stands still, episode 6 leaps.
    episodes = [make_episode(i % 3, 20 + i) for i in range(40)]
    for array in (episodes[5].action, episodes[5].observation["proprio"]):
        array[:] = array[:1]
    episodes[6].action[3, 0] = 1e4
    config = DataConfig(action_kind="joint_position")
    processed = process.process(MemorySource(episodes, SPEC), config, tmp_path)
    dropped = {e.index: e.dropped for e in processed.all_episodes() if e.dropped}
    assert dropped == {5: "idle", 6: "outlier"}
    assert (processed.counts["idle"], processed.counts["outlier"]) == (1, 1)


@pytest.mark.parametrize("name", ["min_steps", "min_length_share", "idle", "outliers"])
def test_thresholds_are_not_negative(name):
    with pytest.raises(ValueError, match=f"data.cleaning.{name} must not be negative"):
        CleaningConfig(**{name: -1})


def test_hash64_depends_on_the_text_alone():
    assert hash64("a") == hash64("a") != hash64("b")
    assert 0 <= hash64("a") < 2**64
