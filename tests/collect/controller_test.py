import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.collect import CollectConfig, controller, cutting, expert
from jaxpolicy.core.specs import InputError
from jaxpolicy.data import open_source
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.sim import wrappers
from jaxpolicy.sim.gymnasium.world import GymnasiumWorld
from tests import toy_gymnasium as toy
from tests.fake_env import PointEnv

CONFIG = CollectConfig(n_episodes=6, batch=4, tail_steps=5)


@functools.cache
def world(length=40):
    return wrappers.EpisodeLimit(PointEnv(), length)


class Towards:
    """What PointEnv's expert does, as somebody else's controller."""

    gain = 0.5

    def __init__(self):
        self.batches = []

    def reset(self, n):
        self.batches.append(n)

    def act(self, observation):
        offset = observation["privileged"]
        move = np.clip(self.gain * offset, -0.2, 0.2)
        return np.concatenate([move, np.ones((len(move), 1))], axis=1)


class Away(Towards):
    gain = -0.5


def record(config=CONFIG, acting=None, env=None, **kwargs):
    return list(controller.collect(env or world(), acting or Towards(), config, **kwargs))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_gives_what_the_scripted_expert_gives(noise):
    # The same behaviour from the same seeds: starts, disturbances, ends and pictures.
    config = dataclasses.replace(CONFIG, execution_noise=noise, bump_probability=noise)
    pairs = zip(record(config), expert.collect(world(), config), strict=True)
    for ours, theirs in pairs:
        assert len(ours) == len(theirs)
        np.testing.assert_allclose(ours.action, theirs.action, atol=1e-6)
        np.testing.assert_allclose(ours.reward, theirs.reward, atol=1e-6)
        assert set(ours.observation) == set(theirs.observation)
        for key, value in ours.observation.items():
            np.testing.assert_allclose(value, theirs.observation[key], atol=1e-6)
        own = {"collection_method": "self_play", "operator": "controller"}
        assert ours.metadata == dataclasses.replace(theirs.metadata, **own)


def test_a_batch_ends_when_nothing_more_is_wanted():
    steps = []

    class Counting(Towards):
        def act(self, observation):
            steps.append(1)
            return super().act(observation)

    episodes = record(acting=Counting())
    # Two batches of four, each as long as the longest of its episodes (all succeed).
    lengths = [len(e) for e in episodes]
    assert len(steps) >= max(lengths[:4]) + max(lengths[4:])
    assert len(steps) < 2 * 40


def test_who_collected_is_recorded():
    origin = cutting.Origin("teleoperation", "anna")
    acting = Towards()
    episodes = record(acting=acting, origin=origin)
    assert {(e.metadata.collection_method, e.metadata.operator) for e in episodes} == {
        ("teleoperation", "anna")
    }
    assert acting.batches == [4, 4]


def test_failures_are_reported():
    with pytest.raises(InputError, match="controller of 'point' succeeded in 0 of 24 attempts"):
        record(acting=Away())
    wrong = Towards()
    wrong.act = lambda observation: np.zeros((4, 2))
    with pytest.raises(InputError, match=r"actions of shape \[4, 3\], got \[4, 2\]"):
        record(acting=wrong)


class Blind(PointEnv):
    """Has no success predicate, and ends by itself after nine steps."""

    def reset(self, rng):
        return super().reset(rng).replace(metrics={"held": jnp.zeros(())})

    def step(self, state, action):
        metrics = {**state.metrics, "success": jnp.zeros(())}
        after = super().step(state.replace(metrics=metrics), action)
        held = state.metrics["held"] + 1
        done = (held >= 9).astype(jnp.float32)
        return after.replace(metrics={"held": held}, done=done)


def test_without_a_success_predicate_every_episode_counts():
    episodes = record(env=wrappers.EpisodeLimit(Blind(), 12), acting=Away())
    assert [e.metadata.success for e in episodes] == [None] * 6
    assert [len(e) for e in episodes] == [9] * 6
    assert all(e.is_terminal for e in episodes)


class Proportional:
    def reset(self, n):
        pass

    def act(self, observation):
        point, goal = observation["proprio"].T
        return np.clip(0.5 * (goal - point), -0.5, 0.5)[:, None]


def test_records_a_gymnasium_environment_into_a_dataset(tmp_path):
    env = GymnasiumWorld(toy.Line, 8, workers=2)
    config = CollectConfig(n_episodes=5, batch=3, tail_steps=1, execution_noise=0.01)
    spec = controller.dataset_spec(env)
    episodes = controller.collect(env, Proportional(), config)
    n = rlds_writer.write(tmp_path / "line", episodes, spec, "line")
    source = open_source(tmp_path / "line", "rlds")
    read = [source[i] for i in range(len(source))]
    assert n == len(read) == 5
    for episode, again in zip(read, record(config, Proportional(), env), strict=True):
        assert episode.metadata.success
        assert episode.metadata.task == "Line"
        np.testing.assert_array_equal(episode.action, again.action)
        np.testing.assert_array_equal(episode.observation["proprio"], again.observation["proprio"])
        # Units of third-party actions are unknown, so all of them are disturbed.
        moved = np.diff(episode.observation["proprio"][:, 0])
        assert 0 < np.abs(moved - episode.action[:-1, 0]).max() < 0.1
    env.close()
