"""Image preprocessing that runs inside jit: random changes while training, and resizing.

Random changes are drawn per sample and camera, and shared by the O steps of a sample, so
that what moves between them is only what moved. Module `images` makes the changes.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.specs import InputError, is_camera
from jaxpolicy.core.types import Observation
from jaxpolicy.networks import images as pixels

__all__ = [
    "AugmentConfig",
    "augment",
    "augment_observation",
    "colour_jitter",
    "random_crop",
    "random_cutout",
    "random_shift",
    "resize",
    "resize_matrix",
    "shift",
]


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random changes of the images while training, in the order of the fields.

    Attributes:
      shift: largest shift along each axis, in pixels of the network's input; 0: none.
      crop: smallest share of each side that a random crop keeps, in (0, 1]; what is kept is
        enlarged to the whole image. 1: none.
      blur: largest standard deviation of a Gaussian blur, pixels; 0: none.
      blur_probability: share of the samples that are blurred.
      brightness: b, for a factor drawn from 1 - b to 1 + b; in [0, 1], 0: none.
      contrast: likewise, of the distance from the mean luma.
      saturation: likewise, of the distance from grey.
      hue: largest turn of the colours, in [0, 0.5] turns; 0: none.
      colour_probability: share of the samples whose colours change.
      cutout: largest side of a grey rectangle, as a share of the image's, in [0, 1]; 0: none.
      cutout_probability: share of the samples that have one.
    """

    shift: int = 4
    crop: float = 1.0
    blur: float = 0.0
    blur_probability: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    colour_probability: float = 1.0
    cutout: float = 0.0
    cutout_probability: float = 0.5

    def __post_init__(self) -> None:
        for key in ("shift", "blur"):
            if not 0 <= getattr(self, key) < math.inf:
                raise InputError(f"augment.{key} must be at least 0, got {getattr(self, key)}")
        if not 0 < self.crop <= 1:
            raise InputError(f"augment.crop must be above 0 and at most 1, got {self.crop}")
        shares = ["brightness", "contrast", "saturation", "cutout"]
        shares += [f"{key}_probability" for key in ("blur", "colour", "cutout")]
        for key in (*shares, "hue"):
            value, high = getattr(self, key), 0.5 if key == "hue" else 1
            if not 0 <= value <= high:
                raise InputError(f"augment.{key} must be from 0 to {high}, got {value}")

    @property
    def resamples(self) -> bool:
        """Whether pixels are interpolated, not only moved by whole pixels."""
        return self.crop < 1 or self.blurs

    @property
    def blurs(self) -> bool:
        """Whether any sample is blurred."""
        return bool(self.blur and self.blur_probability)

    @property
    def recolours(self) -> bool:
        """Whether the colours of any sample change."""
        amounts = (self.brightness, self.contrast, self.saturation, self.hue)
        return bool(self.colour_probability and any(amounts))

    @property
    def covers(self) -> bool:
        """Whether any sample has a part covered."""
        return bool(self.cutout and self.cutout_probability)


def augment_observation(
    key: jax.Array, observation: Observation, config: AugmentConfig
) -> dict[str, jax.Array]:
    """`augment` on every camera, each with draws of its own; the rest stays as it is."""
    keys = jax.random.split(key, len(observation))
    return {
        name: augment(k, value, config) if is_camera(name) else value
        for k, (name, value) in zip(keys, sorted(observation.items()), strict=True)
    }


def augment(key: jax.Array, images: jax.Array, config: AugmentConfig) -> jax.Array:
    """Random changes of every sample; the images themselves where all is off.

    docs/benchmarks.md has the speed of each.

    Args:
      key: PRNG key.
      images: [B, O, H, W, C], uint8 or float32, values 0 to 255.
      config: see AugmentConfig.

    Returns:
      Same shape, values 0 to 255; the same dtype where only `shift` is on, else float32.

    Raises:
      InputError: colours are to change, and the images are not RGB.
    """
    if not (config.resamples or config.recolours or config.covers):
        return random_shift(key, images, config.shift)
    key_move, key_colour, key_cutout = jax.random.split(key, 3)
    if config.resamples:
        images = random_crop(key_move, images, config)
    else:
        images = random_shift(key_move, images, config.shift)
    if config.recolours:
        images = colour_jitter(key_colour, images, config)
    return random_cutout(key_cutout, images, config) if config.covers else images


