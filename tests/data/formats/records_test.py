import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import open_source
from jaxpolicy.data.formats import example_proto, records, tfrecord
from jaxpolicy.data.formats.records import ArrayRecordShard, ParquetShard, TfRecordShard
from tests.data.episodes import BRIDGE

FOREIGN = BRIDGE.parent / "foreign"
PLACES = {
    "array_record": FOREIGN / "tfds_array_record/bridge_dataset/1.0.0",
    "parquet": FOREIGN / "tfds_parquet/bridge_dataset/1.0.0",
    "tfrecord": FOREIGN / "tfds_oxe/fractal_like/0.1.0",
}


def first_shard(folder):
    return sorted(p for p in folder.iterdir() if "-train." in p.name)[0]


@pytest.fixture(params=PLACES)
def copied(request, tmp_path):
    """A dataset in each file format that may be damaged."""
    return pathlib.Path(shutil.copytree(PLACES[request.param], tmp_path / "d"))


def read_everything(folder):
    """Opens a dataset and decodes all of it: the number of its episodes, or InputError."""
    source = open_source(folder, "rlds")
    return sum(1 for i in range(len(source)) if source[i])


@pytest.fixture(scope="module")
def original():
    """The dataset that the foreign copies are of, and its episodes by their actions."""
    source = open_source(BRIDGE)
    by_action = {source.load(i, ()).action.tobytes(): i for i in range(len(source))}
    return source, by_action


@pytest.mark.parametrize("name", ["array_record", "parquet"])
def test_the_same_episodes_as_in_the_original(name, original):
    """Three of bridge_dataset, 2 of train and 1 of val, two cameras, no embedding."""
    found, (source, by_action) = open_source(PLACES[name]), original
    assert len(found) == 3
    for episode in found:
        twin = source.load(by_action[episode.action.tobytes()], ("image_0",))
        for key in ("proprio", "image/image_0"):
            np.testing.assert_array_equal(episode.observation[key], twin.observation[key])
        assert episode.language_instruction == twin.language_instruction
        np.testing.assert_array_equal(episode.reward, twin.reward)
        assert episode.metadata.episode_id == twin.metadata.episode_id


def test_formats_hold_the_same_records():
    shards = [
        ArrayRecordShard(first_shard(PLACES["array_record"])),
        ParquetShard(first_shard(PLACES["parquet"])),
    ]
    assert [len(s) for s in shards] == [2, 2]
    for i in (1, 0):
        assert shards[0].read(i) == shards[1].read(i)
    # Digests are the records', whatever holds them.
    sources = [open_source(PLACES[name]) for name in ("array_record", "parquet")]
    assert sources[0].content_hash(2) == sources[1].content_hash(2)


def test_open_x_embodiment_keys():
    reader = open_source(PLACES["tfrecord"]).reader
    steps = [reader.read(i, ["observation/height_to_bottom", "reward"]) for i in range(3)]
    assert [s.n_steps for s in steps] == [6, 7, 8]
    # One zlib stream a step in the file.
    assert steps[2].values["observation/height_to_bottom"].shape == (8, 1)
    assert np.isfinite(steps[2].values["observation/height_to_bottom"]).all()
    assert steps[0].instruction == "pick rxbar chocolate from bottom drawer"


def test_the_writer_of_sequences_counts_shards_differently():
    # pushes-train.tfrecord-00000, no "-of-00002"; 2 + 1 in train, 1 in test.
    source = open_source(FOREIGN / "tfds_sequential")
    assert [len(e) for e in source] == [len(source[i]) for i in range(4)]
    assert [e.metadata.source for e in source] == ["pushes/train"] * 3 + ["pushes/test"]
    assert source.spec["proprio"].shape == (4,)


