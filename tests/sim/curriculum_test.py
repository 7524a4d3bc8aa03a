"""Levels of randomisation over a training: arithmetic by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.sim import curriculum
from jaxpolicy.sim.curriculum import AdrState, CurriculumConfig

ADR = CurriculumConfig(
    mode="adr", start=0.2, boundary=0.5, step=0.1, window=10, widen_above=0.8, narrow_below=0.5
)


def state(level, successes=0.0, episodes=0.0):
    return AdrState(*(jnp.float32(v) for v in (level, successes, episodes)))


def test_linear_goes_from_start_to_one():
    config = CurriculumConfig(mode="linear", start=0.2, until=0.5)
    # Half way to `until`: .2 + .8 / 2 = .6.
    levels = [float(curriculum.linear_level(config, p)) for p in (0.0, 0.25, 0.5, 1.0)]
    np.testing.assert_allclose(levels, [0.2, 0.6, 1.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("successes", "episodes", "expected"),
    [
        (8, 10, (0.6, 0, 0)),  # .8 or more: wider
        (5, 10, (0.4, 0, 0)),  # .5 or less: narrower
        (7, 10, (0.5, 0, 0)),  # between: judged all the same
        (9, 9, (0.5, 9, 9)),  # too few to tell
    ],
)
def test_the_frontier_moves_by_success(successes, episodes, expected):
    after = curriculum.adr_update(ADR, state(0.5), jnp.float32(successes), jnp.float32(episodes))
    np.testing.assert_allclose(after, expected, rtol=1e-6)
    assert {x.dtype.name for x in after} == {"float32"}


def test_counts_add_up_until_there_are_enough():
    after = curriculum.adr_update(ADR, state(0.5), jnp.float32(6), jnp.float32(6))
    # 6 of 6 and 3 of 4 are 9 of 10.
    after = curriculum.adr_update(ADR, after, jnp.float32(3), jnp.float32(4))
    np.testing.assert_allclose(after, (0.6, 0, 0), rtol=1e-6)


def test_the_frontier_stays_between_zero_and_one():
    for level, successes in ((0.95, 10), (0.05, 0)):
        after = curriculum.adr_update(ADR, state(level), jnp.float32(successes), jnp.float32(10))
        assert float(after.level) == round(level)
    assert [float(x) for x in curriculum.adr_init(ADR)] == [pytest.approx(0.2), 0.0, 0.0]


def test_some_episodes_are_at_the_frontier_and_others_below():
    keys = jax.random.split(jax.random.key(0), 2000)
    levels = jax.vmap(curriculum.draw_level, (None, 0, None))(ADR, keys, state(0.4))
    at = np.asarray(curriculum.at_frontier(state(0.4), levels))
    # Half of 2000, within five standard deviations of .011.
    assert abs(at.mean() - 0.5) < 0.056
    below = np.asarray(levels)[~at]
    assert 0.0 <= below.min() < 0.01
    assert 0.39 < below.max() < 0.4
    # Uniform below .4: mean .2, within five standard deviations of .116 / sqrt(1000).
    assert abs(below.mean() - 0.2) < 0.019


def test_every_mode_has_a_next_level():
    key = jax.random.key(0)
    off = dataclasses.replace(ADR, mode="off")
    assert float(curriculum.next_level(off, key, 0.0, state(0.3))) == 1.0
    linear = dataclasses.replace(ADR, mode="linear")
    assert float(curriculum.next_level(linear, key, 0.0, state(0.3))) == pytest.approx(0.2)
    found = curriculum.next_level(ADR, key, 0.0, state(0.3))
    assert found == curriculum.draw_level(ADR, key, state(0.3))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mode", "auto", "curriculum.mode must be one of .*, got 'auto'"),
        ("start", 1.5, r"curriculum.start must be in \[0, 1\], got 1.5"),
        ("window", 0, "curriculum.window must be at least 1"),
        ("narrow_below", 0.9, "narrow_below must be below widen_above"),
    ],
)
def test_bad_configurations_are_named(field, value, message):
    with pytest.raises(InputError, match=message):
        CurriculumConfig(**{field: value})
