import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim


@pytest.fixture(scope="module")
def env():
    return sim.make("reach")


def test_marker_is_where_the_fact_says_and_is_drawn_there(env):
    state = env.reset(jax.random.key(2)).pipeline_state
    marker = env.scene.model.geom("target").id
    drawn = env.physics.kinematics(state).geom_xpos[marker]
    np.testing.assert_allclose(drawn, env.facts(state)["target"], atol=1e-6)


def test_goal_is_two_centimetres():
    env = sim.make("reach")
    assert env.goal({"to_target": jnp.array([0.0, 0.012, 0.015])})  # 0.0192
    assert not env.goal({"to_target": jnp.array([0.0, 0.014, 0.015])})  # 0.0205


def test_reward_is_one_at_the_marker(env):
    terms = env.reward_terms({"to_target": jnp.zeros(3)}, jnp.zeros(5))
    np.testing.assert_allclose(terms["distance"], 1.0)
    np.testing.assert_allclose(terms["action"], 0.0)


def test_expert_stays_at_the_marker(env):
    state = env.reset(jax.random.key(4))
    step, expert = jax.jit(env.step), jax.jit(env.expert)
    for _ in range(30):
        state = step(state, expert(state.obs["privileged"]))
    assert state.metrics["success"] == 1.0
    facts = env.facts(state.pipeline_state)
    assert np.linalg.norm(facts["to_target"]) < 0.005
