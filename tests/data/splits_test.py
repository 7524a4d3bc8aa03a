import subprocess
import sys

import numpy as np
import pytest

from jaxpolicy.data import splits

SHARES = (0.70, 0.15, 0.15)


def deal(tasks, shares=SHARES, previous=None, names="lift-{:06d}"):
    tasks = np.asarray(tasks)
    noise = np.array([splits.dither(names.format(i)) for i in range(len(tasks))])
    old = np.full(len(tasks), -1) if previous is None else np.asarray(previous)
    return splits.assign(tasks, noise, shares, old)


def sizes(parts):
    return np.bincount(parts, minlength=3).tolist()


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (100, [70, 15, 15]),
        (20, [14, 3, 3]),
        # 7, 1.5, 1.5: one of the halves is rounded up.
        (10, [7, 2, 1]),
        (5, [3, 1, 1]),
        (3, [1, 1, 1]),
        (2, [1, 1, 0]),
        (1, [1, 0, 0]),
        (0, [0, 0, 0]),
    ],
)
def test_sizes(n, expected):
    assert sizes(deal([0] * n)) == expected


def test_parts_without_a_share_stay_empty():
    assert sizes(deal([0] * 5, (1.0, 0.0, 0.0))) == [5, 0, 0]
    assert sizes(deal([0] * 5, (0.8, 0.2, 0.0))) == [4, 1, 0]


@pytest.mark.parametrize("order", ["in turn", "one after the other", "random"])
@pytest.mark.parametrize("n_tasks", [2, 7])
def test_every_task_has_the_shares(order, n_tasks):
    tasks = np.arange(280) % n_tasks
    if order == "random":
        tasks = np.random.default_rng(0).permutation(tasks)
    elif order == "one after the other":
        tasks = np.sort(tasks)
    parts = deal(tasks)
    # Of the whole 196, 42, 42, and of each task its share, within an episode or two.
    assert np.abs(np.array(sizes(parts)) - [196, 42, 42]).max() <= 1
    for task in range(n_tasks):
        n = (tasks == task).sum()
        assert np.abs(np.array(sizes(parts[tasks == task])) - n * np.array(SHARES)).max() <= 1.5


def test_tasks_of_one_episode_are_spread():
    assert np.abs(np.array(sizes(deal(np.arange(100)))) - [70, 15, 15]).max() <= 1


@pytest.mark.parametrize("n", [1, 2, 3, 7, 40, 99])
def test_episodes_added_at_the_end_move_none(n):
    tasks = np.random.default_rng(1).integers(0, 4, 100)
    np.testing.assert_array_equal(deal(tasks)[:n], deal(tasks[:n]))


def test_a_part_that_was_decided_stays_and_the_rest_makes_up_for_it():
    previous = [2, 2, 2, 2] + [-1] * 36
    parts = deal([0] * 40, previous=previous)
    assert parts[:4].tolist() == [2, 2, 2, 2]
    # 28, 6, 6 of 40.
    assert sizes(parts) == [28, 6, 6]


def test_the_order_does_not_repeat_itself():
    """A dataset collected in a cycle of 20 starts would put the same ones into test."""
    parts = deal([0] * 400).reshape(20, 20)
    assert len({tuple(row) for row in (parts == 2).tolist()}) > 10


def test_the_noise_is_the_same_in_every_process():
    code = "from jaxpolicy.data import splits; print(splits.dither('lift-000000'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The first 8 bytes of the sha256 of "jaxpolicy-split:lift-000000" over 2^64.
    assert float(other.stdout) == splits.dither("lift-000000") == 0x236D6A270A714F2A / 2**64
