"""Rows of Parquet files as NumPy arrays, in bounded memory.

pyarrow only; a column is named as in the file. Whatever is wrong with a file becomes an
InputError of one line.
"""

import contextlib
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats.lerobot_files import Handles, one_line, package
from jaxpolicy.data.reader import MAX_EPISODE_BYTES

__all__ = ["Tables", "array", "pictures", "texts"]

# Row groups up to this size are decoded whole and kept for the next episode.
_KEEP_BYTES = 128 * 2**20
_BATCH_ROWS = 4096
_FAULTS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    IndexError,
    MemoryError,
    OverflowError,
)


class _Open:
    """One open file and its last row group."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.file = package("pyarrow.parquet").ParquetFile(path, page_checksum_verification=True)
        groups = (self.file.metadata.row_group(g) for g in range(self.file.num_row_groups))
        self.ends = np.cumsum([g.num_rows for g in groups], dtype=np.int64)
        self.names = tuple(self.file.schema_arrow.names)
        self.kept: tuple[Any, Any] = (None, None)

    def close(self) -> None:
        self.kept = (None, None)
        self.file.close()


class Tables:
    """Parquet files of one dataset, opened when they are needed."""

    def __init__(self) -> None:
        """Opens nothing; raises InputError where pyarrow is missing."""
        package("pyarrow.parquet")
        self._handles = Handles(4, _close)

    def columns(self, path: pathlib.Path) -> tuple[str, ...]:
        """Names of the columns of a file."""
        with self._lend(path) as opened:
            return opened.names

    def n_rows(self, path: pathlib.Path) -> int:
        """Rows of a file."""
        with self._lend(path) as opened:
            return int(opened.ends[-1]) if len(opened.ends) else 0

    def rows(self, path: pathlib.Path, start: int, stop: int, columns: Sequence[str]) -> Any:
        """Rows [start, stop) of `columns` as a pyarrow table; reads the row groups they lie in.

        Raises:
          InputError: a damaged file, no such column, or fewer rows.
        """
        with self._lend(path) as opened:
            _require(opened, columns)
            n_rows = int(opened.ends[-1]) if len(opened.ends) else 0
            if not 0 <= start <= stop <= n_rows:
                raise InputError(f"{path}: holds {n_rows} rows, not the rows {start} to {stop}")
            table = _rows(opened, start, stop, columns)
            if len(table) != stop - start:
                raise InputError(f"{path}: ends before row {stop}; the file is damaged")
            return table

    def batches(self, path: pathlib.Path, columns: Sequence[str]) -> Iterator[Any]:
        """All rows of `columns`, a few thousand at a time.

        Raises:
          InputError: a damaged file or no such column.
        """
        with self._lend(path) as opened:
            _require(opened, columns)
            for batch in opened.file.iter_batches(
                _BATCH_ROWS, columns=list(columns), use_threads=False
            ):
                batch.validate(full=True)
                yield batch

    @contextlib.contextmanager
    def _lend(self, path: pathlib.Path) -> Iterator[_Open]:
        try:
            with self._handles.lend(path, lambda: _Open(path)) as opened:
                yield opened
        except InputError:
            raise
        except _FAULTS as e:
            raise InputError(f"{path}: truncated or corrupt: {one_line(e)}") from e


def _close(opened: _Open) -> None:
    opened.close()


def _require(opened: _Open, columns: Sequence[str]) -> None:
    for name in columns:
        if opened.names.count(name) != 1:
            problem = "no" if name not in opened.names else "more than one"
            raise InputError(f"{opened.path}: {problem} column '{name}'")


def _rows(opened: _Open, start: int, stop: int, columns: Sequence[str]) -> Any:
    pa = package("pyarrow")
    first = int(np.searchsorted(opened.ends, start, side="right"))
    last = int(np.searchsorted(opened.ends, max(stop - 1, start), side="right"))
    parts = []
    for group in range(first, min(last, len(opened.ends) - 1) + 1):
        base = int(opened.ends[group - 1]) if group else 0
        a, b = max(start - base, 0), min(stop, int(opened.ends[group])) - base
        parts.append(_group_rows(opened, group, a, b, list(columns)))
    if not parts:
        return opened.file.schema_arrow.empty_table().select(list(columns))
    return pa.concat_tables(parts)


def _group_rows(opened: _Open, group: int, start: int, stop: int, columns: list[str]) -> Any:
    """Rows [start, stop) of one row group; a group that is too large to keep is streamed."""
    key = (group, tuple(columns))
    if opened.kept[0] != key:
        if _group_bytes(opened, group, columns) > _KEEP_BYTES:
            return _streamed(opened, group, start, stop, columns)
        table = opened.file.read_row_group(group, columns=columns, use_threads=False)
        table.validate(full=True)
        opened.kept = (key, table)
    return opened.kept[1].slice(start, stop - start)


def _group_bytes(opened: _Open, group: int, columns: Sequence[str]) -> int:
    """What the footer claims that `columns` take; all columns, where rows vary in size.

    The footer's entries for single columns are not touched: pyarrow ends the process on some
    damaged ones.
    """
    row_group = opened.file.metadata.row_group(group)
    widths = [_width(opened.file.schema_arrow.field(c).type) for c in columns]
    fixed = 8 * row_group.num_rows * sum(w or 0 for w in widths)
    return max(fixed, row_group.total_byte_size if None in widths else 0)


def _width(kind: Any) -> int | None:
    """Numbers in a row of this type; None where that varies."""
    types = package("pyarrow").types
    if types.is_fixed_size_list(kind):
        inner = _width(kind.value_type)
        return None if inner is None else inner * kind.list_size
    return 1 if types.is_primitive(kind) else None


def _streamed(opened: _Open, group: int, start: int, stop: int, columns: list[str]) -> Any:
    pa = package("pyarrow")
    parts, base = [], 0
    for batch in opened.file.iter_batches(
        _BATCH_ROWS if stop - start > _BATCH_ROWS else max(64, stop - start),
        row_groups=[group],
        columns=columns,
        use_threads=False,
    ):
        a, b = max(start - base, 0), min(stop - base, len(batch))
        if a < b:
            batch.validate(full=True)
            parts.append(batch.slice(a, b - a))
            _limit(sum(p.nbytes for p in parts), opened.path)
        base += len(batch)
        if base >= stop:
            break
    schema = opened.file.schema_arrow.empty_table().select(columns).schema
    return pa.Table.from_batches(parts, schema)


def _limit(n_bytes: int, path: pathlib.Path) -> None:
    if n_bytes > MAX_EPISODE_BYTES:
        raise InputError(f"{path}: an episode takes more than {MAX_EPISODE_BYTES >> 30} GiB")


# ------------------------------------------------------------------ columns


def array(table: Any, column: str, shape: Sequence[int], dtype: str, where: str) -> np.ndarray:
    """A column of numbers, [T, *shape], as `dtype`.

    Raises:
      InputError: nulls, lists of other lengths, or values that are no such numbers.
    """
    pa = package("pyarrow")
    value, n_rows = _combined(table, column), len(table)
    place = f"{where}: column '{column}'"
    lengths = []
    while _is_list(value.type) or hasattr(value, "storage"):
        value, length = _inner(value, place)
        lengths.append(length)
    kind = np.dtype(dtype).kind
    allowed = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}[kind]
    if value.null_count or not _is_number(pa, value.type):
        problem = "nulls" if value.null_count else str(value.type)
        raise InputError(f"{place} must hold {dtype} [{n_rows}, {_dims(shape)}], holds {problem}")
    numbers = value.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in allowed:
        raise InputError(f"{place} must be {dtype}, is {value.type}")
    if numbers.size != n_rows * math.prod(shape):
        found = ", ".join(map(str, [n_rows, *filter(lambda n: n is not None, lengths)]))
        raise InputError(f"{place} must be [{n_rows}, {_dims(shape)}], is [{found}]")
    return numbers.reshape(n_rows, *shape).astype(dtype)


def _combined(table: Any, column: str) -> Any:
    """One array of a column of a table or batch."""
    value = table.column(column)
    return value.combine_chunks() if hasattr(value, "chunks") else value


def _is_list(kind: Any) -> bool:
    types = package("pyarrow").types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_number(pa: Any, kind: Any) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _inner(value: Any, place: str) -> tuple[Any, int | None]:
    """Elements of a list array, and how many each list has."""
    if hasattr(value, "storage"):
        return value.storage, None
    if value.null_count:
        raise InputError(f"{place} holds nulls")
    elements = value.flatten()
    length = len(elements) // len(value) if len(value) else 0
    if not package("pyarrow").types.is_fixed_size_list(value.type):
        offsets = value.offsets.to_numpy()
        if len(value) and not (np.diff(offsets) == length).all():
            raise InputError(f"{place} holds lists of different lengths")
    return elements, length


def _dims(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))


def texts(table: Any, column: str, where: str) -> list[str]:
    """A column of text; raises InputError where it holds anything else."""
    values = table.column(column).to_pylist()
    if not all(isinstance(v, str) for v in values):
        raise InputError(f"{where}: column '{column}' must hold text")
    return values


def pictures(table: Any, column: str, where: str) -> list[tuple[bytes | None, str]]:
    """Encoded images of a column, (bytes, path); bytes are None where only a path is given.

    Raises:
      InputError: the column holds neither {bytes, path} nor bytes.
    """
    pa = package("pyarrow")
    kind = table.schema.field(column).type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        rows = [{"bytes": v} for v in table.column(column).to_pylist()]
    elif pa.types.is_struct(kind):
        rows = table.column(column).to_pylist()
    else:
        raise InputError(f"{where}: column '{column}' must hold encoded images, holds {kind}")
    return [_picture(row or {}, f"{where}: column '{column}'") for row in rows]


def _picture(row: dict[str, Any], place: str) -> tuple[bytes | None, str]:
    data, path = row.get("bytes"), row.get("path")
    if isinstance(data, bytes):
        return data, ""
    if not isinstance(path, str):
        raise InputError(f"{place} has a row without an image")
    return None, path
