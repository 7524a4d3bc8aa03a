"""Bad data and bad checkpoints: one line that names it, exit code 1, nothing half-written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxpolicy.data.formats import example_proto, tfrecord
from tests.launch.cli_test import BRIDGE, launch, one_line

TRAIN = "bridge_dataset-train.tfrecord-00000-of-00001"
STEP = "steps/action"


@pytest.fixture
def dataset(tmp_path):
    """A copy of the real dataset that may be damaged."""
    return Path(shutil.copytree(BRIDGE, tmp_path / "data" / "1.0.0"))


CART = """<mujoco><worldbody><body><joint name="rail" type="slide"/>
<geom type="box" size=".1 .1 .1" mass="1"/></body></worldbody>
<actuator><motor joint="rail" ctrlrange="-1 1"/></actuator></mujoco>"""


def test_nothing_is_learned_in_a_world_without_a_reward(tmp_path):
    (tmp_path / "cart.xml").write_text(CART)
    done = launch(
        "train",
        "--config=configs/ppo.py:reach:debug",
        f"--config.env.name=mjcf:{tmp_path / 'cart.xml'}",
        "--config.env.episode_length=20",
        f"--workdir={tmp_path / 'run'}",
    )
    message = one_line(done, 1)
    assert "cart.xml' has no reward" in message
    assert "MjcfWorld(path, reward=...)" in message
    assert not list((tmp_path / "run").rglob("*.json*"))


def process(dataset, tmp_path, *args):
    """Runs the process launcher on it; checks that it leaves nothing behind."""
    workdir = tmp_path / "run"
    done = launch(
        "process",
        "--config=configs/bc_bridge.py:debug",
        f"--config.dataset={dataset}",
        f"--workdir={workdir}",
        *args,
    )
    left = [p for p in workdir.rglob("*") if p.is_file()] if workdir.exists() else []
    assert left == []
    return one_line(done, 1)


def test_truncated_tfrecord(dataset, tmp_path):
    file = dataset / TRAIN
    file.write_bytes(file.read_bytes()[:-1000])
    message = process(dataset, tmp_path)
    assert TRAIN in message
    assert "truncated" in message


def test_wrong_feature_shape(dataset, tmp_path):
    path = dataset / "features.json"
    features = json.loads(path.read_text())
    steps = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    steps["featuresDict"]["features"]["action"]["tensor"]["shape"]["dimensions"] = ["6"]
    path.write_text(json.dumps(features))
    assert "action" in process(dataset, tmp_path)


def test_nan_action(dataset, tmp_path):
    file = dataset / TRAIN
    payloads = [tfrecord.read(r) for r in tfrecord.index(file)]
    values = example_proto.decode(payloads[3], "record 3")
    values[STEP] = values[STEP].copy()
    values[STEP][2 * 7 + 1] = np.nan
    payloads[3] = example_proto.encode(values)
    with open(file, "wb") as out:
        for payload in payloads:
            tfrecord.write(out, payload)
    message = process(dataset, tmp_path, "--config.data.cleaning.corrupt=error")
    assert "step 2: action holds NaN" in message
    assert "data.cleaning.corrupt=quarantine" in message


def test_checkpoint_of_another_config(tmp_path):
    arguments = (
        "--config=configs/bc_bridge.py:debug",
        f"--config.dataset={BRIDGE}",
        "--config.data.cameras=('image_0',)",
        "--config.loop.steps=5",
        f"--workdir={tmp_path / 'run'}",
    )
    assert launch("train", *arguments).returncode == 0
    before = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    done = launch("train", *arguments, "--config.optimizer.learning_rate=0.5")
    message = one_line(done, 1)
    assert "optimizer.learning_rate" in message
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == before
