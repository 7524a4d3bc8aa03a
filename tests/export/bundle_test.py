"""A bundle is whole, verified and described by its manifest, or it is not there."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

import jaxpolicy
from jaxpolicy.core import versions
from jaxpolicy.core.specs import ArraySpec, InputError, PolicyManifest
from jaxpolicy.core.types import PolicySpec
from jaxpolicy.deploy import PolicyRuntime, artefact
from jaxpolicy.export import bundle as exporter
from jaxpolicy.export import policy_function
from jaxpolicy.export.config import ExportConfig
from jaxpolicy.pipeline import words

FAST = ExportConfig(formats=("tflite",), n_golden=2, latency_runs=0)


def test_files(bundle):
    names = ["checklist.json", "golden.npz", "manifest.json", "policy.onnx", "policy.tflite"]
    assert sorted(os.listdir(bundle)) == names
    # Nothing else was left beside it.
    assert os.listdir(bundle.parent) == ["export"]


def test_manifest(bundle, policy):
    manifest = artefact.read_manifest(bundle)
    assert sorted(manifest.sha256) == ["golden.npz", "policy.onnx", "policy.tflite"]
    assert [s.name for s in manifest.observation] == sorted(
        s.name for s in policy.policy_spec.observation
    )
    assert manifest.action == policy.policy_spec.action
    assert (manifest.n_obs_steps, manifest.horizon, manifest.n_action_steps) == (2, 3, 2)
    assert (manifest.name, manifest.algorithm) == ("tiny", "bc")
    assert manifest.provenance["dataset_hash"] == "d1"
    assert manifest.provenance["checkpoint_step"] == "7"


def test_manifest_names_every_element_of_proprioception(bundle, policy):
    manifest = artefact.read_manifest(bundle)
    found = {s.name: s for s in manifest.observation}
    # Nobody named them: by position, and nobody said a unit.
    assert found["proprio"].names == ("proprio_0", "proprio_1", "proprio_2", "proprio_3")
    assert found["proprio"].units == ("",) * 4
    assert found["language"].names == ()
    told = words.tell_manifest(manifest)
    assert any(line.startswith("input proprio: float32 [2, 4], proprio_0 (unit") for line in told)
    assert "dyaw -0.3 to 0.3 rad" in told[-1]
    names = ("x", "y", "z", "width")
    spec = policy.policy_spec
    named = [
        dataclasses.replace(s, unit="m", names=names) if s.name == "proprio" else s
        for s in spec.observation
    ]
    spec = dataclasses.replace(spec, observation=tuple(named))
    function = policy_function.make(policy._replace(policy_spec=spec))
    (proprio,) = [
        s for s in exporter._manifest(policy, function, (), {}).observation if s.name == "proprio"
    ]
    assert proprio.describe() == "x (m), y (m), z (m), width (m)"


def test_no_version_is_empty(bundle):
    found = artefact.read_manifest(bundle).provenance
    assert found["version/jaxpolicy"] == versions.library()
    assert found["version/jaxpolicy"].startswith(jaxpolicy.__version__)
    assert all(found.values())


@pytest.mark.parametrize(("source", "n"), [("data extremes", 1), ("settings", 0), ("robot", 0)])
def test_warns_of_limits_that_are_extremes_of_the_data(policy, caplog, source, n):
    action = dataclasses.replace(policy.policy_spec.action, limits_from=source)
    exporter._warn_of_limits(action)
    found = [r.getMessage() for r in caplog.records if "data.action_minimum" in r.getMessage()]
    assert len(found) == n


def test_manifest_says_how_chunks_are_executed(policy):
    spec = dataclasses.replace(policy.policy_spec, n_action_steps=1, temporal_ensemble=0.01)
    function = policy_function.make(policy._replace(policy_spec=spec))
    manifest = exporter._manifest(policy, function, ("onnx",), {})
    assert (manifest.n_action_steps, manifest.temporal_ensemble) == (1, 0.01)
    assert PolicyManifest.from_json(manifest.to_json()) == manifest


def test_no_paths_of_this_machine(bundle):
    home = os.path.dirname(os.path.dirname(os.path.dirname(exporter.__file__))).encode()
    for name in ("manifest.json", "policy.onnx", "policy.tflite"):
        assert home not in (bundle / name).read_bytes()


def test_golden_is_evenly_spaced(bundle, observations):
    with np.load(bundle / "golden.npz") as golden:
        # 40 of 48: i * 47 / 39 rounded, first and last included.
        kept = golden["observation/proprio"]
        index = np.round(np.arange(40) * 47 / 39).astype(int)
        np.testing.assert_array_equal(kept, observations["proprio"][index])
        assert golden["action"].shape == (40, 3, 3)


def test_checklist(bundle):
    items = json.loads((bundle / "checklist.json").read_text())
    assert items["parity"]["passed"]
    assert max(items["parity"]["value"].values()) <= 1e-4
    assert set(items["latency_ms"]["value"]["onnx"]) == {"p50", "p95", "p99"}
    assert items["size_bytes"]["value"]["tflite"] == (bundle / "policy.tflite").stat().st_size
    # What export cannot know is blank, not invented.
    assert items["success_rate"] == {"value": None, "limit": None, "passed": None}


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_runs_in_the_deploy_runtime(bundle, policy, observations, kind):
    runtime = PolicyRuntime(bundle, kind)
    runtime.reset(3)
    step = {k: v[:3, 0] for k, v in observations.items()}
    action = runtime.act(step | {"privileged": np.zeros((3, 1), np.float32)})
    window = {k: np.stack([v, v], 1) for k, v in step.items()}
    chunk = np.asarray(policy.algorithm.act(policy.params, window, None))
    spec = policy.policy_spec.action
    expected = np.clip(chunk[:, 0], spec.minimum, spec.maximum)
    np.testing.assert_allclose(action, expected, atol=1e-5)


def test_replaces_an_older_bundle(bundle, policy, observations, tmp_path):
    directory = tmp_path / "export"
    shutil.copytree(bundle, directory)
    exporter.export(policy, directory, observations, FAST)
    assert "policy.onnx" not in os.listdir(directory)
    assert os.listdir(tmp_path) == ["export"]


def test_a_failed_export_leaves_the_old_bundle(bundle, policy, observations, tmp_path):
    directory = tmp_path / "export"
    shutil.copytree(bundle, directory)
    strict = dataclasses.replace(FAST, tolerance=1e-30)
    with pytest.raises(InputError, match=r"differ from JAX by .*tflite.* export\.tolerance"):
        exporter.export(policy, directory, observations, strict)
    assert (directory / "policy.onnx").read_bytes() == (bundle / "policy.onnx").read_bytes()
    assert os.listdir(tmp_path) == ["export"]


def test_does_not_replace_something_else(policy, observations, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="is not an exported policy"):
        exporter.export(policy, tmp_path, observations, FAST)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_directory_that_cannot_be_written(policy, observations, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        exporter.export(policy, tmp_path / "file" / "export", observations, FAST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proprio": None}, r"lack \['proprio'\]"),
        ({"proprio": np.zeros((3, 2, 4), np.float32)}, "one length"),
        ({"proprio": np.zeros((48, 1, 4), np.float32)}, "'proprio' must have shape"),
        ({"proprio": np.full((48, 2, 4), np.nan, np.float32)}, "'proprio' holds NaN"),
    ],
)
def test_wrong_observations(policy, observations, tmp_path, change, message):
    changed = {k: v for k, v in (observations | change).items() if v is not None}
    with pytest.raises(InputError, match=message):
        exporter.export(policy, tmp_path / "export", changed, FAST)
    assert not os.listdir(tmp_path)


def spec_of(*inputs):
    return PolicySpec(inputs, None, 2, 1, 1)


def test_windows():
    spec = spec_of(ArraySpec("proprio", (1,)), ArraySpec("mask/wrist", (), "bool"))
    episodes = [
        {"proprio": np.array([[0.0], [1.0], [2.0]], np.float32), "reward": np.zeros(3)},
        {"proprio": np.array([[10.0], [11.0]], np.float32)},
    ]
    got = exporter.windows(episodes, spec, 100)
    # Two steps ending at each step of each episode; the first step is repeated.
    expected = [[0, 0], [0, 1], [1, 2], [10, 10], [10, 11]]
    np.testing.assert_array_equal(got["proprio"][..., 0], expected)
    np.testing.assert_array_equal(got["mask/wrist"], np.ones((5, 2), bool))
    # 3 of 5 evenly: 0, 2, 4.
    few = exporter.windows(episodes, spec, 3)["proprio"][..., 0]
    np.testing.assert_array_equal(few, [expected[i] for i in (0, 2, 4)])


def test_windows_of_nothing():
    with pytest.raises(InputError, match="at least one episode"):
        exporter.windows([], spec_of(ArraySpec("proprio", (1,))), 3)


def test_windows_without_an_input():
    episode = {"proprio": np.zeros((2, 1), np.float32)}
    with pytest.raises(InputError, match="lacks 'image/wrist'"):
        exporter.windows([episode], spec_of(ArraySpec("image/wrist", (2, 2, 3), "uint8")), 3)
