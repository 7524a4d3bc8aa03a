"""What a policy is made of: parameters, arithmetic and memory by module.

Everything is derived from shapes: nothing is allocated, computed or compiled, so that the
largest model can be described on the smallest machine.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxpolicy.core.types import Algorithm, Params

__all__ = ["Row", "Table", "matmul_flops", "memory", "table", "text", "tree_bytes"]

Path = tuple[str, ...]

# Of TrainState.params, those with the structure of (a part of) "network".
_COPIES = ("ema", "reference")


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
      copy_bytes: memory of the copies of parameters that are not trained: their moving average,
        and the policy that a method keeps near to.
      activation_bytes: memory of what the forward pass of B samples keeps for the backward
        pass, before the compiler fuses operations: an upper bound as a rule.
      others: memory of what is not of the network, by name.
    """

    rows: tuple[Row, ...]
    batch_size: int
    parameters: int
    flops: float
    parameter_bytes: int
    optimizer_bytes: int
    copy_bytes: int
    activation_bytes: int
    others: Mapping[str, int] = dataclasses.field(default_factory=dict)


def table(algorithm: Algorithm, batch: Any, depth: int = 4) -> Table:
    """Describes the network that an algorithm trains.

    Args:
      algorithm: any whose `eval_step` reports the "loss" of one forward pass.
      batch: arrays or jax.ShapeDtypeStruct, as `eval_step` takes them, with the `observation`
        of B samples; only shapes count.
      depth: how many names a path may have; deeper modules are counted in those around them.

    Returns:
      See Table.
    """
    state = jax.eval_shape(algorithm.init, jax.eval_shape(jax.random.key, 0), batch)
    sizes = {_names(p): x.size for p, x in jax.tree.leaves_with_path(state.params["network"])}
    loss = functools.partial(_loss, algorithm)
    jaxpr = jax.make_jaxpr(loss)(state.params["network"], state.params, batch).jaxpr
    batch_size = jax.tree.leaves(batch.observation)[0].shape[0]
    modules = frozenset(path[:i] for path in sizes for i in range(len(path)))
    flops: dict[Path, float] = collections.defaultdict(float)
    for stack, value in matmul_flops(_needed(jaxpr)):
        flops[_module(stack, modules)] += value / batch_size
    return Table(
        rows=tuple(_rows(sizes, flops, depth)),
        batch_size=batch_size,
        parameters=sum(sizes.values()),
        flops=sum(flops.values()),
        parameter_bytes=tree_bytes(state.params["network"]),
        optimizer_bytes=tree_bytes(state.opt_state),
        copy_bytes=tree_bytes([state.params.get(name) for name in _COPIES]),
        activation_bytes=_activation_bytes(loss, state.params, batch),
    )


def _loss(algorithm: Algorithm, network: Params, params: Params, batch: Any) -> jax.Array:
    """The loss [] of `network`, which also acts where a moving average would."""
    averages = {"ema": network} if "ema" in params else {}
    return algorithm.eval_step({**params, "network": network, **averages}, batch)["loss"]


def _needed(jaxpr: core.Jaxpr) -> core.Jaxpr:
    """`jaxpr` without what its outputs do not depend on, e.g. other metrics than the loss."""
    wanted = {v for v in jaxpr.outvars if isinstance(v, core.Var)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if wanted.intersection(equation.outvars):
            wanted.update(v for v in equation.invars if isinstance(v, core.Var))
            kept.append(equation)
    return jaxpr.replace(eqns=kept[::-1])


def _names(path: tuple[Any, ...]) -> Path:
    return tuple(str(entry.key) for entry in path)


def tree_bytes(tree: Any) -> int:
    """Memory of the arrays, or their shapes, of a tree; PRNG keys count as nothing."""
    found = [x for x in jax.tree.leaves(tree) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(x.size * x.dtype.itemsize for x in found)


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
        # Of "vmap(name)", the name.
        name = name.split("(")[-1].rstrip(")")
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


def _activation_bytes(loss: Callable[..., jax.Array], params: Params, batch: Any) -> int:
    """What differentiating the loss keeps, apart from its own inputs."""

    def kept(params: Params, batch: Any) -> Any:
        of = functools.partial(loss, params=params, batch=batch)
        return jax.vjp(of, params["network"])[1]

    jaxpr = jax.make_jaxpr(kept)(params, batch).jaxpr
    given = {*jaxpr.invars, *jaxpr.constvars}
    variables = {v for v in jaxpr.outvars if isinstance(v, core.Var)} - given
    return tree_bytes([v.aval for v in variables])


def memory(table: Table) -> str:
    """A line of what memory is needed for; copies only where there are any."""
    copies = {"copies that are not trained": table.copy_bytes} if table.copy_bytes else {}
    needed = {
        "parameters": table.parameter_bytes,
        "gradients": table.parameter_bytes,
        "optimiser": table.optimizer_bytes,
        **copies,
        f"activations of {table.batch_size:,} samples at most": table.activation_bytes,
        **table.others,
    }
    return "memory: " + ", ".join(f"{key} {n / 1e6:,.1f} MB" for key, n in needed.items())


def text(table: Table) -> str:
    """The table as lines to print, modules indented by depth."""
    names = ["  " * (len(r.path) - 1) + r.path[-1] for r in table.rows]
    width = max(map(len, [*names, "module"]))
    lines = [f"{'module':{width}}  {'parameters':>12}  {'MFLOP':>12}"]
    for name, row in zip(names, table.rows, strict=True):
        lines.append(f"{name:{width}}  {row.parameters:>12,}  {row.flops / 1e6:>12,.2f}")
    lines.append(f"{'total':{width}}  {table.parameters:>12,}  {table.flops / 1e6:>12,.2f}")
    return "\n".join([*lines, "FLOPs: one forward pass of one sample", memory(table)])
