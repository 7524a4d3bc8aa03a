import jax
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.core.specs import ActionSpec, InputError
from jaxpolicy.sim import streams, worlds, wrappers
from tests.fake_env import PointEnv

SPEC = ActionSpec("unknown", ("x", "g"), ("m", "1"), (-1.0, 0.0), (1.0, 0.5), 10.0)
SEEDS = np.array([7, 8])


class Counted(PointEnv):
    """Counts how often it is traced."""

    traces = 0

    def step(self, state, action):
        self.traces += 1
        return super().step(state, action)


@pytest.fixture(scope="module")
def world():
    return wrappers.EpisodeLimit(Counted(), 3)


@pytest.mark.parametrize(("robot", "n"), [("panda", 7), ("ur5e", 6)])
def test_every_element_of_proprioception_has_a_name_and_a_unit(robot, n):
    env = sim.make("reach", robot=robot)
    (proprio,) = [s for s in env.observation_specs if s.name == "proprio"]
    told = dict(zip(proprio.names, proprio.units, strict=True))
    assert len(told) == 2 * n + 6
    assert list(told)[n - 1 : n + 1] == [f"joint{n}", "joint1_velocity"]
    assert (told["joint1"], told["joint1_velocity"]) == ("rad", "rad/s")
    assert (told["gripper_width"], told["tool_z"], told["tool_yaw_cos"]) == ("m", "m", "1")
    assert env.action_spec.limits_from == "robot"


def keys(n):
    return streams.episode_keys(streams.EVALUATION, np.arange(n))


def test_worlds_are_the_world_vmapped(world):
    action = np.full((4, 3), 0.1, np.float32)
    with worlds.open_worlds(world, 4) as opened:
        state = opened.step(opened.reset(keys(4)), action)
    expected = jax.vmap(world.step)(jax.vmap(world.reset)(keys(4)), action)
    for name, value in expected.obs.items():
        np.testing.assert_allclose(state.obs[name], value, atol=1e-6)
    np.testing.assert_allclose(state.reward, expected.reward, atol=1e-6)


def test_what_was_compiled_is_found_again(world):
    def run():
        with worlds.open_worlds(world, 5) as opened:
            opened.step(opened.reset(keys(5)), np.zeros((5, 3), np.float32))

    run()
    before = world.unwrapped.traces
    run()
    assert world.unwrapped.traces == before


def test_observations_that_others_added_are_not_passed_on(world):
    with worlds.open_worlds(world, 2) as opened:
        state = opened.reset(keys(2))
        more = state.replace(obs={**state.obs, "image/other": np.zeros((2, 1, 1, 3), np.uint8)})
        after = opened.step(more, np.zeros((2, 3), np.float32))
    assert set(after.obs) == {s.name for s in world.observation_specs}


def test_a_world_may_bring_its_own_driver():
    class Own:
        def open(self, n):
            return ("driver", n)

    assert worlds.open_worlds(Own(), 3) == ("driver", 3)
    with pytest.raises(InputError, match="at least one world must be opened, got 0"):
        worlds.open_worlds(Own(), 0)


def test_actions_are_checked():
    found = worlds.check_action(SPEC, [[1, 2], [3, 4]], SEEDS, 0)
    assert found.dtype == np.float32
    with pytest.raises(InputError, match=r"actions of shape \[2, 2\], got \[2, 3\]"):
        worlds.check_action(SPEC, np.zeros((2, 3)), SEEDS, 0)
    with pytest.raises(InputError, match="NaN or infinite action at step 4 .* seed 8"):
        worlds.check_action(SPEC, [[0, 0], [0, np.inf]], SEEDS, 4)


def test_actions_are_clipped_and_counted():
    action = np.array([[2.0, 0.2], [-1.0, -0.1], [0.0, 0.5 + 1e-6]], np.float32)
    clipped, outside = worlds.clip_action(SPEC, action)
    np.testing.assert_array_equal(clipped, np.float32([[1.0, 0.2], [-1.0, 0.0], [0.0, 0.5]]))
    # One of two elements each; what rounding adds at a limit does not count.
    assert outside.tolist() == [0.5, 0.5, 0.0]
