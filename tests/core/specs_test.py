import dataclasses
import json

import numpy as np
import pytest

from jaxpolicy.core import specs
from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError, PolicyManifest

ACTION = ActionSpec(
    kind="cartesian_delta",
    names=("dx", "dy", "dyaw", "gripper"),
    units=("m", "m", "rad", "1"),
    minimum=(-0.03, -0.03, -0.2, 0.0),
    maximum=(0.03, 0.03, 0.2, 1.0),
    control_hz=20.0,
)

MANIFEST = PolicyManifest(
    format_version=1,
    name="lift",
    algorithm="bc",
    observation=(ArraySpec("image/wrist", (64, 64, 3), "uint8"), ArraySpec("proprio", (9,))),
    noise=(),
    action=ACTION,
    n_obs_steps=2,
    horizon=8,
    n_action_steps=4,
    artefacts={"onnx": "policy.onnx"},
    sha256={"policy.onnx": "00"},
    provenance={"dataset_hash": "ab"},
)


def test_observation_keys():
    assert specs.is_camera("image/wrist")
    assert not specs.is_camera("mask/wrist")
    assert specs.mask_key("image/wrist") == "mask/wrist"
    assert specs.camera_names(["proprio", "image/wrist", "image/front"]) == ("front", "wrist")


def test_validate_accepts_any_leading_axes():
    spec = ArraySpec("proprio", (3,))
    spec.validate(np.zeros((3,), np.float32))
    spec.validate(np.zeros((5, 2, 3), np.float32))
    ArraySpec("reward", ()).validate(np.float32(1.0))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((2, 4), np.float32), "'proprio' must have shape [..., 3], got [2, 4]"),
        (np.float32(0), "'proprio' must have shape [..., 3], got []"),
        (np.zeros((2, 3)), "'proprio' must be float32, got float64"),
        (np.array([0, np.nan, 0], np.float32), "'proprio' holds NaN or infinite values"),
        (np.array([0, np.inf, 0], np.float32), "'proprio' holds NaN or infinite values"),
    ],
)
def test_validate_names_what_is_wrong(value, message):
    with pytest.raises(InputError) as e:
        ArraySpec("proprio", (3,)).validate(value)
    assert str(e.value) == message


def test_validate_says_where_the_value_came_from():
    with pytest.raises(InputError, match="^episode 7: 'proprio' must be float32"):
        ArraySpec("proprio", (3,)).validate(np.zeros(3), "episode 7")


def test_validate_takes_integers_without_a_finiteness_check():
    ArraySpec("image/a", (2, 2, 3), "uint8").validate(np.full((4, 2, 2, 3), 255, np.uint8))


def test_array_spec_round_trip():
    spec = ArraySpec("proprio", (2,), "float32", "rad", (-1.0, -2.0), (1.0, 2.0))
    assert ArraySpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


STATE = ArraySpec("proprio", (2,), unit="rad,m", names=("joint1", "gripper_width"))


def test_elements_have_names_and_units():
    assert ArraySpec.from_dict(json.loads(json.dumps(STATE.to_dict()))) == STATE
    assert STATE.elements == ("joint1", "gripper_width")
    assert STATE.describe() == "joint1 (rad), gripper_width (m)"
    # One unit is that of all; none, and a wrong number of them, are unknown.
    assert ArraySpec("proprio", (2,), unit="m").units == ("m", "m")
    assert ArraySpec("proprio", (3,), unit="m, rad").units == ("", "", "")
    nameless = ArraySpec("proprio", (2,))
    assert nameless.describe() == "proprio_0 (unit unknown), proprio_1 (unit unknown)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.zeros((1, 3), np.float32),
            "'proprio' must have shape [..., 2], got [1, 3]; its elements are joint1 (rad), "
            "gripper_width (m)",
        ),
        (
            np.array([[0, np.nan], [0, 1]], np.float32),
            "'proprio' holds NaN or infinite values in gripper_width",
        ),
    ],
)
def test_messages_name_the_elements(value, message):
    with pytest.raises(InputError) as e:
        STATE.validate(value)
    assert str(e.value) == message


def test_one_name_per_element():
    with pytest.raises(InputError, match="'proprio' has 2 elements, and 1 names: joint1"):
        ArraySpec("proprio", (2,), names=("joint1",))


def test_limits_come_from_somewhere_known():
    assert dataclasses.replace(ACTION, limits_from="robot").limits_from == "robot"
    with pytest.raises(InputError, match="limits_from must be one of .* got 'somebody'"):
        dataclasses.replace(ACTION, limits_from="somebody")


def test_a_manifest_from_before_names_and_sources_of_limits_is_read():
    old = json.loads(MANIFEST.to_json())
    del old["action"]["limits_from"]
    for array in old["observation"]:
        del array["names"]
    assert PolicyManifest.from_json(json.dumps(old)) == MANIFEST


def test_action_spec_round_trip():
    assert ActionSpec.from_dict(json.loads(json.dumps(ACTION.to_dict()))) == ACTION


def test_action_spec_finds_elements_by_unit():
    assert ACTION.size == 4
    assert ACTION.indices_of_unit("m") == (0, 1)
    assert ACTION.indices_of_unit("rad") == (2,)
    assert ACTION.indices_of_unit("N") == ()


def test_action_spec_refuses_unknown_kinds():
    with pytest.raises(InputError, match="action kind must be one of .* got 'torque'"):
        dataclasses.replace(ACTION, kind="torque")


@pytest.mark.parametrize("field", ["names", "units", "minimum", "maximum"])
def test_action_spec_refuses_fields_of_different_length(field):
    with pytest.raises(InputError, match=f"one length.*'{field}': 3"):
        dataclasses.replace(ACTION, **{field: getattr(ACTION, field)[:3]})


def test_manifest_round_trip():
    assert PolicyManifest.from_json(MANIFEST.to_json()) == MANIFEST


def test_manifests_without_ensembling_keep_their_meaning():
    value = json.loads(MANIFEST.to_json())
    del value["temporal_ensemble"]
    assert PolicyManifest.from_json(json.dumps(value)).temporal_ensemble < 0


def test_manifest_text_is_the_same_every_time():
    again = PolicyManifest.from_json(MANIFEST.to_json())
    assert again.to_json() == MANIFEST.to_json()
    assert MANIFEST.to_json().endswith("}\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version must be 1, got 2"),
        ({"n_obs_steps": 0}, "must be at least 1"),
        ({"horizon": 0}, "must be at least 1"),
        ({"n_action_steps": 9}, r"n_action_steps \(9\) exceeds horizon \(8\)"),
        ({"temporal_ensemble": 0.01}, "n_action_steps must be 1, got 4"),
    ],
)
def test_manifest_refuses_what_a_runtime_cannot_run(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(MANIFEST, **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "^bundle/manifest.json is not valid JSON: "),
        ("[]", "^bundle/manifest.json must be a mapping of PolicyManifest, got list"),
        ("{}", "^bundle/manifest.json lacks the key 'format_version'"),
    ],
)
def test_manifest_errors_name_the_file(text, message):
    with pytest.raises(InputError, match=message):
        PolicyManifest.from_json(text, "bundle/manifest.json")


def test_manifest_refuses_unknown_keys_inside():
    value = json.loads(MANIFEST.to_json())
    value["observation"][0]["shap"] = [1]
    with pytest.raises(
        InputError, match=r"observation\[0\] has no key 'shap'; did you mean 'shape'"
    ):
        PolicyManifest.from_json(json.dumps(value))
