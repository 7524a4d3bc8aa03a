"""From instructions to vectors: what a policy gets as `language`.

NumPy and the standard library only. `HashEncoder` needs nothing but the words;
`TableEncoder` looks up what a language model computed beforehand, so that neither
training nor a deployed controller has to carry one.

Axis letters: N texts, L size of a vector.
"""

import dataclasses
import difflib
import functools
import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from jaxpolicy.core import atomic
from jaxpolicy.core.registry import Registry
from jaxpolicy.core.specs import InputError

__all__ = ["ENCODERS", "HashEncoder", "TableEncoder", "TextEncoder", "get"]

PathLike = str | os.PathLike[str]

MAX_SIZE, MAX_TEXTS, MAX_BYTES = 8192, 100_000, 1 << 30
# Whole numbers: sums of signed weights are exact, hence the same on every machine.
WORD_WEIGHT, PAIR_WEIGHT, TRIGRAM_WEIGHT = 4, 2, 1


class TextEncoder(Protocol):
    """Turns texts into vectors of one size, always the same for the same text."""

    @property
    def size(self) -> int:
        """L."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of N texts, float32 [N, L]."""


@dataclasses.dataclass(frozen=True)
class HashEncoder:
    """Bag of words, pairs of words and character trigrams, each a random direction.

    A feature's direction is L signs, taken from a hash of its characters, so vectors are
    the same in every process and on every platform. Texts with many words in common are
    near each other; meaning plays no part. Case and punctuation are ignored.

    Attributes:
      size: L; fewer than about 32 blur different texts.
    """

    size: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_SIZE:
            raise InputError(f"a text encoder's size must be 1 .. {MAX_SIZE}, got {self.size}")

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of N texts, float32 [N, L] of length 1; a text without words gives 0."""
        vectors = np.zeros((len(_checked(texts)), self.size))
        for i, text in enumerate(texts):
            for feature, weight in _features(text):
                vectors[i] += weight * _direction(feature, self.size)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(norms, 1.0)).astype(np.float32)


def _features(text: str) -> list[tuple[str, int]]:
    """Features of a text and their weights; the first letter of each says what it is."""
    words = re.findall(r"[^\W_]+", text.lower())
    found = [(f"w {word}", WORD_WEIGHT) for word in words]
    found += [(f"p {a} {b}", PAIR_WEIGHT) for a, b in zip(words, words[1:], strict=False)]
    for word in words:
        edged = f" {word} "
        found += [(f"t{edged[i : i + 3]}", TRIGRAM_WEIGHT) for i in range(len(edged) - 2)]
    return found


@functools.lru_cache(maxsize=16_384)
def _direction(feature: str, size: int) -> np.ndarray:
    """Signs [size] that depend on the feature alone."""
    digest = hashlib.shake_128(feature.encode()).digest(-(-size // 8))
    bits = np.unpackbits(np.frombuffer(digest, np.uint8))[:size]
    signs = bits.astype(np.int8) * 2 - 1
    signs.setflags(write=False)
    return signs


@dataclasses.dataclass(frozen=True, eq=False)
class TableEncoder:
    """Vectors that were computed beforehand, one for each known text.

    Attributes:
      texts: N different texts.
      table: float32 [N, L], finite.
    """

    texts: tuple[str, ...]
    table: np.ndarray

    def __post_init__(self) -> None:
        problem = _problem(self.texts, self.table)
        if problem:
            raise InputError(f"table of text vectors: {problem}")

    @property
    def size(self) -> int:
        """L."""
        return int(self.table.shape[1])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of N texts, float32 [N, L]; raises InputError for one it does not know."""
        return self.table[[self._row(text) for text in _checked(texts)]]

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        return {text: i for i, text in enumerate(self.texts)}

    def _row(self, text: str) -> int:
        if text in self._rows:
            return self._rows[text]
        near = difflib.get_close_matches(text, self.texts, 1, cutoff=0.0)
        raise InputError(
            f"the table of text vectors does not have '{text}'; the nearest of its "
            f"{len(self.texts)} texts is '{near[0]}'"
        )

    def save(self, path: PathLike) -> None:
        """Writes an .npz with `texts` and `table`, whole or not at all."""
        # An open file: given a name, NumPy would put its own suffix behind it.
        with atomic.new_file(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, texts=np.array(self.texts), table=self.table)

    @classmethod
    def load(cls, path: PathLike) -> "TableEncoder":
        """Reads what `save` or a language model's user wrote.

        Args:
          path: an .npz with `texts` [N], an array of strings, and `table`, float32 [N, L].

        Raises:
          InputError: there is no such file, or it holds something else.
        """
        try:
            _check_bytes(path)
            with np.load(path, allow_pickle=False) as arrays:
                texts, table = arrays["texts"], arrays["table"]
        except KeyError as e:
            raise InputError(f"{path}: expected the arrays 'texts' and 'table': {e}") from e
        except OSError as e:
            raise InputError(f"{path}: cannot read: {e.strerror or e}") from e
        except (ValueError, zipfile.BadZipFile, EOFError) as e:
            raise InputError(f"{path}: is not an .npz of texts and vectors: {e}") from e
        if texts.ndim != 1 or texts.dtype.kind != "U":
            raise InputError(
                f"{path}: texts must be a list of strings, got {texts.dtype} {texts.shape}"
            )
        problem = _problem(tuple(texts.tolist()), table)
        if problem:
            raise InputError(f"{path}: {problem}")
        return cls(tuple(texts.tolist()), table)


