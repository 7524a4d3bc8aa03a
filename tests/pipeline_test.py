import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import pipeline
from jaxpolicy.algorithms.diffusion import DiffusionConfig
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.evaluation import rollout
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.experiment import ExperimentConfig
from jaxpolicy.networks.denoisers import DenoiserConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.sim import streams, wrappers
from jaxpolicy.training import loop, metrics
from jaxpolicy.training.config import ArenaConfig, LoopConfig
from jaxpolicy.types import Algorithm, PolicySpec
from tests.fake_env import PointEnv
from tests.training import fixtures
from tests.training import point as online_point


def towards_the_goal(params, observation, key):
    """The expert of PointEnv, `gain` times as fast."""
    del key
    move = jnp.clip(params["gain"] * observation["privileged"][:, -1], -0.2, 0.2)
    return jnp.concatenate([move, jnp.ones((len(move), 1))], -1)[:, None]


@pytest.fixture
def point(monkeypatch):
    """An experiment whose world is PointEnv."""
    env = wrappers.EpisodeLimit(PointEnv(), 30)
    monkeypatch.setattr(pipeline, "make_world", lambda config: env)
    spec = PolicySpec(env.observation_specs[1:2], env.action_spec, 1, 1, 1)
    evaluation = EvaluationConfig(n_episodes=7, batch=4)
    config = ExperimentConfig(loop=LoopConfig(rollouts=6), evaluation=evaluation)
    return config, spec


def success_now(config, spec, gain):
    algorithm = Algorithm(None, None, None, towards_the_goal, None)
    params = jax.device_put({"gain": jnp.float32(gain)})
    return pipeline.success_now(config, algorithm, spec, params, 10)


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
    pipeline._plot_success(config, tmp_path)
    picture = (tmp_path / "evaluation" / "success_curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_time_is_told_in_parts():
    shares = dict.fromkeys(("start", "data", "step", "eval", "checkpoint", "profile"), 0.0)
    shares |= {"start": 0.25, "step": 0.75}
    result = loop.FitResult(
        {}, 8, 8, {"val/loss": 0.5}, None, None, None, 0, False, 12.0, 3.0, shares
    )
    assert pipeline.tell_train((result, {})) == (
        "8 steps at 3/s, validation loss 5.00e-01; "
        "12 s of which 25% starting and compiling, 75% in steps, 0% waiting for data"
    )


# ------------------------------------------------------------------ description


def small(**values):
    network = NetworkConfig(patch=4, widths=(8,), depths=(1,), hidden=16, layers=1)
    return ExperimentConfig(network=network, **values)


def test_a_network_is_described_before_there_is_data(tmp_path, point):
    found = pipeline.describe(small(), tmp_path / "run").table
    # PointEnv gives one camera, whose features (8 spatial softmax points) meet 2 numbers of
    # proprioception: 16 hidden units have (16 + 2) * 16 + 16 parameters; the head gives 3.
    sizes = {row.path: row.parameters for row in found.rows}
    assert sizes["mlp",] == (2 * 8 + 2) * 16 + 16
    assert sizes["head",] == 16 * 3 + 3
    assert not (tmp_path / "run").exists()


def test_a_network_is_described_for_the_dataset_that_is_there(tmp_path):
    rlds_writer.write(tmp_path / "dataset", iter(fixtures.source(4)), fixtures.spec(), "tiny")
    found = pipeline.describe(small(), tmp_path).table
    # 3 numbers of proprioception, actions of 2; no camera.
    sizes = {row.path: row.parameters for row in found.rows}
    assert sizes == {("mlp",): 3 * 16 + 16, ("mlp", "Dense_0"): 64, ("head",): 16 * 2 + 2}
    assert found.parameters == 98


def test_an_artefact_may_be_luckier_than_the_policy_it_came_from_but_not_worse():
    # 199 of 200: [97.2 %, 99.9 %].
    found = {"success_ci95": [0.972, 0.999]}
    checks = {"parity": {"passed": True, "value": 1e-6}}
    assert not pipeline.artefact_reasons(found, checks, {"onnx": {"success_rate": 1.0}})
    assert not pipeline.artefact_reasons(found, checks, {"onnx": {"success_rate": 0.972}})
    worse = pipeline.artefact_reasons(found, checks, {"onnx": {"success_rate": 0.96}})
    assert worse == ["onnx success 96.0% lies below the JAX policy's interval [97.2%, 99.9%]"]
    checks = {"parity": {"passed": False, "value": 0.5}}
    assert pipeline.artefact_reasons(found, checks, {}) == ["artefacts differ from JAX: 0.5"]


def online_experiment(monkeypatch, algorithm, **settings):
    """16 worlds, some of which would begin where an expert passed: there is none."""
    monkeypatch.setattr(pipeline, "make_world", lambda config: online_point.world())
    plain = online_point.config(algorithm, **settings)
    fields = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)}
    return ExperimentConfig(**fields | {"arena": ArenaConfig(expert_starts=0.5)})


