"""What every world keeps to: tasks x robots x backends, each in one compiled program.

Everything about one combination is one test, so that its program is compiled once.
"""

import dataclasses
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.core.specs import ACTION_KINDS, InputError
from jaxpolicy.sim import robots
from jaxpolicy.sim.config import BACKENDS, EnvConfig

ROBOTS = tuple(robots.ROBOTS)
WORLDS = 4
STARTS = 400
RANDOM_STEPS = 1000  # on MJX only with --mjx=all; else one episode of them
FACTS = {
    "actual", "closed", "collided", "collision", "joint_limit", "object", "seen", "touched",
    "velocity_limit", "wanted",
}  # fmt: skip


class Bench:
    """One combination: its world, and its compiled reset and steps."""

    def __init__(self, task, robot, backend):
        self.env = sim.make(task, robot=robot, backend=backend)
        self.n = WORLDS
        self.length = self.env.default_length
        self.reset = jax.jit(jax.vmap(self.env.reset))
        # Steps on MJX that are not optimised at all take five times as long.
        options = {"xla_backend_optimization_level": 1} if backend == "mjx" else {}
        self._play = jax.jit(functools.partial(_play, self.env), compiler_options=options)

    def play(self, states, key, share=0.0):
        """An episode's length of steps, `share` of the worlds acting at random."""
        return self._play(states, jax.random.split(key, self.length), share)

    def start(self, seed=0):
        return self.reset(jax.random.split(jax.random.key(seed), self.n))


def _play(env, states, keys, share):
    """Steps by the expert, or at random in the first `share` of the worlds."""
    low, high = np.array(env.action_spec.minimum), np.array(env.action_spec.maximum)
    n = len(states.done)

    def advance(states, key):
        expert = jax.vmap(env.expert)(states.obs["privileged"])
        random = jax.random.uniform(key, expert.shape, minval=low, maxval=high)
        wild = jnp.arange(n)[:, None] < share * n
        after = jax.vmap(env.step)(states, jnp.where(wild, random, expert))
        log = (after.metrics, after.reward, after.obs, after.pipeline_state.qpos)
        return after, (log, expert)

    return jax.lax.scan(advance, states, keys)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("task", sim.ENVIRONMENTS)
def test_contract(task, robot, backend, request):
    quick = backend == "mjx" and request.config.getoption("mjx") == "share"
    if quick:
        _skip_unless_shared(task, robot)
    bench = Bench(task, robot, backend)
    start = bench.start()
    played, (log, actions) = bench.play(start, jax.random.key(1))
    _check_identity(bench.env, task, robot, backend)
    _check_observations(bench.env, bench.n, (start, played))
    _check_structure(start, played)
    _check_start(bench, start)
    _check_actions(bench.env, actions)
    _check_rewards(bench.env, log)
    _check_expert(bench, log)
    _check_determinism(bench, start, log)
    _check_random_actions(bench, bench.length if quick else RANDOM_STEPS)


