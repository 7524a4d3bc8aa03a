"""The whole road in small: demonstrations to an artefact that drives the simulated arm.

The policy is far too little trained to succeed; what is tested is that every stage hands
the next one what it needs, and that the gate tells the truth.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from configs import lift_demo
from jaxpolicy.core.schema import InputError
from jaxpolicy.deploy import PolicyRuntime
from jaxpolicy.pipeline import collect, evaluate, experiment, run, train
from jaxpolicy.training import factory


def small():
    config = experiment.from_mapping(lift_demo.get_config("debug").to_dict())
    return replace(
        config,
        env=replace(config.env, image_size=32),
        collect=replace(config.collect, n_episodes=8, batch=8, bump_probability=0.0),
        loop=replace(config.loop, steps=10, eval_every=5, steps_per_dispatch=5, progress=False),
        evaluation=replace(config.evaluation, n_episodes=4, batch=4, n_recorded=1),
        export=replace(config.export, latency_runs=5),
        min_success=0.97,
    )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def summary(workdir):
    return run.run(small(), workdir)


def test_every_stage_says_what_it_found(summary, workdir):
    stages = [row[0] for row in summary.rows]
    assert stages == ["collect", "process", "train", "evaluate", "export", "evaluate onnx"]
    assert all(path.exists() for path in summary.paths)
    for name in ("config.json", "metrics.jsonl", "processed/episodes.jsonl", "checkpoints/best"):
        assert (workdir / name).exists(), name


def test_an_untrained_policy_does_not_pass_the_gate(summary, workdir):
    report = json.loads((workdir / "evaluation" / "report.json").read_text())
    assert report["success_rate"] < 0.97
    assert not summary.passed
    assert "is below the limit 97.0%, which --config.min_success sets" in summary.reasons[0]


def test_the_artefact_acts_like_the_policy_it_came_from(summary, workdir):
    policy = factory.load_policy(workdir)
    checks = json.loads((workdir / "export" / "checklist.json").read_text())
    assert checks["parity"]["passed"]
    assert checks["artefact_success_rate"]["value"]["onnx"] == pytest.approx(
        json.loads((workdir / "evaluation/onnx/report.json").read_text())["success_rate"]
    )
    rng = np.random.default_rng(0)
    observation = {
        "image/wrist": rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8),
        "proprio": rng.normal(size=(3, 20)).astype(np.float32) * 0.1,
    }
    window = {k: v[:, None] for k, v in observation.items()}
    low, high = policy.policy_spec.action.minimum, policy.policy_spec.action.maximum
    wanted = np.clip(policy.algorithm.act(policy.params, window)[:, 0], low, high)
    for kind in ("onnx", "tflite"):
        runtime = PolicyRuntime(workdir / "export", kind)
        runtime.reset(3)
        np.testing.assert_allclose(runtime.act(observation), wanted, atol=1e-4)


def test_running_again_continues_instead_of_starting_over(summary, workdir):
    before = (workdir / "dataset" / "collection.json").stat().st_mtime_ns
    ledger = collect.run(small(), workdir)
    assert ledger["successes"] == 8
    assert (workdir / "dataset" / "collection.json").stat().st_mtime_ns == before
    result, _ = train.run(small(), workdir)
    assert result.resumed_from == 10


def test_demonstrations_of_other_settings_are_not_mixed(summary, workdir):
    config = small()
    other = replace(config, collect=replace(config.collect, seed=1))
    with pytest.raises(InputError, match="demonstrations of other settings"):
        collect.run(other, workdir)


def test_the_test_part_is_read_only_with_a_reason(summary, workdir):
    evaluate.offline_errors(small(), workdir, unlock_reason="final figure")
    reads = (workdir / "processed" / "test_reads.jsonl").read_text().splitlines()
    assert json.loads(reads[-1])["reason"] == "final figure"
    assert (workdir / "evaluation" / "offline_test.json").exists()
