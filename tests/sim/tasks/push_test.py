import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.sim.tasks import push


@pytest.fixture(scope="module")
def env():
    return sim.make("push")


def test_goal_is_an_object_on_the_table_near_the_marker(env):
    assert env.goal({"to_target": jnp.array([0.014, 0.02, 0.0])})  # 0.0244
    assert not env.goal({"to_target": jnp.array([0.016, 0.02, 0.0])})  # 0.0256
    # Carried 2 cm above it: that is no push.
    assert not env.goal({"to_target": jnp.array([0.0, 0.0, -0.02])})


def test_markers_lie_around_the_object_inside_their_box(env):
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 500))
    marker = states.pipeline_state.mocap_pos[:, 0, :2]
    distance = np.linalg.norm(marker - states.pipeline_state.qpos[:, 9:11], axis=1)
    np.testing.assert_allclose([distance.min(), distance.max()], [0.08, 0.16], atol=2e-3)
    assert (marker >= np.array(push.TARGET_LOWER) - 1e-6).all()
    assert (marker <= np.array(push.TARGET_UPPER) + 1e-6).all()


def test_reward_is_greatest_at_the_marker(env):
    terms = env.reward_terms({"to_object": jnp.zeros(3), "to_target": jnp.zeros(3)}, jnp.zeros(5))
    np.testing.assert_allclose([terms["reach"], terms["distance"], terms["action"]], [1, 1, 0])
    # 1 - tanh(10 * 0.05) = 0.53788
    far = {"to_object": jnp.zeros(3), "to_target": jnp.array([0.03, 0.04, 0.0])}
    np.testing.assert_allclose(env.reward_terms(far, jnp.zeros(5))["distance"], 0.53788, atol=1e-5)
