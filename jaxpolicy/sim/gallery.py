"""What the worlds look like: pictures and films of every task, robot, object and variation.

`preview` runs the expert once per task and robot and draws what it did, so that a person
sees at a glance what a configuration would record.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from brax.envs.base import Env
from PIL import Image

from jaxpolicy import sim
from jaxpolicy.core import atomic, interruption
from jaxpolicy.core.specs import IMAGE_PREFIX, InputError
from jaxpolicy.sim import robots, streams, wrappers
from jaxpolicy.sim.config import MODERATE, STRONG, EnvConfig
from jaxpolicy.sim.physics import objects
from jaxpolicy.sim.render import pictures, raycaster

__all__ = ["GalleryOptions", "Preview", "film", "preview", "starts", "suite"]

CLOSE = "wrist"  # the camera that shows an object largest
# Films are seen from beside the table, with the whole robot in view: m, m, degrees.
EYE, LOOK_AT, FOVY = (1.2, -0.8, 0.8), (0.35, 0.0, 0.25), 41.0
FILM = raycaster.RenderOptions(shadow_rays=4, samples=2)
SUPERSAMPLING = 2  # what cameras see is drawn this much larger and averaged: smooth edges
TAIL_STEPS = 14  # shown after success
BATCH = 16
SUITE_COLUMNS = 4
FALLBACK = "lift"  # what the sheets show where the configured world cannot be shown so
SHAPE_DRAWS = 200  # starts that are searched for one of each shape


@dataclasses.dataclass(frozen=True)
class GalleryOptions:
    """What a preview shows.

    Attributes:
      tasks: keys of `sim.ENVIRONMENTS`, () for all.
      robots: keys of `robots.ROBOTS`, () for all.
      size: height and width of a picture, pixels.
      columns: frames per episode of a contact sheet.
      n_starts: starts per row of the sheet of randomisations.
      seed: of the episodes; starts count up from it.
      sheets: whether the sheets of randomisations and objects are made.
    """

    tasks: tuple[str, ...] = ()
    robots: tuple[str, ...] = ()
    size: int = 160
    columns: int = 7
    n_starts: int = 6
    seed: int = 0
    sheets: bool = True

    def __post_init__(self) -> None:
        if min(self.size, self.columns, self.n_starts) < 1 or self.seed < 0:
            raise InputError("a gallery's size, columns and n_starts must be >= 1, its seed >= 0")


class Preview(NamedTuple):
    """What `preview` wrote.

    Attributes:
      paths: files, in the order they were made.
      notes: one line for each video that could not be written.
    """

    paths: tuple[Path, ...]
    notes: tuple[str, ...]


def preview(
    config: EnvConfig,
    directory: str | os.PathLike[str],
    options: GalleryOptions = GalleryOptions(),
    progress: Callable[[int, int], None] | None = None,
) -> Preview:
    """Draws the whole suite into a folder; files of an earlier preview are replaced.

    Writes `<robot>.mp4` and `<robot>.png` (the expert's episode of every task),
    `suite.png` (one picture per task and robot), `randomization.png` (starts of the
    configured task under both presets, from all cameras) and `objects.png` (every shape
    of the training and the novel set). Compiling takes most of the time.

    Args:
      config: its control rate, physics backend and threads are used everywhere, its task
        and robot where only one is shown.
      directory: where to; it is created.
      options: see GalleryOptions.
      progress: called with (jobs done, jobs in all).

    Raises:
      InputError: an unknown task or robot, or the folder cannot be written.
    """
    directory = Path(directory)
    tasks, arms = _chosen(options)
    sheets = SHEETS if options.sheets else {}
    tell = _counter(progress, len(tasks) * len(arms) + len(sheets))
    paths: list[Path] = []
    notes: list[str] = []
    films: dict[str, list[pictures.Recording]] = {}
    atomic.make_directory(directory)
    for arm in arms:
        films[arm] = [tell(film(_task(config, t, arm), options)) for t in tasks]
        path = directory / f"{arm}.mp4"
        note = pictures.write_video(path, films[arm], config.control_hz)
        notes += [f"{path.name}: {note}"] if note else []
        paths += [] if note else [path]
        sheet = pictures.contact_sheet(films[arm], options.columns)
        paths.append(_save(sheet, directory / f"{arm}.png"))
    paths.append(_save(suite(list(films.values())), directory / "suite.png"))
    for name, draw in sheets.items():
        paths.append(_save(tell(draw(config, options)), directory / f"{name}.png"))
    return Preview(tuple(paths), tuple(notes))


def _chosen(options: GalleryOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tasks and robots that are shown."""
    tasks = options.tasks or tuple(sim.ENVIRONMENTS)
    for task in tasks:
        if task not in sim.ENVIRONMENTS:
            raise InputError(f"unknown task '{task}'; known: {', '.join(sim.ENVIRONMENTS)}")
    arms = options.robots or tuple(robots.ROBOTS)
    return tasks, tuple(robots.get(arm).name for arm in arms)


def _counter(progress: Callable[[int, int], None] | None, total: int) -> Callable[[Any], Any]:
    """Passes each finished thing on and counts it."""
    done = iter(range(1, total + 1))

    def tell(thing: Any) -> Any:
        if progress is not None:
            progress(next(done), total)
        interruption.check()
        return thing

    return tell


def _task(config: EnvConfig, task: str, robot: str) -> EnvConfig:
    """The plain world of a task: its own object, length and looks."""
    return EnvConfig(
        name=task,
        robot=robot,
        backend=config.backend,
        control_hz=config.control_hz,
        workers=config.workers,
    )


# --- episodes -------------------------------------------------------------------------


def film(config: EnvConfig, options: GalleryOptions = GalleryOptions()) -> pictures.Recording:
    """The expert's episode `options.seed` of a world, until a little after success."""
    env = sim.make_world(dataclasses.replace(config, cameras=()))
    length = wrappers.episode_length(env)
    key = streams.episode_key(streams.COLLECTION, options.seed)
    states, success, asked = _expert_episode(env, length, key)
    reached = np.flatnonzero(np.asarray(success) > 0)
    end = min(int(reached[0]) + 1 + TAIL_STEPS, length) if len(reached) else length
    frames = np.asarray(_watch(env, options.size, states))[:end]
    words = env.unwrapped.instructions[int(asked)]
    caption = f"{config.name.replace('_', ' ')}, {config.robot}: {words}"
    return pictures.Recording(options.seed, bool(success[end - 1] > 0), frames, caption)


def _world(config: EnvConfig, cameras: Sequence[str], size: int) -> tuple[Env, wrappers.Pixels]:
    """A world without pixels, and the cameras that draw it."""
    drawn = dataclasses.replace(
        config, cameras=tuple(cameras), image_size=size * SUPERSAMPLING, shadows=True
    )
    env, pixels = wrappers.without_pixels(sim.make_world(drawn))
    if pixels is None:
        raise InputError(f"the world '{config.name}' has no cameras to draw it from")
    return env, pixels


@functools.partial(jax.jit, static_argnums=(0, 1))
def _expert_episode(env: Env, length: int, key: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    """States [T, ...] before each step, success [T] after it, index of the instruction []."""

    def step(state: Any, _: None) -> tuple[Any, tuple[Any, jax.Array]]:
        after = env.step(state, env.expert(state.obs["privileged"]))
        return after, (state.pipeline_state, after.metrics["success"])

    first = env.reset(key)
    _, (states, success) = jax.lax.scan(step, first, length=length)
    return states, success, first.info["instruction"]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _watch(env: Env, size: int, states: Any) -> jax.Array:
    """Frames uint8 [T, S, S, 3] of physics states [T, ...], seen from beside the table."""
    task = env.unwrapped
    drawn = raycaster.RenderScene.from_model(task.scene.model)
    eye, axes = np.array(EYE, np.float32), _facing(EYE, LOOK_AT)

    def one(state: Any) -> jax.Array:
        poses = task.physics.kinematics(state)
        where = poses.geom_xpos, poses.geom_xmat, eye, axes, FOVY
        return raycaster.render(drawn, *where, height=size, width=size, options=FILM).rgb

    return jax.lax.map(one, states)


def _facing(eye: Sequence[float], target: Sequence[float]) -> np.ndarray:
    """Rotation [3, 3] of an upright camera at `eye` that looks at `target`."""
    back = np.subtract(eye, target)
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], axis=1).astype(np.float32)


