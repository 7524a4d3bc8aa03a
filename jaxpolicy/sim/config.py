"""Configuration of a simulated world."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from jaxpolicy.core.schema import OPTIONAL, Settings
from jaxpolicy.core.specs import InputError

__all__ = [
    "BACKENDS",
    "MODERATE",
    "STRONG",
    "EnvConfig",
    "RandomizationConfig",
    "override",
]

BACKENDS = ("mujoco", "mjx")

Range = tuple[float, float]
_OFF: Range = (0.0, 0.0)
_SAME: Range = (1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class RandomizationConfig:
    """What differs from episode to episode: ranges (low, high), drawn from uniformly.

    Everything is off by default: factors are 1, everything else is 0. Physics comes from
    a pool of `models` perturbed models, drawn once with `seed`; all the rest is drawn
    anew for every episode.

    Attributes:
      mass: factor on the masses and inertias of all that the robot does not consist of.
      friction: factor on all friction coefficients.
      damping: factor on the damping of all joints.
      gains: factor on the gains of the actuators, position and velocity alike.
      object_size: factor on the size of free objects; their density stays.
      gravity_compensation: share of the robot's weight by which its compensation is wrong,
        above 0 where it lifts too much.
      action_noise: standard deviation of noise on actions, as a share of each element's
        range; elements without a unit (the gripper) have none.
      action_delay: control steps by which actions come late; whole numbers.
      joint_noise, velocity_noise, position_noise: standard deviation of noise on the
        angles (rad), joint velocities (rad/s) and positions (m) that `proprio` holds.
      camera_position: shift of each camera along each of its axes, m.
      camera_rotation: turn of each camera about each of its axes, rad.
      field_of_view: change of each camera's vertical field of view, degrees.
      light_position: shift of the lights along each axis, m.
      light_intensity, ambient: factors on the lights and on what comes from everywhere.
      colour: change of each colour channel of each geom and of the sky.
      texture: probability that a geom gets a checker or a noise texture.
      texture_contrast: largest difference per channel of a texture's two colours.
      texture_scale: squares or cells per metre.
      blur: standard deviation of the lens's blur, pixels.
      exposure: factor on all colours.
      white_balance: factor on each channel.
      sensor_noise: standard deviation of the sensor's noise, levels of 255.
      models: number of models in the pool.
      seed: of the pool.
    """

    mass: Range = _SAME
    friction: Range = _SAME
    damping: Range = _SAME
    gains: Range = _SAME
    object_size: Range = _SAME
    gravity_compensation: Range = _OFF
    action_noise: Range = _OFF
    action_delay: tuple[int, int] = (0, 0)
    joint_noise: Range = _OFF
    velocity_noise: Range = _OFF
    position_noise: Range = _OFF
    camera_position: Range = _OFF
    camera_rotation: Range = _OFF
    field_of_view: Range = _OFF
    light_position: Range = _OFF
    light_intensity: Range = _SAME
    ambient: Range = _SAME
    colour: Range = _OFF
    texture: float = 0.0
    texture_contrast: Range = (0.1, 0.4)
    texture_scale: Range = (4.0, 60.0)
    blur: Range = _OFF
    exposure: Range = _SAME
    white_balance: Range = _SAME
    sensor_noise: Range = _OFF
    models: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                _check_range(field.name, *value)
        if not 0.0 <= self.texture <= 1.0:
            raise InputError(
                f"env.randomization.texture is a probability in [0, 1], got {self.texture}"
            )
        if self.models < 1 or self.seed < 0:
            raise InputError(
                "env.randomization.models must be >= 1 and seed >= 0, got "
                f"{self.models} and {self.seed}"
            )


_FACTORS = (
    "mass",
    "friction",
    "gains",
    "object_size",
    "texture_scale",
    "exposure",
    "white_balance",
)
_NOT_NEGATIVE = (
    *("damping", "action_noise", "action_delay", "joint_noise", "velocity_noise"),
    *("position_noise", "light_intensity", "ambient", "texture_contrast", "blur", "sensor_noise"),
)


def _check_range(name: str, low: float, high: float) -> None:
    """Raises InputError unless low <= high and both make sense."""
    where = f"env.randomization.{name}"
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise InputError(f"{where} must be a range (low, high), got ({low}, {high})")
    if name in _FACTORS and low <= 0.0:
        raise InputError(f"{where} must be above 0, got ({low}, {high})")
    if name in _NOT_NEGATIVE and low < 0.0:
        raise InputError(f"{where} must not be negative, got ({low}, {high})")


# What a well-built cell varies by from day to day.
MODERATE = RandomizationConfig(
    mass=(0.8, 1.25),
    friction=(0.8, 1.2),
    damping=(0.8, 1.25),
    gains=(0.9, 1.1),
    object_size=(0.95, 1.05),
    gravity_compensation=(-0.02, 0.02),
    action_noise=(0.0, 0.02),
    action_delay=(0, 1),
    joint_noise=(0.0, 0.005),
    velocity_noise=(0.0, 0.02),
    position_noise=(0.0, 0.002),
    camera_position=(-0.01, 0.01),
    camera_rotation=(-0.02, 0.02),
    field_of_view=(-1.0, 1.0),
    light_position=(-0.3, 0.3),
    light_intensity=(0.7, 1.3),
    ambient=(0.7, 1.3),
    colour=(-0.08, 0.08),
    texture=0.2,
    texture_contrast=(0.05, 0.2),
    blur=(0.0, 0.5),
    exposure=(0.85, 1.15),
    white_balance=(0.93, 1.07),
    sensor_noise=(0.0, 4.0),
)

# What covers the gap to a robot whose surroundings nobody has measured. Actions come at
# most one control step late, because scripted experts, which do not know of delays, oscillate
# beyond that: 95 of 100 lifts fail at two steps of 20 Hz.
STRONG = RandomizationConfig(
    mass=(0.5, 2.0),
    friction=(0.6, 1.4),
    damping=(0.5, 2.0),
    gains=(0.8, 1.2),
    object_size=(0.85, 1.15),
    gravity_compensation=(-0.05, 0.05),
    action_noise=(0.0, 0.05),
    action_delay=(0, 1),
    joint_noise=(0.0, 0.01),
    velocity_noise=(0.0, 0.05),
    position_noise=(0.0, 0.005),
    camera_position=(-0.025, 0.025),
    camera_rotation=(-0.06, 0.06),
    field_of_view=(-3.0, 3.0),
    light_position=(-0.5, 0.5),
    light_intensity=(0.3, 1.6),
    ambient=(0.4, 1.6),
    colour=(-0.25, 0.25),
    texture=0.5,
    texture_contrast=(0.1, 0.5),
    blur=(0.0, 1.0),
    exposure=(0.6, 1.4),
    white_balance=(0.8, 1.2),
    sensor_noise=(0.0, 10.0),
)


@dataclasses.dataclass(frozen=True)
class EnvConfig:
    """A simulated world.

    Attributes:
      name: task, a key of `sim.ENVIRONMENTS`; or a world that others made, "gymnasium:ID"
        (ID as gymnasium.make takes it, "module:ID" too), "brax:NAME" or "mjcf:PATH". Such a
        world takes only the fields that mean something to it: the rest must stay at their
        defaults, and the default camera counts only where it exists.
      robot: a key of `robots.ROBOTS`.
      backend: "mujoco" (C engine on CPU threads) or "mjx" (on the accelerator).
      control_hz: actions per second, 10 to 50.
      episode_length: actions per episode; 0 is the task's own.
      objects: "" for the task's own object, "training" or "novel" for a set of shapes that
        changes from episode to episode, or one shape (see `sim.physics.objects`).
      action_kind: "cartesian_delta", "joint_position" or "joint_delta".
      text_encoder: what turns instructions into `language`, a name for `text.get` ("hash", or
        the path of a table of embeddings); "" is "hash" for tasks with several instructions
        and nothing for others.
      cameras: cameras that give `image/<camera>`; "wrist" and "front" exist.
      image_size: height and width of the images, pixels.
      shadows: whether images have shadows.
      workers: threads of the C engine, 0 for one per core.
      randomization: what differs from episode to episode besides the start.
      settings: of a task that a plug-in brings, see docs/plugins.md.
    """

    name: str = "lift"
    robot: str = "panda"
    backend: str = "mujoco"
    control_hz: float = 20.0
    episode_length: int = 0
    objects: str = ""
    text_encoder: str = ""
    action_kind: str = "cartesian_delta"
    cameras: tuple[str, ...] = ("wrist",)
    image_size: int = 64
    shadows: bool = True
    workers: int = 0
    randomization: RandomizationConfig = RandomizationConfig()
    settings: Settings = dataclasses.field(default_factory=Settings, metadata=OPTIONAL)

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise InputError(f"env.backend must be one of {BACKENDS}, got '{self.backend}'")
        if self.episode_length < 0 or self.image_size < 1 or self.workers < 0:
            raise InputError(
                "env.episode_length and env.workers must be >= 0, env.image_size must be >= 1"
            )


def override(config: EnvConfig, values: Mapping[str, Any]) -> EnvConfig:
    """`config` with other values of some fields.

    Raises:
      InputError: there is no such field; names those there are.
    """
    known = {field.name for field in dataclasses.fields(EnvConfig)}
    unknown = [key for key in values if key not in known]
    if unknown:
        raise InputError(f"EnvConfig has no key '{unknown[0]}'; known: {', '.join(sorted(known))}")
    return dataclasses.replace(config, **values)
