"""The convolution primitive picks the fastest form from static shapes; max pooling.

XLA's CPU convolution is good at a forward pass on many channels and bad at almost
everything else, so special cases become matrix products:

* 1x1 kernels (any stride): strided slice, then a dot;
* kernel equal to stride (patch stems, downsampling): reshape, then a dot;
* 1-D kernels at least as long as the sequence: a dot with shifted sequences, because
  `lax.conv` takes 40 times longer;
* transposed 1-D: a dot, then overlap-add by shifted sums;
* other kernels: `lax.conv`, whose gradients on a CPU are written out, because
  XLA rewrites a convolution into the layout of its fast library only outside loops.
  The gradient that JAX derives takes 250 times longer inside `lax.scan`;
* 3x3 on many channels, while training on a CPU: Winograd's form, see `winograd`.

The forms agree with `jax.lax.conv_general_dilated` to rounding, and the ONNX and
TF Lite exporters know all of their operations. Layouts are NHWC / NTC.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxpolicy.networks import winograd

__all__ = [
    "Conv1D",
    "Conv2D",
    "ConvTranspose1D",
    "conv1d",
    "conv1d_transpose",
    "conv2d",
    "max_pool",
]

_NHWC = ("NHWC", "HWIO", "NHWC")
# With fewer channels the transforms cost what the products save.
_WINOGRAD_CHANNELS = 64

Pads = tuple[tuple[int, int], ...]


def conv2d(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int | None = None
) -> jax.Array:
    """2-D cross-correlation.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, F].
      stride: same for both axes.
      padding: zeros on every side, as in PyTorch's `Conv2d`; None: "SAME", which for a stride
        above 1 may put one zero more at the bottom and the right.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), F] with "SAME", otherwise
      [B, (H + 2 padding - k) // stride + 1, (W + 2 padding - k) // stride + 1, F].
    """
    size = kernel.shape[:2]
    if size == (1, 1) and not padding:
        return x[:, ::stride, ::stride] @ kernel[0, 0]
    divides = x.shape[1] % stride == 0 and x.shape[2] % stride == 0
    if size == (stride, stride) and divides and not padding:
        return _patch_dot(x, kernel)
    if padding is None:
        pads = tuple(lax.padtype_to_pads(x.shape[1:3], size, (stride, stride), "SAME"))
    else:
        pads = ((padding, padding),) * 2
    return _convolve(x, kernel, stride, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """Any kernel. Reverse mode only: `jax.jvp` does not apply."""
    return _lax_conv(x, kernel, stride, pads)


def _lax_conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=_NHWC)


def _convolve_forward(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    default = functools.partial(_lax_conv, stride=stride, pads=pads)
    if not _suits_winograd(x, kernel, stride, pads):
        return default(x, kernel), (x, kernel)
    y = lax.platform_dependent(x, kernel, cpu=winograd.convolve, default=default)
    return y, (x, kernel)


def _convolve_backward(
    stride: int, pads: Pads, residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    ours = functools.partial(_gradients_cpu, stride=stride, pads=pads)
    default = functools.partial(_gradients, stride=stride, pads=pads)
    return lax.platform_dependent(*residuals, g, cpu=ours, default=default)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _suits_winograd(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> bool:
    """Whether fewer multiplications outweigh the transforms, and nothing is rounded more."""
    return (
        kernel.shape[:2] == (3, 3)
        and (stride, pads) == (1, ((1, 1), (1, 1)))
        and min(kernel.shape[2:]) >= _WINOGRAD_CHANNELS
        and x.dtype == kernel.dtype == jnp.float32
    )


def _gradients(
    x: jax.Array, kernel: jax.Array, g: jax.Array, stride: int, pads: Pads
) -> tuple[jax.Array, jax.Array]:
    """Gradients of `_lax_conv` as JAX derives them."""
    return jax.vjp(functools.partial(_lax_conv, stride=stride, pads=pads), x, kernel)[1](g)


def _gradients_cpu(
    x: jax.Array, kernel: jax.Array, g: jax.Array, stride: int, pads: Pads
) -> tuple[jax.Array, jax.Array]:
    """The same in forms that are fast on a CPU, inside loops as well."""
    if _suits_winograd(x, kernel, stride, pads):
        return winograd.input_gradient(g, kernel), winograd.kernel_gradient(x, g)
    if stride == 1:
        dx = _turned_conv(g, kernel, pads)
    else:
        dx = _strided_input_gradient(g, kernel, stride, pads, x.shape)
    return dx, _kernel_gradient(x, g, stride, pads, kernel.shape[:2])


def _turned_conv(g: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """dL/dx for stride 1: g convolved with the kernel turned by 180 degrees."""
    size = kernel.shape[:2]
    turned = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(size, pads, strict=True))
    return _lax_conv(g, kernel[::-1, ::-1].swapaxes(2, 3), 1, turned)


def _kernel_gradient(
    x: jax.Array, g: jax.Array, stride: int, pads: Pads, size: Sequence[int]
) -> jax.Array:
    """dL/dkernel[i, j] = sum over pixels of x[stride y + i, stride z + j]^T g[y, z].

    That is a convolution of x with a dilated g in which samples are the channels. Written
    with transposes, it has the one layout for which XLA calls its fast library in a loop.
    """
    across = zip(size, x.shape[1:3], g.shape[1:3], pads, strict=True)
    wide = [(low, stride * (out - 1) + k - length - low) for k, length, out, (low, _) in across]
    lhs, rhs = lax.optimization_barrier((x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)))
    y = lax.conv_general_dilated(
        lhs, rhs, (1, 1), wide, rhs_dilation=(stride, stride), dimension_numbers=_NHWC
    )
    return y.transpose(1, 2, 0, 3)


def _strided_input_gradient(
    g: jax.Array, kernel: jax.Array, stride: int, pads: Pads, shape: Sequence[int]
) -> jax.Array:
    """dL/dx [stride y + i, stride z + j] = sum of g[y, z] kernel[i, j]^T, of the given shape."""
    parts = [[lax.dot_general(g, tap, (((3,), (1,)), ((), ()))) for tap in row] for row in kernel]
    return _overlap_add(parts, stride, pads, shape)


def _overlap_add(
    parts: Sequence[Sequence[jax.Array]], stride: int, pads: Pads, shape: Sequence[int]
) -> jax.Array:
    """Adds parts[i][j][:, y, z] to pixel (stride y + i, stride z + j) of zeros with `pads` cut off.

    Rows of x that are a apart modulo the stride are summed by themselves (and columns
    likewise), and joined by a reshape.
    """
    more = [-(-k // stride) - 1 for k in (len(parts), len(parts[0]))]
    # A stride longer than the kernel leaves pixels that nothing reaches.
    blank = jnp.zeros_like(_moved(parts[0][0], 0, 0, more))
    rows = []
    for a in range(stride):
        cells = []
        for b in range(stride):
            moved = [
                _moved(part, i, j, more)
                for i, row in enumerate(parts[a::stride])
                for j, part in enumerate(row[b::stride])
            ]
            cells.append(sum(moved[1:], moved[0]) if moved else blank)
        rows.append(jnp.stack(cells, axis=3))
    whole = jnp.stack(rows, axis=2)
    n, height, width, channels = shape
    whole = whole.reshape(n, stride * whole.shape[1], stride * whole.shape[3], channels)
    (top, _), (left, _) = pads
    missing = (max(0, top + height - whole.shape[1]), max(0, left + width - whole.shape[2]))
    whole = jnp.pad(whole, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
    return whole[:, top : top + height, left : left + width]


def _moved(x: jax.Array, down: int, right: int, more: Sequence[int]) -> jax.Array:
    """The array with zeros around it, `more` of them along each axis."""
    return jnp.pad(x, ((0, 0), (down, more[0] - down), (right, more[1] - right), (0, 0)))


_POOL, _POOL_STRIDE, _POOL_PADS = 3, 2, ((1, 1), (1, 1))


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Largest of 3x3 pixels, stride 2, one pixel of padding; reverse mode only.

    The gradient goes to the first of equal pixels, as in PyTorch and `lax`.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, ceil(H / 2), ceil(W / 2), C].
    """
    # Not lax.reduce_window, which the ONNX exporter writes for another layout.
    return functools.reduce(jnp.maximum, _pool_taps(x))


def _max_pool_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Maxima of shifted slices, and which of them is the first to hold the maximum."""
    taps = _pool_taps(x)
    y = functools.reduce(jnp.maximum, taps)
    first = jnp.full(y.shape, len(taps), jnp.int8)
    for i in reversed(range(len(taps))):
        first = jnp.where(taps[i] == y, jnp.int8(i), first)
    return y, (first, jnp.zeros((0, *x.shape[1:])))


def _max_pool_backward(residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
    first, empty = residuals
    parts = [[jnp.where(first == _POOL * i + j, g, 0) for j in range(_POOL)] for i in range(_POOL)]
    shape = (g.shape[0], *empty.shape[1:])
    return (_overlap_add(parts, _POOL_STRIDE, _POOL_PADS, shape),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _pool_taps(x: jax.Array) -> list[jax.Array]:
    """The 9 pixels of every window, each [B, ceil(H / 2), ceil(W / 2), C]."""
    height, width = x.shape[1:3]
    padding = ((0, 0), *_POOL_PADS, (0, 0))
    padded = jnp.pad(x, padding, constant_values=-jnp.inf)
    return [
        padded[:, i : i + height : _POOL_STRIDE, j : j + width : _POOL_STRIDE]
        for i in range(_POOL)
        for j in range(_POOL)
    ]


def _patch_dot(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Non-overlapping patches times a matrix."""
    n, height, width, channels = x.shape
    p = kernel.shape[0]
    patches = x.reshape(n, height // p, p, width // p, p, channels).transpose(0, 1, 3, 2, 4, 5)
    patches = patches.reshape(n, height // p, width // p, p * p * channels)
    return patches @ kernel.reshape(p * p * channels, -1)


def conv1d(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """1-D cross-correlation with padding k // 2 on both sides.

    For odd k and stride 1 this is "SAME"; for stride 2 it is PyTorch's
    `Conv1d(padding=k // 2)`, which diffusion U-Nets use.

    Args:
      x: [B, T, C].
      kernel: [k, C, F].
      stride: along T.

    Returns:
      [B, (T + 2 (k // 2) - k) // stride + 1, F].
    """
    size, length = kernel.shape[0], x.shape[1]
    if size == 1:
        return x[:, ::stride] @ kernel[0]
    pad = size // 2
    if size >= length:
        return _taps_dot(x, kernel, stride, pad)
    # As pictures one pixel high, whose gradients are written out.
    return _convolve(x[:, None], kernel[None], stride, ((0, 0), (pad, pad)))[:, 0]


def _taps_dot(x: jax.Array, kernel: jax.Array, stride: int, pad: int) -> jax.Array:
    """Shifted sequences side by side as channels, times a matrix [k C, F]."""
    size, channels, features = kernel.shape
    out = (x.shape[1] + 2 * pad - size) // stride + 1
    padded = jnp.pad(x, ((0, 0), (pad, pad), (0, 0)))
    taps = [padded[:, j : j + stride * (out - 1) + 1 : stride] for j in range(size)]
    return jnp.concatenate(taps, axis=-1) @ kernel.reshape(size * channels, features)


def conv1d_transpose(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Transposed 1-D convolution: y[stride t + j - pad] += x[t] kernel[j].

    pad = (k - stride) // 2, so an even k - stride gives exactly stride T outputs
    (PyTorch's `ConvTranspose1d(k, stride, padding=pad)`).

    Args:
      x: [B, T, C].
      kernel: [k, C, F], k >= stride, k - stride even.
      stride: upsampling factor.

    Returns:
      [B, stride T, F].
    """
    n, length, channels = x.shape
    size, _, features = kernel.shape
    blocks = -(-size // stride)
    taps = jnp.pad(kernel, ((0, blocks * stride - size), (0, 0), (0, 0)))
    products = x @ taps.transpose(1, 0, 2).reshape(channels, -1)
    products = products.reshape(n, length, blocks, stride * features)
    # Block b of x[t] lands b blocks later: T + blocks - 1 blocks of `stride` outputs.
    shifted = [
        jnp.pad(products[:, :, b], ((0, 0), (b, blocks - 1 - b), (0, 0))) for b in range(blocks)
    ]
    whole = sum(shifted[1:], shifted[0]).reshape(n, (length + blocks - 1) * stride, features)
    pad = (size - stride) // 2
    return whole[:, pad : pad + stride * length]


class Conv2D(nn.Module):
    """`conv2d` with learned kernel and bias; [B, H, W, C] -> [B, H', W', features].

    Attributes:
      features: F.
      size: k of the k x k kernel.
      stride: same for both axes.
      padding: zeros on every side; None: "SAME".
      use_bias: adds a bias.
      zero_init: starts at zero, for the last layer of a residual branch.
      dtype: of the computation.
    """

    features: int
    size: int = 3
    stride: int = 1
    padding: int | None = None
    use_bias: bool = True
    zero_init: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', F], see `conv2d`."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel, bias = _parameters(self, shape, self.use_bias, self.zero_init)
        y = conv2d(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.padding)
        return y + bias.astype(self.dtype)


class Conv1D(nn.Module):
    """`conv1d` with learned kernel and bias; [B, T, C] -> [B, T', features].

    Attributes:
      features: F.
      size: kernel length.
      stride: along T.
      dtype: of the computation.
    """

    features: int
    size: int = 3
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, C] -> [B, T', F]."""
        kernel, bias = _parameters(self, (self.size, x.shape[-1], self.features))
        y = conv1d(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
        return y + bias.astype(self.dtype)


class ConvTranspose1D(nn.Module):
    """`conv1d_transpose` with learned kernel and bias; [B, T, C] -> [B, stride T, features].

    Attributes:
      features: F.
      size: kernel length; size - stride must be even and not negative.
      stride: upsampling factor.
      dtype: of the computation.
    """

    features: int
    size: int = 4
    stride: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, C] -> [B, stride T, F]."""
        kernel, bias = _parameters(self, (self.size, x.shape[-1], self.features))
        y = conv1d_transpose(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
        return y + bias.astype(self.dtype)


def _parameters(
    module: nn.Module, shape: Sequence[int], use_bias: bool = True, zero_init: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Kernel (He normal over fan-in, or zeros) and bias (zeros) in float32."""
    init = nn.initializers.zeros if zero_init else nn.initializers.he_normal()
    kernel = module.param("kernel", init, tuple(shape))
    if not use_bias:
        return kernel, jnp.zeros((shape[-1],))
    return kernel, module.param("bias", nn.initializers.zeros, (shape[-1],))
