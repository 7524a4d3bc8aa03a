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

from jaxpolicy.core.specs import InputError
from jaxpolicy.export import converters

__all__ = ["OPSET", "VERSION", "convert", "operators", "simplify_loops"]

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
    simplify_loops(model.graph)
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
    """All nodes of a graph and of the subgraphs in it."""
    for node in graph.node:
        yield node
        yield from _inner(node)


def _inner(node: Any) -> Iterator[Any]:
    for body in _bodies(node):
        yield from _nodes(body)


def _bodies(node: Any) -> list[Any]:
    """Subgraphs of a node: the body of a loop, the branches of a condition."""
    return [a.g for a in node.attribute if a.HasField("g")]


def simplify_loops(graph: Any) -> None:
    """Takes out of loops what is the same in every iteration, in place.

    jax2onnx hands every array that a loop's body needs from one iteration to the next,
    weights included, and works on weights (transposes, slices) inside the body. Runtimes
    then copy all weights in every iteration, and cannot prepare them in advance. But a body
    may name any value of the graph around it.

    Args:
      graph: onnx.GraphProto.
    """
    read, nodes = _read(graph), []
    for node in graph.node:
        for body in _bodies(node):
            simplify_loops(body)
            if node.op_type == "Loop":
                for i in reversed(_unchanged(node, body, read)):
                    _rename(body, body.input[2 + i].name, node.input[2 + i])
                    del node.input[2 + i], node.output[i], body.input[2 + i], body.output[1 + i]
                nodes += _pop_invariant(body)
                graph.initializer.extend(_pop_all(body.initializer))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unread(graph)


def _unchanged(node: Any, body: Any, read: set[str]) -> list[int]:
    """Loop-carried states that the body hands on as they are, and nobody reads afterwards."""
    source = {n.output[0]: n.input[0] for n in body.node if n.op_type == "Identity"}
    states = zip(body.input[2:], body.output[1:], node.output, strict=False)
    return [
        i
        for i, (before, after, result) in enumerate(states)
        if source.get(after.name, after.name) == before.name and result not in read
    ]


def _pop_invariant(body: Any) -> list[Any]:
    """Removes the nodes that depend on nothing that iterations change; returns them in order."""
    varying, results = {x.name for x in body.input}, {x.name for x in body.output}
    kept: list[Any] = []
    moved: list[Any] = []
    for node in _pop_all(body.node):
        inputs = {x for n in (node, *_inner(node)) for x in n.input}
        varies = inputs & varying or results.intersection(node.output)
        varying.update(node.output if varies else ())
        (kept if varies else moved).append(node)
    body.node.extend(kept)
    for node in moved:
        node.ClearField("name")  # Unique in its graph only.
    return moved


def _pop_all(repeated: Any) -> list[Any]:
    found = list(repeated)
    del repeated[:]
    return found


def _rename(graph: Any, old: str, new: str) -> None:
    for node in _nodes(graph):
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new


def _read(graph: Any) -> set[str]:
    """Names of all values that are read somewhere."""
    return {x for n in _nodes(graph) for x in n.input} | {x.name for x in graph.output}


def _drop_unread(graph: Any) -> None:
    """Removes nodes and constants whose results nobody reads."""
    read = {x.name for x in graph.output}
    kept: list[Any] = []
    for node in reversed(_pop_all(graph.node)):
        if read.intersection(node.output):
            kept.append(node)
            read |= {x for n in (node, *_inner(node)) for x in n.input}
    graph.node.extend(reversed(kept))
    constants = _pop_all(graph.initializer)
    graph.initializer.extend(x for x in constants if x.name in read)


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
