"""The one convolution primitive: picks the fastest form from static shapes.

XLA's CPU convolution is good at 3x3 kernels on many channels and bad at almost
everything else, so special cases become matrix products:

* 1x1 kernels (any stride): strided slice, then a dot;
* kernel equal to stride (patch stems, downsampling): reshape, then a dot;
* 1-D kernels at least as long as the sequence: a banded matrix product;
* transposed 1-D: a dot, then overlap-add by shifted sums;
* other 2-D kernels: `lax.conv`, whose gradients on a CPU are written out, because
  XLA rewrites a convolution into the layout of its fast library only outside loops.
  The gradient that JAX derives takes 250 times longer inside `lax.scan`.

The forms agree with `jax.lax.conv_general_dilated` to rounding, and the ONNX and
TF Lite exporters know all of their operations. Layouts are NHWC / NTC.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["Conv1D", "Conv2D", "ConvTranspose1D", "conv1d", "conv1d_transpose", "conv2d"]


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
    same = padding is None or (stride == 1 and size == (2 * padding + 1,) * 2)
    if size == (1, 1) and not padding:
        return x[:, ::stride, ::stride] @ kernel[0, 0]
    divides = x.shape[1] % stride == 0 and x.shape[2] % stride == 0
    if size == (stride, stride) and divides and not padding:
        return _patch_dot(x, kernel)
    if size[0] == size[1] and size[0] % 2 and stride == 1 and same:
        return _same_conv(x, kernel)
    return _lax_conv(x, kernel, stride, padding)


def _lax_conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int | None = None
) -> jax.Array:
    pads = "SAME" if padding is None else [(padding, padding)] * 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def _same_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Odd square kernel, stride 1. Reverse mode only: `jax.jvp` does not apply."""
    return _lax_conv(x, kernel)


def _same_conv_forward(
    x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _lax_conv(x, kernel), (x, kernel)


def _same_conv_backward(
    residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return lax.platform_dependent(*residuals, g, cpu=_gradients_cpu, default=_gradients)


_same_conv.defvjp(_same_conv_forward, _same_conv_backward)


def _gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of `_lax_conv` as JAX derives them."""
    return jax.vjp(_lax_conv, x, kernel)[1](g)


def _gradients_cpu(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same as a convolution with the flipped kernel, and one matrix product.

    dL/dkernel[i, j] = sum over pixels of x[y + i - r, z + j - r]^T g[y, z], r = k // 2.
    Stacking k row shifts of x and k column shifts of g as channels makes that a
    product [k C, pixels] [pixels, k F]. The barriers keep XLA from fusing the stacks
    into their readers.
    """
    size, _, channels, features = kernel.shape
    dx = _lax_conv(g, kernel[::-1, ::-1].swapaxes(2, 3))
    rows = _shifted(x, 1, range(size)).reshape(-1, size * channels)
    columns = _shifted(g, 2, range(size - 1, -1, -1)).reshape(-1, size * features)
    rows, columns = lax.optimization_barrier((rows, columns))
    products = (rows.T @ columns).reshape(size, channels, size, features)
    return dx, products.transpose(0, 2, 1, 3)


def _shifted(x: jax.Array, axis: int, starts: Sequence[int]) -> jax.Array:
    """Slices of the zero-padded x, one per start, side by side as channels."""
    radius, length = len(starts) // 2, x.shape[axis]
    padding = [(radius, radius) if i == axis else (0, 0) for i in range(x.ndim)]
    padded = jnp.pad(x, padding)
    slices = [lax.slice_in_dim(padded, s, s + length, axis=axis) for s in starts]
    # Whole arrays are joined by copying memory; a fused concatenation picks element by
    # element.
    slices = lax.optimization_barrier(slices)
    return jnp.concatenate(slices, axis=-1)


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
    if size >= length:
        return _banded_dot(x, kernel, stride)
    pad = size // 2
    return lax.conv_general_dilated(
        x, kernel, (stride,), [(pad, pad)], dimension_numbers=("NWC", "WIO", "NWC")
    )


def _banded_dot(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Product of x [B, T C] and the matrix [T C, T' F] whose columns are shifted kernels."""
    n, length, channels = x.shape
    size, _, features = kernel.shape
    pad = size // 2
    out = (length + 2 * pad - size) // stride + 1
    padded = jnp.pad(kernel, ((length, length), (0, 0), (0, 0)))
    # Output t reads inputs stride t - pad ... : input i meets tap i + pad - stride t.
    starts = [length + pad - stride * t for t in range(out)]
    band = jnp.stack([padded[s : s + length] for s in starts], axis=2)
    matrix = band.reshape(length * channels, out * features)
    return (x.reshape(n, length * channels) @ matrix).reshape(n, out, features)


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
