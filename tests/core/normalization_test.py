import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core import normalization
from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import InputError

ROWS = np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0], [10.0, 5.0]], np.float32)


def test_statistics_by_hand():
    stats = normalization.fit([ROWS])
    # Column 0: 0, 2, 4, 10. Mean 16/4 = 4; deviations -4, -2, 0, 6; variance
    # (16 + 4 + 0 + 36)/4 = 14. Quantile q lies at rank 3q between sorted values:
    # q01 = 0 + .03 * (2 - 0) = .06; q99 = rank 2.97 = 4 + .97 * (10 - 4) = 9.82.
    np.testing.assert_allclose(stats.minimum, [0, 5])
    np.testing.assert_allclose(stats.maximum, [10, 5])
    np.testing.assert_allclose(stats.mean, [4, 5])
    np.testing.assert_allclose(stats.std, [np.sqrt(14.0), 0], rtol=1e-6)
    np.testing.assert_allclose(stats.q01, [0.06, 5], rtol=1e-6)
    np.testing.assert_allclose(stats.q99, [9.82, 5], rtol=1e-6)
    assert {np.asarray(s).dtype for s in stats} == {np.dtype(np.float32)}


@pytest.mark.parametrize("cuts", [(1,), (2, 3), (0, 1, 2, 3)])
def test_statistics_do_not_depend_on_chunks(cuts):
    whole, cut = normalization.fit([ROWS]), normalization.fit(np.split(ROWS, cuts))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, cut)


def test_moments_keep_their_digits_far_from_zero():
    # 1e6 + {-1, 1}: standard deviation 1, lost by mean(x^2) - mean(x)^2 in float32.
    rows = 1e6 + np.tile([[-1.0], [1.0]], (5000, 1))
    stats = normalization.fit(np.split(rows, 10))
    np.testing.assert_allclose(stats.std, [1.0], rtol=1e-6)


def _awkward(n=300_000):
    """One kind of trouble a column; float32, so that NumPy sees the same values."""
    rng = np.random.default_rng(0)
    columns = [
        1e3 + 0.01 * rng.normal(size=n),  # a large offset and a small spread
        np.full(n, 0.1),
        rng.standard_t(1.5, size=n),  # heavy tails
        np.arange(n),
        np.arange(n)[::-1],
        rng.integers(0, 3, n),  # ties
        np.where(rng.random(n) < 0.005, 1.0, 0.0),  # a rare event
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _reference(rows):
    """The statistics in float64, by NumPy."""
    x = rows.astype(np.float64)
    q01, q99 = np.quantile(x, [0.01, 0.99], axis=0)
    return NormStats(x.min(0), x.max(0), x.mean(0), x.std(0), q01, q99)


@pytest.mark.parametrize("length", [60, 10**6])
def test_statistics_agree_with_numpy_in_float64(length):
    rows = _awkward()
    chunks = (rows[i : i + length] for i in range(0, len(rows), length))
    got, want = normalization.fit(chunks), _reference(rows)
    for name in NormStats._fields:
        a, b = getattr(got, name), getattr(want, name)
        # atol: NumPy's own rounding makes the spread of 300,000 times .1 1e-16, not 0.
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9, err_msg=name)


def test_a_chunk_may_be_written_over_when_the_next_is_asked_for():
    def reused():
        buffer = np.empty_like(ROWS[:1])
        for row in ROWS:
            buffer[:] = row
            yield buffer

    whole, streamed = normalization.fit([ROWS]), normalization.fit(reused())
    jax.tree.map(np.testing.assert_array_equal, whole, streamed)


def test_smallest_values_by_hand():
    # Limit 2, so room for 4: (5, 1, 4, 2) fills it. Then 9: what is held shrinks to (1, 2),
    # bound 2, and 9, which was let in before, comes behind. 3 and 2 are not below the bound.
    # 0 is: (1, 2, 9, 0), whose two smallest are 0 and 1.
    smallest = normalization._Smallest(1, limit=2)
    for value in [5, 1, 4, 2, 9, 3, 2, 0]:
        smallest.add(np.array([[value]], np.float32))
    np.testing.assert_array_equal(smallest.ranked([0, 1]), [[0], [1]])
    assert smallest._bounds == 2
    assert smallest._counts == [4]


@pytest.mark.parametrize("block", [1, 3, 50])
def test_smallest_values_of_every_column(block):
    rng = np.random.default_rng(0)
    values = np.stack([np.arange(100), -np.arange(100), rng.normal(size=100), np.ones(100)])
    smallest = normalization._Smallest(4, limit=7)
    for part in np.split(values.astype(np.float32), range(block, 100, block), axis=1):
        smallest.add(part)
    want = np.sort(values.astype(np.float32), axis=1)[:, [0, 3, 6]]
    np.testing.assert_array_equal(smallest.ranked([0, 3, 6]), want.T)


