"""Domain randomisation of an episode: a pure function of one PRNG key.

What an episode carries along is that key's two words, because everything else can be
drawn from them again, also when its pictures are made later from recorded states.
Physics is randomised apart from this, by an index into a pool (randomized_models.py);
what the pictures look like is in looks.py.

A level in [0, 1] makes ranges narrower, so that learning can begin with little of it: at
level l a quantity is off + l (drawn - off), where `off` is what it is when nothing is
randomised. Level 1 is the configuration as it stands, bit for bit.

Axis letters: C cameras of the model, A action, D longest delay, P proprio.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.sim.config import RandomizationConfig
from jaxpolicy.sim.physics.randomized_models import PHYSICS

__all__ = [
    "Variation",
    "delay_action",
    "describe",
    "draw",
    "is_on",
    "noisy_action",
    "noisy_proprio",
    "pack_key",
    "step_keys",
    "unpack",
    "with_noise",
]

_IMPLEMENTATION = "threefry2x32"
_OFF = RandomizationConfig()
_AXES = ("x", "y", "z")
_CHANNELS = ("red", "green", "blue")


class Variation(NamedTuple):
    """What one episode has; names and units as in RandomizationConfig.

    Attributes:
      action_delay: int32 [], control steps.
      action_noise, joint_noise, velocity_noise, position_noise: [] standard deviations.
      camera_position, camera_rotation: [C, 3] in each camera's frame, m and rad.
      field_of_view: [C] degrees.
      light_position: [3] m.
      light_intensity, ambient, exposure: [] factors.
      white_balance: [3] factors.
      blur, sensor_noise: [] pixels and levels.
      noise_key: for the noise of single steps.
      look_key: for the colours and textures of single geoms.
    """

    action_delay: jax.Array
    action_noise: jax.Array
    joint_noise: jax.Array
    velocity_noise: jax.Array
    position_noise: jax.Array
    camera_position: jax.Array
    camera_rotation: jax.Array
    field_of_view: jax.Array
    light_position: jax.Array
    light_intensity: jax.Array
    ambient: jax.Array
    exposure: jax.Array
    white_balance: jax.Array
    blur: jax.Array
    sensor_noise: jax.Array
    noise_key: jax.Array
    look_key: jax.Array


def is_on(config: RandomizationConfig) -> bool:
    """Whether anything besides physics is randomised."""
    rest = ("models", "seed", "texture_contrast", "texture_scale", *PHYSICS)
    names = [f.name for f in dataclasses.fields(config) if f.name not in rest]
    return any(getattr(config, name) != getattr(_OFF, name) for name in names)


def pack_key(key: jax.Array) -> jax.Array:
    """The two words, uint32 [2], that an episode carries, drawn with `key` (any kind)."""
    return jax.random.bits(key, (2,), jnp.uint32)


def unpack(
    config: RandomizationConfig,
    words: jax.Array,
    cameras: int,
    level: float | jax.Array = 1.0,
) -> Variation:
    """The variation of the episode that carries `words`, uint32 [2], and its `level` []."""
    return draw(config, jax.random.wrap_key_data(words, impl=_IMPLEMENTATION), cameras, level)


def draw(
    config: RandomizationConfig,
    key: jax.Array,
    cameras: int,
    level: float | jax.Array = 1.0,
) -> Variation:
    """Draws an episode's variation.

    Args:
      config: ranges.
      key: PRNG key.
      cameras: C, of the model, whichever of them are looked through.
      level: of randomisation, [] in [0, 1]; delays are rounded to whole steps.
    """
    shapes = {
        "camera_position": (cameras, 3),
        "camera_rotation": (cameras, 3),
        "field_of_view": (cameras,),
        "light_position": (3,),
        "white_balance": (3,),
    }
    keys = dict(zip(Variation._fields, jax.random.split(key, len(Variation._fields)), strict=True))
    numbers = {
        name: _at_level(
            _uniform(keys[name], shapes.get(name, ()), *getattr(config, name)), name, level
        )
        for name in Variation._fields
        if name not in ("action_delay", "noise_key", "look_key")
    }
    low, high = config.action_delay
    delay = jax.random.randint(keys["action_delay"], (), low, high + 1)
    return Variation(
        action_delay=jnp.round(_at_level(delay, "action_delay", level)).astype(jnp.int32),
        noise_key=keys["noise_key"],
        look_key=keys["look_key"],
        **numbers,
    )


def _uniform(key: jax.Array, shape: tuple[int, ...], low: float, high: float) -> jax.Array:
    """Uniform in [low, high], exactly `low` where they are equal."""
    share = jax.random.uniform(key, shape)
    return jnp.float32(low) + share * jnp.float32(high - low)


def _at_level(drawn: jax.Array, name: str, level: float | jax.Array) -> jax.Array:
    """What a quantity is at a level; exactly what was drawn at level 1, whatever it rounds to."""
    off = getattr(_OFF, name)[0]
    return jnp.where(level >= 1.0, drawn, off + level * (drawn - off))


def describe(
    config: RandomizationConfig, variation: Variation, cameras: Sequence[str]
) -> dict[str, jax.Array]:
    """What is randomised, by name, float32 [] each; empty where nothing is.

    Vectors are written out as `white_balance/red` or `camera_position/wrist/x`.

    Args:
      config: ranges.
      variation: of an episode.
      cameras: names of the C cameras.
    """
    result = {}
    for name, value in variation._asdict().items():
        if name.endswith("_key") or getattr(config, name) == getattr(_OFF, name):
            continue
        for path, number in _entries(name, value, cameras).items():
            result[path] = jnp.asarray(number, jnp.float32)
    return result


def _entries(name: str, value: jax.Array, cameras: Sequence[str]) -> Mapping[str, jax.Array]:
    """One number per name."""
    if name == "field_of_view":
        return {f"{name}/{c}": value[i] for i, c in enumerate(cameras)}
    if value.ndim == 2:
        return {
            f"{name}/{c}/{x}": value[i, j]
            for i, c in enumerate(cameras)
            for j, x in enumerate(_AXES)
        }
    if value.ndim == 1:
        parts = _CHANNELS if name == "white_balance" else _AXES
        return {f"{name}/{part}": value[i] for i, part in enumerate(parts)}
    return {name: value}


# What control and observation suffer from.


def step_keys(variation: Variation, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys of an episode's step `t` (int []): for its action, and for its observation."""
    first, second = jax.random.split(jax.random.fold_in(variation.noise_key, t))
    return first, second


