import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import PolicySpec
from jaxpolicy.evaluation import EvaluationConfig, rollout
from jaxpolicy.sim import streams, wrappers
from tests.fake_env import PointEnv

CONFIG = EvaluationConfig(n_episodes=7, batch=3, n_recorded=2)


@functools.cache
def world(length=20, **kwargs):
    return wrappers.EpisodeLimit(PointEnv(**kwargs), length)


def run(env=None, controller=None, config=CONFIG, **kwargs):
    env = env or world()
    return rollout.evaluate(env, controller or rollout.ExpertController(env), config, **kwargs)


class Scripted:
    """Does what a function of (observation, step) says."""

    def __init__(self, function):
        self.function, self.t, self.resets = function, 0, []

    def reset(self, n):
        self.t = 0
        self.resets.append(n)

    def act(self, observation):
        self.t += 1
        return self.function(observation, self.t - 1)


def still(observation, t):
    return np.zeros((len(observation["proprio"]), 3))


def test_one_outcome_per_seed_whatever_the_batch():
    first = run()
    second = run(config=EvaluationConfig(n_episodes=7, batch=7, n_recorded=0))
    np.testing.assert_array_equal(first.seeds, 10_000 + np.arange(7))
    assert first.success.all()
    np.testing.assert_allclose(first.returns, second.returns, rtol=1e-6)
    np.testing.assert_array_equal(first.first_success, second.first_success)


def test_starts_are_those_of_the_evaluation_stream():
    found = run(record_observations=1000)
    key = streams.episode_key(streams.EVALUATION, 10_001)
    expected = PointEnv().reset(key).obs["proprio"]
    # Windows are in the order (world, step): the second world's first is number 20.
    np.testing.assert_allclose(found.observations["proprio"][20, 0], expected)


def test_last_batch_is_padded_and_its_padding_dropped():
    env = world()
    controller = Scripted(still)
    found = run(env, controller)
    assert controller.resets == [3, 3, 3]
    assert len(found.seeds) == 7


def leave(observation, t):
    """The expert for 15 steps, then away from the goal."""
    offset = observation["privileged"]
    move = np.clip(0.5 * offset, -0.2, 0.2) if t < 15 else np.full_like(offset, 0.2)
    return np.concatenate([move, np.ones((len(move), 1))], axis=1)


def test_success_is_that_of_the_last_step():
    found = run(world(), Scripted(leave))
    assert not found.success.any()
    assert (found.peak["success"] == 1).all()
    assert (found.first_success > 0).all()
    assert (found.final["success"] == 0).all()


class Ending(PointEnv):
    """Ends when the goal is reached."""

    def step(self, state, action):
        state = super().step(state, action)
        return state.replace(done=state.metrics["success"])


def test_an_episode_that_ends_early_counts_until_then():
    env = wrappers.EpisodeLimit(Ending(), 50)
    found = run(env)
    assert found.terminated.all()
    assert found.success.all()
    np.testing.assert_array_equal(found.lengths, found.first_success)
    assert found.lengths.max() < 50
    # Metrics of later steps do not reach the summary: "held" was 3 when it ended.
    assert (found.peak["held"] == 3).all()


def test_a_time_limit_is_no_termination():
    assert not run().terminated.any()
    assert (run().lengths == 20).all()


def test_a_world_without_success_has_none():
    class Blind(PointEnv):
        def reset(self, rng):
            state = super().reset(rng)
            return state.replace(metrics={"held": state.metrics["held"]})

        def step(self, state, action):
            state = super().step(state, action)
            return state.replace(metrics={"held": state.metrics["held"]})

    found = run(wrappers.EpisodeLimit(Blind(), 5), Scripted(still))
    assert found.success is None
    assert found.first_success is None
    with pytest.raises(InputError, match="'point' has no success predicate"):
        _ = found.n_success


def test_nan_actions_are_named():
    def broken(observation, t):
        action = still(observation, t)
        action[1, 0] = np.nan if t == 2 else 0.0
        return action

    with pytest.raises(InputError, match="NaN or infinite action at step 2 .* seed 10001"):
        run(world(), Scripted(broken))


def test_wrong_shape_is_named():
    with pytest.raises(InputError, match=r"shape \[3, 3\], got \[3, 2\]"):
        run(world(), Scripted(lambda o, t: np.zeros((3, 2))))


def test_actions_beyond_their_limits_are_clipped_and_counted():
    def wild(observation, t):
        action = still(observation, t)
        action[:, 0] = 5.0
        return action

    # One of three elements in every step.
    assert run(world(), Scripted(wild)).actions_clipped == pytest.approx(1 / 3)
    assert run(world(), Scripted(still)).actions_clipped == 0.0


def test_windows_are_what_was_seen():
    found = run(record_observations=10, n_obs_steps=3)
    window = found.observations["proprio"]
    assert window.shape == (10, 3, 2)
    # The first window is the first observation three times.
    assert (window[0] == window[0, 0]).all()
    assert found.observations["image/top"].shape == (10, 3, 16, 16, 3)


def test_recordings_hold_both_outcomes():
    short = run(world(9, reach=1.4), config=EvaluationConfig(n_episodes=20, batch=10, n_recorded=2))
    outcomes = [r.success for r in short.recordings]
    assert outcomes == [False, False, True, True]
    assert all(r.frames.shape == (9, 16, 16, 3) for r in short.recordings)


