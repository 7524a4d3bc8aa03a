"""Gymnasium environments of a few lines, for tests. Worker processes import this file.

A point on a line must be brought to a goal; the reward is minus the distance, and success
is a distance below 0.1.
"""

import os
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces

WIDE = spaces.Box(-np.inf, np.inf, (1,), np.float64)
EYE = spaces.Box(0, 255, (4, 6, 3), np.uint8)


class Line(gymnasium.Env):
    """The plain case: numbers in, numbers out. Terminates where the point leaves [-2, 2]."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Box(-0.5, 0.5, (1,), np.float32)

    def __init__(self, render_mode=None):
        # Workers must not pay for what they do not need.
        assert "jax" not in sys.modules
        self.render_mode = render_mode
        self.point, self.goal = 0.0, 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.point, self.goal = self.np_random.uniform(-1, 1, 2)
        return self.observe(), {}

    def step(self, action):
        self.point += float(action[0])
        distance = abs(self.goal - self.point)
        info = {"is_success": distance < 0.1}
        return self.observe(), -distance, abs(self.point) > 2, False, info

    def observe(self):
        return np.array([self.point, self.goal])

    def render(self):
        frame = np.zeros((40, 60, 3), np.uint8)
        frame[:, :30] = 200
        return frame


class Goal(Line):
    """Goal observations, a nested dictionary and a picture; success has another name."""

    observation_space = spaces.Dict(
        {
            "observation": spaces.Dict({"velocity": WIDE, "eye": EYE}),
            "desired_goal": WIDE,
            "achieved_goal": WIDE,
        }
    )
    dt = 0.04

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {"success": info["is_success"]}

    def observe(self):
        eye = np.full((4, 6, 3), 7, np.uint8)
        return {
            "observation": {"velocity": np.array([0.5]), "eye": eye},
            "desired_goal": np.array([self.goal]),
            "achieved_goal": np.array([self.point]),
        }


class Silent(Line):
    """Says nothing about success, and has no control rate."""

    metadata = {}

    def step(self, action):
        return *super().step(action)[:-1], {}


class Unbounded(Line):
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Discrete(Line):
    action_space = spaces.Discrete(3)


class Text(Line):
    observation_space = spaces.Dict({"said": spaces.Text(5), "at": WIDE})


class Blind(Line):
    """Cannot render."""

    def render(self):
        return None


class Dying(Line):
    """The process ends in the third step of an episode."""

    t = 0

    def step(self, action):
        self.t += 1
        if self.t > 3:
            sys.stderr.write("out of cheese\n")
            sys.stderr.flush()
            os._exit(3)
        return super().step(action)


class Raising(Dying):
    def step(self, action):
        if self.t > 2:
            raise ZeroDivisionError("no wheels")
        self.t += 1
        return Line.step(self, action)


class Hanging(Dying):
    def step(self, action):
        if self.t > 2:
            time.sleep(60)
        self.t += 1
        return Line.step(self, action)
