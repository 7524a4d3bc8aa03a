import dataclasses
import json
import os

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxpolicy.core.specs import ArraySpec, InputError
from jaxpolicy.core.types import DatasetSpec
from jaxpolicy.data import open_source
from jaxpolicy.data.formats import lerobot_stats, lerobot_writer
from tests.data.episodes import SPEC, assert_same, make_episode

DATA, META = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.wrist/chunk-000/file-000.mp4"
# Pictures that video can hold: smooth ones, moving.
SMOOTH = DatasetSpec((ArraySpec("image/wrist", (32, 48, 3), "uint8"),), SPEC.action)


def smooth(i, n_steps=4):
    """Episode `i` with a colour gradient that moves by 30 levels a step."""
    y, x = np.mgrid[0:32, 0:48]
    frames = [
        np.stack([4 * y + 30 * t, 4 * x, np.full_like(x, 40 * i)], -1) % 256 for t in range(n_steps)
    ]
    observation = {"image/wrist": np.stack(frames).astype(np.uint8)}
    return dataclasses.replace(make_episode(i, n_steps), observation=observation)


def psnr(a, b):
    """Peak signal-to-noise ratio, dB."""
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def write(path, episodes, spec=SPEC, **options):
    return lerobot_writer.write(path, episodes, spec, "lift", **{"codec": "png", **options})


def test_round_trip_with_images_keeps_everything(tmp_path):
    episodes = [make_episode(i, 1 + i, success=[True, False, None][i]) for i in range(3)]
    variation = {"friction": 0.5, "mass": 2.0}
    episodes[1] = make_episode(1, 2, variation=variation, complete=False, success=False)
    assert write(tmp_path / "d", iter(episodes)) == 3
    source = open_source(tmp_path / "d")
    assert source.spec == SPEC
    assert len(source) == 3
    for wrote, read in zip(episodes, source, strict=True):
        assert_same(wrote, read)


@pytest.mark.parametrize("codec", ["av1", "h264"])
def test_round_trip_with_video(tmp_path, capfd, codec):
    # 1 MB limits nothing here; 0 MB begins a file an episode, so episode 2 starts at 0 s again.
    episodes = [smooth(i, 3 + i) for i in range(3)]
    for video_mb, starts in ((1, [0.0, 3 / 20, 7 / 20]), (0, [0.0, 0.0, 0.0])):
        folder = tmp_path / f"{video_mb}"
        write(folder, episodes, SMOOTH, codec=codec, crf=20, video_mb=video_mb)
        source = open_source(folder)
        for wrote, read in zip(episodes, source, strict=True):
            frames = read.observation["image/wrist"]
            assert psnr(wrote.observation["image/wrist"], frames) > 30
            # The next step is 30 levels of red away: 10 log10(255^2 / (30^2 / 3)) = 23.4 dB.
            assert psnr(wrote.observation["image/wrist"][1:], frames[:-1]) < 25
            np.testing.assert_array_equal(wrote.action, read.action)
            assert wrote.metadata == read.metadata
        rows = pq.read_table(folder / META)
        camera = "videos/observation.images.wrist"
        assert rows[f"{camera}/from_timestamp"].to_pylist() == pytest.approx(starts)
        files = [0, 0, 0] if video_mb else [0, 1, 2]
        assert rows[f"{camera}/file_index"].to_pylist() == files
    assert capfd.readouterr() == ("", "")
    assert "SVT_LOG" not in os.environ


def test_equal_episodes_have_equal_digests(tmp_path):
    # Each episode is encoded on its own, so its place in the file does not show.
    twin = dataclasses.replace(smooth(0), metadata=make_episode(7).metadata)
    write(tmp_path / "d", [smooth(0), smooth(1), twin], SMOOTH, codec="h264")
    digests = [open_source(tmp_path / "d").content_hash(i) for i in range(3)]
    assert digests[0] == digests[2] != digests[1]


