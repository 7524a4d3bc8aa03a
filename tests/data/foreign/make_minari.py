"""Writes minari_flat/ and minari_dict/ with Minari's own DataCollector.

    python3.11 -m venv minari-env
    minari-env/bin/pip install "minari[create,hdf5]==0.5.4" gymnasium==1.4.0 pillow==13.0.0
    minari-env/bin/python tests/data/foreign/make_minari.py

The first is a pendulum under random actions. The second is synthetic: nested observations with
images, infos, and an episode that ends by itself. Minari stores frames of 32x32 or more as JPEG:
of variable length, or as a [T, length] matrix where all frames of an episode come out equally long.
"""

import os
import pathlib
import shutil
import tempfile

import gymnasium as gym
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
N_EPISODES = 3
N_STEPS = 8


class PushEnv(gym.Env):
    """A point in the plane and two cameras; both get brighter by 20 a step."""

    observation_space = gym.spaces.Dict(
        {
            "robot": gym.spaces.Dict({"state": gym.spaces.Box(-5, 5, (4,), np.float64)}),
            "desired_goal": gym.spaces.Box(-1, 1, (2,), np.float32),
            "image": gym.spaces.Box(0, 255, (32, 40, 3), np.uint8),
            "grey": gym.spaces.Box(0, 255, (32, 32), np.uint8),
            "tiny": gym.spaces.Box(0, 255, (4, 5, 3), np.uint8),
        }
    )
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.position = 0, self.np_random.uniform(-1, 1, 2)
        self.goal = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.texture = self.np_random.integers(0, 60, (4, 5, 3)).repeat(8, 0).repeat(8, 1)
        return self.observe(), {"success": False}

    def observe(self):
        return {
            "robot": {"state": np.concatenate([self.position, np.zeros(2)])},
            "desired_goal": self.goal,
            "image": (self.texture + 20 * self.t).astype(np.uint8),
            "grey": np.full((32, 32), 20 * self.t, np.uint8),
            "tiny": np.full((4, 5, 3), 20 * self.t, np.uint8),
        }

    def step(self, action):
        self.t += 1
        self.position = self.position + 0.1 * action
        success = self.t == N_STEPS - 3 and bool(self.goal[0] > 0)
        return self.observe(), float(success), success, False, {"success": success}


def collect(minari, env, folder, dataset_id, **options):
    collector = minari.DataCollector(env, data_format="hdf5", **options)
    collector.action_space.seed(0)
    for seed in range(N_EPISODES):
        collector.reset(seed=seed)
        done = False
        while not done:
            _, _, terminated, truncated, _ = collector.step(collector.action_space.sample())
            done = terminated or truncated
    collector.create_dataset(
        dataset_id=dataset_id,
        algorithm_name="random",
        author="the jaxpolicy authors",
        code_permalink="tests/data/foreign/make_minari.py",
        description="A few short episodes for tests.",
    )
    source = pathlib.Path(os.environ["MINARI_DATASETS_PATH"]) / dataset_id
    shutil.rmtree(HERE / folder, ignore_errors=True)
    shutil.copytree(source, HERE / folder / dataset_id)


def main():
    # Minari reads the variable when it is imported.
    os.environ["MINARI_DATASETS_PATH"] = tempfile.mkdtemp()
    import minari

    gym.register("Push-v0", entry_point="make_minari:PushEnv", max_episode_steps=N_STEPS)
    pendulum = gym.make("Pendulum-v1", max_episode_steps=N_STEPS)
    collect(minari, pendulum, "minari_flat", "pendulum/random-v0")
    collect(minari, gym.make("Push-v0"), "minari_dict", "push/random-v0", record_infos=True)


if __name__ == "__main__":
    main()
