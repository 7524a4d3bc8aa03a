"""Changes to batches of images by given amounts: resampling, blur, colour, covering.

Images are [B, O, H, W, C] with values 0 to 255. Each sample has its own amounts [B], which
apply to all its O steps. Module `augment` draws the amounts.

What moves or mixes pixels along one axis is a matrix [B, H, H] per sample, so crop and blur
cost one pair of matrix products together. That is as fast as gathering pixels on CPU, and
exact there; accelerators may round products to their matrix units' precision.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.specs import InputError

__all__ = ["adjust_colour", "blur_weights", "colour_matrix", "crop_weights", "cutout", "resample"]

# Analog television (FCC 1953): luma, and the two chroma axes I and Q, of RGB.
_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float64
)
_LUMA = _YIQ[0]
# RGB -> chroma, what is left without the luma; and the same a quarter turn further. The sign
# makes red go to green, as hue is counted elsewhere.
_CHROMA = np.eye(3) - np.ones((3, 1)) * _LUMA
_QUARTER_TURN = np.linalg.inv(_YIQ) @ [[0, 0, 0], [0, 0, 1], [0, -1, 0]] @ _YIQ @ _CHROMA

# What the networks map to 0.
_GREY = 127.5


def resample(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Linear maps along both axes: result[i, j] = sum_hw rows[i, h] columns[j, w] image[h, w].

    Args:
      images: [B, O, H, W, C], any dtype.
      rows: [B, H', H].
      columns: [B, W', W].

    Returns:
      float32 [B, O, H', W', C].
    """
    x = images.astype(jnp.float32)
    left, right = rows[:, None], jnp.swapaxes(columns, -1, -2)[:, None]
    # One channel at a time: matrices in memory order, twice as fast on CPU as all at once.
    return jnp.stack([left @ x[..., c] @ right for c in range(x.shape[-1])], axis=-1)


def crop_weights(size: int, share: jax.Array, start: jax.Array) -> jax.Array:
    """Weights that enlarge the part from `start` on, `share` of the side, to the whole side.

    Linear interpolation between pixel centres, the border repeated beyond the image. A share
    of 1 and a whole number as start shift by that many pixels, as `augment.shift` does.

    Args:
      size: side in pixels.
      share: [B], of the side, in (0, 1].
      start: [B], pixels.

    Returns:
      [B, size, size], rows sum to 1.
    """
    pixel = jnp.arange(size, dtype=jnp.float32)
    centres = start[:, None] + (pixel + 0.5) * share[:, None] - 0.5
    centres = jnp.clip(centres, 0, size - 1)[..., None]
    return jnp.maximum(0.0, 1.0 - jnp.abs(centres - pixel))


def blur_weights(size: int, sigma: jax.Array, radius: int) -> jax.Array:
    """Weights of a Gaussian cut off at `radius` pixels and at the border.

    Args:
      size: side in pixels.
      sigma: [B], standard deviation in pixels; 0 changes nothing.
      radius: pixels.

    Returns:
      [B, size, size], rows sum to 1.
    """
    pixel = jnp.arange(size, dtype=jnp.float32)
    distance = jnp.abs(pixel[:, None] - pixel)
    # So narrow that the neighbours' weights are 0, where nothing is to be blurred.
    width = jnp.maximum(sigma, 1e-2)[:, None, None]
    weights = jnp.where(distance <= radius, jnp.exp(-jnp.square(distance / width) / 2), 0.0)
    return weights / weights.sum(-1, keepdims=True)


def adjust_colour(
    images: jax.Array,
    brightness: jax.Array,
    contrast: jax.Array,
    saturation: jax.Array,
    hue: jax.Array,
) -> jax.Array:
    """Brightness, then contrast, saturation and hue; results are clipped to 0 ... 255.

    Brightness is a factor of all values; contrast one of their distance from the sample's
    mean luma, over its O steps; saturation one of the distance from the pixel's luma. Hue
    turns colours about grey at constant luma. All four are one affine map of a pixel.

    Args:
      images: [B, O, H, W, 3], 0 to 255, any dtype.
      brightness, contrast, saturation: [B], factors; 1 changes nothing.
      hue: [B], turns; 0 changes nothing.

    Returns:
      float32 [B, O, H, W, 3].

    Raises:
      InputError: not three channels.
    """
    if images.shape[-1] != 3:
        raise InputError(
            f"colour jitter needs RGB images, got shape {list(images.shape)}; set "
            "augment.brightness, contrast, saturation and hue to 0"
        )
    x = images.astype(jnp.float32)
    luma = x.mean((1, 2, 3)) @ jnp.asarray(_LUMA, jnp.float32)
    offset = ((1.0 - contrast) * brightness * luma)[:, None, None, None]
    gain = (brightness * contrast)[:, None, None] * colour_matrix(saturation, hue)
    channels = [_mixed(x, gain[:, c]) + offset for c in range(3)]
    return jnp.clip(jnp.stack(channels, axis=-1), 0.0, 255.0)


def _mixed(x: jax.Array, weights: jax.Array) -> jax.Array:
    """Sum of the channels of x [B, O, H, W, 3] with weights [B, 3]."""
    w = weights[:, None, None, None]
    return x[..., 0] * w[..., 0] + x[..., 1] * w[..., 1] + x[..., 2] * w[..., 2]


def colour_matrix(saturation: jax.Array, hue: jax.Array) -> jax.Array:
    """RGB -> RGB: chroma times `saturation` [B], turned by `hue` [B] turns.

    The turn is that of the chroma plane of YIQ, which keeps luma and grey and is linear,
    where the hue of HSV has branches.

    Returns:
      [B, 3, 3]; the identity, exactly, for a saturation of 1 and a hue of 0.
    """
    angle = 2 * jnp.pi * hue
    along = (saturation * jnp.cos(angle) - 1.0)[:, None, None]
    across = (saturation * jnp.sin(angle))[:, None, None]
    chroma, turned = (jnp.asarray(m, jnp.float32) for m in (_CHROMA, _QUARTER_TURN))
    return jnp.eye(3) + along * chroma + across * turned


def cutout(images: jax.Array, start: jax.Array, stop: jax.Array) -> jax.Array:
    """Covers a rectangle with grey (127.5, which is 0 to the networks).

    Covered are the pixels whose centre (i + 0.5) is in [start, stop).

    Args:
      images: [B, O, H, W, C], any dtype.
      start, stop: [B, 2], pixels from the top and from the left.

    Returns:
      float32 [B, O, H, W, C].
    """
    inside = []
    for axis, size in enumerate(images.shape[2:4]):
        centre = jnp.arange(size) + 0.5
        inside.append((centre >= start[:, axis, None]) & (centre < stop[:, axis, None]))
    covered = inside[0][:, None, :, None, None] & inside[1][:, None, None, :, None]
    return jnp.where(covered, _GREY, images.astype(jnp.float32))
