import functools
import sys

import jax
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.evaluation import EvaluationConfig, rollout
from jaxpolicy.sim import streams, worlds
from jaxpolicy.sim.gymnasium import world as gymnasium_world
from jaxpolicy.sim.gymnasium.pool import WorkerError
from jaxpolicy.sim.gymnasium.world import GymnasiumWorld
from tests import toy_gymnasium as toy

LENGTH = 6


@functools.cache
def line(workers=2):
    return GymnasiumWorld(toy.Line, LENGTH, workers=workers)


def keys(n, first=0):
    return streams.episode_keys(streams.EVALUATION, first + np.arange(n))


def run(world, n, action=0.5, steps=LENGTH):
    """States after reset and after each step, with one constant action."""
    with worlds.open_worlds(world, n) as opened:
        states = [opened.reset(keys(n))]
        for _ in range(steps):
            actions = np.full((n, world.action_spec.size), action, np.float32)
            states.append(opened.step(states[-1], actions))
    return states


def stacked(states, name):
    return np.stack([s.obs[name] for s in states])


def test_a_box_becomes_proprio():
    world = line()
    assert [s.name for s in world.observation_specs] == ["proprio"]
    assert (world.task, world.robot, world.control_hz) == ("Line", "gymnasium", 10.0)
    assert world.action_spec.minimum == (-0.5,)
    assert world.action_spec.limits_from == "robot"
    assert world.observation_specs[0].names == ("observation_0", "observation_1")
    states = run(world, 3, steps=2)
    found = stacked(states, "proprio")
    assert (found.shape, found.dtype) == ((3, 3, 2), np.float32)
    # The point moves by the action and the goal stays.
    np.testing.assert_allclose(np.diff(found, axis=0)[..., 0], 0.5, atol=1e-6)
    np.testing.assert_allclose(np.diff(found, axis=0)[..., 1], 0.0, atol=1e-6)
    # Minus the distance, to where the action led.
    distance = np.abs(found[1, :, 1] - found[1, :, 0])
    np.testing.assert_allclose(states[1].reward, -distance, atol=1e-6)


def test_dictionaries_images_and_pictures():
    world = GymnasiumWorld(toy.Goal, LENGTH, cameras=("render",), image_size=8, workers=1)
    state = run(world, 2, steps=1)[-1]
    for spec in world.observation_specs:
        spec.validate(state.obs[spec.name])
    names = [s.name for s in world.observation_specs]
    assert names == ["image/observation_eye", "image/render", "proprio"]
    # Sorted by path: achieved_goal, desired_goal, observation/velocity (0.5 everywhere).
    parts = world.split_proprio(state.obs["proprio"])
    assert list(parts) == ["achieved_goal", "desired_goal", "observation_velocity"]
    assert (parts["observation_velocity"] == 0.5).all()
    assert (state.obs["image/observation_eye"] == 7).all()
    # 40 x 60 pixels, the left half 200, become 8 x 8.
    assert (state.obs["image/render"][:, :, :4] == 200).all()
    assert (state.obs["image/render"][:, :, 4:] == 0).all()
    # 1 / dt, which counts before the frame rate.
    assert world.control_hz == pytest.approx(25.0)
    assert world.has_success
    world.close()


def test_the_number_of_workers_changes_nothing():
    alone, spread = run(line(1), 5), run(line(2), 5)
    np.testing.assert_array_equal(stacked(alone, "proprio"), stacked(spread, "proprio"))
    np.testing.assert_array_equal([s.done for s in alone], [s.done for s in spread])
    np.testing.assert_array_equal([s.reward for s in alone], [s.reward for s in spread])


def test_equal_keys_give_equal_episodes_and_others_do_not():
    first, again = run(line(), 3), run(line(), 3)
    np.testing.assert_array_equal(stacked(first, "proprio"), stacked(again, "proprio"))
    assert len(np.unique(first[0].obs["proprio"], axis=0)) == 3


def test_seeds_are_those_of_the_key():
    found = gymnasium_world.seeds_from_keys(keys(50))
    assert len(set(found.tolist())) == 50
    assert found.min() >= 0
    assert found.max() < 2**31
    # Old-style keys have the same words, and one key its seed whatever stands beside it.
    raw = jax.random.key_data(keys(50))
    np.testing.assert_array_equal(gymnasium_world.seeds_from_keys(raw[3:4]), found[3:4])


def test_what_has_ended_is_frozen():
    states = run(line(), 5, steps=LENGTH + 1)
    point, done = stacked(states, "proprio")[..., 0], np.stack([s.done for s in states])
    # Every start lies within 1, so 0.5 a step leaves [-2, 2] after 2 to 6 steps.
    out = np.abs(point) > 2
    steps = states[-1].info["steps"]
    assert (steps < LENGTH).any()
    for e in range(5):
        end = int(steps[e])
        assert list(done[:, e]) == [0] * end + [1] * (LENGTH + 2 - end)
        assert (point[end:, e] == point[end, e]).all()
        assert states[-1].info["truncation"][e] == (not out[end, e])
        assert (np.stack([s.reward for s in states])[end + 1 :, e] == 0).all()