class TestDamage:
    """One line that names the file, whatever happened to it."""

    def check(self, folder, message):
        with pytest.raises(InputError, match=message) as caught:
            read_everything(folder)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_truncated(self, copied, share):
        path = first_shard(copied)
        os.truncate(path, int(path.stat().st_size * share))
        self.check(copied, f"{path.name}: (truncated|holds 0 records|cannot read)")

    @pytest.mark.parametrize("copied", ["array_record", "tfrecord"], indirect=True)
    def test_bit_flips(self, copied):
        # Parquet of TFDS has no checksums.
        path = first_shard(copied)
        whole = path.read_bytes()
        for place in (len(whole) // 5, len(whole) // 4):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            self.check(copied, path.name)

    def test_no_shard(self, copied):
        path = first_shard(copied)
        path.unlink()
        self.check(copied, f"{path.name}: cannot read: No such file")

    def test_one_record_less(self, copied):
        info = copied / "dataset_info.json"
        info.write_text(info.read_text().replace('"2"', '"3"', 1))
        self.check(copied, "holds 2 records, dataset_info.json says 3")

    def test_another_file_in_its_place(self, copied):
        path = first_shard(copied)
        for content in (b"PK\x03\x04" * 64, b"PAR1" * 64, bytes(131072)):
            path.write_bytes(content)
            self.check(copied, path.name)

    @pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "..", "", ".", "a\0b"])
    def test_hostile_shard_names(self, copied, name):
        info = json.loads((copied / "dataset_info.json").read_text())
        info["splits"][0]["filepathTemplate"] = name
        info["name"] = name
        (copied / "dataset_info.json").write_text(json.dumps(info))
        self.check(copied, "leaves the folder|cannot read|malformed splits")

    @pytest.mark.parametrize("kind", ["riegeli", 7, None, []])
    def test_unknown_file_format(self, copied, kind):
        info = json.loads((copied / "dataset_info.json").read_text())
        info["fileFormat"] = kind
        (copied / "dataset_info.json").write_text(json.dumps(info))
        self.check(copied, "fileFormat must be one of")


def parquet_shard(tmp_path, table):
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    return ParquetShard(tmp_path / "x.parquet")


def test_parquet_row_groups(tmp_path):
    shard = parquet_shard(tmp_path, pa.table({"data": [b"a", b"b", b"c", b"d", b"e"]}))
    assert [shard.read(i) for i in (4, 0, 3, 1, 2)] == [b"e", b"a", b"d", b"b", b"c"]
    assert len(parquet_shard(tmp_path, pa.table({"data": pa.array([], pa.binary())}))) == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"record": [b"a"]}, "must hold one column 'data', holds record"),
        ({"data": [b"a"], "more": [1]}, "must hold one column 'data', holds data, more"),
        ({"data": [1]}, "record 0 is not binary"),
        ({"data": [None]}, "record 0 is not binary"),
    ],
)
def test_parquet_of_another_kind(tmp_path, table, message):
    with pytest.raises(InputError, match=message):
        parquet_shard(tmp_path, pa.table(table)).read(0)


def test_many_shards_keep_no_files_open_and_one_group_in_memory():
    before = len(os.listdir("/proc/self/fd"))
    shards = [ParquetShard(first_shard(PLACES["parquet"])) for _ in range(20)]
    shards += [ArrayRecordShard(first_shard(PLACES["array_record"])) for _ in range(20)]
    shards += [TfRecordShard(first_shard(PLACES["tfrecord"])) for _ in range(20)]
    for shard in shards:
        shard.read(0)
    assert len(os.listdir("/proc/self/fd")) - before <= 8


# Reads the files that are named; exits with 0 unless the C++ reader stops the process.
CHILD = """
import resource, sys
from array_record.python.array_record_module import ArrayRecordReader
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
for path in sys.argv[1:]:
    try:
        reader = ArrayRecordReader(path)
        [reader.read([i]) for i in range(min(reader.num_records(), 3))]
    except (OSError, ValueError, RuntimeError, IndexError, MemoryError):
        pass
"""


