"""Video files of one camera: episodes encoded one by one and put behind each other."""

import contextlib
import fractions
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats.lerobot_files import one_line, package

__all__ = ["CODECS", "VideoPlace", "VideoWriter", "encode"]

# Settings of LeRobot's own writer: a key frame every other picture makes random access cheap.
_GOP = 2
_PIXELS = "yuv420p"
CODECS = {
    "av1": ("libsvtav1", {"preset": "12"}),
    # Without pictures that refer to later ones, decoding order is display order.
    "h264": ("libx264", {"bf": "0"}),
}


def encode(frames: np.ndarray, fps: fractions.Fraction, codec: str, crf: int) -> bytes:
    """An mp4 of uint8 [T, H, W, 3] that begins with a key frame.

    Args:
      frames: pictures; H and W even for h264.
      fps: pictures per second.
      codec: key of CODECS.
      crf: quality, lower is better.

    Raises:
      InputError: the codec is not there or refuses such pictures.
    """
    av = package("av")
    encoder, options = CODECS[codec]
    options = {**options, "g": str(_GOP), "crf": str(crf)}
    buffer = io.BytesIO()
    try:
        with _quiet(), av.open(buffer, "w", format="mp4") as container:
            stream = container.add_stream(encoder, fps, options=options)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = _PIXELS
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as e:
        size = " x ".join(map(str, frames.shape[1:3]))
        raise InputError(
            f"cannot encode pictures of {size} as {codec}: {one_line(e)}; h264 needs even sizes, "
            "or store images instead of video"
        ) from e
    return buffer.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the AV1 encoder from printing its settings; it only listens to this variable."""
    if "SVT_LOG" in os.environ:
        yield
        return
    os.environ["SVT_LOG"] = "1"
    try:
        yield
    finally:
        os.environ.pop("SVT_LOG", None)


class VideoPlace(NamedTuple):
    """Where an episode lies: number of the file, time of its first and after its last picture."""

    file: int
    start: float
    stop: float


class VideoWriter:
    """Numbered files; a new one is begun when the last is full."""

    def __init__(self, directory: pathlib.Path, fps: fractions.Fraction, limit: int):
        """Nothing is written yet.

        Args:
          directory: for the files.
          fps: pictures per second.
          limit: size in bytes beyond which a file does not grow, unless one episode does.
        """
        self._directory, self._fps, self._limit = directory, fps, limit
        self._container: Any = None
        self._stream: Any = None
        self._file, self._n_bytes, self._n_frames = -1, 0, 0

    def path(self, file: int) -> pathlib.Path:
        """Of a file by its number; a folder holds 1000."""
        return self._directory / f"chunk-{file // 1000:03d}" / f"file-{file % 1000:03d}.mp4"

    def add(self, video: bytes, n_frames: int) -> VideoPlace:
        """Puts an encoded episode behind the last, without encoding it again."""
        if self._container is None or self._n_bytes + len(video) > self._limit:
            self._begin()
        with package("av").open(io.BytesIO(video), format="mov") as source:
            self._copy(source)
        start, self._n_frames = self._n_frames, self._n_frames + n_frames
        self._n_bytes += len(video)
        return VideoPlace(self._file, float(start / self._fps), float(self._n_frames / self._fps))

    def close(self) -> None:
        """Completes the last file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def info(self) -> dict[str, Any]:
        """What LeRobot notes about a video, read back from the first file."""
        with package("av").open(str(self.path(0)), format="mov") as container:
            stream = container.streams.video[0]
            return {
                "video.height": stream.height,
                "video.width": stream.width,
                "video.codec": stream.codec_context.codec.canonical_name,
                "video.pix_fmt": _PIXELS,
                "video.fps": float(self._fps) if self._fps.denominator > 1 else int(self._fps),
                "video.channels": 3,
                "video.g": _GOP,
                "is_depth_map": False,
                "has_audio": False,
            }

    def _begin(self) -> None:
        self.close()
        self._file, self._n_bytes, self._n_frames = self._file + 1, 0, 0
        path = self.path(self._file)
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"movflags": "faststart"}
        self._container = package("av").open(str(path), "w", format="mp4", options=options)
        self._stream = None

    def _copy(self, source: Any) -> None:
        template = source.streams.video[0]
        if self._stream is None:
            self._stream = self._container.add_stream_from_template(template, opaque=True)
            self._stream.time_base = template.time_base
        offset = round(self._n_frames / self._fps / template.time_base)
        for packet in source.demux(template):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                packet.stream = self._stream
                self._container.mux(packet)
