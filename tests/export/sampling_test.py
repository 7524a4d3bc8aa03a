"""Policies that sample: noise is an input of every artefact, and loops are light."""

import jax
import numpy as np
import onnx as onnx_library
import onnxruntime
import optax
import pytest
from onnx import TensorProto, helper, numpy_helper

from jaxpolicy.algorithms import diffusion
from jaxpolicy.algorithms.diffusion import DiffusionConfig
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.core.types import PolicySpec
from jaxpolicy.deploy import PolicyRuntime, artefact
from jaxpolicy.export import bundle as exporter
from jaxpolicy.export import onnx, policy_function, verify
from jaxpolicy.export.config import ExportConfig
from jaxpolicy.networks.denoisers import DenoiserConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.training.factory import LoadedPolicy, example_batch

ACTION = ActionSpec("cartesian_delta", ("dx", "dyaw"), ("m", "rad"), (-0.1, -0.2), (0.1, 0.2), 20.0)
SPEC = PolicySpec((ArraySpec("proprio", (4,)),), ACTION, 1, 4, 2)
CONFIG = DiffusionConfig(
    denoiser="mlp",
    denoisers=DenoiserConfig(embedding=8, mlp_widths=(16,)),
    prediction="sample",
    sampler="ddpm",
    sample_steps=3,
)


@pytest.fixture(scope="module")
def policy():
    """A diffusion policy whose parameters are random everywhere."""
    rng = np.random.default_rng(0)
    norm = {
        "action": normalization.fit([np.array([ACTION.minimum, ACTION.maximum], np.float32)]),
        "proprio": normalization.fit([rng.normal(size=(9, 4)).astype(np.float32)]),
    }
    algorithm = diffusion.make(SPEC, NetworkConfig(), CONFIG, optax.sgd(0.1), norm)
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0), example_batch(SPEC)).params
    network = jax.tree.map(
        lambda s: rng.normal(0.0, 0.3, s.shape).astype(np.float32), shapes["ema"]
    )
    params = {"network": jax.tree.map(np.zeros_like, network), "norm": norm, "ema": network}
    facts = {"name": "tiny", "algorithm": "diffusion"}
    return LoadedPolicy(algorithm, SPEC, params, facts, 7, "d1")


@pytest.fixture(scope="module")
def observations():
    rng = np.random.default_rng(1)
    return {"proprio": rng.normal(size=(6, 1, 4)).astype(np.float32)}


@pytest.fixture(scope="module")
def exported(policy, observations, tmp_path_factory):
    directory = tmp_path_factory.mktemp("sampling") / "export"
    exporter.export(policy, directory, observations, ExportConfig(n_golden=6, latency_runs=1))
    return directory


def test_artefacts_sample_what_jax_samples(exported):
    manifest = artefact.read_manifest(exported)
    # DDPM in 3 steps: where it starts, and two additions.
    assert manifest.noise == (ArraySpec("sample", (3, 4, 2)),)
    result = verify.verify(exported)
    for found in result["artefacts"].values():
        assert found["max_abs_error"] < 1e-5
    _, noise, action = verify.read_golden(exported, manifest)
    assert noise["sample"].shape == (6, 3, 4, 2)
    assert np.ptp(action, axis=0).min() > 1e-3


def test_every_artefact_reads_all_of_its_noise(exported, policy, observations):
    function = policy_function.make(policy)
    noise = policy_function.draw_noise(function, 6)
    before = policy_function.predict(function, observations, noise)
    for i in range(3):
        changed = noise["sample"].copy()
        changed[:, i] += 1.0
        after = policy_function.predict(function, observations, {"sample": changed})
        assert np.abs(after - before).max() > 1e-4
    model = onnx_library.load(exported / "policy.onnx")
    assert [i.name for i in model.graph.input] == ["proprio", "noise/sample"]
    # The sampler is one loop; what it reads is named, not carried: x, and the clean sample.
    (loop,) = [n for n in model.graph.node if n.op_type == "Loop"]
    assert len(loop.output) == 2


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_runtime_draws_the_noise_from_its_seed(exported, observations, kind):
    step = {"proprio": observations["proprio"][:2, 0]}
    actions = []
    for seed in (0, 0, 1):
        runtime = PolicyRuntime(exported, kind, seed=seed)
        runtime.reset(2)
        actions.append(runtime.act(step))
    np.testing.assert_array_equal(actions[0], actions[1])
    assert np.abs(actions[0] - actions[2]).max() > 1e-4


def loop_model():
    """y <- y w^T + 1, three times; w is carried along unchanged."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Transpose", ["w"], ["turned"], name="node_1"),
            helper.make_node("MatMul", ["y", "turned"], ["product"], name="node_2"),
            helper.make_node("Add", ["product", "one"], ["next"]),
            helper.make_node("Identity", ["w"], ["same_w"]),
        ],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("w", TensorProto.FLOAT, [2, 2]),
            value("y", TensorProto.FLOAT, [1, 2]),
        ],
        [
            value("go_on", TensorProto.BOOL, []),
            value("same_w", TensorProto.FLOAT, [2, 2]),
            value("next", TensorProto.FLOAT, [1, 2]),
        ],
        [numpy_helper.from_array(np.float32(1.0), "one"), numpy_helper.from_array(np.ones(9), "u")],
    )
    weights = np.array([[0.0, 2.0], [1.0, 0.0]], np.float32)
    constants = {"n": np.int64(3), "yes": np.bool_(True), "weights": weights}
    node = helper.make_node(
        "Loop", ["n", "yes", "weights", "x"], ["last_w", "result"], name="node_1", body=body
    )
    x, result = (value(k, TensorProto.FLOAT, [1, 2]) for k in ("x", "result"))
    initial = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph([node], "g", [x], [result], initial)
    opset = [helper.make_opsetid("", onnx.OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def run(model):
    onnx_library.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": np.array([[1.0, 2.0]], np.float32)})[0]


def test_loops_are_simplified():
    # y [a, b] -> [2 b + 1, a + 1]: [1, 2] -> [5, 2] -> [5, 6] -> [13, 6].
    model = loop_model()
    np.testing.assert_array_equal(run(model), [[13.0, 6.0]])
    onnx.simplify_loops(model.graph)
    np.testing.assert_array_equal(run(model), [[13.0, 6.0]])
    assert [n.op_type for n in model.graph.node] == ["Transpose", "Loop"]
    loop = model.graph.node[1]
    assert (list(loop.input), list(loop.output)) == (["n", "yes", "x"], ["result"])
    body = loop.attribute[0].g
    assert [n.op_type for n in body.node] == ["Identity", "MatMul", "Add"]
    assert sorted(x.name for x in model.graph.initializer) == ["n", "one", "weights", "yes"]


def test_a_state_that_is_read_afterwards_stays():
    model = loop_model()
    info = helper.make_tensor_value_info("last_w", TensorProto.FLOAT, [2, 2])
    model.graph.output.append(info)
    onnx.simplify_loops(model.graph)
    assert list(model.graph.node[-1].output) == ["last_w", "result"]
    np.testing.assert_array_equal(run(model), [[13.0, 6.0]])
