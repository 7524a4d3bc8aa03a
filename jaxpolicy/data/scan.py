"""One pass over a dataset: what cleaning, splitting, statistics and the card are made from.

Everything that grows with the dataset goes to files of a scratch folder; what is held in
memory is about 50 bytes an episode. Cameras are not decoded.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TextIO

import numpy as np

from jaxpolicy.core import interruption
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import Episode
from jaxpolicy.data import splits
from jaxpolicy.data.source import EpisodeSource

__all__ = ["EPISODE", "Progress", "Scan", "Text", "hash64", "scan"]

# (episodes done, episodes in all)
Progress = Callable[[int, int], None]

# What is kept of an episode in memory. success: 1, 0, -1 unknown; key: of its id, task: of
# its task; readable: False where the episode could not be read, see Text.problem.
EPISODE = np.dtype(
    [
        ("length", np.int64),
        ("content", "S16"),
        ("key", np.uint64),
        ("dither", np.float32),
        ("task", np.uint64),
        ("success", np.int8),
        ("complete", np.bool_),
        ("readable", np.bool_),
    ]
)
# Rows read back at once.
_BLOCK = 2**13


@dataclasses.dataclass(frozen=True)
class Text:
    """What is kept of an episode on disk.

    Attributes:
      episode_id: unique once processed.
      task: its task, or the instruction where no task is named.
      problem: why it cannot be used, "" where it can.
    """

    episode_id: str
    task: str
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Scan:
    """A dataset at a glance.

    Attributes:
      episodes: EPISODE [N].
      width: D, elements of action and proprio side by side.
      n_action: the first of them, which are the action.
      directory: scratch folder with the files.
    """

    episodes: np.ndarray
    width: int
    n_action: int
    directory: pathlib.Path

    def texts(self) -> Iterator[Text]:
        """One per episode, in order."""
        with open(self.directory / _TEXTS, encoding="utf-8") as file:
            for line in file:
                yield Text(**json.loads(line))

    def extremes(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """(episodes, low [n, D], high [n, D]): of every element over each episode."""
        n = len(self.episodes)
        blocks = zip(self._blocks(_LOW, n), self._blocks(_HIGH, n), strict=True)
        for start, (low, high) in zip(range(0, n, _BLOCK), blocks, strict=True):
            yield slice(start, start + len(low)), low, high

    def rows(self, wanted: np.ndarray) -> Iterator[np.ndarray]:
        """Action and proprio of all steps of the episodes where bool [N] `wanted`, [n, D]."""
        ends = np.cumsum(self.episodes["length"])
        starts = ends - self.episodes["length"]
        start = 0
        for block in self._blocks(_NUMBERS, int(ends[-1])):
            stop = start + len(block)
            first, last = np.searchsorted(ends, [start, stop - 1], side="right")
            owners = np.arange(first, last + 1)
            inside = np.minimum(ends[owners], stop) - np.maximum(starts[owners], start)
            yield block[np.repeat(wanted[owners], inside)]
            start = stop

    def _blocks(self, name: str, n: int) -> Iterator[np.ndarray]:
        """Rows of a file, a few at a time. Read, not mapped: mapped pages would stay."""
        with open(self.directory / name, "rb") as file:
            for start in range(0, n, _BLOCK):
                count = min(_BLOCK, n - start) * self.width
                yield np.fromfile(file, np.float32, count).reshape(-1, self.width)


_TEXTS = "texts.jsonl"
_NUMBERS = "numbers.f32"
_LOW = "low.f32"
_HIGH = "high.f32"


def scan(source: EpisodeSource, directory: pathlib.Path, progress: Progress | None = None) -> Scan:
    """Reads every episode of `source` once, without its cameras.

    An episode that cannot be read, or holds NaN or infinity, is noted as not readable with
    the reason and takes no part in anything else.

    Args:
      source: the dataset.
      directory: existing scratch folder.
      progress: called after every episode.
    """
    n = len(source)
    episodes = np.zeros(n, EPISODE)
    with_proprio = "proprio" in source.spec.keys
    width = source.spec.action.size + (source.spec["proprio"].shape[0] if with_proprio else 0)
    with contextlib.ExitStack() as stack:
        sink = _Sink(directory, width, stack)
        for i in range(n):
            episodes[i] = sink.add(source, i, with_proprio)
            if progress:
                progress(i + 1, n)
            interruption.check()
    return Scan(episodes, width, source.spec.action.size, directory)


class _Sink:
    """The files of a scan while they are written."""

    def __init__(self, directory: pathlib.Path, width: int, stack: contextlib.ExitStack):
        self._texts: TextIO = stack.enter_context(open(directory / _TEXTS, "w", encoding="utf-8"))
        self._numbers, self._low, self._high = (
            stack.enter_context(open(directory / name, "wb")) for name in (_NUMBERS, _LOW, _HIGH)
        )
        self._nothing = np.zeros(width, np.float32)

    def add(self, source: EpisodeSource, i: int, with_proprio: bool) -> tuple[Any, ...]:
        """The EPISODE of episode `i`; the rest goes to the files."""
        try:
            episode = source.load(i, ())
            content = source.content_hash(i)
            rows = _rows(episode, with_proprio)
        except InputError as e:
            return self._note_unreadable(i, str(e))
        problem = _not_finite(rows, source.spec.action.size)
        if problem:
            where = f"episode '{episode.metadata.episode_id}', {problem}"
            return self._note_unreadable(i, where, episode)
        _write(self._numbers, rows)
        _write(self._low, rows.min(0))
        _write(self._high, rows.max(0))
        text = Text(_storable(episode.metadata.episode_id), _task(episode))
        self._write_text(text)
        return _facts(episode, text, content)

    def _note_unreadable(
        self, i: int, problem: str, episode: Episode | None = None
    ) -> tuple[Any, ...]:
        _write(self._low, self._nothing)
        _write(self._high, self._nothing)
        name = _storable(episode.metadata.episode_id) if episode else f"#{i}"
        text = Text(name, _task(episode) if episode else "", _storable(problem))
        self._write_text(text)
        success = episode.metadata.success if episode else None
        return 0, b"", hash64(name), 0.0, 0, _tristate(success), False, False

    def _write_text(self, text: Text) -> None:
        self._texts.write(json.dumps(dataclasses.asdict(text)) + "\n")


def _write(file: BinaryIO, array: np.ndarray) -> None:
    file.write(np.ascontiguousarray(array, np.float32).data)


def _rows(episode: Episode, with_proprio: bool) -> np.ndarray:
    if not len(episode):
        raise InputError(f"episode '{episode.metadata.episode_id}': holds no steps")
    if not with_proprio:
        return episode.action
    return np.concatenate([episode.action, episode.observation["proprio"]], axis=1)


def _not_finite(rows: np.ndarray, n_action: int) -> str:
    finite = np.isfinite(rows)
    if finite.all():
        return ""
    step = int(np.argmin(finite.all(axis=1)))
    name = "proprio" if finite[step, :n_action].all() else "action"
    return f"step {step}: {name} holds NaN or infinite values"


def _facts(episode: Episode, text: Text, content: str) -> tuple[Any, ...]:
    metadata = episode.metadata
    return (
        len(episode),
        hashlib.blake2b(content.encode(), digest_size=16).digest(),
        hash64(text.episode_id),
        splits.dither(text.episode_id),
        hash64(text.task),
        _tristate(metadata.success),
        metadata.complete,
        True,
    )


def _task(episode: Episode) -> str:
    return _storable(episode.metadata.task or episode.language_instruction)


def _storable(text: str) -> str:
    """Without halves of surrogate pairs, which JSON may hold and UTF-8 does not."""
    return text.encode("utf-8", "replace").decode()


def _tristate(success: bool | None) -> int:
    return -1 if success is None else int(success)


def hash64(text: str) -> int:
    """64 bits that stand for `text`."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
