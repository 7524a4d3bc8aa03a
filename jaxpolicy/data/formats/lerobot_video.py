"""Frames of an episode from a video file that may hold many.

A video is positioned once, at the last key frame before the episode, and decoded forward.
Containers stay open (see Handles): the table of contents of a long file takes time to parse.
"""

import contextlib
import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats.lerobot_files import Handles, one_line, package

__all__ = ["Videos"]

# Only these, by name: FFmpeg's own guess would follow a playlist to other files.
_FORMATS = {".mp4": "mov", ".mov": "mov", ".m4v": "mov", ".mkv": "matroska", ".webm": "matroska"}
# Coded pictures are larger than shown ones by less than a block of the codec.
_BLOCK = 256
_FAULTS = (OSError, ValueError, RuntimeError, TypeError, IndexError, MemoryError, OverflowError)


class Videos:
    """Video files of one dataset, opened when they are needed."""

    def __init__(self) -> None:
        """Opens nothing; raises InputError where PyAV is missing."""
        package("av")
        self._handles = Handles(4, _close)

    def frames(
        self, path: pathlib.Path, times: np.ndarray, tolerance: float, shape: Sequence[int]
    ) -> np.ndarray:
        """Pictures nearest to `times`.

        Args:
          path: video file.
          times: [T], ascending, s from the start of the file.
          tolerance: how far a picture may be from its time, s.
          shape: [H, W, 3] that they must have.

        Returns:
          uint8 [T, H, W, 3].

        Raises:
          InputError: a damaged file, pictures of another size, or none near a time.
        """
        out = np.empty((len(times), *shape), np.uint8)
        with self._lend(path, tuple(shape)) as opened:
            opened.fill(out, times, tolerance)
        return out

    def digest(self, path: pathlib.Path, start: float, stop: float, shape: Sequence[int]) -> str:
        """SHA-256 of the coded pictures shown in [start, stop), s."""
        with self._lend(path, tuple(shape)) as opened:
            return opened.digest(start, stop)

    @contextlib.contextmanager
    def _lend(self, path: pathlib.Path, shape: tuple[int, ...]) -> Iterator["_Open"]:
        av = package("av")
        try:
            with self._handles.lend((path, shape), lambda: _Open(path, shape)) as opened:
                yield opened
        except InputError:
            raise
        except (av.FFmpegError, *_FAULTS) as e:
            raise InputError(f"{path}: cannot decode the video: {one_line(e)}") from e


def _close(opened: "_Open") -> None:
    opened.container.close()


class _Open:
    """One open video."""

    def __init__(self, path: pathlib.Path, shape: tuple[int, ...]):
        self.path = path
        name = _FORMATS.get(path.suffix.lower())
        if name is None:
            raise InputError(f"{path}: video must be one of {', '.join(_FORMATS)}")
        self.container = package("av").open(str(path.resolve()), format=name)
        if not self.container.streams.video:
            raise InputError(f"{path}: holds no video")
        self.stream = self.container.streams.video[0]
        self._prepare(shape)
        self._convert = _converter()

    def _prepare(self, shape: tuple[int, ...]) -> None:
        height, width = shape[:2]
        if self.stream.codec_context is None:
            raise InputError(f"{self.path}: the video is damaged or of a codec that PyAV lacks")
        if (self.stream.height, self.stream.width) != (height, width):
            raise InputError(
                f"{self.path}: the video is {self.stream.height} x {self.stream.width}, "
                f"info.json says {height} x {width}"
            )
        context = self.stream.codec_context
        context.options = {"max_pixels": str((height + _BLOCK) * (width + _BLOCK))}
        # More threads are no faster: they start anew at every episode, and loaders run
        # several processes.
        context.thread_type, context.thread_count = "NONE", 1
        if not self.stream.time_base:
            raise InputError(f"{self.path}: the video has no time base")

    def fill(self, out: np.ndarray, times: np.ndarray, tolerance: float) -> None:
        """Writes the picture nearest to times[t] to out[t]."""
        if len(times):
            self._fill(out, times, tolerance, float(times[0]) - tolerance)

    def _fill(self, out: np.ndarray, times: np.ndarray, tolerance: float, start: float) -> None:
        done, before = 0, None
        for frame, time in self._decoded(start):
            if before is None and start > 0 and time > times[0] + tolerance:
                # Some files index key frames by another clock: then from the beginning.
                return self._fill(out, times, tolerance, 0.0)
            while done < len(times) and times[done] <= time:
                is_earlier = before is not None and times[done] - before[1] < time - times[done]
                self._place(out, done, before if is_earlier else (frame, time), times, tolerance)
                done += 1
            before = (frame, time)
            if done == len(times):
                return None
        for t in range(done, len(times)):
            self._place(out, t, before, times, tolerance)
        return None

    def _place(
        self,
        out: np.ndarray,
        t: int,
        found: tuple[Any, float] | None,
        times: np.ndarray,
        tolerance: float,
    ) -> None:
        if found is None or abs(found[1] - times[t]) > tolerance:
            nearest = "none" if found is None else f"the nearest is at {found[1]:.4f} s"
            raise InputError(
                f"{self.path}: no picture for step {t} at {times[t]:.4f} s, {nearest}; the video "
                "is truncated or not of this dataset"
            )
        frame = found[0]
        if (frame.height, frame.width) != out.shape[1:3]:
            raise InputError(
                f"{self.path}: the picture of step {t} is {frame.height} x {frame.width}, not "
                f"{out.shape[1]} x {out.shape[2]}"
            )
        self._convert(frame, out[t])

    def _decoded(self, start: float) -> Iterator[tuple[Any, float]]:
        """(frame, its time in s) from the key frame before `start` on."""
        self._seek(start)
        for frame in self.container.decode(self.stream):
            if frame.pts is not None:
                yield frame, float(frame.pts * self.stream.time_base)

    def _seek(self, start: float) -> None:
        offset = int(max(start, 0.0) / float(self.stream.time_base))
        self.container.seek(offset, stream=self.stream, backward=True)

    def digest(self, start: float, stop: float) -> str:
        self._seek(start)
        digest, base = hashlib.sha256(), float(self.stream.time_base)
        late = 0
        for packet in self.container.demux(self.stream):
            if packet.pts is None:
                continue
            time = packet.pts * base
            if start <= time < stop:
                digest.update(bytes(packet))
            # Pictures are stored in decoding order, a few before those shown earlier.
            late = late + 1 if time >= stop else 0
            if late > 32:
                break
        return digest.hexdigest()


def _converter() -> Callable[[Any, np.ndarray], None]:
    """A function that writes a decoded frame as RGB to uint8 [H, W, 3].

    One converter serves all frames of a file: a new one for each, as `VideoFrame.to_ndarray`
    makes, costs more than decoding. Likewise one thread: these pictures are small.
    """
    reformat = package("av.video.reformatter").VideoReformatter().reformat

    def convert(frame: Any, out: np.ndarray) -> None:
        plane = reformat(frame, format="rgb24", **_options()).planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        out[:] = rows[: len(out), : out.shape[1] * 3].reshape(out.shape)

    return convert


@functools.cache
def _options() -> dict[str, Any]:
    """`threads`, where this release of PyAV knows it."""
    av = package("av")
    reformatter = package("av.video.reformatter").VideoReformatter()
    try:
        reformatter.reformat(av.VideoFrame(16, 16, "yuv420p"), format="rgb24", threads=1)
    except TypeError:
        return {}
    return {"threads": 1}