def test_actor_and_critic_are_described(tmp_path, monkeypatch):
    found = pipeline.describe(online_experiment(monkeypatch, "ppo"), tmp_path / "run")
    # The actor sees 2 numbers, the critic those and 2 of the state; 32 hidden units; one action
    # of 2 numbers, with standard deviations of its own, and one value.
    rows = {row.path: (row.parameters, row.flops) for row in found.table.rows}
    actor, critic = (2 * 32 + 32, 32 * 2 + 2), (4 * 32 + 32, 32 + 1)
    assert rows["actor", "policy", "mlp"] == (actor[0], 2 * 2 * 32)
    assert rows["actor", "policy", "head"] == (actor[1], 2 * 32 * 2)
    assert rows["actor",] == (sum(actor) + 2, 2 * (2 * 32 + 32 * 2))
    assert rows["critic",] == (sum(critic), 2 * (4 * 32 + 32))
    # 16 worlds, 16 decisions, 4 minibatches.
    assert found.table.batch_size == 64
    # Observations of 2 and 2 numbers and the same afterwards, 2 of the trace, log probability,
    # reward, two ends and the success: 15 numbers of 4 bytes.
    assert found.table.others["a rollout of 16 decisions in each"] == 16 * 16 * 15 * 4
    assert found.table.others["16 worlds"] > 16 * 4 * 4
    assert [s.name for s in found.policy_spec.critic] == ["privileged", "proprio"]
    assert (found.devices, (tmp_path / "run").exists()) == (1, False)


def test_denoising_steps_that_learn_are_described(tmp_path, monkeypatch):
    diffusion = DiffusionConfig(
        denoiser="mlp",
        denoisers=DenoiserConfig(embedding=8, mlp_widths=(32,)),
        sample_steps=4,
    )
    flops = {}
    for k in (0, 1):
        settings = {"diffusion": diffusion, "finetune_steps": k}
        table = pipeline.describe(
            online_experiment(monkeypatch, "dppo", **settings), tmp_path
        ).table
        flops[k] = {row.path: row.flops for row in table.rows}
    policy = ("actor", "policy", "denoiser")
    # All 4 steps ask the denoiser; observations are encoded once.
    assert flops[0][policy] == 4 * flops[1][policy] > 0
    assert flops[0]["critic",] == flops[1]["critic",]


def test_worlds_without_a_success_predicate_are_told_by_their_return():
    latency = {"p50": 1.0, "p95": 2.0}
    told = {"n_success": None, "success_rate": None, "success_ci95": None, "n_episodes": 8}
    told |= {"avg_sum_reward": -12.25, "latency_ms": latency}
    line = "return -12.25, the mean of 8 episodes, latency p50 1.0 ms, p95 2.0 ms"
    assert pipeline.tell_evaluate((told, None)) == line
    checks = {"parity": {"passed": True, "value": 1e-6}}
    assert not pipeline.artefact_reasons(told, checks, {"onnx": told})
    (reason,) = pipeline.success_reasons(ExperimentConfig(min_success=0.5), None)
    assert "no success predicate; --config.min_success=0" in reason
    assert not pipeline.success_reasons(ExperimentConfig(min_success=0.0), None)
