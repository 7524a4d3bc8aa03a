import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.types import Algorithm
from jaxpolicy.evaluation import rollout
from jaxpolicy.pipeline import train
from jaxpolicy.sim import streams
from jaxpolicy.training import metrics


def towards_the_goal(params, observation, key):
    """The expert of PointEnv, `gain` times as fast."""
    del key
    move = jnp.clip(params["gain"] * observation["privileged"][:, -1], -0.2, 0.2)
    return jnp.concatenate([move, jnp.ones((len(move), 1))], -1)[:, None]


def success_now(config, spec, gain):
    algorithm = Algorithm(None, None, None, towards_the_goal, None)
    params = jax.device_put({"gain": jnp.float32(gain)})
    return train.success_now(config, algorithm, spec, params, 10)


def test_success_while_training(point):
    good, bad = (success_now(*point, gain) for gain in (0.5, 0.0))
    assert (good["success"], bad["success"]) == (1.0, 0.0)
    assert good["return"] > bad["return"]
    # Of at most 30 frames at 10 Hz, every second one.
    assert bad["episodes"].fps == 5.0
    assert bad["episodes"].frames.shape[0] == 15
    assert bad["episodes"].frames.dtype == np.uint8


def test_its_starts_are_not_those_of_the_final_evaluation(point, monkeypatch):
    asked = []
    real = rollout.evaluate

    def evaluate(env, controller, config, *args, stream):
        asked.append((stream, config.n_episodes))
        return real(env, controller, config, *args, stream=stream)

    monkeypatch.setattr(rollout, "evaluate", evaluate)
    success_now(*point, 0.5)
    assert asked == [(streams.VALIDATION, 6)]


def test_the_curve_is_drawn_from_the_metrics(tmp_path, point):
    pytest.importorskip("matplotlib")
    config = dataclasses.replace(
        point[0], loop=dataclasses.replace(point[0].loop, tensorboard=False)
    )
    writer = metrics.open_writer(config, tmp_path)
    for step, rate in ((10, 0.0), (20, 0.5), (30, 1.0)):
        writer.write(step, {"eval/success": rate})
    writer.close()
    train._plot_success(config, tmp_path)
    picture = (tmp_path / "evaluation" / "success_curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