def _skip_unless_shared(task, robot):
    """Each Python has every other task, on the robots in turn; together they have each task."""
    i = list(sim.ENVIRONMENTS).index(task)
    python = sys.version_info.minor % 2  # 3.11: 1, 3.12: 0
    if i % 2 != python or ROBOTS.index(robot) != (i // 2) % 2:
        pytest.skip("MJX compiles for half a minute: not this Python's share; --mjx=all runs it")


def _check_identity(env, task, robot, backend):
    assert (env.task, env.robot, env.backend) == (task, robot, backend)
    assert all(env.instructions)
    assert env.instruction == env.instructions[0]
    assert env.control_hz == env.action_spec.control_hz == 20.0
    assert set(env.scene.cameras) == {"front", "wrist"}


def _check_observations(env, n, states):
    names = [s.name for s in env.observation_specs]
    assert names == sorted(names)
    assert {"privileged", "proprio"} <= set(names)
    assert ("language" in names) == (len(env.instructions) > 1)
    for state in states:
        assert sorted(state.obs) == names
        assert set(state.info["facts"]) == FACTS
        for spec in env.observation_specs:
            assert state.obs[spec.name].shape == (n, *spec.shape)
            spec.validate(state.obs[spec.name])
            if spec.unit:
                assert len(spec.unit.split(",")) == spec.shape[0]
    privileged = states[0].obs["privileged"][0]
    np.testing.assert_array_equal(
        np.concatenate(list(env.split_privileged(privileged).values())), privileged
    )


def _check_structure(first, second):
    """Reset and step give the same tree of shapes and types, so that scans carry it."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def _check_start(bench, start):
    """Nothing has happened yet, the same key gives the same start, and ranges are covered."""
    env = bench.env
    np.testing.assert_array_equal(start.metrics["success"], 0.0)
    np.testing.assert_array_equal(start.done, 0.0)
    again = bench.start()
    np.testing.assert_array_equal(again.obs["privileged"], start.obs["privileged"])
    starts = [bench.start(seed).obs["privileged"] for seed in range(5, 5 + STARTS // bench.n)]
    facts = env.split_privileged(np.concatenate(starts).T)
    assert env.start_ranges
    for name, (lower, upper) in env.start_ranges.items():
        values, lower, upper = facts[name][: len(lower)].T, np.array(lower), np.array(upper)
        assert (values >= lower - 1e-5).all(), name
        assert (values <= upper + 1e-5).all(), name
        # 400 uniform draws miss the outer 5 % of a side with a chance of .95^400 = 1e-9.
        margin = 0.05 * (upper - lower)
        assert (values.min(0) <= lower + margin).all(), name
        assert (values.max(0) >= upper - margin).all(), name
    if "object_yaw" in facts:
        sine, cosine = facts["object_yaw"]
        assert min(sine.min(), cosine.min()) < -0.99
        assert max(sine.max(), cosine.max()) > 0.99


def _check_actions(env, actions):
    spec = env.action_spec
    assert spec.kind in ACTION_KINDS
    assert actions.shape[-1] == env.action_size
    assert actions.dtype == jnp.float32
    assert np.all(actions >= np.array(spec.minimum, np.float32) - 1e-6)
    assert np.all(actions <= np.array(spec.maximum, np.float32) + 1e-6)


def _check_rewards(env, log):
    """The reward is the sum of its named terms, and success its own metric."""
    metrics, reward = log[:2]
    assert {f"reward/{k}" for k in env.reward_scales} | {"success"} == set(metrics)
    terms = [v for k, v in metrics.items() if k.startswith("reward/")]
    np.testing.assert_allclose(reward, np.sum(terms, axis=0), atol=1e-5)
    np.testing.assert_array_equal(metrics["success"][0], 0.0)


def _check_expert(bench, log):
    """It succeeds in every world, with 14 steps to spare; benchmarks/experts.py has 500."""
    success = np.asarray(log[0]["success"]) > 0
    first = np.where(success.any(0), success.argmax(0), bench.length)
    assert (success[-1] & (first + 14 < bench.length)).all(), first


def _check_determinism(bench, start, log):
    """The same start and actions give the same episode, bit for bit."""
    again = bench.play(start, jax.random.key(1))[1][0]
    for a, b in zip(jax.tree.leaves(log), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def _check_random_actions(bench, wanted):
    """Random steps: finite, and nothing is thrown or falls through the table."""
    states, steps = bench.start(3), 0
    while steps < wanted:
        states, (log, _) = bench.play(states, jax.random.key(steps), share=1.0)
        steps += bench.length
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((log, states)))
        height = _object_heights(bench.env, log[3])
        assert height.min(initial=0.1) > 0.0
        assert height.max(initial=0.1) < 0.5


def _object_heights(env, qpos):
    model = env.scene.model
    free = model.jnt_qposadr[model.jnt_type == 0]
    return np.asarray(qpos)[..., free + 2]


def test_unknown_names_and_keys_are_named():
    with pytest.raises(InputError, match="unknown env.name 'lfit'"):
        sim.make("lfit")
    with pytest.raises(InputError, match="EnvConfig has no key 'camera'"):
        sim.make("lift", camera="wrist")
    with pytest.raises(InputError, match="unknown robot 'ur5'"):
        sim.make("lift", robot="ur5")


def test_bad_settings_are_explained():
    with pytest.raises(InputError, match=r"control_hz must lie in \[10, 50\] Hz, got 60"):
        sim.make("lift", control_hz=60.0)
    with pytest.raises(InputError, match="action_kind must be cartesian_delta"):
        sim.make("lift", action_kind="torque")
    with pytest.raises(InputError, match="env.backend must be one of"):
        EnvConfig(backend="bullet")
    with pytest.raises(InputError, match="episode_length"):
        EnvConfig(episode_length=-1)
    with pytest.raises(InputError, match="unknown env.objects 'teapot'; known: training, novel"):
        sim.make("lift", objects="teapot")
    with pytest.raises(InputError, match="'reach' has no object to choose"):
        sim.make("reach", objects="novel")


def test_actions_beyond_their_bounds_are_clipped():
    env = sim.make("lift")
    state, step = env.reset(jax.random.key(0)), jax.jit(env.step)
    high = jnp.array(env.action_spec.maximum)
    beyond, at = step(state, high * 100.0), step(state, high)
    np.testing.assert_array_equal(beyond.pipeline_state.qpos, at.pipeline_state.qpos)


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


def test_worlds_without_a_length_have_their_tasks():
    # 3 s of lift at 20 Hz, 5 s of push at 10 Hz.
    assert sim.make_world(EnvConfig(cameras=())).episode_length == 60
    push = EnvConfig("push", cameras=(), control_hz=10.0)
    assert sim.make_world(push).episode_length == 50
    assert sim.make_world(dataclasses.replace(push, episode_length=7)).episode_length == 7
