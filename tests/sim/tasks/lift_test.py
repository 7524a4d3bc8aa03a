import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim


@pytest.fixture(scope="module")
def env():
    return sim.make("lift")


def _facts(grasped, rise):
    return {
        "grasped": jnp.array([grasped]),
        "to_object": jnp.array([0.0, 0.0, 0.01]),
        "to_goal": jnp.array([0.1 - rise]),
    }


def test_reward_terms(env):
    terms = env.reward_terms(_facts(1.0, 0.05), jnp.array([0.025, 0.0, 0.0, 0.0, 1.0]))
    # Half of the way up by 0.1: lift 0.5. One of four elements at its bound: 1/4.
    expected = {"reach": 1.0, "grasp": 1.0, "lift": 0.5, "action": 0.25}
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, atol=1e-6)
    # Not grasped at 1 cm: 1 - tanh(0.05) = 0.95004, and height earns nothing.
    free = env.reward_terms(_facts(0.0, 0.1), jnp.zeros(5))
    np.testing.assert_allclose(free["reach"], 0.95004, atol=1e-5)
    np.testing.assert_allclose(free["lift"], 0.0)


def test_goal_needs_a_grasp_and_five_centimetres(env):
    assert env.goal(_facts(1.0, 0.0505))
    assert not env.goal(_facts(1.0, 0.0495))
    assert not env.goal(_facts(0.0, 0.2))


def test_a_thrown_cube_is_no_success(env):
    """A cube high in the air beside the gripper, at any time, counts for nothing."""
    state = env.reset(jax.random.key(0))
    step = jax.jit(env.step)
    for _ in range(8):
        inner = state.pipeline_state
        thrown = inner.qpos.at[9:12].set(jnp.array([0.5, 0.0, 0.5]))
        state = state.replace(pipeline_state=inner.replace(qpos=thrown))
        state = step(state, jnp.array([0.0, 0.0, 0.0, 0.0, 0.0]))
    assert state.metrics["success"] == 0.0


def test_success_comes_after_five_held_steps_and_goes_when_dropped(env):
    state = env.reset(jax.random.key(1))
    step, expert = jax.jit(env.step), jax.jit(env.expert)
    goals, successes = [], []
    for t in range(45):
        action = expert(state.obs["privileged"])
        state = step(state, action if t < 35 else action.at[4].set(1.0))
        goals.append(bool(env.goal(env.facts(state.pipeline_state))))
        successes.append(bool(state.metrics["success"]))
    first = goals.index(True)
    assert successes.index(True) == first + 4
    assert all(successes[first + 4 : 35])
    assert not successes[-1]


def test_shapes_change_from_episode_to_episode():
    """Every shape of a set comes up, starts at its own height, and is lifted."""
    env = sim.make("lift", objects="training")
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 24))
    variant = np.asarray(states.pipeline_state.variant)
    rests = np.array([s.rest for s in env.shapes])
    assert set(variant % len(rests)) == set(range(len(rests)))
    np.testing.assert_allclose(states.pipeline_state.qpos[:, 11], rests[variant % len(rests)])

    def advance(states, _):
        actions = jax.vmap(env.expert)(states.obs["privileged"])
        return jax.vmap(env.step)(states, actions), None

    ended, _ = jax.jit(lambda s: jax.lax.scan(advance, s, None, 60))(states)
    np.testing.assert_array_equal(ended.metrics["success"], 1.0)