def _check_bytes(path: PathLike) -> None:
    """Refuses what would fill the memory, before anything is unpacked."""
    with zipfile.ZipFile(path) as archive:
        total = sum(info.file_size for info in archive.infolist())
    if total > MAX_BYTES:
        raise InputError(f"{path}: holds {total} bytes, at most {MAX_BYTES} are read")


def _problem(texts: Sequence[str], table: np.ndarray) -> str:
    """What is wrong with a table, "" if nothing."""
    if table.dtype != np.float32 or table.ndim != 2:
        return f"the table must be float32 [N, L], got {table.dtype} {list(table.shape)}"
    if len(texts) != len(table):
        return f"{len(texts)} texts and {len(table)} vectors; one vector per text is needed"
    if not (1 <= len(texts) <= MAX_TEXTS and 1 <= table.shape[1] <= MAX_SIZE):
        return f"N must be 1 .. {MAX_TEXTS} and L 1 .. {MAX_SIZE}, got {list(table.shape)}"
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            return f"the text '{text}' occurs twice"
        seen.add(text)
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    return f"the vector of '{texts[bad[0]]}' is not finite" if len(bad) else ""


def _checked(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):
        raise InputError(f"encode takes a list of texts, got the text '{texts}'; put it in a list")
    return texts


# Name -> maker of an encoder of a size; tables are named by their path instead.
ENCODERS: Registry[Callable[[int], TextEncoder]] = Registry(
    "text encoder", {"hash": HashEncoder}, Callable
)


def get(name_or_path: str) -> TextEncoder:
    """The encoder that a configuration names.

    Args:
      name_or_path: "hash", "hash:128" for another size, or the path of a table (.npz).

    Raises:
      InputError: it is none of these, or the table cannot be read.
    """
    if name_or_path.endswith(".npz"):
        return TableEncoder.load(name_or_path)
    name, _, size = name_or_path.partition(":")
    if name not in ENCODERS:
        raise InputError(
            f"unknown text encoder '{name_or_path}'; give one of {', '.join(ENCODERS)}, with a "
            "size (hash:128) if wanted, or the path of an .npz table"
        )
    if size and not re.fullmatch(r"[0-9]{1,6}", size):
        raise InputError(f"text encoder '{name_or_path}': the size must be a number, got '{size}'")
    return ENCODERS[name](int(size or 64))
