import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim


@pytest.fixture(scope="module")
def env():
    return sim.make("open_drawer")


def test_handle_is_where_the_model_has_it(env):
    """The fact agrees with kinematics, closed and open, wherever the cabinet stands."""
    state = env.reset(jax.random.key(3)).pipeline_state
    handle = env.scene.model.geom("drawer_handle").id
    for opening in (0.0, 0.12):
        moved = state.replace(qpos=state.qpos.at[9].set(opening))
        facts = env.facts(moved)
        poses = env.physics.kinematics(moved)
        np.testing.assert_allclose(facts["handle"], poses.geom_xpos[handle], atol=1e-5)
        np.testing.assert_allclose(facts["opening"], opening)


def test_goal_is_ten_centimetres(env):
    assert env.goal({"opening": jnp.array([0.101])})
    assert not env.goal({"opening": jnp.array([0.099])})


def test_expert_pulls_by_the_handle_and_the_drawer_stays_open(env):
    state, step, expert = env.reset(jax.random.key(0)), jax.jit(env.step), jax.jit(env.expert)
    grasped_while_moving = []
    for t in range(70):
        action = expert(state.obs["privileged"])
        if t >= 60:  # let go
            action = jnp.array([0.0, 0.0, 0.0, 0.0, 1.0])
        state = step(state, action)
        facts = env.facts(state.pipeline_state)
        if 0.02 < facts["opening"][0] < 0.1:
            grasped_while_moving.append(float(facts["grasped"][0]))
    assert grasped_while_moving
    assert all(grasped_while_moving)
    np.testing.assert_allclose(facts["opening"], 0.14, atol=0.01)
    assert state.metrics["success"] == 1.0