def test_a_world_without_success_says_so():
    world = GymnasiumWorld(toy.Silent, LENGTH, workers=1, control_hz=5.0)
    assert world.control_hz == 5.0
    assert run(world, 1, steps=1)[-1].metrics == {}
    world.close()


def test_ids_bring_their_time_limit_unless_another_is_wanted():
    world = GymnasiumWorld("MountainCarContinuous-v0", workers=1)
    assert world.episode_length == 999
    assert world.task == "MountainCarContinuous-v0"
    world.close()
    short = GymnasiumWorld("MountainCarContinuous-v0", 3, workers=1)
    assert [float(s.done[0]) for s in run(short, 1, action=1.0, steps=3)] == [0, 0, 0, 1]
    short.close()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (toy.Unbounded, {}, r"action space Box\(-inf, inf, .* is unbounded; give it bounds"),
        (toy.Discrete, {}, r"action space is Discrete\(3\); supported is a Box"),
        (toy.Text, {}, r"observation 'said' is Text.*supported are Box and \(nested\) Dict"),
        (toy.Silent, {}, "neither `dt` nor a `render_fps`.*give control_hz"),
        (toy.Goal, {"control_hz": 10.0}, "it runs at 25 Hz, not at a control_hz of 10"),
        (toy.Blind, {"cameras": ("render",)}, r"render\(\) must give uint8 .*got NoneType"),
        (toy.Goal, {"cameras": ("top",)}, "no camera 'top'; it has: observation_eye, render"),
        (toy.Line, {"episode_length": 0}, "no time limit of its own; give episode_length"),
        ("Nope-v0", {}, "'Nope-v0': NameNotFound: Environment `Nope` doesn't exist"),
        ("nowhere:Nope-v0", {}, "ModuleNotFoundError: No module named 'nowhere'"),
        (lambda render_mode: None, {}, "define it at the top level of a module"),
    ],
)
def test_what_is_not_supported_is_named(make, options, message):
    with pytest.raises(InputError, match=message):
        GymnasiumWorld(make, **{"episode_length": 5, "workers": 1, **options})


@pytest.mark.parametrize(
    ("make", "timeout", "message"),
    [
        (toy.Dying, 60.0, "'Dying': a worker process ended with exit code 3: out of cheese"),
        (toy.Raising, 60.0, "'Raising': ZeroDivisionError: no wheels"),
        (toy.Hanging, 3.0, "'Hanging': no answer to 'step' within 3 s"),
    ],
)
def test_a_failing_worker_is_reported_and_not_waited_for(make, timeout, message):
    world = GymnasiumWorld(make, 9, workers=1, timeout=timeout)
    with pytest.raises(WorkerError, match=message):
        run(world, 2, steps=9)


def test_worlds_cannot_be_used_after_a_failure_or_taken_back():
    world = GymnasiumWorld(toy.Line, LENGTH, workers=1)
    opened = worlds.open_worlds(world, 1)
    first = opened.reset(keys(1))
    opened.step(first, np.zeros((1, 1)))
    with pytest.raises(InputError, match="only be stepped from its latest state"):
        opened.step(first, np.zeros((1, 1)))
    opened.close()
    with pytest.raises(InputError, match="'Line' are closed; open them again"):
        opened.reset(keys(1))
    # Closing ends the processes; opening starts new ones.
    (process,) = [w.process for w in world._pool._workers]
    world.close()
    assert process.poll() is not None
    assert len(run(world, 1, steps=1)) == 2
    world.close()


def test_without_gymnasium_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(InputError, match=r"pip install 'jaxpolicy\[gym\]'"):
        GymnasiumWorld(toy.Line, 5)


class Proportional:
    """Goes half of the way to the goal."""

    def reset(self, n):
        pass

    def act(self, observation):
        point, goal = observation["proprio"].T
        return np.clip(0.5 * (goal - point), -0.5, 0.5)[:, None]


def test_it_is_evaluated_like_any_world():
    config = EvaluationConfig(n_episodes=7, batch=4, n_recorded=1)
    found = rollout.evaluate(line(), Proportional(), config)
    # At most 2 away: four steps of 0.5 or half of the way, and then below 0.1 within six.
    assert found.success.tolist() == [True] * 7
    assert (found.lengths == LENGTH).all()
    assert not found.terminated.any()
    assert found.task == "Line"
    again = rollout.evaluate(line(1), Proportional(), EvaluationConfig(n_episodes=7, batch=7))
    np.testing.assert_array_equal(found.returns, again.returns)
