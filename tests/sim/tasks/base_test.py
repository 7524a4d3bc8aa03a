import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import sim


def test_proprio_is_joints_velocities_width_tool_and_yaw():
    env = sim.make("lift")
    state = env.reset(jax.random.key(0))
    proprio = np.array(state.obs["proprio"])
    # 7 + 7 + 1 + 3 + 2 = 20 values; fingers open: 2 * 0.04 = 0.08.
    assert proprio.shape == (20,)
    np.testing.assert_allclose(proprio[:7], env.arm.home, atol=1e-6)
    np.testing.assert_allclose(proprio[7:14], 0.0)
    np.testing.assert_allclose(proprio[14:], [0.08, 0.5, 0.0, 0.22, 0.0, 1.0], atol=1e-5)


def test_control_rate_sets_the_physics_steps():
    # 50 Hz is 20 ms, four steps of 5 ms.
    env = sim.make("reach", control_hz=50.0)
    assert env.physics.substeps == 4
    assert env.action_spec.control_hz == 50.0


def test_noop_holds_still():
    env = sim.make("lift")
    state, step = env.reset(jax.random.key(0)), jax.jit(env.step)
    for _ in range(20):
        state = step(state, jnp.array([0.0, 0.0, 0.0, 0.0, 1.0]))
    facts = env.facts(state.pipeline_state)
    np.testing.assert_allclose(facts["tool"], [0.5, 0.0, 0.22], atol=2e-3)
    np.testing.assert_allclose(facts["cube_velocity"], 0.0, atol=1e-3)
