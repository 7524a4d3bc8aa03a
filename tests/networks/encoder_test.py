import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.networks.encoder import (
    BACKBONES,
    SIZES,
    NetworkConfig,
    ObservationEncoder,
    resolve,
)
from jaxpolicy.networks.policy import ChunkPolicy
from jaxpolicy.specs import InputError

SMALL = NetworkConfig(widths=(8,), depths=(1,), hidden=16, language_features=4)


def _observation(batch=2, steps=1, cameras=("a", "b"), **extra):
    rng = np.random.default_rng(0)
    images = {
        f"image/{c}": rng.integers(0, 255, (batch, steps, 16, 16, 3), dtype=np.uint8)
        for c in cameras
    }
    proprio = rng.normal(size=(batch, steps, 3)).astype(np.float32)
    return {**images, "proprio": proprio, **extra}


def _features(config, observation, seed=0):
    encoder = ObservationEncoder(config)
    return encoder.init_with_output(jax.random.key(seed), observation)


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_backbone_maps_images_to_vectors(backbone):
    config = dataclasses.replace(SMALL, backbone=backbone)
    network = BACKBONES[backbone](config)
    y, _ = network.init_with_output(jax.random.key(0), jnp.zeros((3, 16, 16, 3)))
    assert y.ndim == 2
    assert y.shape[0] == 3
    assert y.dtype == jnp.float32


def test_features_of_two_cameras_and_history():
    # Two cameras * O = 3 steps * 16 features, proprioception 3 * 3.
    y, variables = _features(SMALL, _observation(steps=3))
    assert y.shape == (2, 2 * 3 * 16 + 9)
    assert set(variables["params"]) == {"vision_a", "vision_b"}


def test_cameras_can_share_a_backbone():
    config = dataclasses.replace(SMALL, share_cameras=True)
    observation = _observation()
    observation["image/b"] = observation["image/a"]
    y, variables = _features(config, observation)
    assert set(variables["params"]) == {"vision"}
    np.testing.assert_array_equal(y[:, :16], y[:, 16:32])


def test_language_is_projected_and_used():
    language = np.random.default_rng(1).normal(size=(2, 1, 6)).astype(np.float32)
    observation = _observation(language=language)
    y, variables = _features(SMALL, observation)
    assert y.shape == (2, 2 * 16 + 3 + 4)
    other = ObservationEncoder(SMALL).apply(variables, {**observation, "language": -language})
    assert not np.allclose(y, other)


def test_pixels_of_a_missing_camera_do_not_matter():
    mask = np.asarray([[True], [False]])
    observation = _observation(**{"mask/a": mask})
    encoder = ObservationEncoder(SMALL)
    y, variables = encoder.init_with_output(jax.random.key(0), observation)
    absent = jnp.arange(16.0)
    variables["params"]["absent_a"] = absent
    before = encoder.apply(variables, observation)
    observation["image/a"] = 255 - observation["image/a"]
    after = encoder.apply(variables, observation)
    np.testing.assert_array_equal(before[1], after[1])
    np.testing.assert_array_equal(after[1, :16], absent)
    assert not np.allclose(before[0], after[0])
    np.testing.assert_array_equal(before[0], y[0])


def test_proprioception_alone_is_enough():
    y, variables = _features(SMALL, _observation(cameras=()))
    assert y.shape == (2, 3)
    assert not variables


@pytest.mark.parametrize(("size", "want"), [("tiny", 1.06e5), ("small", 2e6)])
def test_sizes_have_the_parameters_they_promise(size, want):
    network = ChunkPolicy(resolve(NetworkConfig(size=size)), horizon=1, output_size=5)
    observation = {
        "image/wrist": jax.ShapeDtypeStruct((1, 1, 64, 64, 3), jnp.uint8),
        "proprio": jax.ShapeDtypeStruct((1, 1, 9), jnp.float32),
    }
    shapes = jax.eval_shape(network.init, jax.random.key(0), observation)
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert abs(count / want - 1) < 0.1, count


def test_every_size_is_counted_above():
    assert sorted(SIZES) == ["small", "tiny"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"backbone": "resnet"}, "network.backbone"),
        ({"size": "huge"}, "network.size"),
        ({"widths": (8, 16)}, "network.widths"),
        ({"widths": (), "depths": ()}, "network.widths"),
        ({"widths": (12,), "group_norm": True}, "group_norm"),
        ({"dtype": "float16"}, "network.dtype"),
        ({"dropout": 1.0}, "network.dropout"),
    ],
)
def test_wrong_values_are_named(change, named):
    with pytest.raises(InputError, match=named):
        resolve(dataclasses.replace(SMALL, **change))


def test_a_size_overrides_the_explicit_fields():
    config = resolve(NetworkConfig(size="tiny", hidden=999, dropout=0.1))
    assert (config.hidden, config.dropout) == (256, 0.1)
