import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpolicy.algorithms import imitation
from jaxpolicy.algorithms.imitation import EMAConfig, ImitationConfig, Setup
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.core.types import Batch, PolicySpec

ACTION = ActionSpec("unknown", ("a", "b"), ("m", "rad"), (-4.0, 0.0), (4.0, 2.0), 5.0)
SPEC = PolicySpec((ArraySpec("proprio", (2,)),), ACTION, 1, 2, 1)
# Range of a -4..4 and of b 0..2: half widths 4 and 1.
NORM = {
    "action": normalization.fit([np.array([[-4.0, 0.0], [4.0, 2.0]])]),
    "proprio": normalization.fit([np.array([[-1.0, -1.0], [1.0, 1.0]])]),
}


class _Linear(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(4, name="d")(inputs["proprio"][:, 0]).reshape(-1, 2, 2)


def _loss(setup, network, norm, batch, key):
    inputs = imitation.network_input(setup, norm, batch.observation)
    predicted = setup.network.apply({"params": network}, inputs)
    error = jnp.square(predicted - imitation.targets(setup, norm, batch, inputs))
    value = imitation.masked_mean(error, batch)
    return value, {"loss": value, "draw": jax.random.uniform(key)}


def _setup(**config):
    setup = Setup(_Linear(), optax.sgd(0.1), ImitationConfig(**config), SPEC)
    return imitation.make_setup("method", setup)


def _batch(size=8):
    rng = np.random.default_rng(0)
    observation = {"proprio": rng.normal(size=(size, 1, 2)).astype(np.float32)}
    action = rng.uniform(0, 2, (size, 2, 2)).astype(np.float32)
    return Batch(observation, action, np.ones((size, 2), bool))


def _state(setup):
    batch = _batch()
    inputs = imitation.network_input(setup, NORM, batch.observation)
    return imitation.init_state(setup, NORM, jax.random.key(0), inputs)


def test_masked_mean_and_errors_by_hand():
    # Errors (1, 2) and (3, 4); the second action is padding: mean 1.5. In physical units
    # 1 is 4 m of a, 2 is 2 rad of b.
    error = jnp.array([[[1.0, -2.0], [3.0, 4.0]]])
    batch = Batch({}, np.zeros((1, 2, 2)), np.array([[True, False]]))
    assert imitation.masked_mean(jnp.abs(error), batch) == pytest.approx(1.5)
    found = imitation.action_errors(_setup(), NORM, error, batch)
    wanted = {"action_error": 1.5, "action_error_m": 4.0, "action_error_rad": 2.0}
    assert found.keys() == wanted.keys()
    assert all(found[k] == pytest.approx(v) for k, v in wanted.items())
    # One number per action: [B, H].
    assert imitation.masked_mean(jnp.array([[5.0, 7.0]]), batch) == pytest.approx(5.0)


def test_targets_and_physical_actions_are_inverse():
    setup, batch = _setup(), _batch()
    inputs = imitation.network_input(setup, NORM, batch.observation)
    target = imitation.targets(setup, NORM, batch, inputs)
    back = imitation.physical_actions(setup, NORM, target, inputs)
    np.testing.assert_allclose(back, batch.action, atol=1e-5)


def test_squared_weights_leaves_out_biases():
    # 1 + 4 + 9 = 14; the bias does not count.
    tree = {"kernel": jnp.array([[1.0, 2.0, 3.0]]), "bias": jnp.array([5.0])}
    assert imitation.squared_weights(tree) == 14.0


def test_accumulation_is_the_same_update():
    whole, parts = _setup(), _setup(accumulation=4)
    one, metrics = jax.jit(imitation.update, static_argnums=(0, 1))(
        whole, _loss, _state(whole), _batch()
    )
    other, split = jax.jit(imitation.update, static_argnums=(0, 1))(
        parts, _loss, _state(parts), _batch()
    )
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert metrics["loss"] == pytest.approx(float(split["loss"]), rel=1e-5)
    # Every part has a key of its own.
    assert metrics["draw"] != split["draw"]


def test_accumulation_must_divide_the_batch():
    setup = _setup(accumulation=3)
    with pytest.raises(InputError, match=r"accumulation \(3\) must divide the batch of 8"):
        imitation.update(setup, _loss, _state(setup), _batch())


def test_ema_by_hand():
    # Power 1: decays 1 - 1/1 = 0, 1 - 1/2 = .5, 1 - 1/4 = .75, then at most .8.
    config = EMAConfig(max_decay=0.8, power=1.0)
    found = [float(imitation.ema_decay(config, jnp.array(s))) for s in (0, 1, 3, 99)]
    assert found == pytest.approx([0.0, 0.5, 0.75, 0.8])
    # .5 * 2 + .5 * 6 = 4.
    assert imitation.average(config, jnp.array(2.0), jnp.array(6.0), jnp.array(1)) == 4.0


def test_the_average_is_part_of_the_update_and_acts():
    setup = _setup(ema=EMAConfig(max_decay=0.9, power=1.0))
    state = first = _state(setup)
    assert imitation.acting(first.params) is first.params["ema"]
    for _ in range(2):
        before = state
        state, _ = imitation.update(setup, _loss, state, _batch())
    # The second update averages with decay .5.
    old, new = before.params["ema"]["d"]["kernel"], state.params["network"]["d"]["kernel"]
    np.testing.assert_allclose(state.params["ema"]["d"]["kernel"], (old + new) / 2, rtol=1e-6)
    plain = _state(_setup())
    assert "ema" not in plain.params
    assert imitation.acting(plain.params) is plain.params["network"]


def test_spread_confidence_by_hand():
    # Draws 0 and 2 of the first element, 1 and 1 of the second: spreads 1 and 0, mean .5.
    actions = jnp.array([[[0.0, 1.0]], [[2.0, 1.0]]])
    assert imitation.spread_confidence(actions, 0.5) == pytest.approx(np.exp(-1.0))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"accumulation": 0}, r"method\.accumulation must be at least 1"),
        ({"confidence_scale": 0.0}, r"method\.confidence_scale must be above 0"),
        ({"ema": EMAConfig(max_decay=1.0)}, r"method\.ema\.max_decay must be in \[0, 1\)"),
        ({"residual": True}, r"method\.residual needs the previous action"),
    ],
)
def test_wrong_values_are_named(config, named):
    with pytest.raises(InputError, match=named):
        _setup(**config)


def test_setups_are_hashable():
    setup = _setup()
    assert hash(setup) == hash(dataclasses.replace(setup))


def test_reach_of_targets():
    assert imitation.target_reach(ImitationConfig()) == 1.0
    assert imitation.target_reach(ImitationConfig(action_norm="quantile", residual=True)) == 2.0
    assert imitation.target_reach(ImitationConfig(action_norm="mean_std")) is None
