import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.data.windows import Index, windows


def index(*samples) -> Index:
    """Samples given as (start, length, t)."""
    return Index(*np.array(samples, np.int32).T)


def test_windows_by_hand():
    # Episode at frames 10, 11, 12, 13 (start 10, length 4), O = 2, H = 3.
    #   t = 0: history -1, 0 -> 0, 0 -> frames 10, 10; chunk 0, 1, 2 -> 10, 11, 12.
    #   t = 3: history 2, 3 -> frames 12, 13; chunk 3, 4, 5 -> 13, then 13, 13 masked.
    window = windows(index((10, 4, 0), (10, 4, 3)), 2, 3)
    np.testing.assert_array_equal(window.observation, [[10, 10], [12, 13]])
    np.testing.assert_array_equal(window.action, [[10, 11, 12], [13, 13, 13]])
    np.testing.assert_array_equal(window.mask, [[True] * 3, [True, False, False]])


def test_an_episode_of_one_step():
    window = windows(index((7, 1, 0)), 3, 2)
    np.testing.assert_array_equal(window.observation, [[7, 7, 7]])
    np.testing.assert_array_equal(window.action, [[7, 7]])
    np.testing.assert_array_equal(window.mask, [[True, False]])


@pytest.mark.parametrize(("n_obs_steps", "horizon"), [(1, 1), (2, 3), (5, 16)])
def test_jit_equals_numpy_for_every_step(n_obs_steps, horizon):
    samples = [(3, 6, t) for t in range(6)] + [(9, 1, 0)] + [(10, 4, t) for t in range(4)]
    expected = windows(index(*samples), n_obs_steps, horizon)
    found = jax.jit(windows, static_argnums=(1, 2))(index(*samples), n_obs_steps, horizon)
    jax.tree.map(np.testing.assert_array_equal, expected, found)


def test_windows_never_leave_their_episode():
    samples = [(100, n, t) for n in range(1, 6) for t in range(n)]
    for samples_of in (index(*samples), jax.tree.map(jnp.asarray, index(*samples))):
        window = windows(samples_of, 4, 7)
        last = np.array([[100 + n - 1] for _, n, _ in samples])
        for frames in (window.observation, window.action):
            assert (np.asarray(frames) >= 100).all()
            assert (np.asarray(frames) <= last).all()


def test_leading_axes_are_kept():
    stacked = Index(*(np.zeros((3, 5), np.int32) + k for k in (0, 4, 1)))
    assert windows(stacked, 2, 6).action.shape == (3, 5, 6)
    assert windows(jax.tree.map(jnp.asarray, stacked), 2, 6).observation.shape == (3, 5, 2)
