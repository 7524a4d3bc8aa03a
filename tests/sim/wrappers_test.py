import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.core.specs import InputError
from jaxpolicy.sim import wrappers
from jaxpolicy.sim.config import RandomizationConfig
from jaxpolicy.sim.render import raycaster
from tests.fake_env import PointEnv

STILL = jnp.zeros(3)


def run(env, key, actions):
    """States after reset and after each action."""
    states = [env.reset(key)]
    for action in actions:
        states.append(env.step(states[-1], action))
    return states


def test_limit_ends_the_episode_and_calls_it_truncation():
    states = run(wrappers.EpisodeLimit(PointEnv(), 3), jax.random.key(0), [STILL] * 3)
    assert [float(s.done) for s in states] == [0, 0, 0, 1]
    assert [float(s.info["truncation"]) for s in states] == [0, 0, 0, 1]
    assert [float(s.info["steps"]) for s in states] == [0, 1, 2, 3]


class Ending(PointEnv):
    """Ends by itself in every step."""

    def step(self, state, action):
        return super().step(state, action).replace(done=jnp.ones(()))


def test_an_end_by_the_world_is_no_truncation():
    states = run(wrappers.EpisodeLimit(Ending(), 1), jax.random.key(0), [STILL])
    assert float(states[-1].done) == 1
    assert float(states[-1].info["truncation"]) == 0


def test_limit_must_be_positive():
    with pytest.raises(InputError, match="episode_length must be at least 1, got 0"):
        wrappers.EpisodeLimit(PointEnv(), 0)


def test_time_limit_is_found_through_wrappers():
    env = wrappers.FrameHistory(wrappers.EpisodeLimit(PointEnv(), 7), 2)
    assert wrappers.episode_length(env) == 7
    with pytest.raises(InputError, match="wrap it in wrappers.EpisodeLimit"):
        wrappers.episode_length(PointEnv())


def test_auto_reset_starts_anew_from_another_start():
    env = wrappers.AutoReset(wrappers.EpisodeLimit(PointEnv(), 2))
    states = run(env, jax.random.key(0), [STILL] * 4)
    assert [float(s.done) for s in states] == [0, 0, 1, 0, 1]
    assert [float(s.info["steps"]) for s in states] == [0, 1, 0, 1, 0]
    assert float(states[2].info["truncation"]) == 1
    starts = [states[i].obs["proprio"] for i in (0, 2, 4)]
    assert (starts[0] == states[1].obs["proprio"]).all()
    assert not (starts[0] == starts[1]).any()
    assert not (starts[1] == starts[2]).any()


def test_auto_reset_keeps_the_reward_of_the_ended_episode():
    limited = wrappers.EpisodeLimit(PointEnv(), 1)
    ended = run(wrappers.AutoReset(limited), jax.random.key(0), [STILL])[-1]
    key = jax.random.split(jax.random.key(0))[0]
    plain = run(limited, key, [STILL])[-1]
    assert float(ended.reward) == float(plain.reward)


def test_auto_reset_runs_in_scan_under_vmap():
    env = wrappers.AutoReset(wrappers.Vmap(wrappers.EpisodeLimit(PointEnv(), 3)))
    state = env.reset(jax.random.split(jax.random.key(0), 4))
    actions = jnp.zeros((7, 4, 3))

    def step(state, action):
        state = env.step(state, action)
        return state, state.done

    done = jax.jit(functools.partial(jax.lax.scan, step))(state, actions)[1]
    expected = np.asarray([0, 0, 1, 0, 0, 1, 0])
    assert (np.asarray(done) == expected[:, None]).all()


class Counting(PointEnv):
    """Counts how often a start is computed while it runs."""

    def __init__(self):
        super().__init__()
        self.starts = []

    def reset(self, rng):
        jax.debug.callback(lambda _: self.starts.append(1), rng[None])
        return super().reset(rng)


