"""Pictures of episodes: choosing them, drawing them, contact sheets and video.

Where a world has a MuJoCo scene, only physics states are kept while it runs, and the few episodes
that are looked at are drawn afterwards from a camera of their own; elsewhere the frames
are the first camera's that the world observes.
"""

import dataclasses
import functools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from brax.envs.base import Env, State
from PIL import Image, ImageDraw

from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.sim import wrappers
from jaxpolicy.specs import is_camera

__all__ = ["Recording", "Watcher", "contact_sheet", "write_video"]

DRAW_BATCH = 32
GREEN, RED = (36, 138, 61), (200, 52, 43)
MARGIN, LABEL_HEIGHT = 4, 14


@dataclasses.dataclass(frozen=True)
class Recording:
    """Frames of one episode.

    Attributes:
      seed: of the episode.
      success: whether it succeeded, None where nobody can say.
      frames: uint8 [T, S, S, 3], frame t before action t.
    """

    seed: int
    success: bool | None
    frames: np.ndarray


class Watcher:
    """Keeps what is needed to show `config.n_recorded` episodes of each outcome."""

    def __init__(self, env: Env, config: EvaluationConfig):
        """Watches `env` from `config.view_camera`."""
        self._n = config.n_recorded
        self._camera = _view_camera(env, config)
        self._kept: list[tuple[int, bool | None, list[Any]]] = []

    def view(self, state: State) -> Any:
        """What to keep of E worlds at one step: physics states, pictures, or nothing."""
        if self._n == 0:
            return None
        if self._camera is not None:
            return jax.tree.map(np.asarray, state.pipeline_state)
        cameras = sorted(k for k in state.obs if is_camera(k))
        return np.asarray(state.obs[cameras[0]]) if cameras else None

    def keep(
        self, views: list[Any], end: np.ndarray, seeds: np.ndarray, success: np.ndarray | None
    ) -> None:
        """Chooses from finished episodes; views are [T] of [E, ...], end is [n <= E]."""
        if not views or views[0] is None:
            return
        for e, steps in enumerate(end):
            outcome = None if success is None else bool(success[e])
            if sum(o == outcome for _, o, _ in self._kept) < self._n:
                episode = [jax.tree.map(lambda x, e=e: x[e], v) for v in views[:steps]]
                self._kept.append((int(seeds[e]), outcome, episode))

    def draw(self) -> tuple[Recording, ...]:
        """The chosen episodes, failures first."""
        chosen = sorted(self._kept, key=lambda k: (k[1] is True, k[0]))
        return tuple(Recording(seed, ok, self._frames(views)) for seed, ok, views in chosen)

    def _frames(self, views: list[Any]) -> np.ndarray:
        if self._camera is None:
            return np.stack(views)
        states = jax.tree.map(lambda *xs: np.stack(xs), *views)
        images = wrappers.draw_all(self._camera, states, DRAW_BATCH)
        return next(iter(images.values()))


def _view_camera(env: Env, config: EvaluationConfig) -> wrappers.Pixels | None:
    """The camera that episodes are shown from, None where there is no scene."""
    if config.n_recorded == 0 or not hasattr(env, "scene"):
        return None
    return _camera(env, config.view_camera or env.scene.cameras[0], config.view_size)


@functools.lru_cache(maxsize=8)
def _camera(env: Env, name: str, size: int) -> wrappers.Pixels:
    """The same object for the same view, so that it is compiled once."""
    return wrappers.Pixels(wrappers.without_pixels(env)[0], (name,), size, shadows=True)


def contact_sheet(recordings: Sequence[Recording], columns: int = 8) -> Image.Image:
    """One row per episode: `columns` frames evenly spread from the first to the last.

    The label of a row names its seed and outcome; its frame is green for success, red for
    failure.
    """
    rows = [_row(r, columns) for r in recordings]
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, sum(row.height for row in rows)), "white")
    y = 0
    for row in rows:
        sheet.paste(row, (0, y))
        y += row.height
    return sheet


def _row(recording: Recording, columns: int) -> Image.Image:
    frames = recording.frames
    index = np.linspace(0, len(frames) - 1, columns).round().astype(int)
    size = frames.shape[1]
    cell = size + MARGIN
    row = Image.new("RGB", (columns * cell + MARGIN, size + LABEL_HEIGHT + MARGIN), "white")
    pen = ImageDraw.Draw(row)
    colour = {True: GREEN, False: RED, None: (90, 90, 90)}[recording.success]
    outcome = {True: "success", False: "failure", None: ""}[recording.success]
    pen.text((MARGIN, 1), f"seed {recording.seed}  {outcome}", fill=colour)
    for i, t in enumerate(index):
        x = MARGIN + i * cell
        row.paste(Image.fromarray(frames[t]), (x, LABEL_HEIGHT))
        pen.text((x + size - 24, 1), f"t={t}", fill=(90, 90, 90))
        pen.rectangle((x - 1, LABEL_HEIGHT - 1, x + size, LABEL_HEIGHT + size), outline=colour)
    return row


def write_video(path: str | os.PathLike[str], recordings: Sequence[Recording], fps: float) -> str:
    """Writes the episodes side by side as one H.264 MP4, each held at its last frame.

    Returns:
      "" if it was written, else why not.
    """
    if not recordings:
        return "no frames were recorded"
    try:
        import imageio_ffmpeg
    except ImportError:
        return "imageio-ffmpeg is not installed; pip install 'jaxpolicy[viz]'"
    frames = np.stack(_mosaic(recordings))
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *_ffmpeg_arguments(frames, fps), str(temporary)]
    done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False)
    if done.returncode:
        temporary.unlink(missing_ok=True)
        return f"ffmpeg failed: {done.stderr.decode(errors='replace').strip()[-200:]}"
    os.replace(temporary, path)
    return ""


def _ffmpeg_arguments(frames: np.ndarray, fps: float) -> list[str]:
    """Raw frames [T, H, W, 3] on standard input -> H.264 that any browser plays."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps:g}", "-i", "-"]
    even = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]
    target = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    return ["-v", "error", "-y", *source, *even, *target, "-f", "mp4"]


def _mosaic(recordings: Sequence[Recording]) -> list[np.ndarray]:
    """Frames [H, W, 3] of all episodes in a grid about twice as wide as high."""
    columns = min(len(recordings), max(1, round((2 * len(recordings)) ** 0.5)))
    rows = -(-len(recordings) // columns)
    framed = [_framed(r) for r in recordings]
    blank = np.full_like(framed[0][0], 255)
    sheets = []
    for t in range(max(len(f) for f in framed)):
        cells = [f[min(t, len(f) - 1)] for f in framed]
        cells += [blank] * (rows * columns - len(cells))
        lines = [np.hstack(cells[i * columns : (i + 1) * columns]) for i in range(rows)]
        sheets.append(np.vstack(lines))
    return sheets


def _framed(recording: Recording) -> np.ndarray:
    """Frames with a border of the outcome's colour, uint8 [T, S + 4, S + 4, 3]."""
    colour = {True: GREEN, False: RED, None: (90, 90, 90)}[recording.success]
    t, height, width, _ = recording.frames.shape
    framed = np.empty((t, height + 4, width + 4, 3), np.uint8)
    framed[:] = np.asarray(colour, np.uint8)
    framed[:, 2:-2, 2:-2] = recording.frames
    return framed
