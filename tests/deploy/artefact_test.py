"""Damaged bundles: one clear line each."""

import json

import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.deploy import OnnxBackend, artefact, load
from tests.deploy import handmade


@pytest.fixture
def bundle(tmp_path):
    return handmade.write(tmp_path / "export")


def refuses(bundle, *parts):
    with pytest.raises(InputError) as info:
        OnnxBackend(bundle)
    message = str(info.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_sound_bundle_loads(bundle):
    assert OnnxBackend(bundle).manifest.name == "handmade"


def test_missing_manifest(bundle):
    (bundle / "manifest.json").unlink()
    refuses(bundle, "manifest.json not found")


def test_manifest_that_is_not_json(bundle):
    (bundle / "manifest.json").write_text("{")
    refuses(bundle, "not valid JSON")


def test_manifest_that_is_not_text(bundle):
    (bundle / "manifest.json").write_bytes(b"\xff\xfe\x00")
    refuses(bundle, "cannot be read")


def test_manifest_with_an_unknown_key(bundle):
    handmade.edit_manifest(bundle, horizen=3)
    refuses(bundle, "no key 'horizen'", "did you mean 'horizon'")


def test_manifest_of_a_later_format(bundle):
    handmade.edit_manifest(bundle, format_version=2)
    refuses(bundle, "format_version")


def test_missing_file(bundle):
    (bundle / "policy.onnx").unlink()
    refuses(bundle, "policy.onnx", "cannot be read")


def test_truncated_file(bundle):
    path = bundle / "policy.onnx"
    path.write_bytes(path.read_bytes()[:200])
    refuses(bundle, "policy.onnx", "truncated or altered")


def test_truncated_file_with_a_matching_hash(bundle):
    path = bundle / "policy.onnx"
    path.write_bytes(path.read_bytes()[:200])
    digest = artefact.digest(path.read_bytes())
    handmade.edit_manifest(bundle, sha256={"policy.onnx": digest})
    refuses(bundle, "cannot be loaded")


def test_file_without_a_hash(bundle):
    handmade.edit_manifest(bundle, sha256={})
    refuses(bundle, "no sha256 of 'policy.onnx'")


def test_file_outside_the_bundle(bundle):
    handmade.edit_manifest(
        bundle, artefacts={"onnx": "../policy.onnx"}, sha256={"../policy.onnx": "0"}
    )
    refuses(bundle, "no sha256 of '../policy.onnx'")


def test_manifest_with_another_shape_than_the_graph(bundle):
    value = json.loads((bundle / "manifest.json").read_text())
    value["observation"][2]["shape"] = [4]
    handmade.edit_manifest(bundle, observation=value["observation"])
    refuses(bundle, "'proprio'", "(2, 3)", "(2, 4)")


def test_manifest_with_another_input_than_the_graph(bundle):
    value = json.loads((bundle / "manifest.json").read_text())
    handmade.edit_manifest(bundle, observation=value["observation"][:2])
    refuses(bundle, "inputs", "'proprio'")


def test_manifest_with_another_horizon_than_the_graph(bundle):
    handmade.edit_manifest(bundle, horizon=4)
    refuses(bundle, "output", "(3, 2)", "(4, 2)")


def test_a_kind_that_the_bundle_lacks(bundle):
    with pytest.raises(InputError, match="no 'tflite' artefact; it holds: onnx"):
        load(bundle, "tflite")


def test_a_kind_that_nobody_knows(bundle):
    with pytest.raises(InputError, match="backend must be one of"):
        load(bundle, "torch")