def _steps_apart(env):
    """Two worlds of three steps, of which the second has done two; states of seven steps."""
    state = env.reset(jax.random.split(jax.random.key(0), 2))
    info = {**state.info, "steps": jnp.asarray([0.0, 2.0])}
    step = functools.partial(jax.lax.scan, lambda s, a: (env.step(s, a),) * 2)
    return jax.jit(step)(state.replace(info=info), jnp.full((7, 2, 3), 0.1))[1]


def test_auto_reset_computes_starts_only_where_an_episode_ended():
    counted = Counting()
    env = wrappers.AutoReset(wrappers.Vmap(wrappers.EpisodeLimit(counted, 3)))
    states = _steps_apart(env)
    jax.effects_barrier()
    # The first ends in steps 3 and 6, the second in 1, 4 and 7. Each of these five steps, like
    # the first reset, computes a start for both worlds.
    np.testing.assert_array_equal(states.done.T, [[0, 0, 1, 0, 0, 1, 0], [1, 0, 0, 1, 0, 0, 1]])
    assert len(counted.starts) == 2 * (1 + 5)


def test_auto_reset_of_many_worlds_is_that_of_each():
    limited = wrappers.EpisodeLimit(PointEnv(), 3)
    together = _steps_apart(wrappers.AutoReset(wrappers.Vmap(limited), keep_final=True))
    apart = _steps_apart(wrappers.Vmap(wrappers.AutoReset(limited, keep_final=True)))
    jax.tree.map(np.testing.assert_array_equal, _plain(together), _plain(apart))


def _plain(state):
    """With numbers in place of the keys."""
    info = {**state.info, "restart_key": jax.random.key_data(state.info["restart_key"])}
    return state.replace(info=info)


def test_auto_reset_keeps_the_final_observation_where_asked_for():
    limited = wrappers.EpisodeLimit(PointEnv(), 2)
    move = jnp.asarray([0.1, 0.0, 1.0])
    states = run(wrappers.AutoReset(limited, keep_final=True), jax.random.key(0), [move] * 3)
    plain = run(wrappers.AutoReset(limited), jax.random.key(0), [move] * 3)
    alone = run(limited, jax.random.split(jax.random.key(0))[0], [move] * 2)
    for state, same in zip(states, plain, strict=True):
        final = state.info["final_obs"]
        assert set(final) == set(state.obs)
        np.testing.assert_array_equal(state.obs["proprio"], same.obs["proprio"])
        assert "final_obs" not in same.info
    np.testing.assert_array_equal(states[1].info["final_obs"]["proprio"], states[1].obs["proprio"])
    # The second step ends the episode: what it led to, not where the next one begins.
    final = states[2].info["final_obs"]["proprio"]
    np.testing.assert_array_equal(final, alone[2].obs["proprio"])
    assert not (final == states[2].obs["proprio"]).any()
    np.testing.assert_array_equal(states[3].info["final_obs"]["proprio"], states[3].obs["proprio"])


def test_a_chunk_is_its_actions_one_after_another():
    env = wrappers.EpisodeLimit(PointEnv(), 9)
    actions = jnp.asarray([[0.1, 0.0, 1.0], [0.0, 0.1, 1.0], [-0.1, 0.1, 1.0]])
    single = run(env, jax.random.key(0), actions)
    chunked = run(wrappers.ActionChunk(env, 3), jax.random.key(0), [actions])[-1]
    np.testing.assert_allclose(chunked.obs["proprio"], single[-1].obs["proprio"], rtol=1e-6)
    total = sum(float(s.reward) for s in single[1:])
    assert float(chunked.reward) == pytest.approx(total)
    assert float(chunked.metrics["reward/distance"]) == pytest.approx(total)
    assert float(chunked.info["steps"]) == 3
    assert chunked.metrics["held"] == single[-1].metrics["held"]


