import jax.numpy as jnp
import numpy as np

from jaxpolicy.algorithms import returns


def column(*values):
    return jnp.asarray(values, jnp.float32)[:, None]


def test_gae_by_hand():
    # discount 0.5, lambda 0.5; step 1 ends the episode for good, step 2 is cut off by a limit.
    #   d0 = 1 + 0.5 * 1 - 0.5 = 1
    #   d1 = 0 + 0 - 1 = -1        (nothing follows; the 7 does not count)
    #   d2 = 2 + 0.5 * 4 - 0 = 4   (the world would have gone on, to a state worth 4)
    #   A2 = 4, A1 = -1 (an end cuts the sum), A0 = 1 + 0.25 * A1 = 0.75
    advantage, target = returns.gae(
        reward=column(1, 0, 2),
        value=column(0.5, 1, 0),
        next_value=column(1, 7, 4),
        terminated=column(0, 1, 0),
        ended=column(0, 1, 1),
        discount=0.5,
        trace_decay=0.5,
    )
    np.testing.assert_allclose(advantage[:, 0], [0.75, -1.0, 4.0])
    np.testing.assert_allclose(target[:, 0], [1.25, 0.0, 4.0])


def test_gae_with_lambda_one_is_the_discounted_return():
    # 1 + 0.5 * (2 + 0.5 * (3 + 0.5 * 8)) = 3.75, whatever the values between are.
    zeros = column(0, 0, 0)
    advantage, target = returns.gae(
        column(1, 2, 3), column(5, 6, 7), column(6, 7, 8), zeros, zeros, 0.5, 1.0
    )
    np.testing.assert_allclose(target[0, 0], 3.75)
    np.testing.assert_allclose(advantage[0, 0], 3.75 - 5)


def test_worlds_do_not_mix():
    one = column(1, 2)
    both = jnp.concatenate([one, 10 * one], axis=1)
    zeros = jnp.zeros_like(both)
    _, target = returns.gae(both, zeros, zeros, zeros, zeros, 0.9, 0.8)
    np.testing.assert_allclose(target[:, 1], 10 * target[:, 0])


def test_standardize():
    # mean 2, deviations -1, 1
    np.testing.assert_allclose(returns.standardize(jnp.asarray([1.0, 3.0])), [-1, 1], rtol=1e-6)


def test_explained_variance_by_hand():
    # var(target) = 1, var(target - predicted) = var([0.5, -0.5]) = 0.25
    found = returns.explained_variance(jnp.asarray([0.5, 1.5]), jnp.asarray([1.0, 1.0]) + 0)
    assert found < 0  # a constant target has no variance to explain
    found = returns.explained_variance(jnp.asarray([0.5, 1.5]), jnp.asarray([0.0, 2.0]))
    np.testing.assert_allclose(found, 0.75, rtol=1e-6)


def test_reward_scale_by_hand():
    scale = returns.init_reward_scale(1)
    assert returns.reward_std(scale) == 1.0
    # Sums with discount 0.5: 1, then 0.5 + 1 = 1.5: mean 1.25, standard deviation 0.25.
    scale = returns.update_reward_scale(scale, column(1, 1), column(0, 0), 0.5)
    np.testing.assert_allclose(returns.reward_std(scale), 0.25, rtol=1e-6)
    np.testing.assert_allclose(scale.sums, [1.5])


def test_reward_sums_start_anew_after_an_end():
    scale = returns.init_reward_scale(1)
    # 1 and the end, then 1 again, not 1.5.
    scale = returns.update_reward_scale(scale, column(1, 1), column(1, 0), 0.5)
    np.testing.assert_allclose(scale.stats.mean, [1.0])
    np.testing.assert_allclose(scale.sums, [1.0])
    assert returns.reward_std(scale) == 1.0  # no spread: rewards stay as they are
