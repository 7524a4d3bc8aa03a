"""Pictures of episodes: contact sheets, grids and video."""

import dataclasses
import os
import subprocess
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from jaxpolicy.core import atomic

__all__ = ["Recording", "contact_sheet", "grid", "mosaic", "write_video"]

GREEN, RED, GREY = (36, 138, 61), (200, 52, 43), (90, 90, 90)
MARGIN, LABEL_HEIGHT = 4, 14


@dataclasses.dataclass(frozen=True)
class Recording:
    """Frames of one episode.

    Attributes:
      seed: of the episode.
      success: whether it succeeded, None where nobody can say.
      frames: uint8 [T, S, S, 3], frame t before action t.
      caption: what is written at it, instead of its seed.
    """

    seed: int
    success: bool | None
    frames: np.ndarray
    caption: str = ""

    @property
    def label(self) -> str:
        """Caption, or seed, and outcome."""
        outcome = {True: "success", False: "failure", None: ""}[self.success]
        return f"{self.caption or f'seed {self.seed}'}  {outcome}".rstrip()

    @property
    def colour(self) -> tuple[int, int, int]:
        """Green for success, red for failure, grey where nobody can say."""
        return {True: GREEN, False: RED, None: GREY}[self.success]


def contact_sheet(recordings: Sequence[Recording], columns: int = 8) -> Image.Image:
    """One row per episode: `columns` frames evenly spread from the first to the last.

    The label of a row names its caption or seed, and outcome; its frame is green for
    success, red for failure.
    """
    return _stacked([_row(r, columns) for r in recordings])


def grid(
    pictures: Sequence[np.ndarray], captions: Sequence[str] = (), columns: int = 4
) -> Image.Image:
    """Pictures in rows, from the top left.

    Args:
      pictures: uint8 [S, S, 3] each, all of one size.
      captions: one per picture, written above it; () for none.
      columns: pictures per row.
    """
    bar = LABEL_HEIGHT if captions else 0
    height, width, _ = pictures[0].shape
    rows = -(-len(pictures) // columns)
    cell = (width + MARGIN, height + MARGIN + bar)
    sheet = Image.new("RGB", (columns * cell[0] + MARGIN, rows * cell[1] + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = MARGIN + (i % columns) * cell[0], MARGIN + (i // columns) * cell[1]
        sheet.paste(Image.fromarray(picture), (x, y + bar))
        if captions:
            pen.text((x, y), captions[i], fill=GREY)
    return sheet


def _stacked(rows: Sequence[Image.Image]) -> Image.Image:
    """Images below each other."""
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
    colour = recording.colour
    pen.text((MARGIN, 1), recording.label, fill=colour)
    taken = MARGIN + pen.textlength(recording.label)
    for i, t in enumerate(index):
        x = MARGIN + i * cell
        row.paste(Image.fromarray(frames[t]), (x, LABEL_HEIGHT))
        if x + size - 24 > taken:
            pen.text((x + size - 24, 1), f"t={t}", fill=GREY)
        pen.rectangle((x - 1, LABEL_HEIGHT - 1, x + size, LABEL_HEIGHT + size), outline=colour)
    return row


def write_video(path: str | os.PathLike[str], recordings: Sequence[Recording], fps: float) -> str:
    """Writes the episodes side by side as one H.264 MP4, each held at its last frame.

    Episodes with a caption have their label above them.

    Returns:
      "" if it was written, else why it could not be made.

    Raises:
      InputError: the file cannot be written.
    """
    if not recordings:
        return "no frames were recorded"
    try:
        import imageio_ffmpeg
    except ImportError:
        return "imageio-ffmpeg is not installed; pip install 'jaxpolicy[viz]'"
    frames = mosaic(recordings)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *_ffmpeg_arguments(frames, fps)]
    try:
        with atomic.new_file(path) as target:
            data = frames.tobytes()
            subprocess.run([*command, str(target)], input=data, capture_output=True, check=True)
    except subprocess.CalledProcessError as e:
        return f"ffmpeg failed: {e.stderr.decode(errors='replace').strip()[-200:]}"
    return ""


def _ffmpeg_arguments(frames: np.ndarray, fps: float) -> list[str]:
    """Raw frames [T, H, W, 3] on standard input -> H.264 that any browser plays."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps:g}", "-i", "-"]
    even = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]
    target = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    return ["-v", "error", "-y", *source, *even, *target, "-f", "mp4"]


def mosaic(recordings: Sequence[Recording]) -> np.ndarray:
    """All episodes in a grid about twice as wide as high, each held at its last frame.

    Returns:
      uint8 [T, H, W, 3].
    """
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
    return np.stack(sheets)


def _framed(recording: Recording) -> np.ndarray:
    """Frames with a border of the outcome's colour, uint8 [T, S + 4, S + 4, 3].

    A caption adds LABEL_HEIGHT rows above them.
    """
    t, height, width, _ = recording.frames.shape
    framed = np.empty((t, height + 4, width + 4, 3), np.uint8)
    framed[:] = np.asarray(recording.colour, np.uint8)
    framed[:, 2:-2, 2:-2] = recording.frames
    if not recording.caption:
        return framed
    bar = Image.new("RGB", (width + 4, LABEL_HEIGHT), "white")
    ImageDraw.Draw(bar).text((2, 1), recording.label, fill=recording.colour)
    bars = np.broadcast_to(np.asarray(bar), (t, LABEL_HEIGHT, width + 4, 3))
    return np.concatenate([bars, framed], axis=1)
