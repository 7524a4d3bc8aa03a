import functools

import jax
import numpy as np
import pytest

from jaxpolicy.collect import dagger, expert
from jaxpolicy.collect.config import CollectConfig, DaggerConfig
from jaxpolicy.collect.dagger import Mixture, Round, Teacher
from jaxpolicy.core.specs import InputError
from jaxpolicy.data import open_source
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.sim import wrappers
from tests.fake_env import PointEnv

LENGTH = 20
CONFIG = DaggerConfig(episodes_per_round=6, batch=4, tail_steps=5)


@functools.cache
def world():
    return wrappers.EpisodeLimit(PointEnv(), LENGTH)


class Towards:
    """What PointEnv's expert does."""

    def __init__(self, gain=0.5):
        self.gain = gain

    def reset(self, n):
        self.n = n

    def act(self, observation):
        move = np.clip(self.gain * observation["privileged"], -0.2, 0.2)
        return np.concatenate([move, np.ones((len(move), 1))], axis=1)


class Still:
    """A learner that has learned nothing."""

    def reset(self, n):
        self.n = n

    def act(self, observation):
        return np.zeros((self.n, 3), np.float32)


def roll(beta, learner=None, teacher=None, config=CONFIG, number=2, first=0, **marks):
    this = Round(number, beta, 450, first)
    teacher = Teacher(teacher or Towards(), "anna")
    return list(dagger.collect(world(), teacher, learner or Still(), config, this, **marks))


# ------------------------------------------------------------------ schedules


@pytest.mark.parametrize(
    ("schedule", "by_hand"),
    [
        ("first", [1, 0, 0, 0, 0]),
        # 0.5^i
        ("exponential", [1, 0.5, 0.25, 0.125, 0.0625]),
        # 1 - i / 4
        ("linear", [1, 0.75, 0.5, 0.25, 0]),
        ("constant", [1, 0.5, 0.5, 0.5, 0.5]),
    ],
)
def test_schedules_by_hand(schedule, by_hand):
    config = DaggerConfig(rounds=4, schedule=schedule, beta=0.5)
    assert [dagger.beta(config, i) for i in range(5)] == by_hand


# ------------------------------------------------------------------ labels


def test_labels_are_the_experts_where_the_learner_acts():
    for rolled in roll(beta=0.0):
        (episode,) = rolled.episodes
        # The learner never moves, so the point stays and its label stays the same.
        proprio, offset = episode.observation["proprio"], episode.observation["privileged"]
        np.testing.assert_array_equal(proprio, np.broadcast_to(proprio[0], proprio.shape))
        np.testing.assert_allclose(episode.action[:, :2], np.clip(0.5 * offset, -0.2, 0.2))
        assert (episode.action[:, 2] == 1).all()
        assert (len(episode), rolled.steps, rolled.expert_steps) == (LENGTH, LENGTH, 0)


def test_with_beta_1_the_expert_acts_alone():
    for rolled in roll(beta=1.0, number=0):
        (episode,) = rolled.episodes
        assert rolled.success
        assert rolled.expert_steps == rolled.steps == len(episode)
        # What is labelled is what was done.
        moved = np.diff(episode.observation["proprio"], axis=0)
        np.testing.assert_allclose(moved, episode.action[:-1, :2], atol=1e-6)


def moves(episode):
    """Whether the point moved after each step but the last."""
    return (np.diff(episode.observation["proprio"], axis=0) != 0).any(axis=1)


def test_coins_are_thrown_at_every_step():
    config = DaggerConfig(episodes_per_round=200, batch=200)
    rolled = roll(beta=0.3, config=config)
    share = sum(r.expert_steps for r in rolled) / sum(r.steps for r in rolled)
    # At least 200 * 5 coins: a standard deviation of at most 0.015.
    assert share == pytest.approx(0.3, abs=0.05)
    mixed = [r for r in rolled if 0 < r.expert_steps < r.steps]
    assert len(mixed) > 150
    episode = mixed[0].episodes[0]
    assert moves(episode).any()
    assert not moves(episode).all()


def test_or_once_per_episode():
    config = DaggerConfig(episodes_per_round=100, batch=50, mixing="episode")
    rolled = roll(beta=0.3, config=config)
    assert all(r.expert_steps in (0, r.steps) for r in rolled)
    by_expert = sum(r.expert_steps > 0 for r in rolled)
    # 30 of 100, standard deviation 4.6.
    assert 15 < by_expert < 45


def test_batch_changes_nothing():
    pairs = zip(
        roll(beta=0.5),
        roll(beta=0.5, config=DaggerConfig(episodes_per_round=6, batch=3, tail_steps=5)),
        strict=True,
    )
    for one, other in pairs:
        (a,), (b,) = one.episodes, other.episodes
        assert a.metadata == b.metadata
        np.testing.assert_array_equal(a.action, b.action)