def test_a_chunk_stops_where_the_episode_ends():
    env = wrappers.EpisodeLimit(PointEnv(), 2)
    actions = jnp.tile(jnp.asarray([0.1, 0.0, 1.0]), (3, 1))
    single = run(env, jax.random.key(0), actions[:2])
    chunked = run(wrappers.ActionChunk(env, 3), jax.random.key(0), [actions] * 2)
    np.testing.assert_allclose(chunked[1].obs["proprio"], single[2].obs["proprio"], rtol=1e-6)
    assert float(chunked[1].reward) == pytest.approx(float(single[1].reward + single[2].reward))
    assert [float(chunked[1].info[k]) for k in ("steps", "truncation")] == [2, 1]
    # Nothing more happens, and nothing is earned.
    assert [float(x) for x in (chunked[1].done, chunked[2].done, chunked[2].reward)] == [1, 1, 0]
    np.testing.assert_array_equal(chunked[2].obs["proprio"], chunked[1].obs["proprio"])


def test_chunks_start_anew_after_an_end():
    env = wrappers.ActionChunk(wrappers.EpisodeLimit(PointEnv(), 4), 3)
    env = wrappers.AutoReset(wrappers.Vmap(env), keep_final=True)
    state = env.reset(jax.random.split(jax.random.key(0), 2))
    done = []
    for _ in range(4):
        state = jax.jit(env.step)(state, jnp.zeros((2, 3, 3)))
        done.append(float(state.done[0]))
    # Three actions, then one, then anew.
    assert done == [0, 1, 0, 1]


def test_chunks_have_their_shape_even_of_one_action():
    env = wrappers.ActionChunk(PointEnv(), 1)
    state = env.reset(jax.random.key(0))
    assert env.step(state, STILL[None]).reward.shape == ()
    assert env.observation_specs == PointEnv.observation_specs
    for wrong in (STILL, jnp.zeros((2, 3))):
        with pytest.raises(InputError, match=r"a chunk has the shape \[1, 3\]"):
            env.step(state, wrong)
    with pytest.raises(InputError, match="n_action_steps must be at least 1, got 0"):
        wrappers.ActionChunk(PointEnv(), 0)


class Leveled(PointEnv):
    """Starts as far from the middle as its level says."""

    def reset(self, rng):
        return self.reset_at(rng, 1.0)

    def reset_at(self, rng, level):
        state = super().reset(rng)
        point, goal = state.pipeline_state
        obs = {**state.obs, "proprio": level * point}
        return state.replace(pipeline_state=(level * point, goal), obs=obs)


def test_every_wrapper_passes_levels_on():
    env = wrappers.EpisodeLimit(Leveled(), 3)
    env = wrappers.Vmap(wrappers.ActionChunk(wrappers.FrameHistory(env, 2), 1))
    env = wrappers.AutoReset(env, True)
    keys, levels = jax.random.split(jax.random.key(0), 2), jnp.asarray([0.0, 1.0])
    state = env.reset_at(keys, levels)
    assert state.obs["proprio"].shape == (2, 2, 2)
    np.testing.assert_array_equal(state.obs["proprio"][0], 0.0)
    assert (state.obs["proprio"][1] != 0.0).all()
    assert {"steps", "truncation", "restart_key", "final_obs"} <= set(state.info)
    one, same = env.reset_at(keys, jnp.ones(2)), env.reset(keys)
    np.testing.assert_array_equal(one.obs["proprio"], same.obs["proprio"])


def test_a_curriculum_keeps_the_level_of_each_world():
    env = wrappers.Curriculum(wrappers.EpisodeLimit(Leveled(), 2))
    env = wrappers.AutoReset(wrappers.Vmap(env))
    levels = jnp.asarray([0.0, 1.0])
    state = env.reset_at(jax.random.split(jax.random.key(0), 2), levels)
    step = jax.jit(env.step)
    for _ in range(2):
        state = step(state, jnp.zeros((2, 3)))
    # The second step ended both, and the next began at the same levels.
    assert (state.done == 1).all()
    np.testing.assert_array_equal(state.info["level"], levels)
    np.testing.assert_array_equal(state.obs["proprio"][0], 0.0)
    assert (state.obs["proprio"][1] != 0.0).all()
    # Levels change at the next start; metrics stay with the episode that they are of.
    state = state.replace(info={**state.info, "level": levels[::-1]})
    for _ in range(2):
        state = step(state, jnp.zeros((2, 3)))
        np.testing.assert_array_equal(state.metrics["level"], levels)
    np.testing.assert_array_equal(state.info["episode_level"], levels[::-1])
    np.testing.assert_array_equal(state.obs["proprio"][1], 0.0)
    state = step(state, jnp.zeros((2, 3)))
    np.testing.assert_array_equal(state.metrics["level"], levels[::-1])


