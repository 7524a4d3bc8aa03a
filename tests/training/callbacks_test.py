from jaxpolicy.training import callbacks
from jaxpolicy.training.callbacks import Best


def test_update_best_by_hand():
    best = Best()
    # scores 3, 2, 2, 5, 1 at steps 10..50: improvements at 10, 20 and 50; a tie is none.
    expected = [Best(10, 3, 0), Best(20, 2, 0), Best(20, 2, 1), Best(20, 2, 2), Best(50, 1, 0)]
    for i, score in enumerate([3, 2, 2, 5, 1]):
        best = callbacks.update_best(best, 10 * (i + 1), score)
        assert best == expected[i]


def test_should_stop_after_patience():
    assert not callbacks.should_stop(Best(10, 1.0, 2), patience=3)
    assert callbacks.should_stop(Best(10, 1.0, 3), patience=3)
    assert not callbacks.should_stop(Best(10, 1.0, 99), patience=0)
