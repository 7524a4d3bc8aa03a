"""What a policy is made of: parameters, arithmetic and memory by module.

Everything is derived from shapes: nothing is allocated, computed or compiled, so that the
largest model can be described on the smallest machine.
"""

import collections
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.extend import core

from jaxpolicy.types import Algorithm, Batch, Params

__all__ = ["Row", "Table", "matmul_flops", "table", "text"]

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """One module with all that is inside it.

    Attributes:
      path: names from the outermost module in, as in the tree of parameters.
      parameters: how many numbers are learned.
      flops: of a forward pass, for one sample; see `matmul_flops`.
    """

    path: Path
    parameters: int
    flops: float


@dataclasses.dataclass(frozen=True)
class Table:
    """Modules in the order in which they compute, and totals.

    Attributes:
      rows: see Row.
      batch_size: B, samples for which activations are counted.
      parameters: how many numbers are learned.
      flops: of a forward pass of the loss, for one sample; with the backward pass a training
        step costs about three times as much, and four times with network.remat.
      parameter_bytes: memory of the parameters; gradients need as much again.
      optimizer_bytes: memory of the optimiser's state.
      activation_bytes: memory of what the forward pass of B samples keeps for the backward
        pass, before the compiler fuses operations: an upper bound as a rule.
    """

    rows: tuple[Row, ...]
    batch_size: int
    parameters: int
    flops: float
    parameter_bytes: int
    optimizer_bytes: int
    activation_bytes: int


def table(algorithm: Algorithm, batch: Batch, depth: int = 4) -> Table:
    """Describes the network that an algorithm trains.

    Args:
      algorithm: any whose `eval_step` reports the "loss" of one forward pass.
      batch: arrays or jax.ShapeDtypeStruct, as `init` takes them; only shapes count.
      depth: how many names a path may have; deeper modules are counted in those around them.

    Returns:
      See Table.
    """
    state = jax.eval_shape(algorithm.init, jax.eval_shape(jax.random.key, 0), batch)
    sizes = {_names(p): x.size for p, x in jax.tree.leaves_with_path(state.params["network"])}
    jaxpr = jax.make_jaxpr(algorithm.eval_step)(state.params, batch).jaxpr
    batch_size = jax.tree.leaves(batch.action)[0].shape[0]
    modules = frozenset(path[:i] for path in sizes for i in range(len(path)))
    flops: dict[Path, float] = collections.defaultdict(float)
    for stack, value in matmul_flops(jaxpr):
        flops[_module(stack, modules)] += value / batch_size
    return Table(
        rows=tuple(_rows(sizes, flops, depth)),
        batch_size=batch_size,
        parameters=sum(sizes.values()),
        flops=sum(flops.values()),
        parameter_bytes=_bytes(jax.tree.leaves(state.params["network"])),
        optimizer_bytes=_bytes(jax.tree.leaves(state.opt_state)),
        activation_bytes=_activation_bytes(algorithm, state.params, batch),
    )


def _names(path: tuple[Any, ...]) -> Path:
    return tuple(str(entry.key) for entry in path)


def _bytes(arrays: list[Any]) -> int:
    return sum(x.size * x.dtype.itemsize for x in arrays)


def matmul_flops(jaxpr: core.Jaxpr, stack: str = "", times: int = 1) -> Iterator[tuple[str, float]]:
    """Arithmetic of matrix products and convolutions, 2 per multiply-add.

    The rest of a network's arithmetic is a few percent, and by convention no part of model
    FLOPs (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B).

    Args:
      jaxpr: of any function. Of branches the costliest counts, of loops of unknown length
        one pass.
      stack: scopes around it.
      times: how often it runs.

    Yields:
      Scopes of an operation, "Outer/inner", and its FLOPs.
    """
    for equation in jaxpr.eqns:
        scope = f"{stack}/{equation.source_info.name_stack}"
        name = equation.primitive.name
        inner = list(core.jaxprs_in_params(equation.params))
        if name == "cond":
            branches = [list(matmul_flops(j, scope, times)) for j in inner]
            yield from max(branches, key=lambda found: sum(value for _, value in found))
        elif inner:
            length = equation.params["length"] if name == "scan" else 1
            for j in inner:
                yield from matmul_flops(j, scope, times * length)
        elif name in _MULTIPLY_ADDS:
            yield scope, 2.0 * times * _MULTIPLY_ADDS[name](equation)


def _dot_multiply_adds(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return equation.outvars[0].aval.size * math.prod(shape[i] for i in contracted)


def _conv_multiply_adds(equation: Any) -> int:
    kernel = equation.invars[1].aval
    features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    return equation.outvars[0].aval.size * kernel.size // features


_MULTIPLY_ADDS = {
    "conv_general_dilated": _conv_multiply_adds,
    "dot_general": _dot_multiply_adds,
}


def _module(stack: str, modules: frozenset[Path]) -> Path:
    """The innermost module of the tree of parameters that the scopes name."""
    path: Path = ()
    for name in stack.split("/"):
        if (*path, name) in modules:
            path = (*path, name)
    return path


def _rows(sizes: Mapping[Path, int], flops: Mapping[Path, float], depth: int) -> list[Row]:
    """Every module of at most `depth` names, parents before children."""
    counts: dict[Path, int] = collections.defaultdict(int)
    work: dict[Path, float] = collections.defaultdict(float)
    order: dict[Path, None] = {}
    for path, value in flops.items():
        for i in range(1, len(path) + 1):
            order.setdefault(path[:i])
            work[path[:i]] += value
    for path, size in sizes.items():
        for i in range(1, len(path)):
            order.setdefault(path[:i])
            counts[path[:i]] += size
    rows = [Row(path, counts[path], work[path]) for path in order if len(path) <= depth]
    rank = {path: i for i, path in enumerate(order)}
    return sorted(rows, key=lambda r: [rank[r.path[: i + 1]] for i in range(len(r.path))])


def _activation_bytes(algorithm: Algorithm, params: Params, batch: Batch) -> int:
    """What differentiating the loss keeps, apart from its own inputs."""

    def kept(params: Params, batch: Batch) -> Any:
        def loss(network: Params) -> jax.Array:
            return algorithm.eval_step({**params, "network": network}, batch)["loss"]

        return jax.vjp(loss, params["network"])[1]

    jaxpr = jax.make_jaxpr(kept)(params, batch).jaxpr
    given = {*jaxpr.invars, *jaxpr.constvars}
    variables = {v for v in jaxpr.outvars if isinstance(v, core.Var)} - given
    return _bytes([v.aval for v in variables])


def text(table: Table) -> str:
    """The table as lines to print, modules indented by depth."""
    names = ["  " * (len(r.path) - 1) + r.path[-1] for r in table.rows]
    width = max(map(len, [*names, "module"]))
    lines = [f"{'module':{width}}  {'parameters':>12}  {'MFLOP':>12}"]
    for name, row in zip(names, table.rows, strict=True):
        lines.append(f"{name:{width}}  {row.parameters:>12,}  {row.flops / 1e6:>12,.2f}")
    lines.append(f"{'total':{width}}  {table.parameters:>12,}  {table.flops / 1e6:>12,.2f}")
    memory = {
        "parameters": table.parameter_bytes,
        "gradients": table.parameter_bytes,
        "optimiser": table.optimizer_bytes,
        f"activations of {table.batch_size} samples": table.activation_bytes,
    }
    parts = [f"{key} {value / 1e6:,.1f} MB" for key, value in memory.items()]
    return "\n".join(
        [*lines, "FLOPs: one forward pass of one sample", "memory: " + ", ".join(parts)]
    )
