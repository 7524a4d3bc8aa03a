"""3x3 convolutions with 4/9 of the multiplications, for processors.

F(2x2, 3x3) of Lavin and Gray 2015, https://arxiv.org/abs/1509.09308: a patch of 4x4 pixels d
and a kernel g give a tile of 2x2 outputs

  Y = A [(G g G^T) * (B d B^T)] A^T,

where the product * is a matrix product over channels for each of 16 places. Larger tiles save
more and round worse; maps of 3x3 pixels are one tile of F(3x3, 3x3). Everything is sums of
slices and matrix products; all functions are for stride 1 and "SAME" padding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["convolve", "input_gradient", "kernel_gradient"]


class _Form(NamedTuple):
    """Matrices of F(m, 3): B [m + 2, m + 2], G [m + 2, 3], A [m, m + 2]."""

    b: np.ndarray
    g: np.ndarray
    a: np.ndarray


# Equations 7 and 8 of the paper for one dimension.
_TWO = _Form(
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
)
# The same construction with the points 0, 1, -1, 2 and infinity.
_THREE = _Form(
    np.array(
        [
            [2, -1, -2, 1, 0],
            [0, -2, -1, 1, 0],
            [0, 2, -3, 1, 0],
            [0, -1, 0, 1, 0],
            [0, 2, -1, -2, 1],
        ]
    ),
    np.array([[3, 0, 0], [-3, -3, -3], [-1, 1, -1], [1, 2, 4], [0, 0, 6]]) / 6,
    np.array([[1, 1, 1, 1, 0], [0, 1, -1, 2, 0], [0, 1, 1, 4, 1]]),
)

Grid = Sequence[Sequence[jax.Array]]


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[N, H, W, C] and [3, 3, C, F] -> [N, H, W, F]."""
    form = _form(x)
    return _transformed_product(form, x, _transform(form.g, _grid(kernel)), 0)


def input_gradient(g: jax.Array, kernel: jax.Array) -> jax.Array:
    """Gradient of `convolve` by x: the convolution of g [N, H, W, F] with the turned kernel."""
    form = _form(g)
    return _transformed_product(form, g, _transform(form.g, _grid(kernel[::-1, ::-1])), 1)


def kernel_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    """Gradient of `convolve` by its kernel: dg = G^T [(B d B^T)^T (A^T dY A)] G.

    Args:
      x: [N, H, W, C].
      g: [N, H, W, F], gradient by the result.

    Returns:
      [3, 3, C, F].
    """
    form = _form(x)
    patches, spread = _transform(form.b, _patches(form, x)), _transform(form.a.T, _tiles(form, g))
    products = [
        [_flat(p).T @ _flat(s) for p, s in zip(*rows, strict=True)]
        for rows in zip(patches, spread, strict=True)
    ]
    return jnp.stack([jnp.stack(row) for row in _transform(form.g.T, products)])


def _form(x: jax.Array) -> _Form:
    """One tile of 3x3 where that is all there is: 25 products instead of 64 for four of 2x2."""
    return _THREE if max(x.shape[1:3]) == len(_THREE.a) else _TWO


def _transformed_product(form: _Form, x: jax.Array, kernels: Grid, contract: int) -> jax.Array:
    """[N, H, W, C] and matrices for each place, whose axis `contract` is C -> [N, H, W, F]."""
    products = [
        [lax.dot_general(p, k, (((3,), (contract,)), ((), ()))) for p, k in zip(*rows, strict=True)]
        for rows in zip(_transform(form.b, _patches(form, x)), kernels, strict=True)
    ]
    rows = [jnp.stack(row, axis=3) for row in _transform(form.a, products)]
    tiles = jnp.stack(rows, axis=2)
    n, down, side, across, _, features = tiles.shape
    whole = tiles.reshape(n, down * side, across * side, features)
    return whole[:, : x.shape[1], : x.shape[2]]


def _transform(matrix: np.ndarray, grid: Grid) -> list[list[jax.Array]]:
    """M d M^T of a grid d of arrays, as sums: most entries of M are 0 or 1."""
    columns = [_combine(matrix, column) for column in zip(*grid, strict=True)]
    return [_combine(matrix, row) for row in zip(*columns, strict=True)]


def _combine(matrix: np.ndarray, arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Sums of the arrays with the weights of each row of the matrix."""
    return [_sum([_scale(w, x) for w, x in zip(row, arrays, strict=True) if w]) for row in matrix]


def _scale(weight: float, x: jax.Array) -> jax.Array:
    return x if weight == 1 else -x if weight == -1 else x * weight


def _sum(terms: Sequence[Any]) -> Any:
    return sum(terms[1:], terms[0])


def _grid(kernel: jax.Array) -> Grid:
    return [[kernel[i, j] for j in range(3)] for i in range(3)]


def _patches(form: _Form, x: jax.Array) -> Grid:
    """Pixel (i, j) of every overlapping patch, (m + 2) x (m + 2); each [N, tiles, tiles, C]."""
    return _strided(form, x, before=1, side=len(form.b))


def _tiles(form: _Form, g: jax.Array) -> Grid:
    """Pixel (i, j) of every m x m tile; each [N, ceil(H / m), ceil(W / m), F]."""
    return _strided(form, g, before=0, side=len(form.a))


def _strided(form: _Form, x: jax.Array, before: int, side: int) -> Grid:
    step = len(form.a)
    down, across = (-(-s // step) * step for s in x.shape[1:3])
    after = (down + before - x.shape[1], across + before - x.shape[2])
    x = jnp.pad(x, ((0, 0), (before, after[0]), (before, after[1]), (0, 0)))
    return [
        [x[:, i : i + down : step, j : j + across : step] for j in range(side)] for i in range(side)
    ]


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])
