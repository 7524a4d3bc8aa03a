"""3x3 convolutions with 4/9 of the multiplications, for processors.

F(2x2, 3x3) of Lavin and Gray 2015, https://arxiv.org/abs/1509.09308: a tile of 4x4 pixels d
and a kernel g give a tile of 2x2 outputs

  Y = A [(G g G^T) * (B d B^T)] A^T,

where the product * is a matrix product over channels for each of 16 positions. Larger tiles
save more and round worse. Everything is sums of slices and matrix products; all functions
are for stride 1 and "SAME" padding.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["convolve", "input_gradient", "kernel_gradient"]

# Rows of equations 7 and 8 of the paper, for one dimension.
_B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_A = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
_TILE = 2
_PATCH = 4

Grid = Sequence[Sequence[jax.Array]]


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[N, H, W, C] and [3, 3, C, F] -> [N, H, W, F]."""
    return _transformed_product(x, _transform(_G, _grid(kernel)), 0)


def input_gradient(g: jax.Array, kernel: jax.Array) -> jax.Array:
    """Gradient of `convolve` by x: the convolution of g [N, H, W, F] with the turned kernel."""
    return _transformed_product(g, _transform(_G, _grid(kernel[::-1, ::-1])), 1)


def kernel_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    """Gradient of `convolve` by its kernel: dg = G^T [(B d B^T)^T (A^T dY A)] G.

    Args:
      x: [N, H, W, C].
      g: [N, H, W, F], gradient by the result.

    Returns:
      [3, 3, C, F].
    """
    patches, spread = _transform(_B, _patches(x)), _transform(_A.T, _tiles(g))
    products = [
        [_flat(p).T @ _flat(s) for p, s in zip(*rows, strict=True)]
        for rows in zip(patches, spread, strict=True)
    ]
    return jnp.stack([jnp.stack(row) for row in _transform(_G.T, products)])


def _transformed_product(x: jax.Array, kernels: Grid, contract: int) -> jax.Array:
    """[N, H, W, C] and 4x4 matrices, whose axis `contract` is C -> [N, H, W, F]."""
    products = [
        [lax.dot_general(p, k, (((3,), (contract,)), ((), ()))) for p, k in zip(*rows, strict=True)]
        for rows in zip(_transform(_B, _patches(x)), kernels, strict=True)
    ]
    rows = [jnp.stack(row, axis=3) for row in _transform(_A, products)]
    tiles = jnp.stack(rows, axis=2)
    n, down, _, across, _, features = tiles.shape
    whole = tiles.reshape(n, down * _TILE, across * _TILE, features)
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


def _patches(x: jax.Array) -> Grid:
    """Pixel (i, j) of every overlapping 4x4 patch; each [N, ceil(H / 2), ceil(W / 2), C]."""
    down, across = (-(-s // _TILE) * _TILE for s in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (1, down + 1 - x.shape[1]), (1, across + 1 - x.shape[2]), (0, 0)))
    return _strided(x, _PATCH, down, across)


def _tiles(g: jax.Array) -> Grid:
    """Pixel (i, j) of every 2x2 tile; each [N, ceil(H / 2), ceil(W / 2), F]."""
    down, across = (-(-s // _TILE) * _TILE for s in g.shape[1:3])
    g = jnp.pad(g, ((0, 0), (0, down - g.shape[1]), (0, across - g.shape[2]), (0, 0)))
    return _strided(g, _TILE, down, across)


def _strided(x: jax.Array, side: int, down: int, across: int) -> Grid:
    return [
        [x[:, i : i + down : _TILE, j : j + across : _TILE] for j in range(side)]
        for i in range(side)
    ]


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])
