import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.sim import control, experts

LIMITS = control.Limits()


def _lift_facts(**changes):
    facts = {
        "to_cube": jnp.array([0.0, 0.0, -0.2]),
        "cube_yaw": jnp.array([0.0, 1.0]),
        "width": jnp.array([0.08]),
        "grasped": jnp.zeros(1),
        "to_goal": jnp.array([0.1]),
    }
    return facts | {k: jnp.asarray(v, jnp.float32) for k, v in changes.items()}


def test_lift_aligns_before_it_descends():
    # 0.6 * (0.1, 0, -0.03 + 0.08) = (0.06, 0, 0.03), scaled so that the longest is 0.025:
    # (0.025, 0, 0.0125). Too far away to turn.
    yaw = [np.sin(0.4), np.cos(0.4)]
    action = experts.lift(_lift_facts(to_cube=[0.1, 0.0, -0.03], cube_yaw=yaw), LIMITS)
    np.testing.assert_allclose(action, [0.025, 0.0, 0.0125, 0.0, 1.0], atol=1e-6)


def test_lift_turns_when_it_is_near():
    # Yaw: sin and cos of 4 * 0.1, so 0.6 * 0.1 = 0.06 straight above the cube, and half of
    # it 4 cm away, in the middle between 2 cm (all of it) and 6 cm (nothing).
    yaw = [np.sin(0.4), np.cos(0.4)]
    for x, turn in ((0.0, 0.06), (0.04, 0.03)):
        action = experts.lift(_lift_facts(to_cube=[x, 0.0, -0.08], cube_yaw=yaw), LIMITS)
        np.testing.assert_allclose(action[3], turn, atol=1e-6)


def test_lift_descends_when_aligned():
    action = experts.lift(_lift_facts(), LIMITS)
    np.testing.assert_allclose(action, [0.0, 0.0, -0.025, 0.0, 1.0], atol=1e-6)


def test_lift_closes_at_the_cube():
    action = experts.lift(_lift_facts(to_cube=[0.003, 0.0, -0.005]), LIMITS)
    np.testing.assert_allclose(action, 0.0, atol=1e-6)


def test_lift_raises_what_it_holds():
    # 0.6 * 0.1 = 0.06, at most 0.025.
    held = _lift_facts(to_cube=[0.0, 0.0, 0.0], grasped=[1.0], width=[0.04])
    np.testing.assert_allclose(experts.lift(held, LIMITS), [0, 0, 0.025, 0, 0], atol=1e-6)


def test_reach_goes_straight():
    # 0.6 * (0.03, 0.015, 0) = (0.018, 0.009, 0), below the limit.
    facts = {"to_target": jnp.array([0.03, 0.015, 0.0]), "tool_direction": jnp.array([0.0, 1.0])}
    action = experts.reach(facts, LIMITS)
    np.testing.assert_allclose(action, [0.018, 0.009, 0.0, 0.0, 1.0], atol=1e-6)


def _success(env, n, steps=60):
    @jax.jit
    def run(keys):
        def advance(states, _):
            actions = jax.vmap(env.expert)(states.obs["privileged"])
            return jax.vmap(env.step)(states, actions), None

        states = jax.vmap(env.reset)(keys)
        return jax.lax.scan(advance, states, None, steps)[0].metrics["success"]

    return np.mean(run(jax.random.split(jax.random.key(11), n)))


def test_reach_expert_succeeds():
    assert _success(sim.make("reach"), 200, 30) >= 0.98


@pytest.mark.parametrize("kind", ["joint_position", "joint_delta"])
@pytest.mark.parametrize("task", ["reach", "lift"])
def test_experts_succeed_with_joint_actions(task, kind):
    assert _success(sim.make(task, action_kind=kind), 60, 40) >= 0.95


def test_lift_expert_recovers_from_noise():
    """Half of all actions random for 20 steps, then 40 steps for the expert."""
    env, n = sim.make("lift"), 100
    low, high = jnp.array(env.action_spec.minimum), jnp.array(env.action_spec.maximum)

    @jax.jit
    def run(key):
        start, noise = jax.random.split(key)

        def advance(states, inputs):
            t, k = inputs
            random = jax.random.uniform(k, (n, 5), minval=low, maxval=high)
            mixed = (jnp.arange(n)[:, None] % 2 == 0) & (t < 20)
            actions = jax.vmap(env.expert)(states.obs["privileged"])
            return jax.vmap(env.step)(states, jnp.where(mixed, random, actions)), None

        states = jax.vmap(env.reset)(jax.random.split(start, n))
        inputs = (jnp.arange(60), jax.random.split(noise, 60))
        return jax.lax.scan(advance, states, inputs)[0].metrics["success"]

    assert np.mean(run(jax.random.key(5))) >= 0.95