def test_a_curriculum_begins_with_everything():
    state = wrappers.Curriculum(Leveled()).reset(jax.random.key(0))
    assert [float(state.info[k]) for k in ("level", "episode_level")] == [1, 1]
    with pytest.raises(InputError, match="'point' has no levels"):
        wrappers.Curriculum(PointEnv())


def test_history_repeats_the_first_observation_then_shifts():
    env = wrappers.FrameHistory(PointEnv(), 3)
    move = jnp.asarray([0.1, 0.0, 1.0])
    states = run(env, jax.random.key(1), [move] * 3)
    x = np.stack([s.obs["proprio"][:, 0] for s in states])
    # Steps of 0.1 from x0, the window at time t holds t-2, t-1, t, none before 0.
    offsets = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]
    np.testing.assert_allclose(x, x[0, 0] + 0.1 * np.asarray(offsets), atol=1e-6)
    assert states[-1].obs["image/top"].shape == (3, 16, 16, 3)


def test_history_changes_the_specs():
    env = wrappers.FrameHistory(PointEnv(), 3)
    state = env.reset(jax.random.key(0))
    for spec in env.observation_specs:
        spec.validate(state.obs[spec.name])
        assert spec.shape[0] == 3


@pytest.fixture(scope="module")
def bare():
    return sim.make("lift")


def test_pixels_adds_images_that_fit_their_specs(bare):
    env = wrappers.Pixels(bare, ("wrist", "front"), 16)
    names = [s.name for s in env.observation_specs]
    assert names == sorted(names) == ["image/front", "image/wrist", "privileged", "proprio"]
    state = jax.eval_shape(env.reset, jax.random.key(0))
    found = {k: (v.shape, v.dtype.name) for k, v in state.obs.items()}
    assert found == {s.name: (s.shape, s.dtype) for s in env.observation_specs}


def test_pixels_draws_the_state_after_each_step(bare):
    env = wrappers.Pixels(bare, ("wrist",), 16)
    state = jax.jit(bare.reset)(jax.random.key(0))
    after = jax.jit(env.step)(state, jnp.asarray([0.03, 0.0, -0.03, 0.0, 1.0]))
    poses = bare.physics.kinematics(after.pipeline_state)
    index = bare.scene.model.camera("wrist").id
    expected = raycaster.render(
        raycaster.RenderScene.from_model(bare.scene.model),
        poses.geom_xpos,
        poses.geom_xmat,
        poses.cam_xpos[index],
        poses.cam_xmat[index],
        float(bare.scene.model.cam_fovy[index]),
        16,
        16,
        options=raycaster.RenderOptions(shadows=False),
    ).rgb
    found = np.asarray(after.obs["image/wrist"])
    assert found.std() > 10
    assert (found != np.asarray(expected)).mean() < 0.01


def test_pictures_follow_the_level(bare):
    """At level 0 they are those of a world where nothing is randomised."""
    config = RandomizationConfig(
        colour=(-0.3, 0.3), texture=0.9, exposure=(0.5, 0.8), camera_position=(0.02, 0.05)
    )
    varied = wrappers.Pixels(sim.make("lift", randomization=config), ("front",), 16)
    keys, levels = jnp.stack([jax.random.key(2)] * 3), jnp.asarray([0.0, 0.3, 1.0])
    state = jax.jit(jax.vmap(varied.reset_at))(keys, levels).pipeline_state
    found = wrappers.draw(varied, state)["image/front"].astype(float)
    plain = wrappers.draw(wrappers.Pixels(bare, ("front",), 16), state)["image/front"]
    error = np.abs(np.asarray(found) - np.asarray(plain, float)).mean(axis=(1, 2, 3))
    assert error[0] < 0.5
    assert 2 < error[1] < 0.7 * error[2]


