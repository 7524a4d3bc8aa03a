import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.collect import CollectConfig, expert
from jaxpolicy.core.specs import InputError
from jaxpolicy.sim import wrappers
from tests.fake_env import PointEnv

CONFIG = CollectConfig(n_episodes=6, batch=4, tail_steps=5)


@functools.cache
def world(length=40, **kwargs):
    return wrappers.EpisodeLimit(PointEnv(**kwargs), length)


def record(config=CONFIG, **kwargs):
    return list(expert.collect(world(**kwargs), config))


def assert_same(a, b):
    assert a.metadata == b.metadata
    np.testing.assert_array_equal(a.action, b.action)
    for key in a.observation:
        np.testing.assert_array_equal(a.observation[key], b.observation[key])


def distances(episode):
    """Distance to the goal before each action."""
    return np.linalg.norm(episode.observation["privileged"], axis=-1)


def test_collects_as_many_successes_as_wanted():
    episodes = record()
    assert [e.metadata.success for e in episodes] == [True] * 6
    assert [e.metadata.seed for e in episodes] == list(range(6))
    assert episodes[2].metadata.episode_id == "point-000002"


def test_episode_ends_tail_steps_after_the_first_success():
    for episode in record():
        # Success: the point is near after actions t-2, t-1 and t; the episode has
        # tail = 5 more actions. Observation t+1 is what action t led to, so the first
        # success is t = (first near observation + 2) - 1.
        near = int(np.flatnonzero(distances(episode) < 0.1)[0])
        first_success = near + 2 - 1
        assert len(episode) in (first_success + 1 + 5, 2 + 1 + 5)
        assert len(episode.action) == len(episode.observation["image/top"])


def test_metadata_is_filled():
    episode = record()[0]
    metadata = episode.metadata
    assert (metadata.collection_method, metadata.task, metadata.robot) == (
        "scripted",
        "point",
        "dot",
    )
    # 10 Hz control.
    assert metadata.seconds == pytest.approx(len(episode) / 10)
    assert episode.language_instruction == "move the point to the goal"
    assert not episode.is_terminal


class Varied(PointEnv):
    """Says what it randomises."""

    def reset(self, rng):
        state = super().reset(rng)
        return state.replace(info={**state.info, "variation": {"mass": state.obs["proprio"][0]}})


def test_what_an_episode_randomises_is_recorded():
    episodes = list(expert.collect(wrappers.EpisodeLimit(Varied(), 40), CONFIG))
    for episode in episodes:
        first = float(episode.observation["proprio"][0, 0])
        assert episode.metadata.variation == {"mass": first}
    assert len({e.metadata.variation["mass"] for e in episodes}) == len(episodes)
    assert record()[0].metadata.variation == {}


def test_steps_fit_the_dataset_spec():
    spec = expert.dataset_spec(world())
    for episode in record():
        assert set(episode.observation) == set(spec.keys)
        for array in spec.observation:
            array.validate(episode.observation[array.name])
        assert episode.action.shape == (len(episode), spec.action.size)


def test_batch_does_not_change_episodes():
    noisy = dataclasses.replace(CONFIG, execution_noise=0.05)
    for a, b in zip(record(noisy), record(dataclasses.replace(noisy, batch=3)), strict=True):
        assert_same(a, b)


def test_collections_of_other_seeds_share_no_start():
    first, second = record(), record(dataclasses.replace(CONFIG, seed=1))
    starts = np.stack([e.observation["proprio"][0] for e in (*first, *second)])
    assert len(np.unique(starts, axis=0)) == 12
    assert second[0].metadata.seed == 1_000_000


def test_noise_is_executed_and_the_clean_action_recorded():
    episode = record(dataclasses.replace(CONFIG, execution_noise=0.1))[0]
    moved = np.diff(episode.observation["proprio"], axis=0)
    wanted = np.asarray([world().expert(o) for o in episode.observation["privileged"]])
    np.testing.assert_allclose(episode.action, wanted, atol=1e-6)
    error = moved - episode.action[:-1, :2]
    # Standard deviation 0.1 of the range 0.4, less what is clipped at +-0.2.
    assert 0.005 < error.std() < 0.045


def test_without_noise_the_recorded_action_is_executed():
    episode = record()[0]
    moved = np.diff(episode.observation["proprio"], axis=0)
    np.testing.assert_allclose(moved, episode.action[:-1, :2], atol=1e-6)


def disturbed(noise, bumps, steps=400, misgrasps=0.0):
    """400 steps of one episode whose expert wants (0.05, -0.05, gripper 1)."""
    limits = expert.limits(world().action_spec)
    disturbance = expert.Disturbance(noise, bumps, misgrasps)
    wanted = jnp.array([0.05, -0.05, 1.0])
    run = jax.vmap(expert.disturb, in_axes=(None, None, 0, None, None))
    return np.asarray(run(disturbance, jax.random.key(0), jnp.arange(steps), wanted, limits))


def test_noise_and_bumps_leave_the_gripper_alone():
    executed = disturbed(noise=0.2, bumps=0.5)
    np.testing.assert_array_equal(executed[:, 2], 1.0)
    assert executed[:, :2].std() > 0.05


