"""The benchmark beside Brax's PPO, in an environment that costs nothing."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax import envs

from benchmarks import brax_ppo
from benchmarks.brax_ppo import Result
from jaxpolicy.algorithms.ppo import PPOConfig

TINY = {
    "action_repeat": 2,
    "unroll_length": 2,
    "num_minibatches": 2,
    "num_updates_per_batch": 1,
    "num_envs": 4,
    "batch_size": 2,
}


@pytest.fixture
def fast(monkeypatch):
    """Brax's environment for tests, with settings that are done in seconds."""
    monkeypatch.setitem(brax_ppo.PUBLISHED, "fast", TINY)
    monkeypatch.setitem(brax_ppo.SMALLER, "fast", {})
    ours = PPOConfig(n_worlds=2, steps=4, epochs=1, minibatches=2)
    tuned = brax_ppo.Tuned(ours, activation="tanh", clip_norm=0.0)
    monkeypatch.setitem(brax_ppo.OURS, "fast", tuned)
    env = envs.get_environment("fast")
    # It has no physics that would tell.
    monkeypatch.setattr(type(env), "dt", 0.02)
    return env


def test_brax_learns_and_is_evaluated(fast):
    # An update takes 2 x 2 unrolls of 2 decisions of 2 steps: 16 steps; 20 need two of them.
    act, steps = brax_ppo.train_theirs("fast", 20, seed=0)
    assert steps == 32
    assert act(jnp.zeros((3, 2))).shape == (3, 2, 1)
    assert not hasattr(jax, "device_put_replicated")
    assert brax_ppo.returns(fast, act, 3, length=4).shape == (3,)


def test_we_learn_and_are_evaluated(fast):
    found = brax_ppo.measure(lambda: brax_ppo.train_ours("fast", 16, seed=0), fast, 2)
    assert (found.steps, len(found.returns)) == (16, 2)
    assert found.cpu_seconds > 0.0


def test_return_is_the_sum_over_all_actions_of_all_decisions(fast):
    # Speed grows by 0.02 a step where the action is above 0, a step takes 0.02 s, and the
    # reward is the position: 0.0004 (1, 3, 6, 10), together 0.008. Below 0 nothing moves.
    go = lambda observation: jnp.ones((len(observation), 2, 1))  # noqa: E731
    np.testing.assert_allclose(brax_ppo.returns(fast, go, 3, length=4), [0.008] * 3, rtol=1e-5)
    stay = lambda observation: -go(observation)  # noqa: E731
    np.testing.assert_allclose(brax_ppo.returns(fast, stay, 3, length=4), [0.0] * 3)


def test_table_holds_every_seed_with_mean_and_spread():
    # Means of episodes: -10 and -14; their mean -12, their sample standard deviation 2.8.
    brax = [Result(96, [-9.0, -11.0], 3.0, 2.0), Result(96, [-13.0, -15.0], 5.0, 4.0)]
    ours = [Result(100, [-8.0], 1.0, 1.0)]
    _, _, *lines = brax_ppo.table({"Brax": brax, "ours": ours}).splitlines()
    assert lines == [
        "| Brax | 96 | -10.0, -14.0 | -12.0 | 2.8 | 3 | 4 |",
        "| ours | 100 | -8.0 | -8.0 |  | 1 | 1 |",
    ]


def test_what_was_measured_is_not_measured_again(tmp_path, monkeypatch, capsys):
    path, found = tmp_path / "reacher" / "a.json", Result(4, [-1.0], 2.0, 3.0)
    assert brax_ppo.recall(path, lambda: found) == found
    assert brax_ppo.recall(path, lambda: pytest.fail("again")) == found
    assert json.loads(path.read_text())["steps"] == 4
    other = {brax_ppo.settings_of(*key) for key in (("ours", "reacher", 1), ("Brax", "reacher", 1))}
    assert len(other | {brax_ppo.settings_of("ours", "reacher", 10**6)}) == 3
    monkeypatch.setattr(sys, "argv", ["brax_ppo", "--seeds=0"])
    with pytest.raises(SystemExit):
        brax_ppo.main()
    assert "--seeds and --episodes must be at least 1" in capsys.readouterr().err


def test_batches_fill_the_worlds_and_both_sides_take_as_many_steps():
    for name, steps in brax_ppo.STEPS.items():
        theirs, ours = brax_ppo.theirs(name), brax_ppo.ours(name, steps)
        samples = theirs["batch_size"] * theirs["num_minibatches"]
        assert samples % theirs["num_envs"] == 0
        per_update = samples * theirs["unroll_length"] * theirs["action_repeat"]
        total = -(-steps // per_update) * per_update
        taken = ours.loop.steps * ours.ppo.n_worlds * ours.ppo.steps
        assert taken == total == steps