def mutants(whole, folder):
    """Files with a bit flipped, eight bytes drawn anew, or cut."""
    used = [i for i, byte in enumerate(whole) if byte]
    draw = random.Random(0)
    for k in range(40):
        data = bytearray(whole)
        place = draw.choice(used[:200] + used[-400:] if k % 2 else used)
        if k % 4 == 3:
            data[place : place + 8] = draw.randbytes(8)
        else:
            data[place] ^= 1 << draw.randrange(8)
        if k % 10 == 9:
            del data[place:]
        (folder / str(k)).write_bytes(data)
        yield folder / str(k)


def test_mutated_array_records_neither_stop_the_process_nor_lie(tmp_path):
    """It is a C++ reader: of 1,000 mutations none stopped the process or changed a record."""
    path = first_shard(PLACES["array_record"])
    shard = ArrayRecordShard(path)
    expected = [shard.read(i) for i in range(2)]
    paths = list(mutants(path.read_bytes(), tmp_path))
    command = [sys.executable, "-c", CHILD, *map(str, paths)]
    assert subprocess.run(command, timeout=60).returncode == 0
    n_damaged = 0
    for mutant in paths:
        try:
            shard = ArrayRecordShard(mutant)
            found = [shard.read(i) for i in range(len(shard))]
        except InputError:
            n_damaged += 1
        else:
            assert found == expected[: len(found)]
    assert 10 < n_damaged < 40


class TestEncodedTensors:
    """`encoding` of features.json: each step's values as bytes, raw or compressed."""

    def reader(self, tmp_path, values, encoding):
        folder = tmp_path / "d"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(PLACES["tfrecord"], folder)
        text = (folder / "features.json").read_text().replace('"zlib"', f'"{encoding}"')
        (folder / "features.json").write_text(text)
        path = first_shard(folder)
        examples = [example_proto.decode(tfrecord.read(r), "") for r in tfrecord.index(path)]
        examples[0]["steps/observation/height_to_bottom"] = values
        file = io.BytesIO()
        for example in examples:
            tfrecord.write(file, example_proto.encode(example))
        path.write_bytes(file.getvalue())
        return open_source(folder).reader

    def read(self, *args):
        names = ["observation/height_to_bottom"]
        return self.reader(*args).read(0, names).values[names[0]]

    def test_values(self, tmp_path):
        numbers = np.arange(6, dtype="<f4")
        raw = [n.tobytes() for n in numbers]
        np.testing.assert_array_equal(self.read(tmp_path, raw, "bytes")[:, 0], numbers)
        packed = [zlib.compress(r) for r in raw]
        np.testing.assert_array_equal(self.read(tmp_path, packed, "zlib")[:, 0], numbers)

    @pytest.mark.parametrize(
        ("step", "message"),
        [
            (
                b"",
                "step 3: feature 'steps/observation/height_to_bottom' must be 4 bytes of float32",
            ),
            (b"junk", "step 3: .* must be 4 bytes"),
            (zlib.compress(b"abc"), "step 3: .* must be 4 bytes"),
            (zlib.compress(b"abcde"), "step 3: .* must be 4 bytes"),
            (zlib.compress(b"abcd")[:-2], "step 3: .* must be 4 bytes"),
            (zlib.compress(bytes(2**24)), "step 3: .* must be 4 bytes"),
        ],
    )
    def test_damage_and_bombs(self, tmp_path, step, message):
        values = [zlib.compress(bytes(4))] * 6
        values[3] = step
        with pytest.raises(InputError, match=message):
            self.read(tmp_path, values, "zlib")

    def test_wrong_number_or_kind(self, tmp_path):
        for values in ([b"abcd"] * 5, np.zeros(6, np.float32)):
            with pytest.raises(InputError, match="must hold 6 byte strings"):
                self.read(tmp_path, values, "bytes")


def test_registry():
    assert sorted(records.SHARDS) == ["array_record", "parquet", "tfrecord"]