def _draw(pixels: wrappers.Pixels, states: Any) -> dict[str, np.ndarray]:
    """Camera -> pictures uint8 [N, S, S, 3] of N physics states."""
    images = wrappers.draw_all(pixels, states, BATCH)
    return {name.removeprefix(IMAGE_PREFIX): _smooth(v) for name, v in images.items()}


def _smooth(images: np.ndarray) -> np.ndarray:
    """Means of square blocks, [N, k S, k S, 3] -> [N, S, S, 3]."""
    n, height, width, _ = images.shape
    k = SUPERSAMPLING
    blocks = images.reshape(n, height // k, k, width // k, k, 3)
    return blocks.mean(axis=(2, 4)).round().astype(np.uint8)


def suite(films: Sequence[Sequence[pictures.Recording]]) -> Image.Image:
    """One picture per task and robot: the moment of success, or the last frame.

    Args:
      films: the films of each robot, in the same order of tasks; every SUITE_COLUMNS tasks
        give a row per robot.
    """
    columns = min(SUITE_COLUMNS, len(films[0]))
    frames, captions = [], []
    for first in range(0, len(films[0]), columns):
        for row in films:
            shown = row[first : first + columns]
            blank = columns - len(shown)
            frames += [*map(_moment, shown), *[np.full_like(shown[0].frames[0], 255)] * blank]
            captions += [*(r.caption.split(":")[0] for r in shown), *[""] * blank]
    return pictures.grid(frames, captions, columns)


def _moment(recording: pictures.Recording) -> np.ndarray:
    frames = recording.frames
    return frames[max(len(frames) - TAIL_STEPS, 0) if recording.success else -1]


# --- starts ---------------------------------------------------------------------------


def starts(
    config: EnvConfig, seeds: Sequence[int], size: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Beginnings of N episodes.

    Returns:
      Camera -> pictures uint8 [N, S, S, 3] from all cameras of the scene, and which model
      of the world's pool each is of, [N].
    """
    cameras = sim.make_world(dataclasses.replace(config, cameras=())).unwrapped.scene.cameras
    env, pixels = _world(config, cameras, size)
    states = _reset(env, streams.episode_keys(streams.COLLECTION, np.asarray(seeds)))
    return _draw(pixels, states), np.asarray(states.variant)


@functools.partial(jax.jit, static_argnums=0)
def _reset(env: Env, keys: jax.Array) -> Any:
    """Physics states [N, ...] of N fresh episodes."""
    return jax.vmap(env.reset)(keys).pipeline_state


def _randomization_sheet(config: EnvConfig, options: GalleryOptions) -> Image.Image:
    """A row per preset and camera, a column per start."""
    seeds = range(options.seed, options.seed + options.n_starts)
    cells, captions = [], []
    task = config.name if config.name in sim.ENVIRONMENTS else FALLBACK
    world = _task(config, task, config.robot)
    for name, preset in {"moderate": MODERATE, "strong": STRONG}.items():
        views, _ = starts(dataclasses.replace(world, randomization=preset), seeds, options.size)
        for camera, images in views.items():
            cells += list(images)
            captions += [f"{name}, {camera}, start {seed}" for seed in seeds]
    return pictures.grid(cells, captions, options.n_starts)


def _object_sheet(config: EnvConfig, options: GalleryOptions) -> Image.Image:
    """Every shape of both sets on the table of a task whose object can be chosen."""
    has_shapes = getattr(sim.ENVIRONMENTS.get(config.name), "default_shapes", ())
    task = config.name if has_shapes else FALLBACK
    world = _task(config, task, config.robot)
    found = [shown for name in objects.SETS for shown in _one_of_each(world, name, options)]
    return pictures.grid([p for p, _ in found], [c for _, c in found], options.columns)


def _one_of_each(
    world: EnvConfig, name: str, options: GalleryOptions
) -> Iterator[tuple[np.ndarray, str]]:
    """Pictures of a set's shapes, each at its first start, and their captions."""
    config = dataclasses.replace(world, objects=name)
    env, pixels = _world(config, (CLOSE,), options.size)
    seeds = options.seed + np.arange(SHAPE_DRAWS)
    states = _reset(env, streams.episode_keys(streams.COLLECTION, seeds))
    variants, first = np.unique(np.asarray(states.variant), return_index=True)
    images = _draw(pixels, jax.tree.map(lambda x: np.asarray(x)[first], states))[CLOSE]
    for variant, image in zip(variants, images, strict=True):
        yield image, f"{name}: {env.unwrapped.shapes[variant].name}"


def _save(image: Image.Image, path: Path) -> Path:
    """Writes a PNG, whole or not at all."""
    with atomic.new_file(path) as temporary:
        image.save(temporary, format="PNG", optimize=True)
    return path


# File name -> what draws it.
SHEETS: Mapping[str, Callable[[EnvConfig, GalleryOptions], Image.Image]] = {
    "randomization": _randomization_sheet,
    "objects": _object_sheet,
}
