"""What we write, through robomimic's own SequenceDataset.

robomimic 0.3.0 needs PyTorch and other versions of MuJoCo than ours, so it runs in an
environment of its own, named by ROBOMIMIC_PYTHON; tests/data/foreign/make_robomimic.py says how
to make one.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from jaxpolicy.data.formats import robomimic_writer
from tests.data.episodes import SPEC, make_episode

PYTHON = os.environ.get("ROBOMIMIC_PYTHON", sys.executable)

READ = """
import importlib, sys
from unittest import mock

# What release 0.3.0 imports for networks and exceptions that a dataset does not need.
for name in ("mujoco_py", "torchvision", "torchvision.models", "torchvision.transforms",
             "torchvision.transforms.functional"):
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = mock.MagicMock()

import numpy as np
import robomimic.utils.file_utils as files
import robomimic.utils.obs_utils as observations
from robomimic.utils.dataset import SequenceDataset

path, out, mask = sys.argv[1:]
low_dim = ["privileged", "proprio", "wrist_mask"]
observations.initialize_obs_utils_with_obs_specs(
    {"obs": {"low_dim": low_dim, "rgb": ["wrist_image"]}}
)
meta = files.get_env_metadata_from_dataset(path)
shapes = files.get_shape_metadata_from_dataset(path, all_obs_keys=[*low_dim, "wrist_image"])
data = SequenceDataset(
    path, obs_keys=(*low_dim, "wrist_image"), dataset_keys=("actions", "rewards", "dones"),
    seq_length=2, hdf5_use_swmr=False, load_next_obs=False, filter_by_attribute=mask or None,
)
items = [data[i] for i in range(len(data))]
stacked = {k: np.stack([i[k] for i in items]) for k in ("actions", "rewards", "dones")}
for k in items[0]["obs"]:
    stacked[k] = np.stack([i["obs"][k] for i in items])
np.savez(out, ac_dim=shapes["ac_dim"], env_name=meta["env_name"], n_demos=data.n_demos, **stacked)
"""


def read(path, out, mask=""):
    done = subprocess.run(
        [PYTHON, "-c", READ, str(path), str(out), mask], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(out)


@pytest.fixture(scope="module", autouse=True)
def _robomimic():
    find = "import importlib.util as u, sys; sys.exit(u.find_spec('robomimic') is None)"
    if subprocess.run([PYTHON, "-c", find], check=False).returncode:
        pytest.skip(f"{PYTHON} has no robomimic: name one that has in ROBOMIMIC_PYTHON")


def pairs(values):
    """[T, ...] -> [T, 2, ...]: each row and the next, the last repeated."""
    return np.stack([values, np.concatenate([values[1:], values[-1:]])], 1)


def test_robomimic_reads_what_we_write(tmp_path):
    episodes = [make_episode(i, 2 + i) for i in range(3)]
    robomimic_writer.write(tmp_path / "d.hdf5", episodes, SPEC, "Lift")
    found = read(tmp_path / "d.hdf5", tmp_path / "found.npz")
    assert (int(found["ac_dim"]), str(found["env_name"]), int(found["n_demos"])) == (2, "Lift", 3)

    def expect(name, of):
        np.testing.assert_array_equal(found[name], np.concatenate([pairs(of(e)) for e in episodes]))

    expect("actions", lambda e: e.action)
    expect("rewards", lambda e: e.reward)
    expect("proprio", lambda e: e.observation["proprio"])
    expect("privileged", lambda e: e.observation["privileged"])
    expect("wrist_image", lambda e: e.observation["image/wrist"])
    expect("wrist_mask", lambda e: e.observation["mask/wrist"])
    # Episode 1, of 3 steps after the 2 of episode 0, is the terminal one.
    assert found["dones"][:, 0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_robomimic_follows_our_masks(tmp_path):
    episodes = [make_episode(i, 2 + i) for i in range(3)]
    masks = {"train": ["e-002"], "valid": ["e-000", "e-001"]}
    robomimic_writer.write(tmp_path / "d.hdf5", episodes, SPEC, "Lift", masks=masks)
    found = read(tmp_path / "d.hdf5", tmp_path / "found.npz", "train")
    np.testing.assert_array_equal(found["actions"], pairs(episodes[2].action))