def test_misgrasps_close_the_gripper_alone():
    executed = disturbed(noise=0.0, bumps=0.0, misgrasps=0.05)
    np.testing.assert_allclose(executed[:, :2], [[0.05, -0.05]] * 400)
    assert set(executed[:, 2]) == {0.0, 1.0}
    # As for bumps: one step in five is within four of the beginning of one.
    assert 0.1 < (executed[:, 2] == 0.0).mean() < 0.3


def test_bumps_hold_one_action_for_four_steps_and_then_the_expert_returns():
    executed = disturbed(noise=0.0, bumps=0.05)[:, 0]
    bumped = np.abs(executed - 0.05) > 1e-6
    # A step is free of bumps if none of four begins: 0.95 ** 4 = 0.81, so 0.19 are bumped.
    assert 0.1 < bumped.mean() < 0.3
    changes = np.flatnonzero(np.diff(executed)) + 1
    runs = [len(r) for r in np.split(executed, changes) if abs(r[0] - 0.05) > 1e-6]
    # A bump that begins within another cuts it short.
    assert max(runs) == 4
    assert np.median(runs) == 4
    assert np.abs(executed).max() <= 0.2 + 1e-6


def test_disturbances_of_a_step_do_not_depend_on_how_many_follow():
    np.testing.assert_array_equal(disturbed(0.1, 0.1, 50), disturbed(0.1, 0.1, 400)[:50])


def test_failures_are_kept_or_dropped_and_reported():
    # 0.2 per step reaches at most 1.8 in 9 steps, so far goals fail.
    short = {"length": 9, "reach": 1.4}
    config = dataclasses.replace(CONFIG, max_attempts=40)
    episodes = record(config, **short)
    failures = [e for e in episodes if not e.metadata.success]
    assert failures
    assert all(len(e) == 9 for e in failures)
    assert sum(e.metadata.success for e in episodes) == 6
    assert episodes[-1].metadata.success
    only = record(dataclasses.replace(config, keep_failures=False), **short)
    assert [e.metadata.seed for e in only] == [
        e.metadata.seed for e in episodes if e.metadata.success
    ]


def test_an_expert_that_fails_too_often_is_reported():
    with pytest.raises(InputError, match="'point' succeeded in 0 of 24 attempts, 6 were wanted"):
        record(expert_gain=0.0)


def test_a_world_without_expert_or_limit_is_refused():
    with pytest.raises(InputError, match="no time limit"):
        list(expert.collect(PointEnv(), CONFIG))
    env = PointEnv()
    env.expert = None
    with pytest.raises(InputError, match="no scripted expert"):
        list(expert.collect(wrappers.EpisodeLimit(env, 5), CONFIG))


class ChoiceEnv(PointEnv):
    """Asks for one of two things, by whether the goal is on the left."""

    instructions = ("go left", "go right")

    def reset(self, rng):
        state = super().reset(rng)
        choice = (state.pipeline_state[1][0] > 0).astype(jnp.int32)
        return state.replace(info={"instruction": choice})


def test_episodes_say_what_their_own_instruction_was():
    env = wrappers.EpisodeLimit(ChoiceEnv(), 40)
    episodes = list(expert.collect(env, CONFIG))
    found = [e.language_instruction for e in episodes]
    expected = []
    for e in episodes:
        # The goal is the point plus the offset to it.
        goal = e.observation["proprio"][0] + e.observation["privileged"][0]
        expected.append("go right" if goal[0] > 0 else "go left")
    assert found == expected
    assert set(found) == {"go left", "go right"}


def test_progress_counts_successes():
    told = []
    list(expert.collect(world(), CONFIG, lambda *counts: told.append(counts)))
    assert told == [(4, 6), (6, 6)]


def test_lift_demonstrations_hold_the_cube_and_see_it():
    env = sim.make_world(sim.EnvConfig(image_size=16))
    episodes = list(expert.collect(env, CollectConfig(n_episodes=4, batch=4)))
    for episode in episodes:
        assert episode.metadata.success
        for spec in env.observation_specs:
            spec.validate(episode.observation[spec.name])
        facts = env.split_privileged(episode.observation["privileged"].T)
        # The goal held for 5 steps at the first success, then 14 more were recorded.
        assert facts["grasped"][0, -14:].all()
        assert (facts["object"][2, -14:] > 0.07).all()
        images = episode.observation["image/wrist"]
        assert len(images) == len(episode)
        assert (images[0] != images[-1]).any()


def test_a_collection_goes_on_where_it_was_left():
    marks = []
    env, config = world(), CONFIG
    whole = []
    for episode in expert.collect(env, config, reached=marks.append):
        whole.append(episode)
    # Six successes of batches of four: the first leaves four.
    assert marks[0] == (4, 4)
    rest = list(expert.collect(env, config, begin=marks[0]))
    assert len(rest) == len(whole) - 4
    for a, b in zip(rest, whole[4:], strict=True):
        assert_same(a, b)
    assert list(expert.collect(env, config, begin=marks[-1])) == []
