"""Writes the lerobot_* folders with LeRobot's own writers, one release after the other.

    python3.11 -m venv lerobot-0.3 && lerobot-0.3/bin/pip install lerobot==0.3.3
    python3.12 -m venv lerobot-0.6
    lerobot-0.6/bin/pip install "lerobot[dataset]==0.6.1"
    lerobot-0.3/bin/python tests/data/foreign/make_lerobot.py
    lerobot-0.6/bin/python tests/data/foreign/make_lerobot.py

Release 0.3.3 writes format v2.1, 0.6.1 writes v3.0. Everything can be computed by hand: frame t
of episode e is filled with the colour (40 + 60 e, 15 t, blue), blue 128 for the front and 40 for
the wrist camera, with a white column of four pixels at x = 4 t; the state is (e, t, 0, 0, 0, 0)
and the action (e, t + 1, 0, 0, 0, t % 2).
"""

import importlib.metadata
import pathlib
import shutil

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

HERE = pathlib.Path(__file__).resolve().parent
OLD = importlib.metadata.version("lerobot").startswith("0.3")
HEIGHT, WIDTH, FPS = 48, 64, 10
LENGTHS = (12, 10, 12)
TASKS = ("push the block", "open the drawer", "push the block")
JOINTS = ("a", "b", "c", "d", "e", "gripper")
BLUE = {"front": 128, "wrist": 40}


def picture(e, t, camera):
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = (40 + 60 * e, 15 * t, BLUE[camera])
    image[:, 4 * t : 4 * t + 4] = 255
    return image


def features(kind, cameras):
    vector = {"dtype": "float32", "shape": (len(JOINTS),), "names": list(JOINTS)}
    image = {"dtype": kind, "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    return {
        "observation.state": vector,
        "action": vector,
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
        **{f"observation.images.{camera}": image for camera in cameras},
    }


def frame(e, t, cameras):
    return {
        "observation.state": np.array([e, t, 0, 0, 0, 0], np.float32),
        "action": np.array([e, t + 1, 0, 0, 0, t % 2], np.float32),
        "next.done": np.array([t == LENGTHS[e] - 1]),
        **{f"observation.images.{camera}": picture(e, t, camera) for camera in cameras},
    }


def add_frame(dataset, values, task):
    if OLD:
        dataset.add_frame(values, task=task)
    else:
        dataset.add_frame({**values, "task": task})


def save(dataset, episodes, cameras):
    for e in episodes:
        for t in range(LENGTHS[e]):
            add_frame(dataset, frame(e, t, cameras), TASKS[e])
        dataset.save_episode()
    if not OLD:
        dataset.finalize()


def write(folder, kind, cameras, sessions=((0, 1, 2),), **options):
    """Each session after the first opens the dataset again, which starts new files in v3.0."""
    place = {"repo_id": f"tests/{folder}", "root": HERE / folder}
    shutil.rmtree(HERE / folder, ignore_errors=True)
    dataset = LeRobotDataset.create(
        **place,
        fps=FPS,
        robot_type="so100",
        features=features(kind, cameras),
        use_videos=kind == "video",
        **options,
    )
    save(dataset, sessions[0], cameras)
    for episodes in sessions[1:]:
        save(LeRobotDataset.resume(**place, **options), episodes, cameras)
    shutil.rmtree(HERE / folder / "images", ignore_errors=True)


def write_new():
    from lerobot.configs.video import RGBEncoderConfig

    write("lerobot_v3_images", "image", ("front",))
    h264 = RGBEncoderConfig(vcodec="h264")
    write("lerobot_v3_h264", "video", ("front",), sessions=((0, 1), (2,)), rgb_encoder=h264)


def write_old():
    write("lerobot_v21_video", "video", ("front", "wrist"))
    write("lerobot_v21_images", "image", ("front",))


if __name__ == "__main__":
    write_old() if OLD else write_new()
