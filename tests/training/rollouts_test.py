"""Rollouts in worlds whose every number is known beforehand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.specs import ArraySpec, InputError
from jaxpolicy.core.types import PolicySpec
from jaxpolicy.sim import wrappers
from jaxpolicy.training import rollouts
from tests.training import point

SPECS = point.Point.observation_specs
OBSERVATION, CRITIC = SPECS[1:], SPECS[:1]
LEFT = jnp.asarray([-0.1, 0.0])


def left(params, observation, key):
    """Always the same action; the trace is the window's newest observation."""
    del params, key
    newest = observation["proprio"][:, -1]
    n = newest.shape[0]
    return jnp.broadcast_to(LEFT, (n, 1, 2)), newest, jnp.zeros((n, 1))


def run(env, steps, n_obs_steps=1, n_worlds=2, explore=left, n_action_steps=1):
    spec = PolicySpec(OBSERVATION, point.ACTION, n_obs_steps, 1, n_action_steps, critic=CRITIC)
    arena = rollouts.make_arena(env, spec, n_worlds)
    worlds = rollouts.init(arena, jax.random.key(0))
    # All episodes begin together, so that ends are where the test expects them.
    info = {**worlds.state.info, "steps": jnp.zeros(n_worlds)}
    worlds = worlds._replace(state=worlds.state.replace(info=info))
    collect = jax.jit(lambda w: rollouts.collect(arena, explore, {}, w, steps))
    return worlds, *collect(worlds)


def test_time_limits_and_what_follows():
    start, after, rollout, told = run(point.world(length=3), 4)
    x0 = np.asarray(start.window["privileged"][:, 0])
    seen = np.asarray(rollout.observation["privileged"][:, :, 0])
    final = np.asarray(rollout.final["privileged"][:, :, 0])
    np.testing.assert_allclose(seen[0], x0)
    np.testing.assert_allclose(final[0], x0 + np.asarray(LEFT), rtol=1e-6)
    np.testing.assert_array_equal(seen[1:3], final[:2])
    # The limit cuts the episode off in step 2; nobody died.
    np.testing.assert_array_equal(rollout.ended, [[0, 0], [0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(rollout.terminated, np.zeros((4, 2)))
    # What step 2 led to is still of the old episode, what is seen next is not.
    np.testing.assert_allclose(final[2], x0 + 3 * np.asarray(LEFT), rtol=1e-5)
    assert not np.allclose(seen[3], final[2])
    assert told["episodes"] == 2
    assert told["length"] == 3
    np.testing.assert_allclose(told["return"], rollout.reward[:3].sum(0).mean(), rtol=1e-6)
    np.testing.assert_array_equal(after.tally["length"], [1, 1])


def test_an_end_by_the_world_is_terminal():
    _, _, rollout, _ = run(point.world(length=50, wall=1.6), 30)
    assert rollout.terminated.sum() >= 1
    np.testing.assert_array_equal(rollout.terminated, rollout.ended)
    distance = jnp.linalg.norm(rollout.final["privileged"][:, :, 0], axis=-1)
    np.testing.assert_array_equal(np.asarray(rollout.ended) > 0, np.asarray(distance) > 1.6)


def test_windows_repeat_the_first_observation_of_an_episode():
    _, _, rollout, _ = run(point.world(length=2), 4, n_obs_steps=3)
    window = np.asarray(rollout.observation["proprio"])[:, 0]
    np.testing.assert_array_equal(window[0, 0], window[0, 2])
    np.testing.assert_array_equal(window[1, :2], window[0, 1:])
    # Step 1 ended the first episode: all that is seen in step 2 is of the second.
    np.testing.assert_array_equal(window[2, 0], window[2, 2])
    assert not np.allclose(window[2, 0], window[1, 2])


def test_chunks_are_one_decision():
    def twice(params, observation, key):
        action, trace, log_prob = left(params, observation, key)
        return jnp.repeat(action, 2, axis=1), trace, log_prob

    start, _, rollout, told = run(point.world(length=4), 2, explore=twice, n_action_steps=2)
    moved = rollout.final["privileged"][0, :, 0] - start.window["privileged"][:, 0]
    np.testing.assert_allclose(moved, np.tile(2 * np.asarray(LEFT), (2, 1)), rtol=1e-5)
    np.testing.assert_array_equal(rollout.ended[:, 0], [0, 1])
    assert told["length"] == 4


def test_rollouts_are_functions_of_the_worlds():
    _, _, one, _ = run(point.world(), 5)
    _, _, two, _ = run(point.world(), 5)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_limits_are_spread_out():
    spec = PolicySpec(OBSERVATION, point.ACTION, 1, 1, 1, critic=CRITIC)
    arena = rollouts.make_arena(point.world(), spec, 64)
    steps = rollouts.init(arena, jax.random.key(1)).state.info["steps"]
    assert len(np.unique(steps)) == point.LENGTH
    assert steps.max() < point.LENGTH


@pytest.mark.parametrize(
    ("observation", "critic", "told"),
    [
        ((ArraySpec("image/wrist", (8, 8, 3), "uint8"),), CRITIC, "does not give 'image/wrist'"),
        (OBSERVATION, (ArraySpec("state", (2,)),), "does not give 'state'"),
    ],
)
def test_what_the_world_does_not_give_is_told(observation, critic, told):
    spec = PolicySpec(observation, point.ACTION, 1, 1, 1, critic=critic)
    with pytest.raises(InputError, match=told):
        rollouts.make_arena(point.world(), spec, 2)


def test_a_world_needs_a_time_limit():
    spec = PolicySpec(OBSERVATION, point.ACTION, 1, 1, 1, critic=CRITIC)
    with pytest.raises(InputError, match="time limit"):
        rollouts.make_arena(wrappers.ActionChunk(point.Point(), 1), spec, 2)


def test_summary_by_hand():
    ends = {"episodes": jnp.asarray([[1.0, 0.0], [1.0, 0.0]])}
    ends["return"] = jnp.asarray([[3.0, 0.0], [5.0, 0.0]])
    told = rollouts.summarize(ends)
    assert told == {"episodes": 2.0, "return": 4.0}
    none = rollouts.summarize({k: 0 * v for k, v in ends.items()})
    assert none == {"episodes": 0.0, "return": 0.0}
