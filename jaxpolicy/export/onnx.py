"""PolicyFunction -> ONNX, by jax2onnx.

The graph has a symbolic batch size, one input per observation key, opset 23, and
standard operators only. jax2onnx moves quickly and patches JAX while it traces, so
it is used here and nowhere else, in the one version that was tested.
"""

import contextlib
import importlib
import logging
import pathlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from jaxpolicy.export import converters
from jaxpolicy.specs import InputError

__all__ = ["OPSET", "VERSION", "convert", "operators"]

VERSION = "0.17.1"
OPSET = 23

_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli")


def convert(function: Any) -> bytes:
    """Serialised ONNX model of a `policy_function.PolicyFunction`.

    Raises:
      InputError: jax2onnx is missing or of another version, the policy does not
        convert, or the graph holds operators that no standard runtime has.
    """
    converters.require("ONNX", "jax2onnx", VERSION)
    import jax
    import jax2onnx
    import onnx

    _load_plugins()
    (batch,) = jax.export.symbolic_shape("B")
    with _quiet():
        try:
            model = jax2onnx.to_onnx(
                function.positional,
                inputs=function.inputs(batch),
                input_names=list(function.names),
                output_names=["action"],
                model_name="policy",
                opset=OPSET,
            )
        except Exception as e:  # The converter raises whatever its plugins raise.
            raise InputError(f"the policy does not convert to ONNX: {_one_line(e)}") from e
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    operators(data)
    return data


def operators(data: bytes) -> dict[str, int]:
    """How often each operator occurs in a serialised model, subgraphs included.

    Raises:
      InputError: the model is damaged, or holds custom or random operators.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as e:  # protobuf's DecodeError is not importable from onnx.
        raise InputError(f"the ONNX artefact is damaged: {_one_line(e)}") from e
    nodes = list(_nodes(model.graph))
    foreign = sorted({f"{n.domain}.{n.op_type}" for n in nodes if n.domain not in ("", "ai.onnx")})
    random = sorted({n.op_type for n in nodes if n.op_type in _RANDOM})
    if foreign or random:
        raise InputError(f"the ONNX graph holds custom or random operators: {foreign + random}")
    return dict(sorted(Counter(n.op_type for n in nodes).items()))


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _load_plugins() -> None:
    """Loads jax2onnx's rules for JAX and Flax, and tells it that they are loaded.

    Left alone it also imports its Equinox rules and all its examples, which build
    and compile networks while they are imported: 13 CPU-seconds against 2.
    """
    from jax2onnx.plugins import plugin_system

    root = pathlib.Path(str(plugin_system.__file__)).parent
    for file in sorted([*root.glob("jax/**/*.py"), *root.glob("flax/**/*.py")]):
        parts = file.relative_to(root).with_suffix("").parts
        if parts[-1] != "__init__":
            importlib.import_module(".".join(("jax2onnx.plugins", *parts)))
    setattr(plugin_system, "_already_imported_plugins", True)  # noqa: B010


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides onnx_ir's remarks about shapes it does not record; they change nothing."""
    logger = logging.getLogger("onnx_ir.serde")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
