import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.networks import heads
from jaxpolicy.networks.heads import HEADS, HeadConfig

# softplus(raw) = 1, so that with min_std = 1 the standard deviation is 2.
RAW_ONE = float(np.log(np.e - 1.0))
CONFIG = HeadConfig(modes=2, min_std=1.0, bins=5, bin_limit=2.0)


def _outputs(*values):
    return jnp.asarray(values, jnp.float32)[None, None]


def _random_outputs(name, action_size=3):
    size = HEADS[name].size(CONFIG, action_size)
    return jax.random.normal(jax.random.key(1), (4, 2, size))


@pytest.mark.parametrize("name", sorted(HEADS))
def test_shapes(name):
    head, outputs, target = HEADS[name], _random_outputs(name), jnp.zeros((4, 2, 3))
    loss = head.loss(CONFIG, outputs, target)
    assert loss.shape in ((4, 2), (4, 2, 3))
    assert np.isfinite(loss).all()
    assert head.mode(CONFIG, outputs).shape == (4, 2, 3)
    assert head.sample(CONFIG, outputs, jax.random.key(0)).shape == (4, 2, 3)
    if head.confidence is not None:
        sure = head.confidence(CONFIG, outputs, 1.0)
        assert sure.shape == (4,)
        assert ((sure > 0) & (sure < 1)).all()


def test_sizes_by_hand():
    # A = 3: mean and deviation each; 2 weights and 2 * 3 of both; 5 bins each.
    sizes = {name: head.size(CONFIG, 3) for name, head in HEADS.items()}
    assert sizes == {"mse": 3, "l1": 3, "gaussian": 6, "gmm": 14, "discrete": 15}


def test_point_losses_by_hand():
    outputs, target = _outputs(1.0, -2.0), _outputs(3.0, -2.5)
    np.testing.assert_allclose(HEADS["mse"].loss(CONFIG, outputs, target)[0, 0], [4.0, 0.25])
    np.testing.assert_allclose(HEADS["l1"].loss(CONFIG, outputs, target)[0, 0], [2.0, 0.5])


def test_gaussian_by_hand():
    # Means (0, 1), deviations 1 + softplus: 2 and 2. Target (4, 1): z = (2, 0), so
    # 2 + ln 2 + ln(2 pi) / 2 = 3.6121 and ln 2 + ln(2 pi) / 2 = 1.6121.
    outputs = _outputs(0.0, 1.0, RAW_ONE, RAW_ONE)
    head = HEADS["gaussian"]
    loss = head.loss(CONFIG, outputs, _outputs(4.0, 1.0))
    np.testing.assert_allclose(loss[0, 0], [3.61209, 1.61209], rtol=1e-5)
    np.testing.assert_allclose(head.mode(CONFIG, outputs)[0, 0], [0.0, 1.0])
    # exp(-2 / 4), from the first action only: the second is surer.
    two = jnp.concatenate([outputs, outputs.at[..., 2:].set(-50.0)], axis=1)
    np.testing.assert_allclose(head.confidence(CONFIG, two, 4.0), np.exp(-0.5), rtol=1e-5)


def test_gaussian_deviation_never_falls_below_its_minimum():
    # Raw -50 is softplus 0: deviation 1, and z = 3 costs 4.5 + ln(2 pi) / 2.
    loss = HEADS["gaussian"].loss(CONFIG, _outputs(0.0, -50.0), _outputs(3.0))
    np.testing.assert_allclose(loss[0, 0], [4.5 + 0.918939], rtol=1e-5)


def test_mixture_by_hand():
    # A = 1, weights (1/4, 3/4), means (0, 4), deviations (2, 2), target 4:
    # densities N(4; 0, 2) = e^-2 / (2 sqrt(2 pi)) = .026995, N(4; 4, 2) = .199471, so
    # -ln(.25 * .026995 + .75 * .199471) = -ln .156352 = 1.855645.
    weights = (0.0, float(np.log(3.0)))
    outputs = _outputs(*weights, 0.0, 4.0, RAW_ONE, RAW_ONE)
    head = HEADS["gmm"]
    np.testing.assert_allclose(head.loss(CONFIG, outputs, _outputs(4.0)), 1.855645, rtol=1e-5)
    # Not the mean of both, 3, but the likelier one.
    np.testing.assert_allclose(head.mode(CONFIG, outputs), 4.0)
    # 3/4 exp(-2 / 4).
    wanted = 0.75 * np.exp(-0.5)
    np.testing.assert_allclose(head.confidence(CONFIG, outputs, 4.0), wanted, rtol=1e-5)


