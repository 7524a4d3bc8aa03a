import importlib
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from jaxpolicy import sim
from jaxpolicy.core.specs import InputError
from jaxpolicy.sim import streams
from jaxpolicy.sim.gymnasium import environments as ours

# The checker recommends bounded observations and actions in [-1, 1]; ours are physical.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:gymnasium")

SHORT = {"cameras": (), "episode_length": 4, "privileged": True}
E = 3


@pytest.fixture(scope="module")
def reach():
    return ours.GymEnv("reach", render_mode="rgb_array", render_size=16, **SHORT)


@pytest.fixture(scope="module")
def vector():
    return ours.GymVectorEnv("reach", E, render_mode="rgb_array", render_size=16, **SHORT)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_reach_passes_gymnasiums_checker(reach):
    check_env(reach, skip_close_check=True)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_lift_passes_gymnasiums_checker_by_its_id():
    assert "jaxpolicy/Lift-v0" in ours.register()
    assert "jaxpolicy/Lift-v0" in ours.register()
    seeing = gymnasium.make("jaxpolicy/Lift-v0", image_size=8)
    assert set(seeing.observation_space.spaces) == {"image/wrist", "proprio"}
    assert seeing.observation_space["image/wrist"] == gymnasium.spaces.Box(
        0, 255, (8, 8, 3), np.uint8
    )
    env = gymnasium.make("jaxpolicy/Lift-v0", cameras=())
    check_env(env.unwrapped, skip_render_check=True)


def test_spaces_are_the_specs(reach):
    world = reach._gym.world
    box = reach.action_space
    np.testing.assert_allclose(box.low, world.action_spec.minimum)
    np.testing.assert_allclose(box.high, world.action_spec.maximum)
    assert set(reach.observation_space.spaces) == {"proprio", "privileged"}
    blind = ours.GymEnv("reach", **{**SHORT, "privileged": False})
    assert set(blind.observation_space.spaces) == {"proprio"}
    assert reach.metadata["render_fps"] == world.control_hz


def test_an_episode_is_the_worlds(reach):
    first, info = reach.reset(seed=5)
    # What Gymnasium's generator of that seed draws is the seed in the TRAINING stream.
    drawn = int(gymnasium.utils.seeding.np_random(5)[0].integers(2**31))
    state = reach._gym.world.reset(streams.episode_key(streams.TRAINING, drawn))
    for key, value in first.items():
        np.testing.assert_allclose(value, state.obs[key], atol=1e-6)
    assert info["is_success"] is False
    ends = [reach.step(reach.action_space.sample())[2:4] for _ in range(4)]
    assert ends == [(False, False)] * 3 + [(False, True)]
    assert "reward/success" in reach.step(reach.action_space.sample())[-1]


def test_seeds_repeat_and_resets_without_one_do_not(reach):
    a, b, c, d = (reach.reset(seed=s)[0]["privileged"] for s in (1, None, None, 1))
    assert len(np.unique([a, b, c], axis=0)) == 3
    np.testing.assert_array_equal(a, d)


def test_it_renders_the_scene(reach):
    reach.reset(seed=0)
    frame = reach.render()
    assert (frame.shape, frame.dtype) == ((16, 16, 3), np.uint8)
    assert frame.std() > 10


def test_vector_worlds_are_the_single_ones_with_following_seeds(reach, vector):
    rng = np.random.default_rng(0)
    low, high = reach.action_space.low, reach.action_space.high
    actions = rng.uniform(low, high, (12, E, len(low))).astype(np.float32)
    found = [vector.reset(seed=7)[0]["privileged"]]
    rewards, ends = [], []
    for action in actions:
        observation, reward, terminated, truncated, info = vector.step(action)
        found.append(observation["privileged"])
        rewards.append(reward)
        ends.append(terminated | truncated)
    for i in range(E):
        expected, reset_next = [reach.reset(seed=7 + i)[0]["privileged"]], False
        for t in range(12):
            # The documented contract: the step after an end is a reset, with reward 0.
            if reset_next:
                observation, reward, done = reach.reset()[0], 0.0, False
            else:
                observation, reward, *done, _ = reach.step(actions[t, i])
                done = any(done)
            expected.append(observation["privileged"])
            assert rewards[t][i] == pytest.approx(reward, abs=1e-4)
            assert ends[t][i] == done
            reset_next = done
        np.testing.assert_allclose([x[i] for x in found], expected, atol=1e-4)
    # Episodes of four steps and one step for the reset: ends in steps 3, 8 (from 0).
    assert np.flatnonzero(np.any(ends, axis=1)).tolist() == [3, 8]
    assert info["is_success"].shape == info["_is_success"].shape == (E,)


def test_vector_spaces_and_mode(vector):
    assert vector.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.NEXT_STEP
    observation, _ = vector.reset(seed=0)
    assert observation in vector.observation_space
    single = vector.single_observation_space["privileged"]
    assert observation["privileged"].shape == (E, *single.shape)
    assert vector.action_space.shape == (E, vector.single_action_space.shape[0])
    assert len({f.tobytes() for f in vector.render()}) == E
    again, _ = vector.reset(seed=[0, 1, 2])
    np.testing.assert_array_equal(observation["privileged"], again["privileged"])
    other, _ = vector.reset()
    assert not (other["privileged"] == observation["privileged"]).all(axis=1).any()
    with pytest.raises(InputError, match="3 seeds are needed, got 2"):
        vector.reset(seed=[0, 1])


def test_make_vec_uses_the_compiled_one():
    ours.register()
    env = gymnasium.make_vec("jaxpolicy/Reach-v0", num_envs=E, **SHORT)
    assert isinstance(env.unwrapped, ours.GymVectorEnv)
    assert env.num_envs == E
    env.close()


def test_what_is_wrong_is_named(reach):
    with pytest.raises(InputError, match="EnvConfig has no key 'camera'"):
        ours.GymEnv("reach", camera="x")
    with pytest.raises(InputError, match="unknown env.name 'reach2'"):
        ours.GymEnv("reach2")
    with pytest.raises(InputError, match="render_mode must be None or"):
        ours.GymEnv("reach", render_mode="human")
    with pytest.raises(gymnasium.error.ResetNeeded):
        ours.GymEnv("reach", **SHORT).step(reach.action_space.sample())


def test_ids_are_in_camel_case():
    assert ours.gym_id("pick_place") == "jaxpolicy/PickPlace-v0"
    assert len(ours.register()) == len(sim.ENVIRONMENTS)


def test_without_gymnasium_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    monkeypatch.delitem(sys.modules, "jaxpolicy.sim.gymnasium.environments")
    with pytest.raises(InputError, match=r"pip install 'jaxpolicy\[gym\]'"):
        importlib.import_module("jaxpolicy.sim.gymnasium.environments")
