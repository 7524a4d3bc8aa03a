"""Writes the episodes of benchmarks/loader.py: RLDS, and LeRobot v3.0 as video and as images."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.loader_sides import measuring
from benchmarks.loader_sides.measuring import HZ, Settings
from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.core.types import DatasetSpec, Episode, EpisodeMetadata
from jaxpolicy.data.formats import lerobot_writer, rlds_writer

# Episodes as PNG inside Parquet, which takes minutes to write; how many there are does not
# change how fast one is read.
N_AS_IMAGES = 50


def make_spec(size: int) -> DatasetSpec:
    """One camera of `size` pixels, 7 joints, 7 actions."""
    names = tuple(f"q{i}" for i in range(7))
    bounds = (-1.0,) * 7, (1.0,) * 7
    action = ActionSpec("joint_delta", names, ("rad",) * 7, *bounds, control_hz=float(HZ))
    return DatasetSpec(
        (ArraySpec("image/front", (size, size, 3), "uint8"), ArraySpec("proprio", (7,))), action
    )


def make_episodes(n: int, steps: int, size: int) -> Iterator[Episode]:
    """Smooth moving pictures, which JPEG and video compress as they do real ones."""
    y, x = np.mgrid[0:size, 0:size] * (6.3 / size)
    phase = np.arange(steps)[:, None, None] / 9
    planes = [np.sin(k * x + phase) * np.cos(y - k * phase) for k in (1, 2, 3)]
    image = (127 * (1 + np.stack(planes, -1))).astype(np.uint8)
    for i in range(n):
        action = np.random.default_rng(i).normal(0, 0.3, (steps, 7)).astype(np.float32)
        yield Episode(
            observation={"image/front": np.roll(image, i, axis=2), "proprio": action},
            action=action,
            reward=np.zeros(steps, np.float32),
            is_terminal=False,
            language_instruction="move",
            metadata=EpisodeMetadata(f"{i}", success=True),
        )


def _write(settings: Settings, name: str, write: Callable[..., int], **options: str) -> None:
    episodes = make_episodes(settings.episodes, settings.steps, settings.size)
    path, spec = f"{settings.directory}/{name}", make_spec(settings.size)
    rates = measuring.timed(
        lambda: write(path, episodes, spec, "bench", **options), settings.frames
    )
    note = f"{settings.episodes} episodes"
    measuring.emit("written", name, unit="frames", note=note, **rates)


def main() -> None:
    """Writes what the settings' sides read."""
    settings = measuring.read_settings()
    _write(settings, "rlds", rlds_writer.write)
    if settings.peers:
        _write(settings, "lerobot_video", lerobot_writer.write, codec="av1")
        few = dataclasses.replace(settings, episodes=min(settings.episodes, N_AS_IMAGES))
        _write(few, "lerobot_images", lerobot_writer.write, codec="png")


if __name__ == "__main__":
    main()
