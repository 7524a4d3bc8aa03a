import numpy as np
import pytest

from jaxpolicy.core import chunking


def test_history_is_oldest_first_and_starts_with_the_first_step():
    # O = 3: t=0 sees -2,-1,0 -> 0,0,0; t=1 sees -1,0,1 -> 0,0,1; t=4 sees 2,3,4.
    got = chunking.history_indices(np.array([0, 1, 4]), 3)
    np.testing.assert_array_equal(got, [[0, 0, 0], [0, 0, 1], [2, 3, 4]])


def test_history_of_one_step_is_the_step():
    np.testing.assert_array_equal(chunking.history_indices(np.array([0, 5]), 1), [[0], [5]])


def test_chunk_repeats_the_last_action_and_masks_it():
    # Length 5 (last step 4), H = 3: t=2 -> 2,3,4; t=3 -> 3,4,5 -> 3,4,4; t=4 -> 4,4,4.
    indices, mask = chunking.chunk_indices(np.array([2, 3, 4]), 3, np.array([5, 5, 5]))
    np.testing.assert_array_equal(indices, [[2, 3, 4], [3, 4, 4], [4, 4, 4]])
    np.testing.assert_array_equal(
        mask, [[True, True, True], [True, True, False], [True, False, False]]
    )


def test_chunk_of_episodes_of_different_length():
    # t=0: length 1 -> only step 0 counts; length 2 -> steps 0 and 1.
    indices, mask = chunking.chunk_indices(np.array([0, 0]), 3, np.array([1, 2]))
    np.testing.assert_array_equal(indices, [[0, 0, 0], [0, 1, 1]])
    np.testing.assert_array_equal(mask, [[True, False, False], [True, True, False]])


def test_indices_keep_leading_axes():
    t = np.arange(6).reshape(2, 3)
    assert chunking.history_indices(t, 4).shape == (2, 3, 4)
    indices, mask = chunking.chunk_indices(t, 5, np.full((2, 3), 6))
    assert indices.shape == mask.shape == (2, 3, 5)


def test_scalar_time():
    np.testing.assert_array_equal(chunking.history_indices(2, 2), [1, 2])
    np.testing.assert_array_equal(chunking.chunk_indices(2, 2, 4)[0], [2, 3])


@pytest.mark.parametrize("n_obs_steps", [1, 2, 4])
def test_online_history_is_the_offline_window(n_obs_steps):
    steps = np.arange(6.0)
    history = chunking.History(n_obs_steps)
    for t in range(len(steps)):
        # E = 2 environments whose values differ by 100.
        window = history.push({"x": np.array([steps[t], 100 + steps[t]])})["x"]
        want = steps[chunking.history_indices(t, n_obs_steps)]
        np.testing.assert_array_equal(window, [want, 100 + want])


def test_history_keeps_every_key_and_trailing_axes():
    history = chunking.History(2)
    window = history.push({"image/a": np.zeros((3, 4, 4, 3), np.uint8), "proprio": np.ones((3, 5))})
    assert window["image/a"].shape == (3, 2, 4, 4, 3)
    assert window["image/a"].dtype == np.uint8
    assert window["proprio"].shape == (3, 2, 5)


def test_history_forgets_at_reset():
    history = chunking.History(2)
    history.push({"x": np.array([1.0])})
    history.reset()
    np.testing.assert_array_equal(history.push({"x": np.array([7.0])})["x"], [[7.0, 7.0]])


def test_queue_executes_the_first_actions_of_a_chunk():
    queue = chunking.ActionQueue(2)
    assert queue.empty
    # E = 2, H = 3, A = 1: environment 0 plans 0,1,2 and environment 1 plans 3,4,5.
    queue.fill(np.arange(6).reshape(2, 3, 1))
    np.testing.assert_array_equal(queue.pop(), [[0], [3]])
    assert not queue.empty
    np.testing.assert_array_equal(queue.pop(), [[1], [4]])
    assert queue.empty


def test_queue_forgets_at_reset():
    queue = chunking.ActionQueue(2)
    queue.fill(np.zeros((1, 2, 1)))
    queue.reset()
    assert queue.empty


def test_ensemble_without_temperature_is_the_mean():
    # (1 + 2 + 6) / 3 = 3.
    np.testing.assert_allclose(
        chunking.temporal_ensemble(np.array([[1.0], [2.0], [6.0]]), 0.0), [3]
    )


def test_ensemble_weighs_older_predictions_more():
    # m = ln 2: weights 1, 1/2; (1 * 0 + 1/2 * 3) / (3/2) = 1.
    got = chunking.temporal_ensemble(np.array([[0.0], [3.0]]), np.log(2.0))
    np.testing.assert_allclose(got, [1.0])


def test_ensemble_keeps_leading_axes():
    assert chunking.temporal_ensemble(np.zeros((3, 5, 2)), 0.1).shape == (5, 2)


def test_online_ensemble_by_hand():
    # E = 1, H = 3, m = ln 2: weights 1, 1/2, 1/4 from the oldest prediction on. Chunks
    # (0, 1, 2), (4, 5, 6), (7, 8, 9), (10, 11, 12) of the steps 0 to 3:
    #   step 0: 0
    #   step 1: (1 + 4/2) / 1.5 = 2
    #   step 2: (2 + 5/2 + 7/4) / 1.75 = 25/7
    #   step 3: (6 + 8/2 + 10/4) / 1.75 = 50/7, the first chunk has nothing more to say
    ensemble = chunking.TemporalEnsemble(float(np.log(2.0)))
    found = []
    for first in (0, 4, 7, 10):
        assert ensemble.empty
        ensemble.fill(np.arange(first, first + 3, dtype=np.float32).reshape(1, 3, 1))
        assert not ensemble.empty
        action = ensemble.pop()
        assert action.dtype == np.float32
        found.append(float(action[0, 0]))
    np.testing.assert_allclose(found, [0, 2, 25 / 7, 50 / 7], rtol=1e-6)


def test_online_ensemble_keeps_environments_apart_and_forgets_at_reset():
    ensemble = chunking.TemporalEnsemble(0.0)
    # E = 2, H = 2, A = 1; step 1: ((1 + 2) / 2, (11 + 20) / 2).
    for chunk in ([[0, 1], [10, 11]], [[2, 3], [20, 21]]):
        ensemble.fill(np.array(chunk, np.float32)[..., None])
        action = ensemble.pop()
    np.testing.assert_array_equal(action, [[1.5], [15.5]])
    ensemble.reset()
    assert ensemble.empty
    ensemble.fill(np.array([[[7.0], [8.0]]]))
    np.testing.assert_array_equal(ensemble.pop(), [[7.0]])


def test_buffer_is_an_ensemble_where_there_is_a_temperature():
    assert isinstance(chunking.make_buffer(2, -1.0), chunking.ActionQueue)
    assert isinstance(chunking.make_buffer(1, 0.0), chunking.TemporalEnsemble)
