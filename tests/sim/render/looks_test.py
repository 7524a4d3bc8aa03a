"""Variations as appearances and camera poses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.sim import randomization
from jaxpolicy.sim.config import STRONG, RandomizationConfig
from jaxpolicy.sim.render import looks
from jaxpolicy.sim.render.raycaster import RenderOptions
from jaxpolicy.sim.render.scene import Appearance

OFF = RandomizationConfig()


@pytest.fixture(scope="module")
def look():
    return Appearance.from_model(sim.make("lift").scene.model)


def vary(look, config, seed=0):
    variation = randomization.draw(config, jax.random.key(seed), 2)
    return variation, jax.tree.map(np.asarray, looks.appearance(look, config, variation))


def test_off_changes_nothing(look):
    _, same = vary(look, OFF)
    for name, a, b in zip(look._fields, look, same, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert looks.render_options(OFF, True) == RenderOptions()


def test_options_follow_the_configuration():
    assert looks.render_options(RandomizationConfig(texture=0.1), False) == RenderOptions(
        shadows=False, textures=True
    )
    assert looks.render_options(RandomizationConfig(blur=(0.0, 1.0)), True).sensor
    assert looks.render_options(RandomizationConfig(sensor_noise=(0.0, 1.0)), True).sensor
    assert not looks.render_options(RandomizationConfig(exposure=(0.5, 1.0)), True).sensor


def test_strong_looks_stay_valid_and_differ(look):
    many = jax.vmap(lambda k: looks.appearance(look, STRONG, randomization.draw(STRONG, k, 2)))(
        jax.random.split(jax.random.key(0), 100)
    )
    for name, values in many._asdict().items():
        assert np.isfinite(values).all(), name
        assert np.asarray(values).dtype == np.asarray(getattr(look, name)).dtype, name
    for name in ("rgb", "rgb2", "sky"):
        values = np.asarray(getattr(many, name))
        assert values.min() >= 0.0
        assert values.max() <= 1.0
        assert len(np.unique(values[:, 0], axis=0)) == 100
    # Half of the surfaces have a texture, half of these are checkers; 100 episodes x G
    # geoms are thousands of draws.
    patterned = (np.asarray(many.squares[..., 0]) > 0) | (np.asarray(many.grain) > 0)
    assert abs(patterned.mean() - 0.5) < 0.05
    assert abs((np.asarray(many.grain) > 0).mean() - 0.25) < 0.05
    contrast = np.abs(many.rgb2 - many.rgb).max(axis=-1)
    assert contrast[patterned].min() > 0.05
    assert contrast.max() <= 0.5 + 1e-6
    assert contrast[~patterned].max() < 0.6  # nothing but colours cut off at 0 and 1


def test_light_and_sensor_by_hand(look):
    config = RandomizationConfig(
        light_intensity=(0.5, 0.5), ambient=(2.0, 2.0), exposure=(1.5, 1.5), blur=(0.7, 0.7),
        light_position=(0.25, 0.25),
    )  # fmt: skip
    _, new = vary(look, config)
    np.testing.assert_allclose(new.light_diffuse, 0.5 * look.light_diffuse)
    np.testing.assert_allclose(new.light_specular, 0.5 * look.light_specular)
    np.testing.assert_allclose(new.ambient, 2.0 * look.ambient)
    np.testing.assert_allclose(new.light_position, look.light_position + 0.25)
    assert (new.exposure, new.blur) == (np.float32(1.5), np.float32(0.7))
    np.testing.assert_array_equal(new.rgb, look.rgb)


def test_levels_scale_colours_and_the_probability_of_textures(look):
    config = RandomizationConfig(colour=(-0.2, 0.2), texture=1.0)
    keys = jax.random.split(jax.random.key(0), 60)

    def at(level):
        return jax.vmap(
            lambda k: looks.appearance(look, config, randomization.draw(config, k, 2), level)
        )(keys)

    none, some, full = (at(jnp.float32(v)) for v in (0.0, 0.25, 1.0))
    np.testing.assert_array_equal(none.rgb, np.broadcast_to(look.rgb, none.rgb.shape))
    inside = (np.asarray(full.rgb) > 0.0) & (np.asarray(full.rgb) < 1.0)
    shift = np.asarray(full.rgb - none.rgb)
    np.testing.assert_allclose((some.rgb - none.rgb)[inside], 0.25 * shift[inside], atol=1e-6)
    for new, share in ((none, 0.0), (some, 0.25), (full, 1.0)):
        patterned = np.any(new.squares != look.squares, axis=-1) | (new.grain != look.grain)
        assert abs(np.asarray(patterned).mean() - share) < 0.06


def test_camera_moves_and_turns_about_its_own_axes():
    config = RandomizationConfig(camera_position=(0.1, 0.1), field_of_view=(2.0, 2.0))
    variation = randomization.draw(config, jax.random.key(0), 1)
    # A camera whose x is the world's y and y is the world's z (so z is x): shifted by .1
    # along each of its axes it moves by .1 along each of the world's.
    axes = jnp.asarray([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    position, rotation, fovy = looks.camera(variation, 0, jnp.asarray([1.0, 2.0, 3.0]), axes, 40.0)
    np.testing.assert_allclose(position, [1.1, 2.1, 3.1], rtol=1e-6)
    np.testing.assert_array_equal(rotation, axes)
    assert fovy == 42.0
    turned = variation._replace(camera_rotation=jnp.asarray([[0.0, 0.3, 0.0]]))
    rotation = looks.camera(turned, 0, position, jnp.eye(3), 40.0)[1]
    # About y by .3: x goes towards -z.
    np.testing.assert_allclose(rotation[:, 0], [np.cos(0.3), 0.0, -np.sin(0.3)], atol=1e-6)
    both = variation._replace(camera_rotation=jnp.asarray([[0.2, -0.3, 0.4]]))
    rotation = looks.camera(both, 0, position, axes, 40.0)[1]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)


def test_sensor_noise_differs_between_frames_and_cameras():
    qpos = jnp.asarray([0.1, 0.2, 0.0, 1.0])
    states = [qpos, qpos.at[0].add(1e-4), qpos[::-1], qpos.at[2].set(0.3)]
    seeds = [int(looks.sensor_seed(q, camera)) for q in states for camera in (0, 1)]
    assert len(set(seeds)) == 8
    assert seeds[0] == int(looks.sensor_seed(qpos, 0))
