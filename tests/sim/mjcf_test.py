import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.core.specs import InputError
from jaxpolicy.sim import mjcf, worlds, wrappers

CART = """<mujoco model="cart">
<option timestep="0.01" integrator="implicitfast"/>
<worldbody>
  <light pos="0 -2 3" dir="0 .5 -1"/>
  <camera name="side" pos="0 -2.5 0.5" xyaxes="1 0 0 0 0 1"/>
  <body name="cart">
    <joint name="rail" type="slide" axis="1 0 0" range="-1 1"/>
    <geom type="box" size=".2 .1 .1" mass="1" rgba=".2 .4 .9 1" contype="0" conaffinity="0"/>
    <body name="pole">
      <joint name="hinge" type="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 .6" size=".05" mass=".1" rgba=".9 .3 .2 1"
        contype="0" conaffinity="0"/>
    </body>
  </body>
</worldbody>
<actuator><motor name="push" joint="rail" ctrlrange="-3 3" ctrllimited="true"/></actuator>
<keyframe><key qpos="0.5 0.1" qvel="0 0.2"/></keyframe>
</mujoco>
"""
MOTOR = '<motor name="push" joint="rail" ctrlrange="-3 3" ctrllimited="true"/>'


@pytest.fixture(scope="module")
def cart(tmp_path_factory):
    path = tmp_path_factory.mktemp("mjcf") / "cart.xml"
    path.write_text(CART)
    return path


@pytest.fixture
def changed(tmp_path):
    """The file with one part replaced."""

    def write(old, new):
        assert old in CART
        path = tmp_path / "other.xml"
        path.write_text(CART.replace(old, new))
        return path

    return write


def test_elements_have_the_names_of_their_joints(cart):
    world = mjcf.MjcfWorld(cart)
    (proprio,) = world.observation_specs
    assert proprio.names == ("rail", "hinge", "rail_velocity", "hinge_velocity")
    assert proprio.units == ("m", "rad", "m/s", "rad/s")
    assert world.action_spec.limits_from == "robot"


def test_says_whether_anything_is_rewarded(cart):
    assert not mjcf.MjcfWorld(cart, success=lambda state: state.qpos[0] > 0).has_reward
    rewarded = mjcf.MjcfWorld(cart, reward=lambda state: state.qpos[0])
    # Wrappers pass it on.
    assert wrappers.EpisodeLimit(rewarded, 3).has_reward


def steps(world, action, n=20, key=0):
    """Observations [n + 1, P] and the last state, compiled."""

    @jax.jit
    def run(key):
        state = world.reset(key)

        def step(state, _):
            after = world.step(state, action)
            return after, after.obs["proprio"]

        last, found = jax.lax.scan(step, state, None, n)
        return jnp.concatenate([state.obs["proprio"][None], found]), last

    observations, last = run(jax.random.key(key))
    return np.asarray(observations), last


def test_it_moves_as_mujoco_says(cart):
    world = mjcf.MjcfWorld(cart, control_hz=20.0)
    found, _ = steps(world, jnp.array([2.0]))
    model = mujoco.MjModel.from_xml_string(CART)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.ctrl[:] = 2.0
    expected = [[*data.qpos, *data.qvel]]
    for _ in range(20):
        mujoco.mj_step(model, data, 5)  # 5 steps of 10 ms are one of 20 Hz
        expected.append([*data.qpos, *data.qvel])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_names_units_and_bounds_are_the_files(cart):
    world = mjcf.MjcfWorld(cart)
    assert (world.task, world.robot, world.control_hz) == ("cart", "mjcf", 20.0)
    assert world.action_spec.names == ("push",)
    assert (world.action_spec.minimum, world.action_spec.maximum) == ((-3.0,), (3.0,))
    (proprio,) = world.observation_specs
    assert proprio.unit == "m,rad,m/s,rad/s"
    proprio.validate(world.reset(jax.random.key(0)).obs["proprio"])


def test_controls_are_clipped_to_their_range(cart):
    world = mjcf.MjcfWorld(cart)
    np.testing.assert_array_equal(
        steps(world, jnp.array([3.0]))[0], steps(world, 9 * jnp.ones(1))[0]
    )


def test_starts_are_within_the_noise_and_the_range(cart):
    world = mjcf.MjcfWorld(cart, noise=0.7)
    starts = jax.vmap(lambda key: world.reset(key).obs["proprio"])(
        jax.random.split(jax.random.key(0), 200)
    )
    # The keyframe has the cart at 0.5, whose range ends at 1, and the pole at 0.1.
    assert starts[:, 0].min() > 0.5 - 0.7
    assert 0.95 < starts[:, 0].max() <= 1.0
    assert starts[:, 1].min() < 0.1 - 0.6
    assert starts[:, 1].max() > 0.1 + 0.6
    np.testing.assert_allclose(starts[:, 2:], [[0.0, 0.2]] * 200)
    still = mjcf.MjcfWorld(cart).reset(jax.random.key(1)).obs["proprio"]
    np.testing.assert_allclose(still, [0.5, 0.1, 0.0, 0.2])