def delay_action(
    pending: jax.Array, action: jax.Array, delay: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Puts an action in the queue and takes out the one that is executed now.

    Args:
      pending: the last D actions, newest last, [D, A].
      action: the newest, [A].
      delay: control steps, int [], at most D.

    Returns:
      pending [D, A] of the next step, and the action [A] of `delay` steps ago.
    """
    queue = jnp.concatenate([pending, action[None]])
    return queue[1:], queue[len(pending) - delay]


def noisy_action(
    variation: Variation, spec: ActionSpec, key: jax.Array, action: jax.Array
) -> jax.Array:
    """An action [A] with the episode's noise on all elements that have a unit."""
    return with_noise(variation.action_noise, spec, key, action)


def with_noise(
    std: float | jax.Array, spec: ActionSpec, key: jax.Array, action: jax.Array
) -> jax.Array:
    """An action [A] with Gaussian noise on all elements that have a unit.

    Args:
      std: standard deviation, as a share of each element's range, [].
      spec: of the action.
      key: PRNG key.
      action: [A]; what comes out may lie outside its bounds.
    """
    moving = np.asarray([unit != "1" for unit in spec.units])
    span = np.asarray(spec.maximum, np.float32) - np.asarray(spec.minimum, np.float32)
    scale = np.where(moving, span, 0.0).astype(np.float32)
    return action + std * scale * jax.random.normal(key, action.shape)


def noisy_proprio(
    variation: Variation, spec: ArraySpec, key: jax.Array, proprio: jax.Array
) -> jax.Array:
    """`proprio` [P] with the episode's noise, by the unit of each element."""
    by_unit = {
        "rad": variation.joint_noise,
        "rad/s": variation.velocity_noise,
        "m": variation.position_noise,
    }
    std = jnp.stack([by_unit.get(unit, jnp.zeros(())) for unit in spec.unit.split(",")])
    return proprio + std * jax.random.normal(key, proprio.shape)
