import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim

LENGTH = 60


@pytest.fixture(scope="module")
def env():
    return sim.make("detour")


@functools.partial(jax.jit, static_argnums=0)
def _drive(env, states, lane):
    """Drives straight at the marker at a height of 6 cm, `lane` metres aside of it, and the
    expert in worlds whose lane is 0.5.
    """

    def advance(states, _):
        facts = jax.vmap(env.split_privileged)(states.obs["privileged"])
        aside = lane - (facts["tool"][:, 1] - facts["post"][:, 1])
        onward = jnp.full_like(aside, 0.02)
        move = jnp.stack([onward, jnp.clip(aside, -0.02, 0.02)], axis=1)
        rest = jnp.tile(jnp.array([0.0, 0.0, 1.0]), (len(lane), 1))
        straight = jnp.concatenate([move, rest], axis=1)
        expert = jax.vmap(env.expert)(states.obs["privileged"])
        actions = jnp.where(lane[:, None] == 0.5, expert, straight)
        after = jax.vmap(env.step)(states, actions)
        return after, facts["tool"]

    return jax.lax.scan(advance, states, None, LENGTH)


def test_neither_straight_nor_a_little_aside_gets_past_and_the_expert_does(env):
    lanes = jnp.array([0.0, 0.03, -0.03, 0.06, -0.06, 0.1, -0.1] + [0.5] * 9)
    starts = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), len(lanes)))
    states, tools = _drive(env, starts, lanes)
    collided = np.asarray(states.info["facts"]["collided"])
    np.testing.assert_array_equal(collided, [1.0] * 7 + [0.0] * 9)
    np.testing.assert_array_equal(states.metrics["success"], collided == 0.0)
    # The post is solid: whoever drives at its middle is stopped by it, 15 cm on at most.
    assert tools[:, 0, 0].max() < 0.49
    # And the way round is on both sides: all of it one side at x = 0.5, by a wide margin.
    side = np.asarray(starts.pipeline_state.memory["side"])[7:]
    beside = np.abs(np.asarray(tools)[:, 7:, 0] - 0.49) < 0.03
    y = np.where(beside, np.asarray(tools)[:, 7:, 1] * side, 1.0)
    assert y.min() > 0.12
    assert set(side) == {-1.0, 1.0}


def test_the_tool_cannot_rise_above_the_post(env):
    """Ten steps up from the start: the hand stays lower than the post's top, 16 cm."""
    state, step = env.reset(jax.random.key(0)), jax.jit(env.step)
    for _ in range(20):
        state = step(state, jnp.array([0.0, 0.0, 0.025, 0.0, 1.0]))
    assert env.facts(state.pipeline_state)["tool"][2] < 0.105


def test_policies_do_not_see_the_coin(env):
    """The same start but for the coin gives the same proprioception."""
    state = env.reset(jax.random.key(0))
    inner = state.pipeline_state
    other = inner.replace(memory={**inner.memory, "side": -inner.memory["side"]})
    for name in ("proprio",):
        seen = env.observe(env.facts(other), other)[name]
        np.testing.assert_array_equal(seen, state.obs[name])
    assert env.facts(other)["side"] == -env.facts(inner)["side"]


def test_a_collision_spoils_the_goal(env):
    at_marker = {"to_target": jnp.array([0.0, 0.01, 0.01])}
    assert env.goal(at_marker | {"collided": jnp.zeros(())})
    assert not env.goal(at_marker | {"collided": jnp.ones(())})
