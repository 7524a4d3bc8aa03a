
import pytest

from jaxpolicy.core.types import PolicySpec
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.pipeline import stages
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.sim import wrappers
from jaxpolicy.training.config import LoopConfig
from tests.fake_env import PointEnv


@pytest.fixture
def point(monkeypatch):
    """An experiment whose world is PointEnv."""
    env = wrappers.EpisodeLimit(PointEnv(), 30)
    monkeypatch.setattr(stages, "make_world", lambda config: env)
    spec = PolicySpec(env.observation_specs[1:2], env.action_spec, 1, 1, 1)
    evaluation = EvaluationConfig(n_episodes=7, batch=4)
    config = ExperimentConfig(loop=LoopConfig(rollouts=6), evaluation=evaluation)
    return config, spec
