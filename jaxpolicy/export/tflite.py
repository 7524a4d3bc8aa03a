"""PolicyFunction -> TensorFlow Lite, by litert-converter (StableHLO in, no TensorFlow).

The graph has batch size 1: that is what a controller runs, and static shapes are
what the fast kernels need. Builtin operators only: no custom and no Flex operators,
so every TF Lite runtime can load it. Loops do not convert in this version, so the
steps of a sampler are written out, one after the other.
"""

import dataclasses
import struct
from collections import Counter
from typing import Any

from jaxpolicy.core.specs import InputError
from jaxpolicy.export import converters

__all__ = ["VERSION", "convert", "operators"]

VERSION = "0.5.0"

_SIGNATURE = "serving_default"


def convert(function: Any) -> bytes:
    """TF Lite flatbuffer of a `policy_function.PolicyFunction`.

    Raises:
      InputError: litert-converter is missing or of another version, the policy does
        not convert, or the graph holds custom or Flex operators.
    """
    converters.require("TF Lite", "litert-converter", VERSION)
    function = dataclasses.replace(function, unroll=True)
    try:
        data = _to_flatbuffer(_stablehlo(function), list(function.names))
    except Exception as e:  # JAX, MLIR and the converter raise errors of their own.
        message = " ".join(str(e).split())[:300]
        raise InputError(f"the policy does not convert to TF Lite: {message}") from e
    operators(data)
    return data


def _stablehlo(function: Any) -> bytes:
    """Portable StableHLO of the function at batch size 1; unused inputs are kept."""
    import jax

    traced = jax.jit(function.positional, keep_unused=True)
    return jax.export.export(traced, platforms=["cpu"])(*function.inputs(1)).mlir_module_serialized


def _to_flatbuffer(module: bytes, names: list[str]) -> bytes:
    from litert_converter import converter_api_ext as api
    from litert_converter.mlir import ir, passmanager
    from litert_converter.mlir.dialects import stablehlo

    context = ir.Context()
    api.prepare_mlir_context(context)
    with context, ir.Location.unknown():
        parsed = stablehlo.deserialize_portable_artifact(context, module)
        api.set_signature(parsed.operation, _SIGNATURE, names, ["action"])
        api.run_convert_to_tfl_passes(parsed, passmanager.PassManager(), api.ConvertToTFLConfig())
        return api.export_flatbuffer_to_bytes(parsed.operation)


def operators(data: bytes) -> dict[str, int]:
    """How often each builtin operator occurs in a flatbuffer, all subgraphs together.

    Raises:
      InputError: the model is damaged, or holds custom or Flex operators.
    """
    from ai_edge_litert import schema_py_generated as schema

    if not schema.Model.ModelBufferHasIdentifier(data, 0):
        raise InputError("the TF Lite artefact is damaged: it is not a TF Lite flatbuffer")
    try:
        used = _used(schema, schema.Model.GetRootAs(data, 0))
    except (struct.error, IndexError, KeyError, TypeError, ValueError) as e:
        raise InputError(f"the TF Lite artefact is damaged: {e}") from e
    custom = sorted({n for n in used if n.startswith("CUSTOM")})
    if custom:
        raise InputError(f"the TF Lite graph holds operators that are not builtin: {custom}")
    return dict(sorted(Counter(used).items()))


def _used(schema: Any, model: Any) -> list[str]:
    """Names of the operators of all subgraphs."""
    names = [_operator_name(schema, c) for c in _all(model, "OperatorCodes")]
    return [names[o.OpcodeIndex()] for g in _all(model, "Subgraphs") for o in _all(g, "Operators")]


def _operator_name(schema: Any, code: Any) -> str:
    """Name of an operator code; "CUSTOM:<name>" for all that is not builtin."""
    # Old files keep small codes in the deprecated field.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    builtin = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    custom = code.CustomCode()
    if custom is not None or number == schema.BuiltinOperator.CUSTOM:
        return f"CUSTOM:{(custom or b'').decode(errors='replace')}"
    return builtin[number]


def _all(table: Any, field: str) -> list[Any]:
    get, length = getattr(table, field), getattr(table, f"{field}Length")
    return [get(i) for i in range(length())]
