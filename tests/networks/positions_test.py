import numpy as np

from jaxpolicy.networks import positions


def test_line_positions_by_hand():
    # Width 4: frequencies 1 and 10000^(-1/2) = .01. Position 2: sin 2, sin .02, cos 2, cos .02.
    got = positions.line_positions(3, 4)
    np.testing.assert_allclose(got[0], [0, 0, 1, 1])
    np.testing.assert_allclose(got[2], [0.909297, 0.019999, -0.416147, 0.9998], atol=1e-6)


def test_an_odd_width_lacks_a_cosine():
    np.testing.assert_array_equal(
        positions.line_positions(5, 3), positions.line_positions(5, 4)[:, :3]
    )


def test_grid_positions_are_rows_then_columns():
    got = positions.grid_positions(2, 3, 7)
    assert got.shape == (2, 3, 7)
    np.testing.assert_array_equal(got[:, 1, :3], positions.line_positions(2, 3))
    np.testing.assert_array_equal(got[1, :, 3:], positions.line_positions(3, 4))
    assert len(np.unique(got.reshape(6, 7), axis=0)) == 6