def test_a_round_goes_on_where_it_was_left():
    marks = []
    whole = roll(beta=0.5, reached=marks.append)
    # Six episodes in batches of four.
    assert marks == [(4, 4), (8, 6)]
    rest = roll(beta=0.5, begin=marks[0])
    assert [r.episodes[0].metadata for r in rest] == [r.episodes[0].metadata for r in whole[4:]]
    for one, other in zip(rest, whole[4:], strict=True):
        np.testing.assert_array_equal(one.episodes[0].action, other.episodes[0].action)
    assert roll(beta=0.5, begin=marks[-1]) == []


def test_starts_are_those_of_no_demonstration():
    shown = expert.collect(world(), CollectConfig(n_episodes=6, batch=6))
    starts = [e.observation["proprio"][0] for e in shown]
    for first in (0, 6):
        starts += [r.episodes[0].observation["proprio"][0] for r in roll(0.0, first=first)]
    assert len(np.unique(np.stack(starts), axis=0)) == 18


# ------------------------------------------------------------------ provenance


def test_provenance():
    rolled = roll(beta=0.0, first=12)
    facts = [r.episodes[0].metadata for r in rolled]
    assert [f.seed for f in facts] == list(range(12, 18))
    assert facts[0].episode_id == "point-000012-dagger-2"
    assert {(f.collection_method, f.operator, f.source) for f in facts} == {
        ("dagger", "anna", "simulation: DAgger round 2, beta 0, learner of step 450")
    }
    # A learner that stands still does not arrive.
    assert [f.success for f in facts] == [False] * 6
    assert [r.success for r in roll(beta=1.0)] == [True] * 6


def test_episodes_fit_a_dataset(tmp_path):
    episodes = (e for r in roll(beta=0.0) for e in r.episodes)
    rlds_writer.write(tmp_path / "round", episodes, dagger.dataset_spec(world()), "round")
    source = open_source(tmp_path / "round", "rlds")
    assert len(source) == 6
    assert source[0].metadata.collection_method == "dagger"
    assert source[0].metadata.success is False


# ------------------------------------------------------------------ a person


class Person(Towards):
    """Takes over from the third step to the fifth, and from the ninth on."""

    def reset(self, n):
        self.t = -1

    def act(self, observation):
        self.t += 1
        return super().act(observation)

    def intervening(self):
        return [self.t in (2, 3, 4) or self.t >= 8]


def test_a_person_takes_over_and_lets_go():
    config = DaggerConfig(episodes_per_round=3, batch=1, tail_steps=5)
    for rolled in roll(beta=0.0, teacher=Person(), config=config):
        first, second = rolled.episodes
        assert len(first) == 3
        assert len(second) == rolled.steps - 8
        assert rolled.expert_steps == len(first) + len(second)
        assert moves(first).all()
        # Before and in between the learner acted, which stands still.
        gap = second.observation["proprio"][0] - first.observation["proprio"][-1]
        np.testing.assert_allclose(gap, first.action[-1, :2], atol=1e-6)
        ids = (first.metadata.episode_id, second.metadata.episode_id)
        assert ids[0].endswith("-dagger-2-0002")
        assert ids[1].endswith("-dagger-2-0008")
        assert (first.metadata.complete, second.metadata.complete) == (False, True)
        assert first.metadata.seconds == pytest.approx(0.3)


class Nobody(Towards):
    def intervening(self):
        return np.zeros(self.n, bool)


def test_who_never_intervenes_leaves_nothing():
    assert [r.episodes for r in roll(beta=1.0, teacher=Nobody())] == [()] * 6


# ------------------------------------------------------------------ errors


def test_what_a_learner_may_not_return():
    bad = Still()
    bad.act = lambda observation: np.full((4, 3), np.nan)
    with pytest.raises(InputError, match="NaN .* step 0 of the episode with seed 12"):
        roll(beta=0.0, learner=bad, first=12)


def test_who_intervenes_is_said_for_each_world():
    vague = Nobody()
    vague.intervening = lambda: [True]
    with pytest.raises(InputError, match=r"one bool per world, shape \[4\], got \[1\]"):
        roll(beta=0.0, teacher=vague)


def test_what_a_learner_wants_beyond_the_limits_is_clipped():
    spec = world().action_spec
    wild = Still()
    wild.act = lambda observation: np.full((2, 3), 9.0)
    mixture = Mixture(spec, Towards(), wild, np.arange(2), 0.0)
    mixture.reset(2)
    mixture.act({"privileged": np.zeros((2, 2))})
    done = mixture.execute(jax.random.split(jax.random.key(0), 2), 0, np.zeros((2, 3)))
    np.testing.assert_allclose(done, np.broadcast_to(spec.maximum, (2, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "never"}, "dagger.schedule must be one of"),
        ({"mixing": "day"}, "dagger.mixing must be one of"),
        ({"beta": 1.5}, r"dagger.beta must lie in \[0, 1\]"),
        ({"rounds": 0}, "dagger.rounds must be at least 1"),
        ({"tail_steps": -1}, "dagger.tail_steps must not be negative"),
        ({"rounds": 1000, "episodes_per_round": 2000}, "at most 1000000 episodes"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(InputError, match=message):
        DaggerConfig(**values)