def test_progress_counts_episodes_and_successes():
    told = []
    run(progress=lambda *counts: told.append(counts))
    assert told == [(3, 7, 3), (6, 7, 6), (7, 7, 7)]


def policy_spec(n_obs_steps=2, horizon=4, n_action_steps=2, ensemble=-1.0):
    env = PointEnv()
    wanted = tuple(s for s in env.observation_specs if s.name == "proprio")
    return PolicySpec(wanted, env.action_spec, n_obs_steps, horizon, n_action_steps, ensemble)


def echo(params, observation, key):
    """Chunk [B, 4, 3]: the oldest x seen, plus the position in the chunk, plus noise."""
    oldest = observation["proprio"][:, 0, 0]
    steps = params["scale"] * jnp.arange(4.0)
    noise = 1e-3 * jax.random.normal(key, ())
    return jnp.broadcast_to((oldest[:, None] + steps + noise)[..., None], (len(oldest), 4, 3))


def sure(params, observation, key):
    return jnp.full(len(observation["proprio"]), 0.75)


def test_policy_controller_keeps_history_and_executes_part_of_a_chunk():
    controller = rollout.PolicyController(echo, {"scale": 10.0}, policy_spec())
    controller.reset(1)
    x = [np.full((1, 2), float(i), np.float32) for i in range(4)]
    found = [controller.act({"proprio": v, "privileged": v})[0, 0] for v in x]
    # Predictions at t = 0 (oldest seen 0) and t = 2 (oldest seen 1); the second action of
    # a chunk is 10 more.
    np.testing.assert_allclose(found, [0, 10, 1, 11], atol=0.01)


def test_policy_controller_averages_predictions_of_the_current_step():
    spec = policy_spec(n_obs_steps=1, n_action_steps=1, ensemble=0.0)
    controller = rollout.PolicyController(echo, {"scale": 10.0}, spec)
    controller.reset(1)
    x = [np.full((1, 2), float(i), np.float32) for i in (0, 4, 9)]
    found = [controller.act({"proprio": v})[0, 0] for v in x]
    # Chunks (0, 10, 20, ...), (4, 14, ...), (9, ...): 0, (10 + 4) / 2, (20 + 14 + 9) / 3.
    np.testing.assert_allclose(found, [0, 7, 43 / 3], atol=0.01)


def test_policy_controller_repeats_itself_after_reset():
    controller = rollout.PolicyController(echo, {"scale": 1.0}, policy_spec(), seed=3)
    other = rollout.PolicyController(echo, {"scale": 1.0}, policy_spec(), seed=4)
    observation = {"proprio": np.zeros((2, 2), np.float32)}
    actions = []
    for c in (controller, controller, other):
        c.reset(2)
        actions.append(c.act(observation))
    np.testing.assert_array_equal(actions[0], actions[1])
    assert (actions[0] != actions[2]).all()


def test_policy_controller_names_a_missing_observation():
    controller = rollout.PolicyController(echo, {"scale": 1.0}, policy_spec())
    controller.reset(1)
    with pytest.raises(InputError, match="needs the observation 'proprio'.*it gives: image/top"):
        controller.act({"image/top": np.zeros((1, 16, 16, 3), np.uint8)})


def test_confidence_is_averaged_over_the_episode():
    env = world(6)
    controller = rollout.PolicyController(echo, {"scale": 0.0}, policy_spec(), confidence=sure)
    np.testing.assert_allclose(run(env, controller).confidence, np.full(7, 0.75))
    assert run(env).confidence is None


def test_expert_lifts_on_held_out_starts_and_is_filmed():
    env = sim.make_world(sim.EnvConfig(image_size=16))
    config = EvaluationConfig(n_episodes=4, batch=2, n_recorded=1, view_size=24)
    found = run(env, config=config)
    assert found.success.all()
    assert found.observations["image/wrist"].shape == (120, 1, 16, 16, 3)
    assert found.recordings[0].frames.shape == (60, 24, 24, 3)
    assert found.recordings[0].frames.std() > 10
    # The cube starts where Lift says and ends above it in the gripper.
    assert (found.start > np.array([0.4, -0.1]) - 1e-6).all()
    assert (found.start < np.array([0.6, 0.1]) + 1e-6).all()
    assert (found.final["grasped"] == 1).all()
    assert (found.final["object"][:, 2] > 0.07).all()
    # The ways of the tool end above the cube.
    assert found.paths.shape == (4, 60, 2)
    np.testing.assert_allclose(found.paths[:, -1], found.final["tool"][:, :2])
    assert np.abs(found.paths[:, -1] - found.final["object"][:, :2]).max() < 0.02


def test_paths_end_with_their_episodes():
    # Two steps of two episodes, of which the second ends after one; four at most.
    positions = np.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    found = rollout._paths(positions, np.array([[True, True], [True, False]]), 4)
    nan = [np.nan, np.nan]
    np.testing.assert_array_equal(
        found, [[[1.0, 2.0], [5.0, 6.0], nan, nan], [[3.0, 4.0], nan, nan, nan]]
    )


def test_view_camera_must_exist():
    env = sim.make_world(sim.EnvConfig(image_size=16))
    config = EvaluationConfig(n_episodes=1, batch=1, view_camera="back")
    with pytest.raises(InputError, match="no camera 'back'"):
        run(env, config=config)