def test_quantiles_of_a_stream_too_long_for_exact_ones_come_from_the_sample():
    # 0 ... 1000 in even steps; rank .01 * 1000 = 10 is not among the 10 smallest (0 to 9).
    # The sample of at most 600 holds every other value, 0 ... 1000: q01 10, q99 990.
    values = np.arange(1001, dtype=np.float32)[None]
    smallest, negated = (normalization._Smallest(1, limit=10) for _ in range(2))
    sample = normalization._Sample(limit=600)
    smallest.add(values)
    negated.add(-values)
    sample.add(values)
    low, high = normalization._quantiles(1001, smallest, negated, sample)
    np.testing.assert_allclose([low, high], [[10], [990]], rtol=1e-6)
    assert sample._stride == 2


@pytest.mark.parametrize("lengths", [(5, 1, 7, 3, 11), (16,), (1,) * 40, (9, 9), (77,), (77, 5)])
def test_sample_keeps_every_nth_row_across_chunks(lengths):
    sample = normalization._Sample(limit=8)
    values = np.arange(sum(lengths), dtype=np.float32)[None]
    for part in np.split(values, np.cumsum(lengths)[:-1], axis=1):
        sample.add(part)
    kept = np.concatenate(sample.parts, axis=1)[0]
    np.testing.assert_array_equal(kept, values[0, :: sample._stride])
    assert len(kept) <= 8


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_fit_refuses_what_is_not_finite(bad):
    with pytest.raises(InputError, match="NaN or infinite"):
        normalization.fit([ROWS, np.array([[0.0, bad]])])


@pytest.mark.parametrize("chunks", [[], [np.zeros((0, 2))]])
def test_fit_refuses_no_data(chunks):
    with pytest.raises(InputError, match="no steps"):
        normalization.fit(chunks)


def test_fit_refuses_rows_of_different_lengths():
    with pytest.raises(InputError, match=r"expected chunks of shape \[N, 2\], got \[4, 3\]"):
        normalization.fit([ROWS, np.zeros((4, 3))])


STATS = NormStats(
    *(np.asarray(v, np.float32) for v in ([-1, 3], [3, 3], [2, 3], [4, 0], [0, 3], [2, 3]))
)


@pytest.mark.parametrize(
    ("method", "want"),
    [
        # x = [4, 5]; the second element is constant (3) and maps to x - 3 = 2.
        ("none", [4.0, 5.0]),
        # min -1, max 3: centre 1, half 2: (4 - 1) / 2 = 1.5.
        ("min_max", [1.5, 2.0]),
        # mean 2, std 4: (4 - 2) / 4 = .5.
        ("mean_std", [0.5, 2.0]),
        # q01 0, q99 2: centre 1, half 1: (4 - 1) / 1 = 3.
        ("quantile", [3.0, 2.0]),
    ],
)
def test_normalize_by_hand(method, want):
    x = jnp.array([4.0, 5.0])
    np.testing.assert_allclose(normalization.normalize(STATS, x, method), want, rtol=1e-6)


def test_min_max_maps_its_range_to_one():
    x = jnp.array([[-1.0, 3.0], [3.0, 3.0]])
    got = normalization.normalize(STATS, x, "min_max")
    np.testing.assert_allclose(got, [[-1, 0], [1, 0]], atol=1e-7)


@pytest.mark.parametrize("method", normalization.METHODS)
def test_denormalize_is_the_inverse(method):
    x = jax.random.normal(jax.random.key(0), (5, 3, 2))
    back = normalization.denormalize(STATS, normalization.normalize(STATS, x, method), method)
    np.testing.assert_allclose(back, x, atol=1e-6)


@pytest.mark.parametrize("method", normalization.METHODS)
def test_maps_are_jittable_with_statistics_as_arguments(method):
    x = jnp.ones((3, 2))
    jitted = jax.jit(normalization.normalize, static_argnames="method")
    np.testing.assert_allclose(
        jitted(STATS, x, method=method), normalization.normalize(STATS, x, method), rtol=1e-6
    )


def test_unknown_method():
    with pytest.raises(InputError, match="must be one of .* got 'minmax'"):
        normalization.normalize(STATS, jnp.ones(2), "minmax")


def test_running_statistics_agree_with_all_rows_at_once():
    rows = np.random.default_rng(0).normal(3.0, 2.0, (60, 2)).astype(np.float32)
    stats = normalization.init_running(2)
    for part in np.split(rows, [10, 11, 40]):
        stats = jax.jit(normalization.update_running)(stats, part)
    assert stats.count == 60
    np.testing.assert_allclose(stats.mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats.m2 / stats.count, rows.var(0), rtol=1e-5)


def test_running_normalisation_by_hand():
    # Rows 1 and 5: mean 3, variance 4, std 2. (7 - 3) / 2 = 2; (103 - 3) / 2 = 50 -> 6.
    stats = normalization.update_running(normalization.init_running(1), jnp.array([[1.0], [5.0]]))
    got = normalization.normalize_running(stats, jnp.array([[7.0], [103.0], [-103.0]]), clip=6.0)
    np.testing.assert_allclose(got, [[2.0], [6.0], [-6.0]], rtol=1e-6)


def test_running_normalisation_before_any_row_changes_nothing():
    got = normalization.normalize_running(
        normalization.init_running(1), jnp.array([[1.0]]), clip=5.0
    )
    np.testing.assert_array_equal(got, [[1.0]])
