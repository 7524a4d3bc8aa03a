"""A point that must be moved to a goal: the Env API without physics.

Reward is minus the distance; success is distance < 0.1 for 3 steps in a row. The picture
shows the offset to the goal as a bright square, so that a policy can see it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State

from jaxpolicy.core.specs import ActionSpec, ArraySpec

SIZE = 16


class PointEnv(Env):
    task = "point"
    robot = "dot"
    control_hz = 10.0
    instruction = "move the point to the goal"
    observation_specs = (
        ArraySpec("image/top", (SIZE, SIZE, 3), "uint8", "1", (0.0,), (255.0,)),
        ArraySpec("privileged", (2,), "float32", "m"),
        ArraySpec("proprio", (2,), "float32", "m"),
    )
    action_spec = ActionSpec(
        "cartesian_delta", ("dx", "dy", "gripper"), ("m", "m", "1"), (-0.2, -0.2, 0.0),
        (0.2, 0.2, 1.0), 10.0,
    )  # fmt: skip

    def __init__(self, reach=1.0, expert_gain=0.5):
        self.reach = reach
        self.expert_gain = expert_gain

    @property
    def observation_size(self):
        return {s.name: s.shape for s in self.observation_specs}

    @property
    def action_size(self):
        return 3

    @property
    def backend(self):
        return "none"

    def reset(self, rng):
        point, goal = jax.random.uniform(rng, (2, 2), minval=-self.reach, maxval=self.reach)
        zero = jnp.zeros(())
        metrics = {"success": zero, "reward/distance": zero, "held": zero}
        return State((point, goal), _observe(point, goal), zero, zero, metrics, {})

    def step(self, state, action):
        point, goal = state.pipeline_state
        point = point + jnp.clip(action[:2], -0.2, 0.2)
        distance = jnp.linalg.norm(goal - point)
        held = jnp.where(distance < 0.1, state.metrics["held"] + 1, 0.0)
        metrics = {
            "success": (held >= 3).astype(jnp.float32),
            "reward/distance": -distance,
            "held": held,
        }
        return state.replace(
            pipeline_state=(point, goal),
            obs=_observe(point, goal),
            reward=-distance,
            metrics=metrics,
        )

    def expert(self, privileged):
        move = jnp.clip(self.expert_gain * privileged, -0.2, 0.2)
        return jnp.concatenate([move, jnp.ones(1)])


def _observe(point, goal):
    offset = goal - point
    grid = np.linspace(-2, 2, SIZE)
    near = (abs(grid[None, :] - offset[0]) < 0.2) & (abs(grid[:, None] - offset[1]) < 0.2)
    image = jnp.where(near[..., None], jnp.uint8(255), jnp.uint8(30)) * jnp.ones(3, jnp.uint8)
    return {"image/top": image, "privileged": offset, "proprio": point}
