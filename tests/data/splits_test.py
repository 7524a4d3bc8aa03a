import subprocess
import sys

import pytest

from jaxpolicy.data import splits

IDS = [f"lift-{i:06d}" for i in range(100)]
SHARES = (0.70, 0.15, 0.15)


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (100, (70, 15, 15)),
        # 17.5, 3.75, 3.75: floors 17, 3, 3; the 2 left go to the remainders .75 and .75.
        (25, (17, 4, 4)),
        # 7, 1.5, 1.5: floors 7, 1, 1; the one left goes to the first of the equal .5.
        (10, (7, 2, 1)),
        # 2.1, .45, .45: floors 2, 0, 0; the one left to val; then test takes one from train.
        (3, (1, 1, 1)),
        (2, (1, 1, 0)),
        (1, (1, 0, 0)),
        (0, (0, 0, 0)),
    ],
)
def test_part_sizes(n, sizes):
    assert splits.part_sizes(n, SHARES) == sizes


def test_parts_without_a_share_stay_empty():
    assert splits.part_sizes(5, (1.0, 0.0, 0.0)) == (5, 0, 0)
    assert splits.part_sizes(5, (0.8, 0.2, 0.0)) == (4, 1, 0)


def test_every_episode_has_one_part():
    parts = splits.assign(IDS, SHARES)
    assert list(parts) == IDS
    counts = [list(parts.values()).count(p) for p in splits.PARTS]
    assert counts == [70, 15, 15]


def test_order_does_not_matter():
    assert splits.assign(IDS[::-1], SHARES) == splits.assign(IDS, SHARES)


def test_the_hash_is_the_same_in_every_process():
    code = "from jaxpolicy.data import splits; print(splits.rank('lift-000000'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == splits.rank("lift-000000")
    # sha256 of "jaxpolicy-split:lift-000000".
    expected = "236d6a270a714f2a"
    assert splits.rank("lift-000000").startswith(expected)


def test_growing_never_moves_an_episode():
    first = splits.assign(IDS[:40], SHARES)
    grown = splits.assign(IDS, SHARES, first)
    assert {i: grown[i] for i in IDS[:40]} == first
    assert [list(grown.values()).count(p) for p in splits.PARTS] == [70, 15, 15]


def test_shrinking_forgets_the_lost_and_keeps_the_rest():
    first = splits.assign(IDS, SHARES)
    assert splits.assign(IDS[:10], SHARES, first) == {i: first[i] for i in IDS[:10]}


def test_too_many_in_one_part_leave_room_for_the_new_ones():
    # 4 old ones in test, 6 new: sizes of 10 are (7, 2, 1); 7 + 2 places for 6.
    parts = splits.assign(IDS[:10], SHARES, dict.fromkeys(IDS[:4], "test"))
    assert [list(parts.values()).count(p) for p in splits.PARTS] == [6, 0, 4]
