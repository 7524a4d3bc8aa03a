"""Shards of serialised examples in the file formats of TFDS, one interface for all.

tfrecord      framing with checksums, see `tfrecord`
array_record  Riegeli chunks, read by the array_record package
parquet       one binary column, `data`, read by pyarrow (extra "lerobot"); TFDS writes no
              checksums, so a flipped bit inside a value is noticed by its decoder or not at all
"""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import reader
from jaxpolicy.data.formats import tfrecord

__all__ = ["SHARDS", "ArrayRecordShard", "ParquetShard", "Shard", "TfRecordShard"]


class Shard(Protocol):
    """One file of records."""

    path: pathlib.Path

    def __len__(self) -> int:
        """Number of records."""
        ...

    def read(self, i: int) -> bytes:
        """Payload of record `i`."""
        ...

    def fingerprint(self) -> str:
        """Changes with any content."""
        ...


class TfRecordShard:
    """A TFRecord file; its index takes 24 bytes a record."""

    def __init__(self, path: pathlib.Path):
        """Reads headers and stored checksums.

        Raises:
          InputError: a truncated or corrupt file.
        """
        self.path = path
        places = [(r.offset, r.length, r.crc) for r in tfrecord.scan(path)]
        self._places = np.array(places, np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, i: int) -> bytes:
        """Payload of record `i`, checked against its checksum."""
        offset, length, crc = map(int, self._places[i])
        return tfrecord.read(tfrecord.Record(os.fspath(self.path), offset, length, crc))

    def fingerprint(self) -> str:
        """Lengths and stored checksums of all records."""
        return self._places[:, 1:].tobytes().hex()


class ParquetShard:
    """A Parquet file as TFDS writes it: a column `data` of serialised examples."""

    def __init__(self, path: pathlib.Path):
        """Reads the footer.

        Raises:
          InputError: no such file, no such column, or pyarrow is not installed.
        """
        self.path = path
        file = _guarded(path, _parquet().ParquetFile, path)
        if file.schema_arrow.names != ["data"]:
            names = ", ".join(file.schema_arrow.names)
            raise InputError(f"{path}: must hold one column 'data', holds {names or 'none'}")
        groups = [file.metadata.row_group(g) for g in range(file.num_row_groups)]
        self._ends = np.cumsum([g.num_rows for g in groups], dtype=np.int64)
        self._n_bytes = [g.total_byte_size for g in groups]

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, i: int) -> bytes:
        """Payload of record `i`; the row group it lies in is kept for the next."""
        group = int(np.searchsorted(self._ends, i, side="right"))
        start = int(self._ends[group - 1]) if group else 0
        value = _guarded(self.path, lambda: _row_group(self, group)[i - start].as_py())
        if not isinstance(value, bytes):
            raise InputError(f"{self.path}: record {i} is not binary")
        return value

    def fingerprint(self) -> str:
        """Digest of the file."""
        return reader.hash_files([self.path], self.path.parent)

    def column(self, group: int) -> Any:
        """The records of one row group, an Arrow array."""
        if not 0 <= self._n_bytes[group] <= reader.MAX_EPISODE_BYTES:
            raise InputError(f"{self.path}: row group {group} claims {self._n_bytes[group]} bytes")
        with _parquet().ParquetFile(self.path) as file:
            return file.read_row_group(group)["data"]


@functools.lru_cache(maxsize=1)
def _row_group(shard: ParquetShard, group: int) -> Any:
    """One row group in memory and no file open, however many shards a dataset has."""
    return shard.column(group)


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as e:
        raise InputError("Parquet needs pyarrow: pip install 'jaxpolicy[lerobot]'") from e
    return pyarrow.parquet


class ArrayRecordShard:
    """An ArrayRecord file."""

    def __init__(self, path: pathlib.Path):
        """Opens the file.

        Raises:
          InputError: no such file, a damaged one, or array_record is not installed.
        """
        self.path = path
        self._n = int(_guarded(path, lambda: self.open().num_records()))

    def __len__(self) -> int:
        return self._n

    def read(self, i: int) -> bytes:
        """Payload of record `i`."""
        (value,) = _guarded(self.path, lambda: _open(self).read([i]))
        return value

    def open(self) -> Any:
        """A reader of the array_record package."""
        return _array_record()(os.fspath(self.path))

    def fingerprint(self) -> str:
        """Digest of the file."""
        return reader.hash_files([self.path], self.path.parent)


@functools.lru_cache(maxsize=4)
def _open(shard: ArrayRecordShard) -> Any:
    """Few files are open at a time, however many shards a dataset has."""
    return shard.open()


def _array_record() -> Any:
    try:
        from array_record.python import array_record_module
    except ImportError as e:
        raise InputError("ArrayRecord needs the array_record package") from e
    return array_record_module.ArrayRecordReader


def _guarded(path: pathlib.Path, function: Callable[..., Any], *args: Any) -> Any:
    """Calls into a C++ reader; whatever it objects to becomes one line."""
    if not path.is_file():
        raise InputError(f"{path}: cannot read: No such file")
    try:
        return function(*args)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, IndexError, MemoryError) as e:
        reason = " ".join(str(e).split())[:200]
        raise InputError(f"{path}: truncated or corrupt: {reason}") from e


# fileFormat of dataset_info.json -> how a shard is opened.
SHARDS: dict[str, Callable[[pathlib.Path], Shard]] = {
    "array_record": ArrayRecordShard,
    "parquet": ParquetShard,
    "tfrecord": TfRecordShard,
}
