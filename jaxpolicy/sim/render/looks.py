"""What an episode looks like: its variation as an Appearance and as camera poses."""

import functools

import jax
import jax.numpy as jnp

from jaxpolicy.sim.config import RandomizationConfig
from jaxpolicy.sim.randomization import Variation
from jaxpolicy.sim.render.raycaster import RenderOptions
from jaxpolicy.sim.render.scene import Appearance
from jaxpolicy.sim.render.textures import hash_bits

__all__ = ["appearance", "camera", "render_options", "sensor_seed"]


def render_options(config: RandomizationConfig, shadows: bool) -> RenderOptions:
    """Options that draw what `config` randomises and compute nothing besides."""
    off = RandomizationConfig()
    sensor = (config.blur, config.sensor_noise) != (off.blur, off.sensor_noise)
    return RenderOptions(shadows=shadows, textures=config.texture > 0.0, sensor=sensor)


def appearance(
    look: Appearance,
    config: RandomizationConfig,
    variation: Variation,
    level: float | jax.Array = 1.0,
) -> Appearance:
    """`look` as the episode varies it; the same episode always looks the same.

    Light that is switched off stays off; colours stay in [0, 1]. The level of randomisation
    [] (see randomization.py) scales changes of colour and how probable textures are.
    """
    key_colour, key_sky, key_texture = jax.random.split(variation.look_key, 3)
    shift = level * _uniform(key_colour, look.rgb.shape, *config.colour)
    sky = look.sky + level * _uniform(key_sky, look.sky.shape, *config.colour)
    look = look._replace(
        rgb=jnp.clip(look.rgb + shift, 0.0, 1.0),
        rgb2=jnp.clip(look.rgb2 + shift, 0.0, 1.0),
        sky=jnp.clip(sky, 0.0, 1.0),
        light_position=look.light_position + variation.light_position,
        light_diffuse=look.light_diffuse * variation.light_intensity,
        light_specular=look.light_specular * variation.light_intensity,
        ambient=look.ambient * variation.ambient,
        exposure=look.exposure * variation.exposure,
        white_balance=look.white_balance * variation.white_balance,
        blur=look.blur + variation.blur,
        sensor_noise=look.sensor_noise + variation.sensor_noise,
    )
    return _textured(look, config, key_texture, level) if config.texture > 0.0 else look


def _textured(
    look: Appearance, config: RandomizationConfig, key: jax.Array, level: float | jax.Array
) -> Appearance:
    """Some geoms with a checker or a noise texture of their own."""
    geoms = look.rgb.shape[0]
    keys = jax.random.split(key, 6)
    chosen = jax.random.uniform(keys[0], (geoms,)) < config.texture * level
    noisy = jax.random.bernoulli(keys[1], 0.5, (geoms,))
    low, high = (jnp.log(jnp.float32(v)) for v in config.texture_scale)
    scale = jnp.exp(low + jax.random.uniform(keys[2], (geoms,)) * (high - low))
    contrast = _uniform(keys[3], (geoms, 3), *config.texture_contrast)
    # Towards the side that has room, so that white surfaces get a pattern as well.
    sign = jnp.where(jax.random.bernoulli(keys[4], 0.5, (geoms, 3)), 1.0, -1.0)
    other = look.rgb + sign * contrast
    inside = (other >= 0.0) & (other <= 1.0)
    other = jnp.clip(jnp.where(inside, other, look.rgb - sign * contrast), 0.0, 1.0)
    squares = jnp.where(noisy, 0.0, scale)[:, None] * jnp.ones(2)
    return look._replace(
        rgb2=jnp.where(chosen[:, None], other, look.rgb2),
        squares=jnp.where(chosen[:, None], squares, look.squares),
        grain=jnp.where(chosen & noisy, scale, look.grain * ~chosen),
        phase=jax.random.uniform(keys[5], (geoms,), maxval=1000.0),
    )


def camera(
    variation: Variation, index: int, position: jax.Array, rotation: jax.Array, fovy: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where a camera of the model really is.

    Args:
      variation: of the episode.
      index: which camera of the model.
      position: [3] where it should be, m.
      rotation: [3, 3] how it should be turned.
      fovy: its vertical field of view, degrees.

    Returns:
      The same three, as they are.
    """
    shift, turn = variation.camera_position[index], variation.camera_rotation[index]
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    turned = functools.reduce(product, (_turn(axis, turn[axis]) for axis in range(3)), rotation)
    moved = position + product(rotation, shift)
    return moved, turned, jnp.clip(fovy + variation.field_of_view[index], 1.0, 170.0)


def _turn(axis: int, angle: jax.Array) -> jax.Array:
    """Rotation [3, 3] about a coordinate axis by `angle` [] rad."""
    c, s, i, j = jnp.cos(angle), jnp.sin(angle), (axis + 1) % 3, (axis + 2) % 3
    plain = jnp.eye(3)
    return plain.at[i, i].set(c).at[j, j].set(c).at[i, j].set(-s).at[j, i].set(s)


def sensor_seed(qpos: jax.Array, index: int) -> jax.Array:
    """uint32 [] that differs from frame to frame and from camera to camera.

    It comes from the positions [nq], so that a recorded state gives the same picture
    whenever it is drawn.
    """
    words = jax.lax.bitcast_convert_type(qpos.astype(jnp.float32), jnp.uint32)
    places = jnp.arange(words.size, dtype=jnp.uint32)
    return hash_bits(jnp.sum(hash_bits(words + places), dtype=jnp.uint32) + jnp.uint32(index))


def _uniform(key: jax.Array, shape: tuple[int, ...], low: float, high: float) -> jax.Array:
    return jax.random.uniform(key, shape, minval=low, maxval=high)
