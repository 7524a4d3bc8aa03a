"""A small valid file of each format that is one file, made at a given path."""

import numpy as np

from jaxpolicy.data import images
from jaxpolicy.data.formats import robomimic_writer
from tests.data.episodes import SPEC, make_episode
from tests.data.formats import hdf5_files
from tests.data.formats.hdf5_files import FOREIGN


def robomimic(path):
    robomimic_writer.write(path, [make_episode(i, 2) for i in range(2)], SPEC, "Lift")


def aloha(path):
    frame = np.frombuffer(images.encode(hdf5_files.pictures(1)[0]), np.uint8)
    arrays = {
        "observations/qpos": np.zeros((2, 14)),
        "observations/images/cam": np.stack([frame, frame]),
        "action": np.zeros((2, 14)),
    }
    hdf5_files.write(path, arrays, {"/": {"sim": True, "task": "insertion"}})


def minari(path):
    data = FOREIGN / "minari_flat" / "pendulum" / "random-v0" / "data" / "main_data.hdf5"
    path.write_bytes(data.read_bytes())


def d4rl(path):
    flags = np.arange(6) == 3
    names = ("observations", "actions", "infos/qpos")
    arrays = {n: np.zeros((6, 2), np.float32) for n in names}
    hdf5_files.write(path, {**arrays, "rewards": flags * 1.0, "terminals": flags})


def npz(path):
    steps = np.zeros((3, 2))
    values = {"action": steps, "state": steps, "image_top": hdf5_files.pictures(3, 4, 4)}
    np.savez_compressed(path, **values, task=np.array("lift"), success=np.array(True))


MAKERS = {f.__name__: f for f in (robomimic, aloha, minari, d4rl, npz)}
SUFFIX = {name: ".npz" if name == "npz" else ".hdf5" for name in MAKERS}