def random_crop(key: jax.Array, images: jax.Array, config: AugmentConfig) -> jax.Array:
    """Shift, crop and blur of `config`, as one matrix product per axis.

    Both sides keep the same share, so shapes stay what they are; the place is uniform.

    Args:
      key: PRNG key.
      images: [B, O, H, W, C].
      config: see AugmentConfig.

    Returns:
      float32 [B, O, H, W, C].
    """
    n, sides = images.shape[0], images.shape[2:4]
    key_share, key_start, key_shift, key_blur = jax.random.split(key, 4)
    share = jax.random.uniform(key_share, (n,), minval=config.crop, maxval=1.0)
    slack = (1.0 - share)[:, None] * jnp.asarray(sides, jnp.float32)
    start = slack * jax.random.uniform(key_start, (n, 2))
    start += jax.random.randint(key_shift, (n, 2), -config.shift, config.shift + 1)
    sigma = _random_sigma(key_blur, n, config)
    weights = [_weights(s, share, start[:, i], sigma, config) for i, s in enumerate(sides)]
    return pixels.resample(images, *weights)


def _weights(
    size: int, share: jax.Array, start: jax.Array, sigma: jax.Array, config: AugmentConfig
) -> jax.Array:
    """[B, size, size], the blur of the crop along one axis."""
    crop = pixels.crop_weights(size, share, start)
    if not config.blurs:
        return crop
    # Three standard deviations hold 99.7 % of a Gaussian.
    return pixels.blur_weights(size, sigma, math.ceil(3 * config.blur)) @ crop


def _random_sigma(key: jax.Array, n: int, config: AugmentConfig) -> jax.Array:
    """[n], uniform up to `blur`; 0 where a sample is not blurred."""
    key_apply, key_sigma = jax.random.split(key)
    sigma = config.blur * jax.random.uniform(key_sigma, (n,))
    return jnp.where(jax.random.bernoulli(key_apply, config.blur_probability, (n,)), sigma, 0.0)


def colour_jitter(key: jax.Array, images: jax.Array, config: AugmentConfig) -> jax.Array:
    """Brightness, contrast, saturation and hue of `config`, uniform in their ranges.

    Args:
      key: PRNG key.
      images: [B, O, H, W, 3].
      config: see AugmentConfig.

    Returns:
      float32 [B, O, H, W, 3].

    Raises:
      InputError: not three channels.
    """
    key_apply, key_amount = jax.random.split(key)
    n = images.shape[0]
    amounts = jax.random.uniform(key_amount, (4, n), minval=-1.0, maxval=1.0)
    applied = jax.random.bernoulli(key_apply, config.colour_probability, (n,))
    brightness, contrast, saturation, hue = jnp.where(applied, amounts, 0.0)
    return pixels.adjust_colour(
        images,
        1.0 + config.brightness * brightness,
        1.0 + config.contrast * contrast,
        1.0 + config.saturation * saturation,
        config.hue * hue,
    )


def random_cutout(key: jax.Array, images: jax.Array, config: AugmentConfig) -> jax.Array:
    """Covers a random rectangle: sides uniform up to `cutout`, anywhere inside the image.

    Args:
      key: PRNG key.
      images: [B, O, H, W, C].
      config: see AugmentConfig.

    Returns:
      float32 [B, O, H, W, C].
    """
    key_apply, key_side, key_start = jax.random.split(key, 3)
    n, sides = images.shape[0], jnp.asarray(images.shape[2:4], jnp.float32)
    applied = jax.random.bernoulli(key_apply, config.cutout_probability, (n, 1))
    side = sides * config.cutout * jax.random.uniform(key_side, (n, 2)) * applied
    start = (sides - side) * jax.random.uniform(key_start, (n, 2))
    return pixels.cutout(images, start, start + side)


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
