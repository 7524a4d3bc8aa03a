import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.sim import experts
from jaxpolicy.sim.robots import control

LIMITS = control.Limits()


def _lift_facts(**changes):
    facts = {
        "to_object": jnp.array([0.0, 0.0, -0.2]),
        "turn": jnp.zeros(1),
        "width": jnp.array([0.08]),
        "grasped": jnp.zeros(1),
        "to_goal": jnp.array([0.1]),
    }
    return facts | {k: jnp.asarray(v, jnp.float32) for k, v in changes.items()}


def test_lift_aligns_before_it_descends():
    # 0.6 * (0.1, 0, -0.03 + 0.08) = (0.06, 0, 0.03), scaled so that the longest is 0.025:
    # (0.025, 0, 0.0125). Too far away to turn.
    action = experts.lift(_lift_facts(to_object=[0.1, 0.0, -0.03], turn=[0.1]), LIMITS)
    np.testing.assert_allclose(action, [0.025, 0.0, 0.0125, 0.0, 1.0], atol=1e-6)


def test_lift_turns_when_it_is_near():
    # 0.6 * 0.1 = 0.06 straight above the cube, and half of it 4 cm away, in the middle
    # between 2 cm (all of it) and 6 cm (nothing).
    for x, turn in ((0.0, 0.06), (0.04, 0.03)):
        action = experts.lift(_lift_facts(to_object=[x, 0.0, -0.08], turn=[0.1]), LIMITS)
        np.testing.assert_allclose(action[3], turn, atol=1e-6)


def test_lift_descends_when_aligned():
    action = experts.lift(_lift_facts(), LIMITS)
    np.testing.assert_allclose(action, [0.0, 0.0, -0.025, 0.0, 1.0], atol=1e-6)


def test_lift_closes_at_the_cube():
    action = experts.lift(_lift_facts(to_object=[0.003, 0.0, -0.005]), LIMITS)
    np.testing.assert_allclose(action, 0.0, atol=1e-6)


def test_lift_raises_what_it_holds():
    # 0.6 * 0.1 = 0.06, at most 0.025.
    held = _lift_facts(to_object=[0.0, 0.0, 0.0], grasped=[1.0], width=[0.04])
    np.testing.assert_allclose(experts.lift(held, LIMITS), [0, 0, 0.025, 0, 0], atol=1e-6)


def test_reach_goes_straight():
    # 0.6 * (0.03, 0.015, 0) = (0.018, 0.009, 0), below the limit.
    facts = {"to_target": jnp.array([0.03, 0.015, 0.0]), "tool_direction": jnp.array([0.0, 1.0])}
    action = experts.reach(facts, LIMITS)
    np.testing.assert_allclose(action, [0.018, 0.009, 0.0, 0.0, 1.0], atol=1e-6)


def test_gain_is_the_same_per_second_at_any_rate():
    # 0.6 in 50 ms leaves 0.4: 0.4^2 after 100 ms, 0.4^0.4 after 20 ms.
    facts = {"to_target": jnp.array([0.001, 0.0, 0.0]), "tool_direction": jnp.array([0.0, 1.0])}
    for hz, gain in ((20.0, 0.6), (10.0, 1 - 0.4**2), (50.0, 1 - 0.4**0.4)):
        action = experts.reach(facts, control.Limits.at(hz))
        np.testing.assert_allclose(action[0], 0.001 * gain, rtol=1e-5)


def _carried(**changes):
    facts = _lift_facts(to_object=[0.0, 0.0, 0.0], grasped=[1.0], width=[0.04])
    facts |= {
        "object": jnp.array([0.5, -0.1, 0.13]),
        "tool": jnp.array([0.5, -0.1, 0.13]),
        "placed": jnp.zeros(1),
    }
    return facts | {k: jnp.asarray(v, jnp.float32) for k, v in changes.items()}


def test_pick_place_carries_high_and_drops_over_the_bin():
    # High: across, 0.6 * 0.02 = 0.012. Still low: straight up, 0.6 * 0.03 = 0.018.
    across = experts.pick_place(_carried(to_bin=[0.0, 0.02, -0.13]), LIMITS)
    np.testing.assert_allclose(across, [0.0, 0.012, 0.0, 0.0, 0.0], atol=1e-6)
    low = _carried(to_bin=[0.0, 0.2, -0.1], object=[0.5, -0.1, 0.1])
    np.testing.assert_allclose(experts.pick_place(low, LIMITS), [0, 0, 0.018, 0, 0], atol=1e-6)
    # Over it (1 cm off) and low enough: open.
    over = _carried(to_bin=[0.0, 0.01, -0.065], object=[0.5, -0.1, 0.065])
    np.testing.assert_allclose(experts.pick_place(over, LIMITS), [0, 0, 0, 0, 1], atol=1e-6)


