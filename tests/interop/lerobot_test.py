"""What we write, through LeRobot's own LeRobotDataset.

LeRobot needs PyTorch, so it runs in an environment of its own, named by LEROBOT_PYTHON;
tests/data/foreign/make_lerobot.py says how to make one (release 0.6.1, for format v3.0).
"""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxpolicy.core.specs import ArraySpec
from jaxpolicy.core.types import DatasetSpec
from jaxpolicy.data import open_source
from jaxpolicy.data.formats import lerobot_writer
from tests.data.episodes import SPEC, make_episode

PYTHON = os.environ.get("LEROBOT_PYTHON", sys.executable)

# Every step through __getitem__, the last two steps of each through delta_timestamps.
READ = """
import json, sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

path, out = sys.argv[1:]
data = LeRobotDataset("tests/ours", root=path, video_backend="pyav")
items = [data[i] for i in range(len(data))]
keys = [k for k in items[0] if k != "task"]
arrays = {k: np.stack([np.asarray(i[k]) for i in items]) for k in keys}
step = 1 / data.fps
history = LeRobotDataset("tests/ours", root=path, video_backend="pyav",
                         delta_timestamps={"action": [-step, 0.0], "observation.state": [0.0]})
arrays["history"] = np.stack([np.asarray(history[i]["action"]) for i in range(len(history))])
arrays["tasks"] = np.array([i["task"] for i in items])
arrays["camera_keys"] = np.array(data.meta.camera_keys)
stats = {f: {k: np.asarray(v).tolist() for k, v in s.items()} for f, s in data.meta.stats.items()}
some = LeRobotDataset("tests/ours", root=path, episodes=[1], video_backend="pyav")
facts = {"fps": data.fps, "robot": data.meta.robot_type, "episodes": data.num_episodes,
         "stats": stats, "some": len(some)}
np.savez(out, facts=json.dumps(facts), **arrays)
"""

# Sides of 64: the least that the encoders of other builds take.
WIDE = DatasetSpec(
    (ArraySpec("image/wrist", (64, 64, 3), "uint8"), *SPEC.observation[1:]), SPEC.action
)


def episode(i, n_steps):
    """Episode `i` with a gradient that moves."""
    y, x = np.mgrid[0:64, 0:64]
    frames = [np.stack([2 * y + 20 * t, 3 * x, 40 * i + 0 * x], -1) for t in range(n_steps)]
    plain = make_episode(i, n_steps)
    observation = dict(plain.observation) | {"image/wrist": np.stack(frames).astype(np.uint8)}
    return dataclasses.replace(plain, observation=observation)


def read(path, out):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(out.parent)}
    done = subprocess.run(
        [PYTHON, "-c", READ, str(path), str(out)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(out)


@pytest.fixture(scope="module", autouse=True)
def _needs_lerobot():
    found = subprocess.run(
        [PYTHON, "-c", "import lerobot.datasets.lerobot_dataset"], capture_output=True, check=False
    )
    if found.returncode:
        pytest.skip(f"{PYTHON} has no lerobot: set LEROBOT_PYTHON")


def check_numbers(found, episodes):
    def joined(values):
        return np.concatenate(list(values))

    for name, key in (("observation.state", "proprio"), ("privileged", "privileged")):
        expected = joined(e.observation[key] for e in episodes)
        np.testing.assert_array_equal(found[name], expected)
    np.testing.assert_array_equal(
        found["mask.wrist"], joined(e.observation["mask/wrist"] for e in episodes)
    )
    np.testing.assert_array_equal(found["action"], joined(e.action for e in episodes))
    np.testing.assert_array_equal(found["next.reward"], joined(e.reward for e in episodes))
    steps = joined(np.arange(len(e)) for e in episodes)
    np.testing.assert_array_equal(found["frame_index"], steps)
    np.testing.assert_allclose(found["timestamp"], steps / 20, rtol=1e-6)
    np.testing.assert_array_equal(found["index"], np.arange(len(steps)))
    assert found["tasks"].tolist() == [e.language_instruction for e in episodes for _ in e.action]
    # The step before: the first of an episode has itself there.
    before = joined(
        np.stack([e.action[np.maximum(np.arange(len(e)) - 1, 0)], e.action], 1) for e in episodes
    )
    np.testing.assert_array_equal(found["history"], before)


@pytest.mark.parametrize(
    ("codec", "sizes"), [("png", {}), ("av1", {}), ("h264", {"data_mb": 0, "video_mb": 0})]
)
def test_lerobot_reads_what_we_write(tmp_path, codec, sizes):
    episodes = [episode(i, 3 + i) for i in range(3)]
    lerobot_writer.write(tmp_path / "d", episodes, WIDE, "lift", codec=codec, **sizes)
    found = read(tmp_path / "d", tmp_path / "found.npz")
    check_numbers(found, episodes)
    facts = json.loads(str(found["facts"]))
    assert (facts["fps"], facts["robot"], facts["episodes"], facts["some"]) == (20, "arm", 3, 4)
    assert found["camera_keys"].tolist() == ["observation.images.wrist"]
    # LeRobot gives pictures as [C, H, W] from 0 to 1; ours are what we read back ourselves.
    source = open_source(tmp_path / "d")
    ours = np.concatenate([e.observation["image/wrist"] for e in source])
    theirs = found["observation.images.wrist"].transpose(0, 2, 3, 1) * 255
    assert np.abs(theirs - ours).max() <= (0.01 if codec == "png" else 2)
    actions = np.concatenate([e.action for e in episodes])
    stats = facts["stats"]["action"]
    np.testing.assert_allclose(stats["mean"], actions.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["std"], actions.std(0), rtol=1e-5)
    assert stats["count"] == [12]
    assert np.shape(facts["stats"]["observation.images.wrist"]["q99"]) == (3, 1, 1)
