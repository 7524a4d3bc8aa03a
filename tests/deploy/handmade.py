"""A policy bundle written by hand, without JAX: answers can be worked out on paper.

    action[b, h] = sqrt(proprio[b, -1, :2]) + 0.1 h + z[b, h]

with O = 2, H = 3, A = 2, so a negative proprioception gives NaN.
"""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from jaxpolicy.core.specs import ActionSpec, ArraySpec, PolicyManifest
from jaxpolicy.deploy import artefact

N_OBS, H, A = 2, 3, 2
CAMERA = ArraySpec("image/wrist", (2, 2, 3), "uint8")
MASK = ArraySpec("mask/wrist", (), "bool")
PROPRIO = ArraySpec("proprio", (3,))


def action_spec(kind="cartesian_delta"):
    return ActionSpec(kind, ("dx", "gripper"), ("m", "1"), (-1.0, 0.0), (1.0, 2.0), 20.0)


def model():
    """The serialised ONNX graph."""
    steps = np.arange(H, dtype=np.float32)[None, :, None] * np.float32(0.1)
    constants = {
        "newest": np.array(N_OBS - 1),
        "two": np.array([0, 1]),
        "axis": np.array([1]),
        "steps": np.broadcast_to(steps, (1, H, A)).copy(),
    }
    nodes = [
        helper.make_node("Gather", ["proprio", "newest"], ["last"], axis=1),
        helper.make_node("Gather", ["last", "two"], ["used"], axis=1),
        helper.make_node("Sqrt", ["used"], ["root"]),
        helper.make_node("Unsqueeze", ["root", "axis"], ["wide"]),
        helper.make_node("Add", ["wide", "steps"], ["chunk"]),
        helper.make_node("Add", ["chunk", "noise/z"], ["action"]),
    ]
    inputs = [
        helper.make_tensor_value_info("image/wrist", TensorProto.UINT8, ["B", N_OBS, 2, 2, 3]),
        helper.make_tensor_value_info("mask/wrist", TensorProto.BOOL, ["B", N_OBS]),
        helper.make_tensor_value_info("proprio", TensorProto.FLOAT, ["B", N_OBS, 3]),
        helper.make_tensor_value_info("noise/z", TensorProto.FLOAT, ["B", H, A]),
    ]
    outputs = [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["B", H, A])]
    values = [numpy_helper.from_array(v, k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, values)
    opset = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def manifest(data, kind="cartesian_delta", n_action_steps=2, temporal_ensemble=-1.0):
    return PolicyManifest(
        format_version=1,
        name="handmade",
        algorithm="none",
        observation=(CAMERA, MASK, PROPRIO),
        noise=(ArraySpec("z", (H, A)),),
        action=action_spec(kind),
        n_obs_steps=N_OBS,
        horizon=H,
        n_action_steps=n_action_steps,
        temporal_ensemble=temporal_ensemble,
        artefacts={"onnx": "policy.onnx"},
        sha256={"policy.onnx": artefact.digest(data)},
    )


def write(directory, **options):
    """Writes the bundle and returns its directory."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    data = model()
    (directory / "policy.onnx").write_bytes(data)
    (directory / "manifest.json").write_text(manifest(data, **options).to_json())
    return directory


def edit_manifest(directory, **changes):
    """Overwrites keys of manifest.json."""
    path = Path(directory) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def observation(*proprio):
    """One step of E environments; `proprio` holds each one's three numbers."""
    rows = np.array(proprio, np.float32)
    return {"image/wrist": np.zeros((len(rows), 2, 2, 3), np.uint8), "proprio": rows}