def test_stack_lets_go_just_above_its_place():
    # 4 mm above its place, 2 mm aside: open. 4 cm above it: down by 0.6 * 0.036 = 0.0216.
    facts = _carried(to_place=[0.002, 0.0, -0.004], object=[0.5, 0.0, 0.064])
    np.testing.assert_allclose(experts.stack(facts, LIMITS), [0, 0, 0, 0, 1], atol=1e-6)
    facts = _carried(to_place=[0.002, 0.0, -0.04], object=[0.5, 0.0, 0.1])
    np.testing.assert_allclose(
        experts.stack(facts, LIMITS), [0.0012, 0.0, -0.0216, 0.0, 0.0], atol=1e-6
    )


def _push_facts(tool, target=(0.6, 0.0)):
    cube = np.array([0.5, 0.0, 0.02])
    return {
        "tool": jnp.asarray(tool, jnp.float32),
        "tool_direction": jnp.array([0.0, 1.0]),
        "to_object": jnp.asarray(cube - tool, jnp.float32),
        "to_target": jnp.asarray([*(np.array(target) - cube[:2]), 0.0], jnp.float32),
    }


def test_push_moves_towards_the_target_from_behind():
    # 3 cm behind the cube, on the line: forwards at 0.35 of 0.025, no turn.
    action = experts.push(_push_facts([0.47, 0.0, experts.PUSH_HEIGHT]), LIMITS)
    np.testing.assert_allclose(action, [0.00875, 0.0, 0.0, 0.0, 0.25], atol=1e-6)


def test_push_goes_over_the_object_when_it_is_in_front():
    # Ahead of the cube and low: up before anything else.
    action = experts.push(_push_facts([0.55, 0.0, 0.02]), LIMITS)
    np.testing.assert_allclose(action[:3], [0.0, 0.0, 0.025], atol=1e-6)


def test_push_stops_at_the_target():
    action = experts.push(_push_facts([0.47, 0.0, 0.02], target=(0.505, 0.0)), LIMITS)
    np.testing.assert_allclose(action, [0.0, 0.0, 0.0, 0.0, 0.25], atol=1e-6)


def _detour_facts(tool, side):
    return {
        "tool": jnp.asarray(tool, jnp.float32),
        "tool_direction": jnp.array([0.0, 1.0]),
        "post": jnp.array([0.5, 0.0]),
        "side": jnp.array([side]),
        "to_target": jnp.asarray([0.62 - tool[0], -tool[1], 0.06 - tool[2]], jnp.float32),
    }


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_detour_goes_aside_then_past_then_to_the_target(side):
    first = experts.detour(_detour_facts([0.4, 0.0, 0.06], side), LIMITS)
    # Towards (0.44, 0.18), beside the post and 6 cm before it: (0.04, 0.18), the longest 0.025.
    np.testing.assert_allclose(first[:2], [0.025 * 0.04 / 0.18, side * 0.025], atol=1e-6)
    past = experts.detour(_detour_facts([0.42, side * 0.18, 0.06], side), LIMITS)
    np.testing.assert_allclose(past[:2], [0.025, 0.0], atol=1e-6)
    last = experts.detour(_detour_facts([0.6, side * 0.18, 0.06], side), LIMITS)
    # 0.6 * (0.02, 0.18) scaled so that the longest is 0.025.
    np.testing.assert_allclose(last[:2], [0.025 * 0.02 / 0.18, -side * 0.025], atol=1e-6)


def test_open_drawer_pulls_gently():
    facts = {
        "to_handle": jnp.zeros(3),
        "yaw": jnp.zeros(1),
        "width": jnp.array([0.018]),
        "grasped": jnp.ones(1),
        "opening": jnp.array([0.02]),
    }
    # 12 cm to go, at most 2 cm at once: 0.6 * 0.02 = 0.012 backwards.
    np.testing.assert_allclose(experts.open_drawer(facts, LIMITS), [-0.012, 0, 0, 0, 0], atol=1e-6)


def _success(env, n):
    @jax.jit
    def run(keys):
        def advance(states, _):
            actions = jax.vmap(env.expert)(states.obs["privileged"])
            return jax.vmap(env.step)(states, actions), None

        states = jax.vmap(env.reset)(keys)
        length = env.default_length
        return jax.lax.scan(advance, states, None, length)[0].metrics["success"]

    return np.mean(run(jax.random.split(jax.random.key(11), n)))


# One of each kind of motion; all of them on 500 seeds are in benchmarks/experts.py.
@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("pick_place", {"action_kind": "joint_position"}),
        ("lift", {"action_kind": "joint_delta", "robot": "ur5e"}),
        ("push", {"control_hz": 50.0, "robot": "ur5e"}),
        ("open_drawer", {"control_hz": 10.0}),
        ("lift", {"objects": "novel"}),
    ],
)
def test_experts_succeed_whatever_the_action_rate_and_shape(task, settings):
    assert _success(sim.make(task, **settings), 40) >= 0.95


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
