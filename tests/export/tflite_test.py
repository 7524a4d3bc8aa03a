"""TF Lite graphs: batch 1, builtin operators, one pinned converter."""

import flatbuffers
import jax
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from jaxpolicy.core.specs import InputError
from jaxpolicy.deploy import LiteRTBackend
from jaxpolicy.export import policy_function, tflite


@pytest.fixture(scope="module")
def data(bundle):
    return (bundle / "policy.tflite").read_bytes()


def test_a_batch_is_a_loop_over_rows(bundle, policy, observations):
    function = policy_function.make(policy)
    few = {k: v[:5] for k, v in observations.items()}
    backend = LiteRTBackend(bundle)
    expected = policy_function.predict(function, few)
    np.testing.assert_allclose(backend(few), expected, atol=1e-5)
    # A later answer does not overwrite an earlier one.
    first = backend({k: v[:1] for k, v in few.items()})
    backend({k: v[1:2] for k, v in few.items()})
    np.testing.assert_allclose(first, expected[:1], atol=1e-5)


def test_builtin_operators(data):
    assert tflite.operators(data)["CONV_2D"] == 4


@pytest.mark.parametrize("name", [b"FlexErf", b"TFLite_Detection_PostProcess"])
def test_refuses_custom_operators(data, name):
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    code = model.operatorCodes[0]
    code.builtinCode, code.customCode = schema.BuiltinOperator.CUSTOM, name
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(InputError, match=f"not builtin.*CUSTOM:{name.decode()}"):
        tflite.operators(bytes(builder.Output()))


@pytest.mark.parametrize("damaged", [b"", b"123", b"0" * 64])
def test_damaged_model(damaged):
    with pytest.raises(InputError, match="not a TF Lite flatbuffer"):
        tflite.operators(damaged)


def test_truncated_model(data):
    with pytest.raises(InputError, match="damaged"):
        tflite.operators(data[:4000])


def test_another_converter_version(policy, monkeypatch):
    monkeypatch.setattr(tflite, "VERSION", "0.0.1")
    with pytest.raises(InputError, match=r"needs litert-converter 0\.0\.1, found"):
        tflite.convert(policy_function.make(policy))


def test_what_does_not_convert_is_one_line(policy):
    algorithm = policy.algorithm._replace(act=call_host)
    function = policy_function.make(policy._replace(algorithm=algorithm))
    with pytest.raises(InputError, match="does not convert to TF Lite") as info:
        tflite.convert(function)
    assert "\n" not in str(info.value)


def call_host(params, observation, key):
    """Calls back into Python, which no exported graph can do."""
    del params, key
    proprio = observation["proprio"]
    shape = jax.ShapeDtypeStruct((proprio.shape[0], 3, 3), np.float32)
    return jax.pure_callback(lambda x: np.zeros((len(x), 3, 3), np.float32), shape, proprio)
