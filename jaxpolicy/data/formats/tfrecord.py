"""TFRecord files: framing and checksums, without TensorFlow.

A record is: length (uint64 little endian), masked CRC-32C of those 8 bytes (uint32),
payload, masked CRC-32C of the payload (uint32). See
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import google_crc32c

from jaxpolicy.core.specs import InputError

__all__ = ["OVERHEAD", "Record", "index", "masked_crc", "read", "scan", "write"]

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
OVERHEAD = _HEADER.size + _FOOTER.size


class Record(NamedTuple):
    """Where one record lies.

    Attributes:
      path: file.
      offset: of the record's first byte.
      length: of the payload, bytes.
      crc: masked CRC-32C of the payload, as stored.
    """

    path: str
    offset: int
    length: int
    crc: int


def masked_crc(data: bytes) -> int:
    """CRC-32C rotated right by 15 bits plus a constant, as TFRecord stores it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def write(file: BinaryIO, payload: bytes) -> int:
    """Appends one record and returns the bytes written."""
    length = struct.pack("<Q", len(payload))
    file.write(length + _FOOTER.pack(masked_crc(length)))
    file.write(payload)
    file.write(_FOOTER.pack(masked_crc(payload)))
    return OVERHEAD + len(payload)


def index(path: str | os.PathLike[str]) -> list[Record]:
    """Finds every record by reading headers and stored checksums only.

    Raises:
      InputError: names the file and byte offset of a truncated or corrupt record.
    """
    return list(scan(path))


def scan(path: str | os.PathLike[str]) -> Iterator[Record]:
    """`index`, one record at a time."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            yield from _scan(file, os.fspath(path), size)
    except OSError as e:
        raise InputError(f"{os.fspath(path)}: cannot read: {e.strerror}") from e


def _scan(file: BinaryIO, path: str, size: int) -> Iterator[Record]:
    offset = 0
    while offset < size:
        length = _read_length(file, path, offset)
        end = offset + OVERHEAD + length
        if end > size:
            raise InputError(
                f"{path}: truncated: the record at byte {offset} needs {end - offset} bytes, "
                f"{size - offset} are left"
            )
        file.seek(end - _FOOTER.size)
        (crc,) = _FOOTER.unpack(file.read(_FOOTER.size))
        yield Record(path, offset, length, crc)
        offset = end


def _read_length(file: BinaryIO, path: str, offset: int) -> int:
    file.seek(offset)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise InputError(f"{path}: truncated: {len(header)} stray bytes at byte {offset}")
    length, crc = _HEADER.unpack(header)
    if masked_crc(header[:8]) != crc:
        raise InputError(f"{path}: corrupt: record length at byte {offset} fails its checksum")
    return length


def read(record: Record) -> bytes:
    """The payload of one record, checked against its stored checksum."""
    try:
        with open(record.path, "rb") as file:
            file.seek(record.offset + _HEADER.size)
            payload = file.read(record.length)
    except OSError as e:
        raise InputError(f"{record.path}: cannot read: {e.strerror}") from e
    if len(payload) < record.length:
        raise InputError(f"{record.path}: truncated: record at byte {record.offset} ends early")
    if masked_crc(payload) != record.crc:
        raise InputError(
            f"{record.path}: corrupt: record at byte {record.offset} fails its checksum"
        )
    return payload
