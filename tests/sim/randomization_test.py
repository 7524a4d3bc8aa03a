"""Variations of episodes: ranges, identity, and what they do to actions and observations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.sim import config as sim_config
from jaxpolicy.sim import randomization
from jaxpolicy.sim.config import MODERATE, STRONG, RandomizationConfig

OFF = RandomizationConfig()
CAMERAS = ("front", "wrist")
MANY = 300
SPEC = ActionSpec("unknown", ("x", "gripper"), ("m", "1"), (-0.5, 0.0), (0.5, 1.0), 20.0)


def draw_many(config):
    keys = jax.random.split(jax.random.key(0), MANY)
    return jax.vmap(lambda k: randomization.draw(config, k, len(CAMERAS)))(keys)


@pytest.mark.parametrize("config", [MODERATE, STRONG])
def test_draws_cover_their_ranges_and_nothing_else(config):
    for name, values in draw_many(config)._asdict().items():
        if name.endswith("_key"):
            continue
        low, high = getattr(config, name)
        values = np.asarray(values)
        assert np.isfinite(values).all()
        assert values.min() >= np.float32(low) - 1e-7
        assert values.max() <= np.float32(high) + 1e-7
        # Of 300 uniform draws the extremes are within 5 % of the ends.
        assert values.min() <= low + 0.05 * (high - low)
        assert values.max() >= high - 0.05 * (high - low)
        assert len(np.unique(values)) > (200 if name != "action_delay" else high)


def test_everything_off_is_the_identity():
    drawn = draw_many(OFF)
    factors = ("light_intensity", "ambient", "exposure", "white_balance")
    for name, values in drawn._asdict().items():
        if not name.endswith("_key"):
            assert (np.asarray(values) == (1.0 if name in factors else 0.0)).all(), name
    assert not randomization.is_on(OFF)
    assert randomization.describe(OFF, drawn, CAMERAS) == {}
    physics_only = RandomizationConfig(mass=(0.5, 2.0), models=3)
    assert not randomization.is_on(physics_only)
    assert randomization.is_on(RandomizationConfig(texture=0.1))


def test_an_episodes_words_give_its_variation_again():
    words = randomization.pack_key(jax.random.key(5))
    assert (words.shape, words.dtype) == ((2,), jnp.uint32)
    first, again = (randomization.unpack(STRONG, words, 2) for _ in range(2))
    other = randomization.unpack(STRONG, randomization.pack_key(jax.random.key(6)), 2)
    for name, a, b, c in zip(first._fields, first, again, other, strict=True):
        if not name.endswith("_key"):
            np.testing.assert_array_equal(a, b)
            assert name == "action_delay" or not np.array_equal(a, c), name
    jitted = jax.jit(lambda w: randomization.unpack(STRONG, w, 2))(words)
    np.testing.assert_allclose(jitted.camera_position, first.camera_position, rtol=1e-6)


def test_level_one_is_what_is_configured_bit_for_bit():
    key = jax.random.key(5)
    drawn = randomization.draw(STRONG, key, 2)
    # Each quantity has a key of its own, by its place, and is uniform in its range.
    keys = jax.random.split(key, 17)
    for i, (name, value) in enumerate(drawn._asdict().items()):
        if name.endswith("_key"):
            np.testing.assert_array_equal(jax.random.key_data(value), jax.random.key_data(keys[i]))
        elif name == "action_delay":
            assert value == jax.random.randint(keys[i], (), 0, 2)
        else:
            low, high = getattr(STRONG, name)
            share = jax.random.uniform(keys[i], value.shape)
            expected = jnp.float32(low) + share * jnp.float32(high - low)
            np.testing.assert_array_equal(value, expected, err_msg=name)


def test_levels_narrow_every_range():
    key, late = jax.random.key(5), dataclasses.replace(STRONG, action_delay=(5, 5))
    none, some, full = (randomization.draw(late, key, 2, jnp.float32(v)) for v in (0.0, 0.3, 1.0))
    for name, off, part, value in zip(full._fields, none, some, full, strict=True):
        if name.endswith("_key"):
            np.testing.assert_array_equal(jax.random.key_data(off), jax.random.key_data(value))
            continue
        same = getattr(OFF, name)[0]
        np.testing.assert_array_equal(off, same, err_msg=name)
        if name != "action_delay":
            np.testing.assert_allclose(part, same + 0.3 * (value - same), rtol=1e-5, atol=1e-7)
    # .3 * 5 = 1.5 steps, rounded to even.
    assert [int(v.action_delay) for v in (none, some, full)] == [0, 2, 5]
    assert some.action_delay.dtype == jnp.int32
    words = randomization.pack_key(key)
    half = randomization.unpack(STRONG, words, 2, 0.5)
    np.testing.assert_allclose(half.blur, randomization.unpack(STRONG, words, 2).blur / 2)


def test_quantities_are_independent():
    drawn = draw_many(STRONG)
    columns = np.stack([drawn.exposure, drawn.ambient, drawn.light_intensity, drawn.blur])
    off_diagonal = np.corrcoef(columns)[np.triu_indices(4, 1)]
    # The correlation of 300 independent pairs has a standard deviation of .058.
    assert np.abs(off_diagonal).max() < 4 * 0.058


def test_description_names_every_number():
    config = RandomizationConfig(
        exposure=(0.5, 1.5), white_balance=(0.9, 1.1), camera_position=(-1.0, 1.0)
    )
    variation = randomization.draw(config, jax.random.key(0), 2)
    found = randomization.describe(config, variation, CAMERAS)
    white = [f"white_balance/{c}" for c in ("red", "green", "blue")]
    places = [f"camera_position/{c}/{x}" for c in CAMERAS for x in "xyz"]
    assert sorted(found) == sorted(["exposure", *white, *places])
    assert found["exposure"] == variation.exposure
    assert found["white_balance/green"] == variation.white_balance[1]
    assert found["camera_position/wrist/z"] == variation.camera_position[1, 2]
    assert {v.dtype.name for v in found.values()} == {"float32"}


def test_delay_executes_the_action_of_that_many_steps_ago():
    for delay in range(3):
        pending, executed = jnp.full((2, 1), -1.0), []
        for t in range(5):
            pending, action = randomization.delay_action(pending, jnp.full(1, float(t)), delay)
            executed.append(float(action[0]))
        # What was in the queue first, then 0, 1, 2, ... `delay` steps late.
        assert executed == [-1.0] * delay + [float(t) for t in range(5 - delay)]


def test_action_noise_is_a_share_of_each_range_and_spares_the_gripper():
    variation = randomization.draw(
        RandomizationConfig(action_noise=(0.1, 0.1)), jax.random.key(0), 0
    )
    keys = jax.random.split(jax.random.key(1), 2000)
    noisy = jax.vmap(lambda k: randomization.noisy_action(variation, SPEC, k, jnp.zeros(2)))(keys)
    # The range of x is 1 m: .1 m, within 5 standard deviations of .0016.
    assert abs(float(noisy[:, 0].std()) - 0.1) < 0.008
    assert (noisy[:, 1] == 0.0).all()


def test_observation_noise_goes_by_unit():
    config = RandomizationConfig(
        joint_noise=(0.1, 0.1), velocity_noise=(0.2, 0.2), position_noise=(0.3, 0.3)
    )
    variation = randomization.draw(config, jax.random.key(0), 0)
    spec = ArraySpec("proprio", (4,), unit="rad,rad/s,m,1")
    keys = jax.random.split(jax.random.key(1), 4000)
    noisy = jax.vmap(lambda k: randomization.noisy_proprio(variation, spec, k, jnp.ones(4)))(keys)
    np.testing.assert_allclose(noisy.std(axis=0), [0.1, 0.2, 0.3, 0.0], rtol=0.06, atol=1e-6)
    np.testing.assert_allclose(noisy.mean(axis=0), 1.0, atol=0.03)
    assert np.abs(np.corrcoef(noisy[:, :3].T)[np.triu_indices(3, 1)]).max() < 0.08


def test_steps_have_keys_of_their_own():
    variation = randomization.draw(STRONG, jax.random.key(0), 0)
    keys = [k for t in range(3) for k in randomization.step_keys(variation, jnp.int32(t))]
    words = {tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in keys}
    assert len(words) == 6


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mass", (2.0, 1.0), r"randomization.mass must be a range \(low, high\)"),
        ("mass", (0.0, 1.0), "randomization.mass must be above 0"),
        ("blur", (-1.0, 1.0), "randomization.blur must not be negative"),
        ("exposure", (0.5, float("nan")), "exposure must be a range"),
        ("texture", 1.5, r"texture is a probability in \[0, 1\], got 1.5"),
        ("models", 0, "models must be >= 1"),
    ],
)
def test_bad_ranges_are_named(field, value, message):
    with pytest.raises(InputError, match=message):
        RandomizationConfig(**{field: value})


def test_every_range_is_checked_or_may_have_any_sign():
    signed = {
        *("gravity_compensation", "camera_position", "camera_rotation", "field_of_view"),
        *("light_position", "colour"),
    }
    ranges = {f.name for f in dataclasses.fields(OFF) if isinstance(getattr(OFF, f.name), tuple)}
    assert ranges == signed | set(sim_config._FACTORS) | set(sim_config._NOT_NEGATIVE)