def test_mixture_of_vectors_by_hand():
    # A = 2, one component with means (0, 1) and deviations (2, 2) is the Gaussian above:
    # (3.61209 + 1.61209) / 2 per element. A second component of weight 0 changes nothing.
    gaussian = _outputs(0.0, 0.0, 1.0, RAW_ONE, RAW_ONE)
    one = dataclasses.replace(CONFIG, modes=1)
    target = _outputs(4.0, 1.0)
    np.testing.assert_allclose(HEADS["gmm"].loss(one, gaussian, target), 2.61209, rtol=1e-5)
    # Outputs: weights, then means of component 0 and 1, then their deviations.
    raw = (RAW_ONE,) * 4
    both = _outputs(50.0, -50.0, 0.0, 1.0, 7.0, 7.0, *raw)
    np.testing.assert_allclose(HEADS["gmm"].loss(CONFIG, both, target), 2.61209, rtol=1e-5)
    np.testing.assert_allclose(HEADS["gmm"].mode(CONFIG, both)[0, 0], [0.0, 1.0])


def test_samples_follow_the_distributions():
    # 40,000 draws: standard error of the mean .01, of a share .0025.
    sharp = dataclasses.replace(CONFIG, min_std=1e-3)
    gaussian = jnp.broadcast_to(_outputs(1.0, RAW_ONE), (40_000, 1, 2))
    drawn = HEADS["gaussian"].sample(CONFIG, gaussian, jax.random.key(0))
    assert float(drawn.mean()) == pytest.approx(1.0, abs=0.05)
    assert float(drawn.std()) == pytest.approx(2.0, abs=0.05)
    mixture = _outputs(0.0, float(np.log(3.0)), 0.0, 4.0, -50.0, -50.0)
    drawn = HEADS["gmm"].sample(sharp, jnp.broadcast_to(mixture, (40_000, 1, 6)), jax.random.key(0))
    assert float((drawn > 2).mean()) == pytest.approx(0.75, abs=0.01)
    assert float(jnp.minimum(jnp.abs(drawn), jnp.abs(drawn - 4)).max()) < 0.01
    bins = jnp.broadcast_to(_outputs(0.0, -50.0, -50.0, -50.0, np.log(3.0)), (40_000, 1, 5))
    drawn = HEADS["discrete"].sample(CONFIG, bins, jax.random.key(0))
    assert float((drawn == 2).mean()) == pytest.approx(0.75, abs=0.01)
    assert float((drawn == -2).mean()) == pytest.approx(0.25, abs=0.01)


def test_discrete_by_hand():
    # Bins at -2, -1, 0, 1, 2 with probabilities (.1, .1, .4, .2, .2). Target .5 is shared by
    # the bins 0 and 1: -(ln .4 + ln .2) / 2 = 1.262864. Target 9 is clipped to 2: -ln .2.
    outputs = _outputs(*np.log([0.1, 0.1, 0.4, 0.2, 0.2]))
    head = HEADS["discrete"]
    np.testing.assert_allclose(head.loss(CONFIG, outputs, _outputs(0.5)), 1.262864, rtol=1e-5)
    np.testing.assert_allclose(head.loss(CONFIG, outputs, _outputs(9.0)), -np.log(0.2), rtol=1e-5)
    # Around the likeliest, 0: (.1 * -1 + .4 * 0 + .2 * 1) / .7; the far bins have no say.
    np.testing.assert_allclose(head.mode(CONFIG, outputs), 0.1 / 0.7, rtol=1e-5)
    np.testing.assert_allclose(head.confidence(CONFIG, outputs, 1.0), 0.7, rtol=1e-5)


def test_discrete_mode_at_the_edge_and_between_bins():
    # The optimum for target -1.75 puts .75 on -2 and .25 on -1: the mode returns it exactly.
    outputs = _outputs(*np.log([0.75, 0.25, 1e-9, 1e-9, 1e-9]))
    np.testing.assert_allclose(HEADS["discrete"].mode(CONFIG, outputs), -1.75, atol=1e-5)


@pytest.mark.parametrize("name", ["gmm", "discrete"])
def test_of_two_ways_the_likelier_one_acts(name):
    # Three of four demonstrations act (.5, -.5), one acts (-.5, .5): gradient descent on
    # bare outputs; the mean would be (.25, -.25).
    config = HeadConfig(modes=3, bins=9, bin_limit=1.0)
    head = HEADS[name]
    target = jnp.asarray([[0.5, -0.5]] * 3 + [[-0.5, 0.5]])[:, None]
    start = 0.1 * jax.random.normal(jax.random.key(0), (1, 1, head.size(config, 2)))
    loss = lambda outputs: head.loss(config, outputs, target).mean()  # noqa: E731
    descend = lambda _, x: x - 0.05 * jax.grad(loss)(x)  # noqa: E731
    outputs = jax.jit(lambda x: jax.lax.fori_loop(0, 3000, descend, x))(start)
    np.testing.assert_allclose(head.mode(config, outputs)[0, 0], [0.5, -0.5], atol=0.05)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"modes": 0}, "modes"), ({"bins": 1}, "bins"), ({"min_std": 0.0}, "min_std")],
)
def test_wrong_values_are_named(change, named):
    with pytest.raises(InputError, match=rf"heads\.{named}"):
        heads.check(dataclasses.replace(HeadConfig(), **change))
    heads.check(HeadConfig())
