import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.core.specs import InputError
from jaxpolicy.evaluation import EvaluationConfig, rollout
from jaxpolicy.sim import adapters, worlds, wrappers
from tests.fake_env import PointEnv


@pytest.mark.filterwarnings("ignore:Brax System, piplines and environments:UserWarning")
def test_brax_worlds_come_by_name():
    world = sim.make_world(sim.EnvConfig(name="brax:reacher"))
    assert (world.task, world.robot, wrappers.episode_length(world)) == ("reacher", "brax", 1000)


class Flat(PointEnv):
    """Looks like one of Brax's: a flat observation, no specs. Theirs take long to compile."""

    dt = 0.1

    def reset(self, rng):
        state = super().reset(rng)
        return state.replace(obs=state.obs["proprio"], metrics={"held": jnp.zeros(())})

    def step(self, state, action):
        metrics = {"success": jnp.zeros(()), **state.metrics}
        after = super().step(state.replace(metrics=metrics), action)
        held = {"held": after.metrics["held"]}
        return after.replace(obs=after.obs["proprio"], metrics=held)


class Still:
    def reset(self, n):
        pass

    def act(self, observation):
        return np.zeros((len(observation["proprio"]), 3))


def test_brax_worlds_are_evaluated():
    world = wrappers.EpisodeLimit(wrappers.from_brax(Flat()), 3)
    found = rollout.evaluate(world, Still(), EvaluationConfig(n_episodes=4, batch=2))
    assert found.success is None
    assert found.lengths.tolist() == [3] * 4
    assert found.task == "flat"


def test_gymnasium_worlds_come_by_name():
    config = sim.EnvConfig(name="gymnasium:MountainCarContinuous-v0", episode_length=2, workers=1)
    world = sim.make_world(config)
    with worlds.open_worlds(world, 1) as opened:
        state = opened.reset(jax.random.split(jax.random.key(0), 1))
        for _ in range(2):
            state = opened.step(state, np.ones((1, 1), np.float32))
    assert state.obs["proprio"].shape == (1, 2)
    assert state.done.tolist() == [1.0]
    world.close()


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("lift2", {}, "unknown env.name 'lift2'; known: .*lift.*gymnasium:ID, brax:NAME and mjcf"),
        ("gym:X-v1", {}, "unknown prefix in env.name 'gym:X-v1'; known: gymnasium:, brax:, mjcf:"),
        ("brax:nobody", {}, "brax.envs has no environment 'nobody'"),
        ("brax:fast", {}, "'fast' has no physics, so its control rate is unknown"),
        ("brax:reacher", {"cameras": ("top",)}, "'brax:reacher' has no camera 'top'; it has none"),
        (
            "brax:reacher",
            {"robot": "ur5e"},
            "env.robot does not apply to 'brax:reacher'; leave it at",
        ),
        ("gymnasium:X-v1", {"backend": "mjx"}, "env.backend does not apply to 'gymnasium:X-v1'"),
        ("mjcf:x.xml", {}, "'mjcf:x.xml' has no time limit of its own; set env.episode_length"),
        ("mjcf:x.xml", {"episode_length": 1}, "no MJCF file at x.xml"),
    ],
)
def test_what_is_wrong_is_named(name, fields, message):
    with pytest.raises(InputError, match=message):
        sim.make_world(sim.EnvConfig(name=name, **fields))


def test_fields_that_apply_are_fields():
    names = set(sim.EnvConfig.__dataclass_fields__)
    assert all(set(fields) <= names for _, fields in adapters.ADAPTERS.values())
