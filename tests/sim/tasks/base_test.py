import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.core import text
from jaxpolicy.sim.tasks import base


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
    # 50 Hz is 20 ms, four steps of 5 ms; 30 Hz is 33.3 ms, seven steps of 4.76 ms.
    for hz, steps, length in ((50.0, 4, 0.005), (30.0, 7, 1 / 210), (10.0, 20, 0.005)):
        env = sim.make("reach", control_hz=hz)
        assert env.physics.substeps == steps
        assert env.scene.model.opt.timestep == pytest.approx(length)
        assert env.action_spec.control_hz == hz
        # 3 s.
        assert env.default_length == 3 * hz


def test_goals_hold_for_a_quarter_of_a_second_and_five_steps():
    assert [base.held_steps(hz) for hz in (10.0, 20.0, 50.0)] == [5, 5, 12]


def test_instructions_become_vectors_where_asked_for():
    env = sim.make("reach", text_encoder="hash:16")
    state = env.reset(jax.random.key(0))
    expected = text.get("hash:16").encode(env.instructions)[0]
    np.testing.assert_array_equal(state.obs["language"], expected)
    assert [s.name for s in env.observation_specs] == ["language", "privileged", "proprio"]


def test_an_episode_may_begin_in_any_physics_state():
    env = sim.make("lift")
    state, step = jax.jit(env.reset)(jax.random.key(0)), jax.jit(env.step)
    for _ in range(3):
        state = step(state, jnp.array([0.02, 0.0, -0.02, 0.1, 0.0]))
    assert float(state.info["facts"]["closed"]) == 1.0
    first = env.begin(state.pipeline_state)
    assert jax.tree.structure(first) == jax.tree.structure(state)
    np.testing.assert_allclose(first.obs["privileged"], state.obs["privileged"], atol=1e-6)
    np.testing.assert_array_equal(first.pipeline_state.qvel, state.pipeline_state.qvel)
    before, after = state.pipeline_state.memory, first.pipeline_state.memory
    np.testing.assert_array_equal(before["targets"], after["targets"])
    assert float(first.info["facts"]["closed"]) == float(first.reward) == 0.0
    assert set(first.metrics) == set(state.metrics)
    assert not any(float(v) for v in first.metrics.values())


def test_noop_holds_still():
    env = sim.make("lift")
    state, step = env.reset(jax.random.key(0)), jax.jit(env.step)
    for _ in range(20):
        state = step(state, jnp.array([0.0, 0.0, 0.0, 0.0, 1.0]))
    facts = env.facts(state.pipeline_state)
    np.testing.assert_allclose(facts["tool"], [0.5, 0.0, 0.22], atol=2e-3)
    np.testing.assert_allclose(facts["object_velocity"], 0.0, atol=1e-3)
