"""ONNX graphs: any batch size, standard operators, one pinned converter."""

import jax
import numpy as np
import onnx as onnx_library
import pytest
from onnx import helper

from jaxpolicy.core.specs import InputError
from jaxpolicy.deploy import OnnxBackend
from jaxpolicy.export import onnx, policy_function


def rows(arrays, n):
    return {k: v[:n] for k, v in arrays.items()}


@pytest.mark.parametrize("batch", [1, 2, 11])
def test_any_batch_size(bundle, policy, observations, batch):
    expected = policy_function.predict(policy_function.make(policy), rows(observations, batch))
    got = OnnxBackend(bundle)(rows(observations, batch))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_standard_operators_and_opset(bundle):
    data = (bundle / "policy.onnx").read_bytes()
    assert "Conv" in onnx.operators(data)
    assert onnx_library.load_model_from_string(data).opset_import[0].version == onnx.OPSET


def graph_with(node):
    graph = helper.make_graph([node], "g", [], [])
    return helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("Thing", [], ["a"], domain="com.vendor"), "com.vendor.Thing"),
        (helper.make_node("RandomNormal", [], ["a"], shape=[2]), "RandomNormal"),
    ],
)
def test_refuses_operators(node, message):
    with pytest.raises(InputError, match=message):
        onnx.operators(graph_with(node))


def test_refuses_operators_inside_a_subgraph():
    inner = helper.make_graph([helper.make_node("Thing", [], ["a"], domain="v")], "g", [], [])
    with pytest.raises(InputError, match=r"v\.Thing"):
        onnx.operators(graph_with(helper.make_node("If", ["c"], ["b"], then_branch=inner)))


def test_damaged_model(bundle):
    with pytest.raises(InputError, match="damaged"):
        onnx.operators((bundle / "policy.onnx").read_bytes()[:500])


def test_another_converter_version(policy, monkeypatch):
    monkeypatch.setattr(onnx, "VERSION", "0.0.1")
    with pytest.raises(InputError, match=r"needs jax2onnx 0\.0\.1, found"):
        onnx.convert(policy_function.make(policy))


def test_what_does_not_convert_is_one_line(policy):
    algorithm = policy.algorithm._replace(act=call_host)
    function = policy_function.make(policy._replace(algorithm=algorithm))
    with pytest.raises(InputError, match="does not convert to ONNX") as info:
        onnx.convert(function)
    assert "\n" not in str(info.value)


def call_host(params, observation, key):
    """Calls back into Python, which no exported graph can do."""
    del params, key
    proprio = observation["proprio"]
    shape = jax.ShapeDtypeStruct((proprio.shape[0], 3, 3), np.float32)
    return jax.pure_callback(lambda x: np.zeros((len(x), 3, 3), np.float32), shape, proprio)