def number(state):
    """A picture of one pixel that shows a number."""
    return {"image/number": jnp.full((1, 1, 3), state["a"] + state["b"], jnp.uint8)}


@pytest.mark.parametrize("size", [1, 4, 5, 9])
def test_chunks_keep_the_order_and_drop_their_padding(size):
    # Chunks of at most 4: 5 states make two of 3, 9 make three of 3.
    draw = jax.vmap(wrappers._chunked(number, 4), in_axes=({"a": 0, "b": None},))
    found = draw({"a": jnp.arange(size), "b": jnp.asarray(10)})["image/number"]
    assert found.shape == (size, 1, 1, 3)
    assert list(found[:, 0, 0, 0]) == [10 + i for i in range(size)]


def test_draw_all_pads_the_last_batch(monkeypatch):
    sizes = []

    def draw(pixels, states):
        sizes.append(len(states["a"]))
        return jax.vmap(number)(states)

    monkeypatch.setattr(wrappers, "draw", draw)
    states = {"a": np.arange(7), "b": np.zeros(7, int)}
    found = wrappers.draw_all(None, states, 3)["image/number"]
    assert list(found[:, 0, 0, 0]) == list(range(7))
    assert sizes == [3, 3, 3]


def test_pixels_names_a_missing_camera(bare):
    with pytest.raises(InputError, match="no camera 'top'; it has: .*wrist"):
        wrappers.Pixels(bare, ("top",))
    with pytest.raises(InputError, match="at least one camera"):
        wrappers.Pixels(bare, ())


def test_without_pixels_takes_only_the_cameras_out():
    env = sim.make_world(sim.EnvConfig(image_size=16, episode_length=9))
    plain, pixels = wrappers.without_pixels(env)
    assert isinstance(pixels, wrappers.Pixels)
    assert wrappers.episode_length(plain) == 9
    assert [s.name for s in plain.observation_specs] == ["privileged", "proprio"]
    assert "image/wrist" in [s.name for s in env.observation_specs]
    assert wrappers.without_pixels(PointEnv())[1] is None
    # Compiled programs belong to an environment: the same one must come back.
    assert wrappers.without_pixels(env)[0] is plain


@pytest.mark.parametrize(
    ("name", "backend", "size"),
    [("inverted_pendulum", "generalized", 4), ("reacher", "spring", 11)],
)
@pytest.mark.filterwarnings("ignore:Brax System, piplines and environments:UserWarning")
def test_brax_environments_run_through_the_same_wrappers(name, backend, size):
    world = wrappers.from_brax(name, backend)
    assert world.action_spec.kind == "unknown"
    assert world.control_hz == pytest.approx(1 / float(world.unwrapped.dt))
    env = wrappers.Vmap(wrappers.FrameHistory(wrappers.EpisodeLimit(world, 2), 2))
    reset = jax.jit(env.reset)
    step = jax.jit(env.step)
    state = reset(jax.random.split(jax.random.key(0), 2))
    for _ in range(2):
        state = step(state, jnp.ones((2, world.action_spec.size)))
    assert state.obs["proprio"].shape == (2, 2, size)
    assert state.obs["proprio"].dtype == jnp.float32
    assert np.isfinite(state.obs["proprio"]).all()
    assert (state.done == 1).all()


@pytest.mark.filterwarnings("ignore:Brax System, piplines and environments:UserWarning")
def test_unknown_brax_environment_is_named():
    with pytest.raises(InputError, match="no environment 'reacher2'"):
        wrappers.from_brax("reacher2")


def test_from_brax_takes_an_environment():
    class Flat(PointEnv):
        dt = 0.1

        def reset(self, rng):
            state = super().reset(rng)
            return state.replace(obs=state.obs["proprio"])

        def step(self, state, action):
            state = super().step(state, action)
            return state.replace(obs=state.obs["proprio"])

    env = wrappers.from_brax(Flat())
    state = run(env, jax.random.key(0), [STILL])[-1]
    assert (env.task, env.control_hz) == ("flat", pytest.approx(10.0))
    env.observation_specs[0].validate(state.obs["proprio"])
