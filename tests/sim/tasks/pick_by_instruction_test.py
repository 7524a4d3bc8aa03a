import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.sim.tasks import pick_by_instruction as task


@pytest.fixture(scope="module")
def env():
    return sim.make("pick_by_instruction")


@pytest.fixture(scope="module")
def states(env):
    return jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 400))


def _cubes(states):
    return np.asarray(states.pipeline_state.qpos[:, 9:37]).reshape(-1, 4, 7)


def test_two_to_four_cubes_lie_apart_and_the_wanted_one_among_them(states):
    cubes = _cubes(states)
    there = cubes[:, :, 0] < 1.0
    assert set(there.sum(axis=1)) == {2, 3, 4}
    wanted = np.asarray(states.info["instruction"])
    assert there[np.arange(len(wanted)), wanted].all()
    for place, present in zip(cubes[..., :2], there, strict=True):
        gaps = np.linalg.norm(place[present][:, None] - place[present][None], axis=-1)
        # Fingers are 8.5 cm apart outside and cubes 2.8 cm wide at the corners.
        assert gaps[~np.eye(len(gaps), dtype=bool)].min() > 0.09


def test_every_colour_is_asked_for_in_its_own_words(env, states):
    wanted = np.asarray(states.info["instruction"])
    counts = np.bincount(wanted, minlength=4)
    # 100 each; five standard deviations of a binomial (400, 1/4) are 43.
    assert (abs(counts - 100) < 43).all()
    assert env.instructions[2] == "lift the blue cube"
    language = np.asarray(states.obs["language"])
    for i in range(4):
        rows = language[wanted == i]
        np.testing.assert_array_equal(rows, rows[:1].repeat(len(rows), axis=0))
    assert len(np.unique(language, axis=0)) == 4


def test_absent_cubes_are_out_of_every_picture(env, states):
    cubes = _cubes(states)
    absent = cubes[:, :, 0] >= 1.0
    camera = env.scene.model.camera("front")
    # Behind the camera, which looks along -x from x = 1.05.
    assert (cubes[absent][:, 0] > camera.pos[0] + 0.5).all()


def test_lifting_the_wrong_cube_is_no_success_and_is_recorded(env):
    """The expert is told the wrong colour: it lifts that, and the facts say so."""
    step, expert = jax.jit(env.step), jax.jit(env.expert)
    state = env.reset(jax.random.key(2))
    present = np.flatnonzero(_cubes(jax.tree.map(lambda x: x[None], state))[0, :, 0] < 1.0)
    wanted = int(state.info["instruction"])
    wrong = int(next(i for i in present if i != wanted))
    for _ in range(40):
        inner = state.pipeline_state
        told = inner.replace(memory={**inner.memory, "wanted": jnp.int32(wrong)})
        action = expert(env.observe(env.facts(told), told)["privileged"])
        state = step(state, action)
    assert _cubes(jax.tree.map(lambda x: x[None], state))[0, wrong, 2] > 0.1
    assert state.metrics["success"] == 0.0
    facts = state.info["facts"]
    assert (facts["touched"], facts["wanted"]) == (wrong, wanted)
    # It closed where the wrong cube was, not where the wanted one is.
    assert np.linalg.norm(facts["seen"] - facts["actual"]) > 0.08


def test_instructions_name_the_colours():
    assert len(task.NAMES) == 4
    assert all(
        name in text
        for name, text in zip(task.NAMES, sim.make("pick_by_instruction").instructions, strict=True)
    )
