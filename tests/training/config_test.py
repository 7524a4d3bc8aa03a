import dataclasses
import json

import pytest

from jaxpolicy.core import schema
from jaxpolicy.core.specs import InputError
from jaxpolicy.training.config import GuardConfig, LoopConfig, OptimizerConfig, TrainConfig


def test_round_trip_through_a_mapping():
    config = TrainConfig(name="x", loop=LoopConfig(steps=7), horizon=3)
    assert schema.from_mapping(TrainConfig, schema.to_mapping(config)) == config
    guarded = TrainConfig(loop=LoopConfig(guard=GuardConfig(tries=1, max_kl=0.1)))
    stored = json.loads(json.dumps(schema.to_mapping(guarded)))
    assert schema.from_mapping(TrainConfig, stored) == guarded


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimizerConfig(name="sgd"), "optimizer.name must be one of"),
        (lambda: OptimizerConfig(schedule="step"), "optimizer.schedule must be one of"),
        (lambda: OptimizerConfig(learning_rate=0.0), "learning_rate must be above 0"),
        (lambda: OptimizerConfig(clip_norm=-1.0), "clip_norm must be at least 0"),
        (lambda: LoopConfig(steps=0), "loop.steps must be at least 1"),
        (lambda: LoopConfig(batch_size=0), "loop.batch_size must be at least 1"),
        (lambda: LoopConfig(patience=-1), "loop.patience must be at least 0"),
        (lambda: LoopConfig(monitor="loss"), "loop.monitor must start with"),
        (lambda: LoopConfig(monitor_mode="best"), "loop.monitor_mode must be one of"),
        (lambda: LoopConfig(scan="yes"), "loop.scan must be one of"),
        (lambda: LoopConfig(shard_params="yes"), "loop.shard_params must be one of"),
        (lambda: LoopConfig(rollouts=-1), "loop.rollouts must be at least 0"),
        (lambda: LoopConfig(profile=(20, 10)), r"loop.profile must be \(first, last\)"),
        (lambda: OptimizerConfig(final_fraction=1.5), r"final_fraction must be in \[0, 1\]"),
        (lambda: TrainConfig(horizon=2, n_action_steps=3), r"n_action_steps \(3\) exceeds"),
        (
            lambda: TrainConfig(horizon=2, n_action_steps=2, temporal_ensemble=0.0),
            "temporal_ensemble predicts at every step",
        ),
        (lambda: TrainConfig(seed=-1), "config.seed must be at least 0"),
    ],
)
def test_bad_values_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().seed = 1  # type: ignore[misc]
