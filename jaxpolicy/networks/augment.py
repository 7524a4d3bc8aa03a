"""Image preprocessing that runs inside jit: random shifts and resizing."""

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["random_shift", "resize", "resize_matrix", "shift"]


def random_shift(key: jax.Array, images: jax.Array, pixels: int) -> jax.Array:
    """Shifts every sample by up to `pixels`, repeating the border (DrQ).

    Kostrikov et al. 2021, https://arxiv.org/abs/2004.13649: pad by repetition, crop at
    random. All O steps of a sample move together, so motion between them is kept.

    Args:
      key: PRNG key.
      images: [B, O, H, W, C], any dtype.
      pixels: largest shift along each axis; 0 returns the images.

    Returns:
      Same shape and dtype.
    """
    if not pixels:
        return images
    offsets = jax.random.randint(key, (images.shape[0], 2), -pixels, pixels + 1)
    return shift(images, offsets)


def shift(images: jax.Array, offsets: jax.Array) -> jax.Array:
    """Pixel (i, j) of the result is pixel (i + dy, j + dx), clipped to the image.

    Args:
      images: [B, O, H, W, C].
      offsets: int [B, 2], (dy, dx).

    Returns:
      [B, O, H, W, C].
    """
    return jax.vmap(_shift_one)(images, offsets)


def _shift_one(images: jax.Array, offset: jax.Array) -> jax.Array:
    height, width = images.shape[1:3]
    rows = jnp.clip(jnp.arange(height) + offset[0], 0, height - 1)
    columns = jnp.clip(jnp.arange(width) + offset[1], 0, width - 1)
    return images[:, rows][:, :, columns]


def resize(images: jax.Array, size: int) -> jax.Array:
    """Resizes to `size` x `size` (aspect ratio is not kept), linear with antialiasing.

    Two matrix products with constant matrices; agrees with
    `jax.image.resize(..., "linear", antialias=True)`.

    Args:
      images: [..., H, W, C], any dtype.
      size: side of the result in pixels; 0 returns the images.

    Returns:
      [..., size, size, C], float32 where something had to be resized.
    """
    height, width = images.shape[-3:-1]
    if not size or (height, width) == (size, size):
        return images
    x = images.astype(jnp.float32)
    x = jnp.einsum("...hwc,hs->...swc", x, jnp.asarray(resize_matrix(height, size)))
    return jnp.einsum("...hwc,ws->...hsc", x, jnp.asarray(resize_matrix(width, size)))


def resize_matrix(source: int, target: int) -> np.ndarray:
    """Weights [source, target] of a triangle filter; columns sum to 1.

    The filter is as wide as one target pixel when shrinking (antialiasing) and as one
    source pixel when growing; pixel centres lie at half integers.
    """
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(source)[:, None] - centres[None]) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(0)).astype(np.float32)
