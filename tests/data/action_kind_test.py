import numpy as np
import pytest

from jaxpolicy.data import action_kind, open_source
from tests.data.episodes import BRIDGE


def walk(seed: int, n_steps: int = 40) -> np.ndarray:
    """Steps of a random walk of three joints."""
    return np.random.default_rng(seed).normal(0, 0.1, (n_steps, 3))


def test_actions_that_the_state_reaches_are_positions():
    proprio = [np.cumsum(walk(i), 0) for i in range(3)]
    # Action t is the state at t + 1.
    pairs = [(np.concatenate([p[1:], p[-1:]]), p) for p in proprio]
    found = action_kind.compare(pairs)
    assert found.kind == "position"
    assert "in 3 of 3 elements" in found.evidence


def test_actions_that_the_state_moves_by_are_deltas():
    # The state before step t is the sum of the steps before it.
    pairs = [(walk(i), np.cumsum(walk(i), 0) - walk(i)) for i in range(3)]
    assert action_kind.compare(pairs).kind == "delta"
    normalised = [(10 * a, 3 * p) for a, p in pairs]
    assert action_kind.compare(normalised).kind in ("delta", "")


@pytest.mark.parametrize("still", [True, False])
def test_what_shows_neither_is_not_guessed(still):
    proprio = np.zeros((40, 3)) if still else np.cumsum(walk(8), 0)
    found = action_kind.compare([(5 * walk(7), proprio)])
    assert found.kind == ""
    assert found.evidence


def test_a_real_arm_moves_by_deltas():
    found = action_kind.guess(open_source(BRIDGE))
    assert found.kind == "delta"
    assert "in 6 of 7 elements" in found.evidence
