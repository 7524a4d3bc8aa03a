"""Configuration of a simulated world."""

import dataclasses

from jaxpolicy.specs import InputError

__all__ = ["BACKENDS", "EnvConfig"]

BACKENDS = ("mujoco", "mjx")


@dataclasses.dataclass(frozen=True)
class EnvConfig:
    """A simulated world.

    Attributes:
      name: task, a key of `sim.ENVIRONMENTS`.
      robot: a key of `robots.ROBOTS`.
      backend: "mujoco" (C engine on CPU threads) or "mjx" (on the accelerator).
      control_hz: actions per second, 10 to 50.
      episode_length: actions per episode; 0 is the task's own.
      objects: "" for the task's own object, "training" or "novel" for a set of shapes that
        changes from episode to episode, or one shape (see `sim.objects`).
      action_kind: "cartesian_delta", "joint_position" or "joint_delta".
      cameras: cameras that give `image/<camera>`; "wrist" and "front" exist.
      image_size: height and width of the images, pixels.
      shadows: whether images have shadows.
      workers: threads of the C engine, 0 for one per core.
    """

    name: str = "lift"
    robot: str = "panda"
    backend: str = "mujoco"
    control_hz: float = 20.0
    episode_length: int = 0
    objects: str = ""
    action_kind: str = "cartesian_delta"
    cameras: tuple[str, ...] = ("wrist",)
    image_size: int = 64
    shadows: bool = True
    workers: int = 0

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise InputError(f"env.backend must be one of {BACKENDS}, got '{self.backend}'")
        if self.episode_length < 0 or self.image_size < 1 or self.workers < 0:
            raise InputError(
                "env.episode_length and env.workers must be >= 0, env.image_size must be >= 1"
            )
