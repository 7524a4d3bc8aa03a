"""Numbered Parquet files of steps or of descriptions of episodes."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxpolicy.data.formats.lerobot_files import package

__all__ = ["TableWriter", "column", "column_type", "hugging_face_type"]

# Small episodes share a row group: one each would make the footer larger than the data.
_GROUP_BYTES = 2**20


class TableWriter:
    """Files of a schema; a new one is begun when the last is full.

    Attributes:
      schema: pyarrow schema.
    """

    def __init__(self, directory: pathlib.Path, schema: Any, limit: int):
        """Nothing is written yet.

        Args:
          directory: for the files.
          schema: pyarrow schema of all tables.
          limit: size in bytes beyond which a file does not grow, unless one table does.
        """
        self.schema = schema
        self._directory, self._limit = directory, limit
        self._sink: Any = None
        self._writer: Any = None
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._file = -1

    def path(self, file: int) -> pathlib.Path:
        """Of a file by its number; a folder holds 1000."""
        return self._directory / f"chunk-{file // 1000:03d}" / f"file-{file % 1000:03d}.parquet"

    def place(self, n_bytes: int) -> int:
        """Number of the file that a table of `n_bytes` will lie in."""
        if self._sink is None:
            self._begin()
        used = self._sink.tell() + self._waiting_bytes
        if used + n_bytes > self._limit and used > len("PAR1"):
            self.close()
            self._begin()
        return self._file

    def add(self, table: Any) -> int:
        """Writes a table; returns the number of its file."""
        file = self.place(table.nbytes)
        self._waiting.append(table)
        self._waiting_bytes += table.nbytes
        if self._waiting_bytes >= _GROUP_BYTES:
            self._flush()
        return file

    def close(self) -> None:
        """Completes the last file."""
        if self._sink is not None:
            self._flush()
            self._writer.close()
            self._sink.close()
            self._sink = None

    def _begin(self) -> None:
        self._file += 1
        path = self.path(self._file)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sink = open(path, "wb")
        self._writer = package("pyarrow.parquet").ParquetWriter(
            self._sink, self.schema, compression="snappy", write_page_checksum=True
        )

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(package("pyarrow").concat_tables(self._waiting))
        self._waiting, self._waiting_bytes = [], 0


def column(values: np.ndarray) -> Any:
    """[T, *shape] as a pyarrow array of T rows of type `column_type(dtype, shape)`."""
    pa = package("pyarrow")
    shape = values.shape[1:]
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    if shape == (1,):
        return array
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(array, shape[0])
    for size in reversed(shape):
        offsets = np.arange(0, len(array) + 1, size, dtype=np.int32)
        array = pa.ListArray.from_arrays(offsets, array)
    return array


def column_type(dtype: str, shape: Sequence[int]) -> Any:
    """Pyarrow type of a column of numbers: LeRobot stores [1] as a scalar."""
    pa = package("pyarrow")
    kind = pa.from_numpy_dtype(np.dtype(dtype))
    if tuple(shape) == (1,):
        return kind
    if len(shape) == 1:
        return pa.list_(kind, shape[0])
    for _ in shape:
        kind = pa.list_(kind)
    return kind


def hugging_face_type(dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    """How the `datasets` package notes such a column."""
    value = {"dtype": dtype, "_type": "Value"}
    if tuple(shape) == (1,):
        return value
    if len(shape) == 1:
        return {"feature": value, "length": shape[0], "_type": "List"}
    return {"shape": list(shape), "dtype": dtype, "_type": f"Array{len(shape)}D"}
