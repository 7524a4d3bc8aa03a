"""Numbers and videos over time, and the sinks they go to.

`metrics.jsonl` is always written; TensorBoard files and Weights & Biases are optional.
All survive a kill: a resumed run drops what lies beyond the step it restored, so each
step is there once.
"""

import errno
import io
import json
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter
from tensorboardX.proto.summary_pb2 import Summary

from jaxpolicy.core import atomic, schema
from jaxpolicy.core.specs import InputError
from jaxpolicy.training.config import TrainConfig

__all__ = [
    "FILE_NAME",
    "SINKS",
    "JsonLines",
    "MetricsWriter",
    "Sink",
    "TensorBoard",
    "Video",
    "WeightsAndBiases",
    "encode_gif",
    "open_writer",
    "read",
    "truncate",
]

FILE_NAME = "metrics.jsonl"
WANDB_ID = "wandb_id"


class Video(NamedTuple):
    """Something to look at.

    Attributes:
      frames: uint8 [T, H, W, 3].
      fps: frames per second.
    """

    frames: np.ndarray
    fps: float


class Sink(Protocol):
    """Where metrics go; made by SINKS[name](config, workdir, step restored or 0)."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One row of numbers; `step` is the number of updates done."""

    def show(self, step: int, videos: Mapping[str, Video]) -> None:
        """Videos, where the sink can show them."""

    def close(self) -> None:
        """Flushes and closes."""


# ------------------------------------------------------------------ metrics.jsonl


def read(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl, oldest first; a half-written last line is left out."""
    path = Path(workdir) / FILE_NAME
    if not path.exists():
        return []
    rows = [_parse(line) for line in path.read_text().splitlines()]
    return [row for row in rows if row]


def _parse(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) and "step" in row else {}


def truncate(workdir: str | os.PathLike[str], step: int) -> None:
    """Drops rows beyond `step`, atomically."""
    path = Path(workdir) / FILE_NAME
    rows = [row for row in read(workdir) if row["step"] <= step]
    atomic.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


class JsonLines:
    """Appends rows to metrics.jsonl, each on disk at once."""

    def __init__(self, config: TrainConfig, workdir: str | os.PathLike[str], step: int):
        """See Sink."""
        del config
        truncate(workdir, step)
        self._file = open(Path(workdir) / FILE_NAME, "a")  # noqa: SIM115

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line."""
        self._file.write(json.dumps({"step": step} | dict(values)) + "\n")
        self._file.flush()

    def show(self, step: int, videos: Mapping[str, Video]) -> None:
        """Numbers only."""

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


# ------------------------------------------------------------------ TensorBoard


class TensorBoard:
    """Event files in `<workdir>/tensorboard`; videos are animated images."""

    def __init__(self, config: TrainConfig, workdir: str | os.PathLike[str], step: int):
        """See Sink."""
        del config
        directory = str(Path(workdir) / "tensorboard")
        threading.excepthook = _not_of_full_disks
        self._board = SummaryWriter(
            directory,
            # Its thread dies where a disk is full, and who waits for room in the queue hangs.
            max_queue=10_000,
            purge_step=step + 1 if step else None,
            flush_secs=10,
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A point on each curve."""
        if not self._board.file_writer.event_writer._worker.is_alive():  # noqa: SLF001
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def show(self, step: int, videos: Mapping[str, Video]) -> None:
        """Not with `add_video`, which needs a package for what Pillow does."""
        for name, video in videos.items():
            _, height, width, colours = video.frames.shape
            gif = encode_gif(video)
            image = Summary.Image(
                height=height, width=width, colorspace=colours, encoded_image_string=gif
            )
            summary = Summary(value=[Summary.Value(tag=name, image=image)])
            self._board.file_writer.add_summary(summary, step)

    def close(self) -> None:
        """Flushes and closes the files."""
        self._board.close()


def _not_of_full_disks(found: threading.ExceptHookArgs) -> None:
    """For threading.excepthook: TensorBoard's thread is not the one to tell of a full disk."""
    full = isinstance(found.exc_value, OSError) and found.exc_value.errno == errno.ENOSPC
    if not full:
        threading.__excepthook__(found)


def encode_gif(video: Video) -> bytes:
    """An endless animated GIF."""
    first, *others = [Image.fromarray(frame) for frame in video.frames]
    buffer = io.BytesIO()
    duration = round(1000 / video.fps)
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=duration, loop=0)
    return buffer.getvalue()


# ------------------------------------------------------------------ Weights & Biases


class WeightsAndBiases:
    """A run in the project `config.loop.wandb`; resumed under the same id.

    Where it is kept, online or not, is W&B's own affair (WANDB_MODE and its kin).
    """

    def __init__(self, config: TrainConfig, workdir: str | os.PathLike[str], step: int):
        """See Sink.

        Raises:
          InputError: the package is not installed.
        """
        try:
            import wandb
        except ImportError as e:
            raise InputError("loop.wandb needs a package; pip install 'jaxpolicy[wandb]'") from e
        path = Path(workdir) / WANDB_ID
        identity = path.read_text() if step and path.exists() else secrets.token_hex(4)
        atomic.write_text(path, identity)
        self._video: Callable[..., Any] = wandb.Video
        self._run = wandb.init(
            project=config.loop.wandb,
            name=config.name,
            id=identity,
            resume="allow",
            dir=os.fspath(workdir),
            config=schema.to_mapping(config),
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A point on each curve."""
        self._run.log(dict(values), step=step)

    def show(self, step: int, videos: Mapping[str, Video]) -> None:
        """GIFs."""
        shown = {k: self._video(io.BytesIO(encode_gif(v)), format="gif") for k, v in videos.items()}
        self._run.log(shown, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


# ------------------------------------------------------------------ all of them

SINKS: dict[str, Callable[[TrainConfig, str | os.PathLike[str], int], Sink]] = {
    "jsonl": JsonLines,
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


class MetricsWriter:
    """Writes to several sinks."""

    def __init__(self, sinks: Sequence[Sink]):
        """Takes open sinks, and closes them."""
        self._sinks = tuple(sinks)

    def write(
        self, step: int, values: Mapping[str, float], videos: Mapping[str, Video] | None = None
    ) -> None:
        """One row of numbers, and what there is to see."""
        row = {k: float(v) for k, v in values.items()}
        try:
            for sink in self._sinks:
                sink.write(step, row)
                if videos:
                    sink.show(step, videos)
        except OSError as e:
            raise InputError(f"metrics of step {step}: cannot write: {e.strerror}") from e

    def close(self) -> None:
        """Flushes and closes all sinks."""
        failed: list[OSError] = []
        for sink in self._sinks:
            try:
                sink.close()
            except OSError as e:
                failed.append(e)
        if failed:
            raise InputError(f"metrics: cannot write: {failed[0].strerror}") from failed[0]


def open_writer(
    config: TrainConfig, workdir: str | os.PathLike[str], step: int = 0
) -> MetricsWriter:
    """The sinks that `config.loop` names, continuing after `step`, 0 for a new run."""
    # What may be missing comes first, while there is nothing to close.
    wanted = {"wandb": config.loop.wandb, "tensorboard": config.loop.tensorboard, "jsonl": True}
    return MetricsWriter([SINKS[k](config, workdir, step) for k, on in wanted.items() if on])