def test_rewards_and_success_are_the_users(cart):
    world = mjcf.MjcfWorld(
        cart,
        reward=lambda state: -jnp.abs(state.qpos[0]),
        success=lambda state: state.qpos[0] < 0.4,
    )
    _, last = steps(world, jnp.array([-3.0]))
    assert float(last.metrics["success"]) == 1.0
    assert float(last.reward) == pytest.approx(-abs(float(last.pipeline_state.qpos[0])))
    _, plain = steps(mjcf.MjcfWorld(cart), jnp.array([-3.0]))
    assert plain.metrics == {}
    assert float(plain.reward) == 0.0


def test_it_is_made_by_name_and_seen(cart):
    config = sim.EnvConfig(name=f"mjcf:{cart}", cameras=("side",), image_size=16, episode_length=3)
    world = sim.make_world(config)
    with worlds.open_worlds(world, 2) as opened:
        state = opened.reset(jax.random.split(jax.random.key(0), 2))
        images = [np.asarray(state.obs["image/side"])]
        for _ in range(3):
            state = opened.step(state, np.full((2, 1), -3.0, np.float32))
            images.append(np.asarray(state.obs["image/side"]))
    assert images[0].shape == (2, 16, 16, 3)
    assert images[0].std() > 10
    assert (images[0] != images[3]).any()
    assert (np.asarray(state.done) == 1).all()
    plain = sim.make_world(sim.EnvConfig(name=f"mjcf:{cart}", episode_length=3))
    assert [s.name for s in plain.observation_specs] == ["proprio"]


def test_the_other_engine_agrees(changed):
    # A cart alone: MJX takes long to compile.
    path = changed(
        CART[CART.index('    <body name="pole">') : CART.index("  </body>\n</world")], ""
    )
    path.write_text(path.read_text().replace('qpos="0.5 0.1" qvel="0 0.2"', 'qpos="0.5" qvel="0"'))
    first, second = (
        steps(mjcf.MjcfWorld(path, 50.0, backend=backend), jnp.array([2.0]), 5)[0]
        for backend in ("mujoco", "mjx")
    )
    np.testing.assert_allclose(first, second, atol=1e-4)
    # Force 2 N on 1 kg for 0.1 s in 10 steps of semi-implicit Euler: v = 0.2 m/s and
    # x = 2 * 0.01^2 * (1 + ... + 10) = 0.011 m further.
    np.testing.assert_allclose(first[-1], [0.511, 0.2], atol=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (MOTOR, "", "other.xml has no actuators"),
        (MOTOR, '<motor name="push" joint="rail"/>', "actuator 'push' is unbounded; give it"),
        (MOTOR, '<motor joint="rail"/>', "actuator 'actuator0' is unbounded"),
        (MOTOR, MOTOR.replace("motor", "general").replace("/>", ' dyntype="filter"/>'),
         "actuator 'push' has a state of its own"),
        ('joint="rail"', 'joint="road"', "other.xml is not a valid MJCF file: .*unknown"),
        ("<mujoco", "mujoco", "other.xml is not a valid MJCF file: "),
        ('timestep="0.01"', 'timestep="0.03"', "timestep 0.03 s does not fit evenly .*20 Hz"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_named(changed, old, new, message):
    with pytest.raises(InputError, match=message) as error:
        mjcf.MjcfWorld(changed(old, new))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match="no MJCF file at nowhere/robot.xml"):
        mjcf.MjcfWorld("nowhere/robot.xml")


def test_what_cannot_be_drawn_runs_all_the_same(changed):
    camera = CART[CART.index("  <camera") : CART.index("  <body name=")]
    world = mjcf.MjcfWorld(changed(camera, ""))
    assert not hasattr(world, "scene")
    assert world.not_drawn == "the file has no camera"
    mesh = '<geom type="mesh" mesh="m" contype="0" conaffinity="0" mass="1"/>'
    asset = '<asset><mesh name="m" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset>\n<worldbody>'
    path = changed("<worldbody>", asset)
    path.write_text(path.read_text().replace('<body name="pole">', '<body name="pole">' + mesh))
    config = sim.EnvConfig(name=f"mjcf:{path}", cameras=("side",), episode_length=3)
    with pytest.raises(InputError, match="cannot be drawn: geom 1 '' is a mesh"):
        sim.make_world(config)


def test_a_missing_camera_is_named(cart):
    config = sim.EnvConfig(name=f"mjcf:{cart}", cameras=("top",), episode_length=3)
    with pytest.raises(InputError, match="no camera 'top'; it has: side"):
        sim.make_world(config)
