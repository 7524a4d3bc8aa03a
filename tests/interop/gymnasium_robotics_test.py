"""A third-party task from demonstrations to a policy: Gymnasium-Robotics' FetchReach.

The gripper of a Fetch robot must be brought within 5 cm of a point (max 50 steps at 25 Hz,
Cartesian actions). What is tested is the road, not the task, which is an easy one.
"""

import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.collect import CollectConfig, controller, cutting
from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.evaluation import EvaluationConfig, rollout
from jaxpolicy.pipeline import train
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.sim import streams, worlds
from jaxpolicy.training import factory
from jaxpolicy.training.config import LoopConfig, OptimizerConfig

pytest.importorskip(
    "gymnasium_robotics", reason="needs Gymnasium-Robotics: run `make test-interop`"
)

ENV = sim.EnvConfig(name="gymnasium:gymnasium_robotics:FetchReach-v4", workers=2)
EXPERIMENT = ExperimentConfig(
    name="fetch_reach",
    env=ENV,
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20),
    loop=LoopConfig(steps=400, batch_size=64, eval_every=200, progress=False, devices=1),
)
EVALUATION = EvaluationConfig(n_episodes=20, batch=20, n_recorded=0)


class Proportional:
    """Goes straight to the goal, at `gain` per 3 cm (an action of 1) of distance."""

    def __init__(self, world, gain=10.0):
        self.world, self.gain = world, gain

    def reset(self, n):
        pass

    def act(self, observation):
        parts = self.world.split_proprio(observation["proprio"])
        way = self.gain * (parts["desired_goal"] - parts["achieved_goal"])
        return np.concatenate([np.clip(way, -1, 1), np.zeros((len(way), 1))], axis=1)


@pytest.fixture(scope="module")
def world():
    world = sim.make_world(ENV)
    yield world
    world.close()


@pytest.fixture(scope="module")
def workdir(world, tmp_path_factory):
    """A run directory with demonstrations and a trained policy."""
    path = tmp_path_factory.mktemp("fetch")
    config = CollectConfig(n_episodes=40, batch=20, tail_steps=5, execution_noise=0.05)
    origin = cutting.Origin("scripted", "proportional controller")
    episodes = controller.collect(world, Proportional(world), config, origin=origin)
    spec = controller.dataset_spec(world)
    assert rlds_writer.write(path / "dataset", episodes, spec, "fetch_reach") >= 40
    train.run(EXPERIMENT, path)
    return path


def test_it_is_what_its_documentation_says(world):
    assert (world.episode_length, world.control_hz, world.has_success) == (50, 25.0, True)
    assert world.action_spec.minimum == (-1.0,) * 4
    # achieved_goal 3, desired_goal 3, observation 10.
    assert [s.shape for s in world.observation_specs] == [(16,)]


def test_a_policy_learns_it_from_demonstrations(world, workdir):
    policy = factory.load_policy(workdir)
    acting = rollout.PolicyController(policy.algorithm.act, policy.params, policy.policy_spec)
    found = rollout.evaluate(world, acting, EVALUATION)
    assert found.n_success >= 16
    # Doing nothing rarely succeeds, so this was learnt.
    still = rollout.evaluate(world, Proportional(world, gain=0.0), EVALUATION)
    assert still.n_success <= 6


def test_workers_change_nothing(world):
    alone = sim.make_world(sim.EnvConfig(name=ENV.name, workers=1))
    config = EvaluationConfig(n_episodes=4, batch=4, n_recorded=0)
    runs = [rollout.evaluate(w, Proportional(w, 3.0), config) for w in (world, alone)]
    np.testing.assert_array_equal(runs[0].returns, runs[1].returns)
    np.testing.assert_array_equal(runs[0].first_success, runs[1].first_success)
    alone.close()


def test_rendered_pixels_come_through(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    try:
        seeing = sim.make_world(
            sim.EnvConfig(name=ENV.name, cameras=("render",), image_size=32, workers=1)
        )
    except InputError as error:
        pytest.skip(f"rendering is not possible here: {error}")
    with worlds.open_worlds(seeing, 2) as opened:
        state = opened.reset(streams.episode_keys(streams.EVALUATION, np.arange(2)))
        after = opened.step(state, np.ones((2, 4), np.float32))
    image = state.obs["image/render"]
    assert (image.shape, image.dtype) == ((2, 32, 32, 3), np.uint8)
    assert image.std() > 10
    # The goals differ, and the arm moves.
    assert (image[0] != image[1]).any()
    assert (image != after.obs["image/render"]).any()
    seeing.close()
