

from jaxpolicy.pipeline import gate
from jaxpolicy.pipeline.experiment import ExperimentConfig


def test_an_artefact_may_be_luckier_than_the_policy_it_came_from_but_not_worse():
    # 199 of 200: [97.2 %, 99.9 %].
    found = {"success_ci95": [0.972, 0.999]}
    checks = {"parity": {"passed": True, "value": 1e-6}}
    assert not gate.artefact_reasons(found, checks, {"onnx": {"success_rate": 1.0}})
    assert not gate.artefact_reasons(found, checks, {"onnx": {"success_rate": 0.972}})
    worse = gate.artefact_reasons(found, checks, {"onnx": {"success_rate": 0.96}})
    assert worse == ["onnx success 96.0% lies below the JAX policy's interval [97.2%, 99.9%]"]
    checks = {"parity": {"passed": False, "value": {"onnx": 0.5, "tflite": 1e-7}, "limit": 1e-3}}
    (reason,) = gate.artefact_reasons(found, checks, {})
    assert reason == (
        "artefacts differ from JAX: onnx by 0.5, tflite by 1e-07; the limit is 0.001, which "
        "--config.export.tolerance sets"
    )


def test_worlds_without_a_success_predicate_pass_where_none_is_asked_for():
    told = {"n_success": None, "success_rate": None, "success_ci95": None, "n_episodes": 8}
    checks = {"parity": {"passed": True, "value": 1e-6}}
    assert not gate.artefact_reasons(told, checks, {"onnx": told})
    (reason,) = gate.success_reasons(ExperimentConfig(min_success=0.5), None)
    assert "no success predicate, and min_success asks for 50.0%; --config.min_success=0" in reason
    assert not gate.success_reasons(ExperimentConfig(min_success=0.0), None)
