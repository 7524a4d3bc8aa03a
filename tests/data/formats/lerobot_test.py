"""On datasets that LeRobot's own writers made (tests/data/foreign/make_lerobot.py), and damaged."""

import copy
import json
import pathlib
import shutil
import sys

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import DataConfig, detect, open_source
from jaxpolicy.data.formats import lerobot, lerobot_files, lerobot_tables

FOREIGN = pathlib.Path(__file__).parents[1] / "foreign"
BY_HAND = ("lerobot_v21_images", "lerobot_v21_video", "lerobot_v3_h264", "lerobot_v3_images")
LENGTHS = (12, 10, 12)
TASKS = ("push the block", "open the drawer", "push the block")
DATA, META = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"


def copied(tmp_path, name):
    shutil.copytree(FOREIGN / name, tmp_path / name, copy_function=shutil.copyfile)
    return tmp_path / name


def edit(path, change):
    """Rewrites a JSON file after `change(contents)`."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_info(folder, change):
    edit(folder / "meta/info.json", change)


def edit_table(path, change):
    """Rewrites a Parquet file as `change(table)`."""
    pq.write_table(change(pq.read_table(path)), path)


def replaced(name, values):
    """A change of a table: other values in one column."""
    return lambda t: t.set_column(t.column_names.index(name), name, pa.array(values))


def picture(e, t, camera):
    """As make_lerobot.py painted it."""
    image = np.empty((48, 64, 3), np.uint8)
    image[:] = (40 + 60 * e, 15 * t, {"front": 128, "wrist": 40}[camera])
    image[:, 4 * t : 4 * t + 4] = 255
    return image


@pytest.mark.parametrize("name", BY_HAND)
def test_values_of_foreign_datasets(name):
    source = open_source(FOREIGN / name)
    assert detect(FOREIGN / name) == "lerobot"
    assert [len(e) for e in source] == list(LENGTHS)
    assert source.spec.action.names == ("a", "b", "c", "d", "e", "gripper")
    assert (source.spec.action.kind, source.spec.action.control_hz) == ("unknown", 10.0)
    cameras = ("front", "wrist") if name == "lerobot_v21_video" else ("front",)
    assert source.spec.keys == (*(f"image/{c}" for c in cameras), "proprio")
    for e, episode in enumerate(source):
        t, zero = np.arange(LENGTHS[e]), np.zeros(LENGTHS[e])
        np.testing.assert_array_equal(
            episode.observation["proprio"], np.stack([zero + e, t, zero, zero, zero, zero], 1)
        )
        np.testing.assert_array_equal(
            episode.action, np.stack([zero + e, t + 1, zero, zero, zero, t % 2], 1)
        )
        assert (episode.language_instruction, episode.metadata.task) == (TASKS[e], TASKS[e])
        assert episode.metadata.episode_id == f"episode_00000{e}"
        assert episode.metadata.robot == "so100"
        assert episode.metadata.success is None
        assert episode.is_terminal
        # Video is lossy, at its worst beside the white column; 4:2:0 halves its colour.
        limit = 0 if name.endswith("images") else 4
        for camera in cameras:
            expected = np.stack([picture(e, k, camera) for k in t]).astype(int)
            error = np.abs(episode.observation[f"image/{camera}"] - expected)
            assert error.mean() <= limit


def test_every_picture_is_the_one_that_the_file_shows():
    # Episodes are read backwards, so each needs its own key frame to be found.
    for name in ("lerobot_v3_video", "lerobot_v3_h264"):
        source = open_source(FOREIGN / name)
        found = [source[i].observation["image/front"] for i in (2, 1, 0)][::-1]
        frames = []
        for path in sorted((FOREIGN / name / "videos").rglob("*.mp4")):
            with av.open(str(path)) as container:
                frames += [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        np.testing.assert_array_equal(np.concatenate(found), np.stack(frames))


def test_the_sample():
    source = open_source(FOREIGN / "lerobot_v3_video")
    assert [len(e) for e in source] == [60, 60, 60]
    episode = source.load(1, ())
    assert list(episode.observation) == ["proprio"]
    # State t and action t + 1 at step t; the reward comes at the end.
    np.testing.assert_array_equal(episode.observation["proprio"][:, 3], np.arange(60))
    np.testing.assert_array_equal(episode.action[:, 3], np.arange(1, 61))
    np.testing.assert_array_equal(episode.reward, np.arange(60) == 59)
    assert episode.language_instruction == "pick up cube"
    assert source.layout.rows[0][2:] == ("image/front", "a picture")


def test_digests_tell_episodes_apart_and_not_places(tmp_path):
    for name in ("lerobot_v3_h264", "lerobot_v21_images"):
        source, twin = open_source(FOREIGN / name), open_source(copied(tmp_path, name))
        digests = [source.content_hash(i) for i in range(3)]
        assert len(set(digests)) == 3
        assert digests == [twin.content_hash(i) for i in range(3)]
        assert source.fingerprint() == twin.fingerprint()
    path = next((tmp_path / "lerobot_v3_h264/videos").rglob("*.mp4"))
    path.write_bytes(path.read_bytes() + b"\0")
    changed = open_source(tmp_path / "lerobot_v3_h264")
    assert changed.fingerprint() != open_source(FOREIGN / "lerobot_v3_h264").fingerprint()


def test_large_row_groups_are_streamed(monkeypatch):
    episodes = list(open_source(FOREIGN / "lerobot_v3_images"))
    monkeypatch.setattr(lerobot_tables, "_KEEP_BYTES", 0)
    for episode, streamed in zip(episodes, open_source(FOREIGN / "lerobot_v3_images"), strict=True):
        np.testing.assert_array_equal(episode.action, streamed.action)
        for key in episode.observation:
            np.testing.assert_array_equal(episode.observation[key], streamed.observation[key])


def test_one_row_group_may_hold_all_episodes(tmp_path):
    folder = copied(tmp_path, "lerobot_v3_images")
    edit_table(folder / DATA, lambda t: t)
    assert pq.ParquetFile(folder / DATA).num_row_groups == 1
    source = open_source(folder)
    for i in (1, 0, 2):
        np.testing.assert_array_equal(source[i].action[:, 0], np.full(LENGTHS[i], i))


def test_a_copy_of_a_reader_reads(tmp_path):
    reader = lerobot.LeRobotReader(FOREIGN / "lerobot_v3_h264")
    names = ("observation.images.front", "action")
    first, again = reader.read(1, names), copy.deepcopy(reader).read(1, names)
    for name in names:
        np.testing.assert_array_equal(first.values[name], again.values[name])


def feature(tmp_path, **changes):
    """Field of the camera of a dataset whose info.json was changed."""
    folder = tmp_path / "lerobot_v21_images"
    if not folder.exists():
        copied(tmp_path, folder.name)
    name = "observation.images.front"
    edit_info(folder, lambda v: v["features"][name].update(changes))
    return lerobot.LeRobotReader(folder).fields[name]


@pytest.mark.parametrize(
    ("shape", "names", "expected"),
    [
        ([3, 48, 64], ["channels", "height", "width"], (48, 64, 3)),
        ([3, 48, 64], None, (48, 64, 3)),
        ([48, 64, 3], None, (48, 64, 3)),
        ([48, 64, 3], ["height", "width", "channel"], (48, 64, 3)),
        # Some datasets carry names in the wrong order: 48 channels cannot be.
        ([48, 64, 3], ["channel", "height", "width"], (48, 64, 3)),
        ([3, 4, 3], ["channels", "height", "width"], (4, 3, 3)),
    ],
)
def test_shapes_of_pictures(tmp_path, shape, names, expected):
    found = feature(tmp_path, shape=shape, names=names)
    assert (found.kind, found.shape) == ("image", expected)


def test_depth_and_grey_are_no_colour_pictures(tmp_path):
    assert feature(tmp_path, shape=[48, 64, 1]).kind == "other"
    shape = [48, 64, 3]
    assert feature(tmp_path, shape=shape, info={"video.is_depth_map": True}).kind == "other"
    assert feature(tmp_path, shape=shape, info={"is_depth_map": False}).kind == "image"
    assert feature(tmp_path, shape=shape, info=None).kind == "image"


@pytest.mark.parametrize(
    "names",
    [
        ["a.pos", "b.pos", "c.pos", "d.pos", "e.pos", "f.pos"],
        {"motors": ["a.pos", "b.pos", "c.pos", "d.pos", "e.pos", "f.pos"]},
        {"b.pos": 1, "a.pos": 0, "c.pos": 2, "d.pos": 3, "e.pos": 4, "f.pos": 5},
    ],
)
def test_names_of_joints_tell_the_kind_of_action(tmp_path, names):
    folder = copied(tmp_path, "lerobot_v21_images")
    edit_info(folder, lambda v: v["features"]["action"].update(names=names))
    action = open_source(folder).spec.action
    assert action.kind == "joint_position"
    assert action.names == ("a.pos", "b.pos", "c.pos", "d.pos", "e.pos", "f.pos")


def test_old_pandas_names_the_task_column_otherwise(tmp_path):
    folder = copied(tmp_path, "lerobot_v3_images")
    edit_table(
        folder / "meta/tasks.parquet",
        lambda t: t.rename_columns(["task_index", "__index_level_0__"]),
    )
    assert open_source(folder)[1].language_instruction == TASKS[1]


def test_success_is_read_where_somebody_says_it(tmp_path):
    folder = copied(tmp_path, "lerobot_v21_images")
    lines = [json.loads(s) for s in (folder / "meta/episodes.jsonl").read_text().splitlines()]
    lines[0]["success"], lines[1]["success"] = True, False
    (folder / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [e.metadata.success for e in open_source(folder)] == [True, False, None]
    folder = copied(tmp_path, "lerobot_v3_images")
    edit_table(folder / META, lambda t: t.append_column("success", pa.array([False, True, True])))
    assert [e.metadata.success for e in open_source(folder)] == [False, True, True]
    flags = np.arange(sum(LENGTHS)) == LENGTHS[0] - 1
    edit_table(folder / DATA, lambda t: t.append_column("next.success", pa.array(flags)))
    flag = {"dtype": "bool", "shape": [1], "names": None}
    edit_info(folder, lambda v: v["features"].update({"next.success": flag}))
    assert [e.metadata.success for e in open_source(folder)] == [True, False, False]


def test_fields_can_be_chosen():
    config = DataConfig(
        action_keys=("action[0:2]",), proprio_keys=("action", "state"), camera_keys=("top=front",)
    )
    source = open_source(FOREIGN / "lerobot_v3_images", config=config)
    assert source.spec.keys == ("image/top", "proprio")
    assert (source[0].action.shape, source[0].observation["proprio"].shape) == ((12, 2), (12, 12))


def test_a_snapshot_of_the_hub_cache_may_link_to_its_blobs(tmp_path):
    folder = copied(tmp_path / "repo/snapshots", "lerobot_v3_images")
    blobs = tmp_path / "repo/blobs"
    blobs.mkdir()
    for k, path in enumerate(p for p in folder.rglob("*") if p.is_file()):
        path.rename(blobs / str(k))
        path.symlink_to(blobs / str(k))
    assert len(open_source(folder)[2]) == 12


def test_packages_are_named_where_they_are_missing(monkeypatch):
    source = open_source(FOREIGN / "lerobot_v3_h264")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"need av: pip install 'jaxpolicy\[lerobot\]'"):
        source.load(0)
    assert len(source.load(0, ())) == 12
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match="need pyarrow: pip install"):
        open_source(FOREIGN / "lerobot_v3_h264")


# ------------------------------------------------------------------ damage


def info(**changes):
    return lambda folder: edit_info(folder, lambda v: v.update(changes))


def action(**changes):
    return lambda folder: edit_info(folder, lambda v: v["features"]["action"].update(changes))


def truncated(file, share=0.5):
    def change(folder):
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: int(len(data) * share)])

    return change


def flipped(file, start):
    """All bits of 300 bytes."""

    def change(folder):
        data = bytearray((folder / file).read_bytes())
        data[start : start + 300] = bytes(255 - b for b in data[start : start + 300])
        (folder / file).write_bytes(data)

    return change


def table(file, change):
    return lambda folder: edit_table(folder / file, change)


def without(file, name):
    return table(file, lambda t: t.drop_columns([name]))


def column(file, name, values):
    return table(file, replaced(name, values))


def linked(file, target):
    def change(folder):
        (folder / file).unlink()
        (folder / file).symlink_to(target)

    return change


def moved_out(folder):
    """The data lie beside the folder, and a link leads there."""
    (folder / "data").rename(folder.parent / "elsewhere")
    (folder / "data").symlink_to(folder.parent / "elsewhere")


def lines(file, text):
    return lambda folder: (folder / file).write_text(text)


V2 = {
    "truncated lines": (truncated("meta/episodes.jsonl"), "episodes.jsonl: line 2: not valid JSON"),
    "no lines": (lines("meta/episodes.jsonl", ""), "0 episodes are described, info.json says 3"),
    "negative length": (
        lines("meta/episodes.jsonl", '{"episode_index": 0, "length": -1}\n'),
        "needs counts episode_index and length, got",
    ),
    "lines of other things": (
        lines("meta/tasks.jsonl", "[1]\n"),
        "line 1: must hold a JSON object",
    ),
    "task without text": (
        lines("meta/tasks.jsonl", '{"task_index": 0}\n'),
        "needs task_index and task",
    ),
    "missing file": (
        lambda f: (f / "data/chunk-000/episode_000001.parquet").unlink(),
        "episode_000001.parquet: missing",
    ),
    "fewer rows": (
        table("data/chunk-000/episode_000001.parquet", lambda t: t[:4]),
        "episode_000001.parquet: holds 4 rows, its description says 10",
    ),
    "picture that is none": (
        column(
            "data/chunk-000/episode_000000.parquet",
            "observation.images.front",
            [{"bytes": b"GIF", "path": None}] * 12,
        ),
        r"step 0, 'observation.images.front': cannot decode the image \(3 bytes\)",
    ),
    "picture on a hostile path": (
        column(
            "data/chunk-000/episode_000000.parquet",
            "observation.images.front",
            [{"bytes": None, "path": "../../../../etc/hostname"}] * 12,
        ),
        "'../../../../etc/hostname' leaves the folder",
    ),
    "no picture": (
        column("data/chunk-000/episode_000000.parquet", "observation.images.front", [None] * 12),
        "must hold encoded images, holds null",
    ),
}
V3 = {
    "no JSON": (lines("meta/info.json", '{"codebase_version"'), "info.json: not valid JSON"),
    "deep JSON": (lines("meta/info.json", '"codebase_version"' + "[" * 10**5), "not valid JSON"),
    "old version": (info(codebase_version="v1.6"), "must be v2.0, v2.1 or v3.x, got 'v1.6'"),
    "no rate": (info(fps=0), "fps must be a number above 0, got 0"),
    "rate that is none": (info(fps=float("nan")), "fps must be a number above 0, got nan"),
    "negative count": (info(total_frames=-1), "total_frames must be a count, got -1"),
    "absurd count": (info(total_episodes=10**30), "total_episodes must be a count, got 1000"),
    "other count": (info(total_episodes=4), "3 episodes are described, info.json says 4"),
    "other steps": (info(total_frames=35), "34 steps together, info.json says 35"),
    "no features": (info(features=[1]), "'features' must map names to objects"),
    "no action": (info(features={}), "no action found"),
    "absurd shape": (action(shape=[10**9]), "feature 'action': shape .* is absurd"),
    "negative shape": (action(shape=[-1]), "feature 'action': shape must be a list of sizes"),
    "shape of text": (action(shape="12"), "feature 'action': shape must be a list of sizes"),
    "other shape": (action(shape=[5]), r"column 'action' must be \[12, 5\], is \[12, 6\]"),
    "other dtype": (action(dtype="int64"), "column 'action' must be int64, is float"),
    "dtype of numbers": (action(dtype=3), "feature 'action': dtype must be text"),
    "path upwards": (info(data_path="../../{file_index}"), "leaves the folder"),
    "absolute path": (info(data_path="/etc/hostname"), "leaves the folder"),
    "format field": (info(data_path="{chunk_index.__class__}"), "is malformed"),
    "unknown field": (info(data_path="{secret}"), "asks for {secret}"),
    "path with NUL": (info(data_path="a\0b"), "is malformed"),
    "path to a folder": (info(data_path="data"), "data: missing"),
    "playlist": (info(video_path="meta/info.json"), "video must be one of .mp4"),
    "link out": (linked(DATA, "/etc/hostname"), "leaves the folder"),
    "folder out": (moved_out, "leaves the folder"),
    "link to itself": (linked(DATA, "file-000.parquet"), "cannot reach|missing"),
    "device": (linked(VIDEO, "/dev/zero"), "leaves the folder"),
    "truncated data": (truncated(DATA), "file-000.parquet: truncated or corrupt"),
    "flipped data": (flipped(DATA, 500), "file-000.parquet: truncated or corrupt"),
    "empty data": (lines(DATA, ""), "file-000.parquet: truncated or corrupt"),
    "missing data": (lambda f: (f / DATA).unlink(), "file-000.parquet: missing"),
    "fewer rows": (table(DATA, lambda t: t[:15]), "holds 15 rows, not the rows 12 to 22"),
    "missing column": (without(DATA, "action"), "no column 'action'"),
    "rows of others": (column(DATA, "episode_index", [7] * 22), "must be of episode 0, they are"),
    "nulls": (column(DATA, "episode_index", [None] * 22), "must hold int64 .* holds nulls"),
    "text for numbers": (column(DATA, "action", ["x"] * 22), "must hold float32 .* holds string"),
    "ragged": (column(DATA, "action", [[1.0] * (k % 3) for k in range(22)]), "different lengths"),
    "no task": (column(DATA, "task_index", [9] * 22), "task 9 is not among the dataset's tasks"),
    "time runs back": (
        column(DATA, "timestamp", np.arange(22, 0, -1.0)),
        "timestamps must be finite and ascend",
    ),
    "truncated video": (truncated(VIDEO), "file-000.mp4: (cannot decode the video|no picture)"),
    "short video": (truncated(VIDEO, 0), "file-000.mp4: cannot decode the video"),
    "flipped video": (flipped(VIDEO, 0), "file-000.mp4: cannot decode the video"),
    "missing video": (lambda f: (f / VIDEO).unlink(), "file-000.mp4: missing"),
    "video of another size": (
        lambda f: shutil.copyfile(FOREIGN / "lerobot_v3_video" / VIDEO, f / VIDEO),
        "the video is 96 x 96, info.json says 48 x 64",
    ),
    "frames missing": (
        column(META, "videos/observation.images.front/from_timestamp", [5.0, 1.2]),
        r"no picture for step 0 at 5.0000 s, the nearest is at .* \(episode 0\)",
    ),
    "absurd time": (
        column(META, "videos/observation.images.front/from_timestamp", [1e300, 1.2]),
        "holds 1e.300; the file is damaged",
    ),
    "negative length": (column(META, "length", [-12, 10]), "holds -12; the file is damaged"),
    "absurd length": (column(META, "length", [2**39, 10]), "steps together, info.json says"),
    "episode twice": (column(META, "episode_index", [1, 1]), "repeat an episode_index"),
    "truncated episodes": (truncated(META), "file-000.parquet: truncated or corrupt"),
    "no episodes": (lambda f: shutil.rmtree(f / "meta/episodes"), "the dataset is incomplete"),
    "missing place": (without(META, "data/file_index"), "no column 'data/file_index'"),
    "no tasks": (lambda f: (f / "meta/tasks.parquet").unlink(), "tasks.parquet: missing"),
    "no text": (without("meta/tasks.parquet", "task"), "no column 'task'"),
}
CASES = [("lerobot_v21_images", n) for n in V2] + [("lerobot_v3_h264", n) for n in V3]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_damage_is_one_line(tmp_path, capfd, name, case):
    change, message = (V3 if name == "lerobot_v3_h264" else V2)[case]
    folder = copied(tmp_path, name)
    change(folder)

    def read():
        for _ in open_source(folder, "lerobot"):
            pass

    with pytest.raises(InputError, match=message) as error:
        read()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 800
    assert capfd.readouterr() == ("", "")


def test_an_episode_of_no_steps_is_named(tmp_path):
    folder = copied(tmp_path, "lerobot_v3_images")
    edit_table(folder / META, replaced("length", [0, 22, 12]))
    source = open_source(folder)
    with pytest.raises(InputError, match="episode 'episode_000000': holds no steps"):
        source.load(0)
    assert len(source.load(2)) == 12


def test_an_absurd_episode_is_refused_before_memory_is_taken(tmp_path):
    folder = copied(tmp_path, "lerobot_v3_h264")
    edit_table(folder / META, replaced("length", [2**30, 10]))
    edit_info(folder, lambda v: v.update(total_frames=2**30 + 22))
    with pytest.raises(InputError, match="claims 1073741824 steps of"):
        open_source(folder).load(0)


def test_what_is_no_dataset_is_not_taken_for_one(tmp_path):
    assert not lerobot.matches(tmp_path)
    assert not lerobot.matches(tmp_path / "missing")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text("{}")
    assert not lerobot.matches(tmp_path)
    with pytest.raises(InputError, match=r"info.json: codebase_version must be"):
        lerobot.LeRobotReader(tmp_path)


def test_templates():
    values = {"chunk_index": 3, "video_key": "a.b"}
    assert lerobot_files.fill("v/{video_key}/{chunk_index:03d}", values, "x") == "v/a.b/003"
    for template in ("{chunk_index!r}", "{0}", "{", "{video_key:3d}", "{chunk_index:>9}"):
        with pytest.raises(InputError, match="x: path"):
            lerobot_files.fill(template, values, "x")