def test_every_second_picture_is_a_key_frame(tmp_path):
    write(tmp_path / "d", [smooth(0, 5), smooth(1, 4)], SMOOTH, codec="h264")
    with av.open(str(tmp_path / "d" / VIDEO)) as container:
        frames = [(round(f.time * 20), f.key_frame) for f in container.decode(video=0)]
    # Episodes of 5 and 4 steps: keys at 0, 2, 4 and again at 0, 2 of the second.
    assert frames == [(t, t in (0, 2, 4, 5, 7)) for t in range(9)]


def test_columns_and_descriptions(tmp_path):
    write(tmp_path / "d", [make_episode(i, 2 + i) for i in range(2)])
    table = pq.read_table(tmp_path / "d" / DATA)
    assert table["index"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["frame_index"].to_pylist() == [0, 1, 0, 1, 2]
    assert table["episode_index"].to_pylist() == [0, 0, 1, 1, 1]
    assert table["task_index"].to_pylist() == [0, 0, 1, 1, 1]
    assert table["next.done"].to_pylist() == [False, True, False, False, True]
    # 20 Hz.
    assert table["timestamp"].to_pylist() == pytest.approx([0, 0.05, 0, 0.05, 0.1])
    rows = pq.read_table(tmp_path / "d" / META).to_pylist()
    assert [r["length"] for r in rows] == [2, 3]
    assert [r["dataset_from_index"] for r in rows] == [0, 2]
    assert [r["dataset_to_index"] for r in rows] == [2, 5]
    assert [r["tasks"] for r in rows] == [["lift cube 0"], ["lift cube 1"]]
    info = json.loads((tmp_path / "d/meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", 20, "arm")
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, 5, 2)
    assert info["features"]["action"]["names"] == ["dq", "gripper"]
    assert info["features"]["observation.images.wrist"]["dtype"] == "image"
    # Simulator state must not look like an input of a policy.
    assert "privileged" in info["features"]
    tasks = pq.read_table(tmp_path / "d/meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["lift cube 0", "lift cube 1"]}
    # LeRobot looks a task up by the index of the data frame that pandas makes of this.
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_files_are_numbered_and_small_episodes_share_a_row_group(tmp_path):
    episodes = [make_episode(i) for i in range(3)]
    write(tmp_path / "one", episodes)
    assert pq.ParquetFile(tmp_path / "one" / DATA).num_row_groups == 1
    write(tmp_path / "many", episodes, data_mb=0)
    names = sorted(p.name for p in (tmp_path / "many/data/chunk-000").iterdir())
    assert names == [f"file-00{i}.parquet" for i in range(3)]
    for wrote, read in zip(episodes, open_source(tmp_path / "many"), strict=True):
        assert_same(wrote, read)


def test_statistics(tmp_path):
    # Action [t] of episode i is (i + t / 10, t % 2) for 4 steps: over two episodes the first
    # element has mean .15 + .5 and variance .0125 + .25; the second mean .5, deviation .5.
    write(tmp_path / "d", [make_episode(i) for i in range(2)])
    stats = json.loads((tmp_path / "d/meta/stats.json").read_text())
    action = stats["action"]
    np.testing.assert_allclose(action["min"], [0, 0])
    np.testing.assert_allclose(action["max"], [1.3, 1], rtol=1e-6)
    np.testing.assert_allclose(action["mean"], [0.65, 0.5], rtol=1e-6)
    np.testing.assert_allclose(action["std"], [0.2625**0.5, 0.5], rtol=1e-6)
    assert action["count"] == [8]
    assert np.shape(stats["observation.images.wrist"]["mean"]) == (3, 1, 1)
    row = pq.read_table(tmp_path / "d" / META).to_pylist()[1]
    np.testing.assert_allclose(row["stats/action/mean"], [1.15, 0.5], rtol=1e-6)
    np.testing.assert_allclose(row["stats/action/q50"], [1.15, 0.5], rtol=1e-6)
    assert row["stats/action/count"] == [4]


def test_statistics_of_pictures():
    # Half of the pixels are 0, half 255: mean and deviation .5; the median is the lower one.
    frames = np.zeros((4, 2, 2, 3), np.uint8)
    frames[:2] = 255
    found = lerobot_stats.of_pictures(frames)
    for name, value in {"min": 0, "max": 1, "mean": 0.5, "std": 0.5, "q50": 0, "q90": 1}.items():
        np.testing.assert_allclose(found[name], np.full((3, 1, 1), value))
    # 100 of 250 frames, of 400 x 300 pixels every second.
    assert lerobot_stats.of_pictures(np.zeros((250, 4, 4, 3), np.uint8))["count"] == [100]


def test_running_statistics_are_those_of_all():
    rng = np.random.default_rng(0)
    parts = [rng.normal(5, 2, (n, 3)) for n in (4, 9, 2)]
    running = lerobot_stats.Running()
    for part in parts:
        running.add({"x": lerobot_stats.of_numbers(part)})
    found, together = running.result()["x"], np.concatenate(parts)
    np.testing.assert_allclose(found["mean"], together.mean(0))
    np.testing.assert_allclose(found["std"], together.std(0))
    # Weighted by counts, as LeRobot does.
    medians = [np.median(p, 0) * len(p) / 15 for p in parts]
    np.testing.assert_allclose(found["q50"], sum(medians))


def test_arrays_of_any_shape(tmp_path):
    spec = DatasetSpec((ArraySpec("grid", (2, 3), "int64"), *SMOOTH.observation), SPEC.action)
    observation = dict(smooth(0).observation, grid=np.arange(24).reshape(4, 2, 3))
    episode = dataclasses.replace(smooth(0), observation=observation)
    write(tmp_path / "d", [episode], spec)
    source = open_source(tmp_path / "d")
    assert source.spec == spec
    assert_same(source[0], episode)


def test_no_flipped_bit_passes_unnoticed(tmp_path):
    # Every page carries a checksum. 40 places of the pages, which end at the footer.
    write(tmp_path / "d", [make_episode(0)])
    path, wrote = tmp_path / "d" / DATA, make_episode(0)
    data = path.read_bytes()
    n_pages = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    noticed = 0
    for place in np.linspace(4, n_pages - 1, 40).astype(int):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            assert_same(open_source(tmp_path / "d")[0], wrote)
        except InputError as error:
            noticed += "corrupt" in str(error)
    assert noticed > 20


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (dataclasses.replace(make_episode(1), action=np.zeros((0, 2), np.float32)), "no steps"),
        (dataclasses.replace(make_episode(1), observation={}), "'image/wrist' is missing"),
        (make_episode(0), "episode 'e-000': episode_id must be unique"),
        (make_episode(1, episode_id=""), "episode '': episode_id must be unique"),
    ],
)
def test_a_bad_episode_is_named_and_leaves_nothing(tmp_path, episode, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "d", [make_episode(0), episode])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_what_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="there are no episodes to write"):
        write(tmp_path / "d", [])
    odd = DatasetSpec((ArraySpec("image/wrist", (7, 9, 3), "uint8"),), SPEC.action)
    observation = {"image/wrist": np.zeros((4, 7, 9, 3), np.uint8)}
    episode = dataclasses.replace(make_episode(0), observation=observation)
    with pytest.raises(InputError, match="cannot encode pictures of 7 x 9 as h264: .* even sizes"):
        write(tmp_path / "d", [episode], odd, codec="h264")
    assert list(tmp_path.iterdir()) == []


def test_options_are_checked(tmp_path):
    with pytest.raises(InputError, match="codec must be one of av1, h264, png, got 'gif'"):
        write(tmp_path / "d", [], codec="gif")
    still = dataclasses.replace(SPEC, action=dataclasses.replace(SPEC.action, control_hz=0.0))
    with pytest.raises(InputError, match="control_hz must be above 0, got 0.0; give"):
        write(tmp_path / "d", [], still)
    first = SPEC.observation[3]
    twins = tuple(dataclasses.replace(first, name=n) for n in ("a/b", "a.b", "index"))
    with pytest.raises(InputError, match="collide in LeRobot as a.b, index"):
        write(tmp_path / "d", [], DatasetSpec(twins, SPEC.action))
