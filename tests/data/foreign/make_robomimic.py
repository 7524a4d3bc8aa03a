"""Writes robomimic/ with robosuite's recorder and robomimic's own conversion scripts.

    python3.11 -m venv robomimic-env
    robomimic-env/bin/pip install robosuite==1.4.1 mujoco==2.3.7 "numpy<2" torch==2.13.0 \\
        h5py==3.16.0 psutil tqdm termcolor tensorboardX imageio matplotlib egl_probe==1.0.2
    robomimic-env/bin/pip install --no-deps robomimic==0.3.0
    export MUJOCO_GL=egl PYNPUT_BACKEND=dummy
    robomimic-env/bin/python tests/data/foreign/make_robomimic.py

A scripted arm lifts a cube, without a screen. raw.hdf5 is what robosuite records, with the
metadata and masks that robomimic adds; low_dim.hdf5 and image.hdf5 have observations too.
"""

import json
import pathlib
import runpy
import shutil
import sys
import tempfile
from unittest import mock

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
N_DEMOS = 2


def stand_in():
    """For modules that release 0.3.0 imports for its networks and exceptions, which nobody uses.

    mujoco_py does not install next to a current MuJoCo, torchvision not next to a CPU PyTorch.
    """
    names = ("mujoco_py", "torchvision", "torchvision.models", "torchvision.transforms")
    for name in (*names, "torchvision.transforms.functional"):
        sys.modules[name] = mock.MagicMock()


def settings():
    from robosuite.controllers import load_controller_config

    return {
        "env_name": "Lift",
        "robots": "Panda",
        "controller_configs": load_controller_config(default_controller="OSC_POSE"),
        "control_freq": 10,
    }


def act(observation, closed):
    """Down to the cube, close, up; in the units of the controller, 5 cm for 1."""
    move = observation["cube_pos"] - observation["robot0_eef_pos"]
    if closed > 2:
        move = np.array([0.0, 0.0, 0.05])
    return np.r_[np.clip(move / 0.05, -1, 1), np.zeros(3), 1.0 if closed else -1.0]


def record(env):
    observation, closed, done = env.reset(), 0, False
    while not done:
        near = np.linalg.norm(observation["cube_pos"] - observation["robot0_eef_pos"]) < 0.02
        closed += bool(closed or near)
        observation, _, _, _ = env.step(act(observation, closed))
        done = env._check_success()


def record_all(folder):
    import robosuite
    from robosuite.scripts.collect_human_demonstrations import gather_demonstrations_as_hdf5
    from robosuite.wrappers import DataCollectionWrapper

    env = robosuite.make(
        **settings(), has_renderer=False, has_offscreen_renderer=False, use_camera_obs=False
    )
    env = DataCollectionWrapper(env, str(folder / "episodes"))
    for _ in range(N_DEMOS):
        record(env)
    env.close()
    gather_demonstrations_as_hdf5(str(folder / "episodes"), str(folder), json.dumps(settings()))
    (folder / "demo.hdf5").rename(folder / "raw.hdf5")


def run(module, *arguments):
    sys.argv = [module, *arguments]
    runpy.run_module(f"robomimic.scripts.{module}", run_name="__main__")


def convert(folder):
    raw = str(folder / "raw.hdf5")
    run("conversion.convert_robosuite", "--dataset", raw)
    run("split_train_val", "--dataset", raw, "--ratio", "0.5")
    observe = ("--dataset", raw, "--done_mode", "2")
    run("dataset_states_to_obs", *observe, "--output_name", "low_dim.hdf5")
    camera = ("--camera_names", "agentview", "--camera_height", "16", "--camera_width", "24")
    output = ("--exclude-next-obs", "--output_name", "image.hdf5")
    run("dataset_states_to_obs", *observe, *camera, *output)


def main():
    stand_in()
    np.random.seed(0)
    folder = pathlib.Path(tempfile.mkdtemp())
    record_all(folder)
    convert(folder)
    (HERE / "robomimic").mkdir(exist_ok=True)
    for name in ("raw.hdf5", "low_dim.hdf5", "image.hdf5"):
        shutil.copy(folder / name, HERE / "robomimic" / name)


if __name__ == "__main__":
    main()
