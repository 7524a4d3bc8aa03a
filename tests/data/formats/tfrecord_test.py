import io
import struct

import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats import tfrecord


def write_file(path, payloads):
    with open(path, "wb") as file:
        for payload in payloads:
            tfrecord.write(file, payload)
    return path


def test_masked_crc_of_the_check_string():
    # CRC-32C("123456789") = 0xe3069283, the published check value (RFC 3720).
    # Rotated right by 15: (0xe3069283 >> 15) = 0x0001c60d,
    #                      (0xe3069283 << 17) mod 2^32 = 0x25060000, together 0x2507c60d.
    # Plus 0xa282ead8: 0x2507c60d + 0xa282ead8 = 0xc78ab0e5.
    assert tfrecord.masked_crc(b"123456789") == 0xC78AB0E5


def test_framing_is_length_crc_payload_crc():
    file = io.BytesIO()
    assert tfrecord.write(file, b"abc") == 3 + tfrecord.OVERHEAD
    data = file.getvalue()
    # 8 length + 4 checksum + 3 payload + 4 checksum = 19 bytes.
    assert len(data) == 19
    assert data[:8] == b"\x03\0\0\0\0\0\0\0"
    assert data[12:15] == b"abc"
    assert struct.unpack("<I", data[8:12])[0] == tfrecord.masked_crc(data[:8])
    assert struct.unpack("<I", data[15:])[0] == tfrecord.masked_crc(b"abc")


def test_records_come_back_in_any_order(tmp_path):
    payloads = [b"", b"a", b"b" * 1000]
    records = tfrecord.index(write_file(tmp_path / "f", payloads))
    # Offsets: 0, then 16 + 0 = 16, then 16 + (16 + 1) = 33.
    assert [r.offset for r in records] == [0, 16, 33]
    assert [tfrecord.read(r) for r in reversed(records)] == payloads[::-1]


def test_an_empty_file_holds_no_records(tmp_path):
    assert tfrecord.index(write_file(tmp_path / "f", [])) == []


@pytest.mark.parametrize("kept", [17, 27, 28, 30, 35])
def test_truncation_names_file_and_offset(tmp_path, kept):
    # Two records of 16 + 4 = 20 bytes: cutting anywhere in the second is found at byte 20,
    # in the first at byte 0.
    path = write_file(tmp_path / "f", [b"aaaa", b"bbbb"])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=rf"f: truncated.* byte {0 if kept < 20 else 20}"):
        tfrecord.index(path)


def test_absurd_length_is_refused_without_allocating(tmp_path):
    length = struct.pack("<Q", 2**60)
    crc = struct.pack("<I", tfrecord.masked_crc(length))
    (tmp_path / "f").write_bytes(length + crc + b"x" * 100)
    with pytest.raises(
        InputError, match="truncated: the record at byte 0 needs 1152921504606846992"
    ):
        tfrecord.index(tmp_path / "f")


def test_corrupt_length_is_named(tmp_path):
    path = write_file(tmp_path / "f", [b"aaaa", b"bbbb"])
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="f: corrupt: record length at byte 20"):
        tfrecord.index(path)


def test_corrupt_payload_is_named(tmp_path):
    path = write_file(tmp_path / "f", [b"aaaa", b"bbbb"])
    data = bytearray(path.read_bytes())
    data[20 + 12] ^= 1
    path.write_bytes(data)
    first, second = tfrecord.index(path)
    assert tfrecord.read(first) == b"aaaa"
    with pytest.raises(InputError, match="f: corrupt: record at byte 20"):
        tfrecord.read(second)


def test_a_file_that_shrinks_after_indexing_is_named(tmp_path):
    path = write_file(tmp_path / "f", [b"aaaa"])
    (record,) = tfrecord.index(path)
    path.write_bytes(path.read_bytes()[:14])
    with pytest.raises(InputError, match="f: truncated: record at byte 0"):
        tfrecord.read(record)
    path.unlink()
    with pytest.raises(InputError, match="f: cannot read: No such file"):
        tfrecord.read(record)
    with pytest.raises(InputError, match="f: cannot read: No such file"):
        tfrecord.index(path)
