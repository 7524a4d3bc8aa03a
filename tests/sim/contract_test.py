"""What every environment of the registry keeps to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.specs import ACTION_KINDS, InputError

N = 3


@pytest.fixture(scope="module", params=sorted(sim.ENVIRONMENTS))
def env(request):
    return sim.make(request.param)


@pytest.fixture(scope="module")
def states(env):
    """Two consecutive states of N worlds: after reset, and after one expert action."""
    first = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), N))
    actions = jax.vmap(env.expert)(first.obs["privileged"])
    return first, jax.jit(jax.vmap(env.step))(first, actions), actions


def test_observations_are_as_specified(env, states):
    names = [s.name for s in env.observation_specs]
    assert names == sorted(names)
    assert set(names) == {"privileged", "proprio"}
    for state in states[:2]:
        assert sorted(state.obs) == names
        for spec in env.observation_specs:
            assert state.obs[spec.name].shape == (N, *spec.shape)
            spec.validate(state.obs[spec.name])
            assert len(spec.unit.split(",")) == spec.shape[0]


def test_state_keeps_its_structure(states):
    """Reset and step give the same tree of shapes and types, so that scans carry it."""
    first, second, _ = states
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_resets_differ_by_key_and_repeat_for_the_same_key(env, states):
    again = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), N))
    privileged = states[0].obs["privileged"]
    np.testing.assert_array_equal(again.obs["privileged"], privileged)
    assert np.abs(privileged[0] - privileged[1]).max() > 1e-3


def test_actions_are_within_the_spec(env, states):
    spec, actions = env.action_spec, states[2]
    assert spec.kind in ACTION_KINDS
    assert actions.shape == (N, env.action_size)
    assert actions.dtype == jnp.float32
    assert np.all(actions >= np.array(spec.minimum) - 1e-6)
    assert np.all(actions <= np.array(spec.maximum) + 1e-6)
    assert spec.control_hz == env.control_hz == 20.0


def test_reward_is_the_sum_of_its_named_terms(env, states):
    second = states[1]
    terms = [v for k, v in second.metrics.items() if k.startswith("reward/")]
    assert {f"reward/{k}" for k in env.reward_scales} | {"success"} == set(second.metrics)
    np.testing.assert_allclose(second.reward, np.sum(terms, axis=0), atol=1e-6)


def test_nothing_succeeds_at_the_start_and_nothing_ends(states):
    for state in states[:2]:
        np.testing.assert_array_equal(state.metrics["success"], 0.0)
        np.testing.assert_array_equal(state.done, 0.0)


def test_actions_beyond_their_bounds_are_clipped(env, states):
    first = jax.tree.map(lambda x: x[0], states[0])
    high = jnp.array(env.action_spec.maximum)
    step = jax.jit(env.step)
    beyond = step(first, high * 100.0)
    np.testing.assert_array_equal(beyond.pipeline_state.qpos, step(first, high).pipeline_state.qpos)


def test_names_and_scene(env):
    assert env.task in sim.ENVIRONMENTS
    assert env.robot == "panda"
    assert env.instruction
    assert set(env.scene.cameras) == {"front", "wrist"}


def test_privileged_vector_splits_into_its_facts(env, states):
    facts = env.split_privileged(states[0].obs["privileged"][0])
    joined = np.concatenate(list(facts.values()))
    np.testing.assert_array_equal(joined, states[0].obs["privileged"][0])
    np.testing.assert_allclose(facts["tool"], [0.5, 0.0, 0.22], atol=1e-5)


def test_physics_state_gives_poses_for_rendering(env, states):
    poses = jax.vmap(env.physics.kinematics)(states[1].pipeline_state)
    model = env.scene.model
    assert poses.geom_xpos.shape == (N, model.ngeom, 3)
    assert poses.cam_xmat.shape == (N, model.ncam, 3, 3)


def test_unknown_names_and_keys_are_named():
    with pytest.raises(InputError, match="unknown env.name 'lfit'"):
        sim.make("lfit")
    with pytest.raises(InputError, match="EnvConfig has no key 'camera'"):
        sim.make("lift", camera="wrist")
    with pytest.raises(InputError, match="unknown robot 'ur5'"):
        sim.make("lift", robot="ur5")


def test_bad_settings_are_explained():
    with pytest.raises(InputError, match="control_hz must divide 200 Hz evenly, got 30"):
        sim.make("lift", control_hz=30.0)
    with pytest.raises(InputError, match="action_kind must be cartesian_delta"):
        sim.make("lift", action_kind="torque")
    with pytest.raises(InputError, match="env.backend must be one of"):
        EnvConfig(backend="bullet")
    with pytest.raises(InputError, match="episode_length"):
        EnvConfig(episode_length=0)


def test_world_of_a_config_has_pixels_and_a_limit():
    config = EnvConfig(cameras=("wrist",), image_size=16, shadows=False, episode_length=2)
    world = sim.make_world(config)
    state = jax.jit(world.reset)(jax.random.key(0))
    assert state.obs["image/wrist"].shape == (16, 16, 3)
    assert state.obs["image/wrist"].dtype == jnp.uint8
    step = jax.jit(world.step)
    action = jnp.array([0.0, 0.0, 0.0, 0.0, 1.0])
    state = step(state, action)
    assert state.done == 0.0
    state = step(state, action)
    assert (state.done, state.info["truncation"]) == (1.0, 1.0)
