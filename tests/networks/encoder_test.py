import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.networks.encoder import (
    BACKBONES,
    SIZES,
    NetworkConfig,
    ObservationEncoder,
    ObservationTokens,
    resolve,
)
from jaxpolicy.networks.policy import ChunkPolicy
from tests import layers

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


def _count(shapes):
    return sum(x.size for x in jax.tree.leaves(shapes))


KINDS = ("patch_cnn", "resnet18", "vit")


@pytest.mark.parametrize("backbone", KINDS)
def test_backbones_take_a_condition(backbone):
    network = BACKBONES[backbone](SMALL)
    images, condition = jnp.zeros((3, 64, 96, 3)), jnp.zeros((3, 5))
    y, plain = jax.eval_shape(network.init_with_output, jax.random.key(0), images)
    z, conditioned = jax.eval_shape(network.init_with_output, jax.random.key(0), images, condition)
    assert z.shape == y.shape
    assert _count(conditioned) > _count(plain)


@pytest.mark.parametrize("backbone", KINDS)
def test_rematerialisation_keeps_the_parameters(backbone):
    images = jnp.zeros((1, 32, 32, 3))
    with_and_without = [
        jax.eval_shape(BACKBONES[backbone](config).init, jax.random.key(0), images)
        for config in (SMALL, dataclasses.replace(SMALL, remat=True))
    ]
    assert with_and_without[0] == with_and_without[1]


# Without the classifiers, at 224 x 224.
# ResNet, convolutions and two vectors of each norm: as torchvision's 11,689,512, 21,797,672
# and 25,557,032 without 512 * 1000 + 1000 and 2048 * 1000 + 1000.
# ViT of width F and depth L: stem 16 * 16 * 3 F + F, positions 14 * 14 F, blocks
# L (12 F^2 + 13 F), last norm 2 F. As timm's vit_base_patch16_224, 86,567,656, without the
# class token and its position, 2 * 768, and the classifier, 768 * 1000 + 1000.
# Patch CNN: stem 4 * 4 * 3 * 32 + 32, two convolutions 9 * 32^2, one with bias.
BACKBONE_TOTALS = {
    "patch_cnn": 1_568 + 2 * 9_216 + 32,
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "vit": 32 * (768 + 1 + 196 + 2) + 2 * (12 * 32**2 + 13 * 32),
    "vit_tiny": 192 * (768 + 1 + 196 + 2) + 12 * (12 * 192**2 + 13 * 192),
    "vit_small": 384 * (768 + 1 + 196 + 2) + 12 * (12 * 384**2 + 13 * 384),
    "vit_base": 85_797_120,
    "vit_large": 1024 * (768 + 1 + 196 + 2) + 24 * (12 * 1024**2 + 13 * 1024),
}


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_backbones_make_maps_and_have_the_parameters_of_their_papers(backbone):
    network = BACKBONES[backbone](NetworkConfig())
    images = jnp.zeros((1, 224, 224, 3))
    y, shapes = jax.eval_shape(network.init_with_output, jax.random.key(0), images)
    assert y.shape[:3] == {"p": (1, 56, 56), "r": (1, 7, 7), "v": (1, 14, 14)}[backbone[0]]
    assert _count(shapes) == BACKBONE_TOTALS[backbone]
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


# Exact, as docs/networks.md has them, and what the names promise.
TOTALS = {
    ("patch_cnn", "tiny"): (106_053, 1.06e5),
    ("patch_cnn", "small"): (2_066_501, 2e6),
    ("patch_cnn", "medium"): (48_920_741, 50e6),
    ("patch_cnn", "large"): (495_979_781, 500e6),
    ("vit", "small"): (2_083_909, 2e6),
    ("vit", "medium"): (51_465_733, 50e6),
    ("vit", "large"): (494_099_461, 500e6),
}


@pytest.mark.parametrize(("backbone", "size"), TOTALS)
def test_sizes_have_the_parameters_they_promise(backbone, size):
    config = resolve(NetworkConfig(backbone=backbone, size=size))
    network = ChunkPolicy(config, horizon=1, output_size=5)
    observation = {
        "image/wrist": jax.ShapeDtypeStruct((1, 1, 224, 224, 3), jnp.uint8),
        "proprio": jax.ShapeDtypeStruct((1, 1, 9), jnp.float32),
    }
    count = _count(jax.eval_shape(network.init, jax.random.key(0), observation))
    exact, promised = TOTALS[backbone, size]
    assert count == exact
    assert abs(count / promised - 1) < 0.1


def test_every_size_is_counted_above():
    assert set(TOTALS) == {(b, s) for b, sizes in SIZES.items() for s in sizes}


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
        ({"backbone": "resnet18", "size": "small"}, "network.size is for"),
        ({"backbone": "vit", "widths": (8, 8), "depths": (1, 1)}, "network.widths of a vit"),
        ({"backbone": "vit", "heads": 3}, "network.heads"),
        ({"patch": -1}, "network.patch must be at least 0"),
        ({"pool": "max"}, "network.pool"),
        ({"fusion": "add"}, "network.fusion"),
        ({"history": "rnn"}, "network.history"),
        ({"positions": "none"}, "network.positions"),
        ({"fusion": "cross_attention", "history": "attention"}, "set network.history=concat"),
        ({"fusion": "cross_attention", "history": "gru"}, "set network.history=concat"),
        ({"activation": "sine"}, "network.activation"),
    ],
)
def test_wrong_values_are_named(change, named):
    with pytest.raises(InputError, match=named):
        resolve(dataclasses.replace(SMALL, **change))


def test_a_size_overrides_the_explicit_fields():
    config = resolve(NetworkConfig(size="tiny", hidden=999, dropout=0.1))
    assert (config.hidden, config.dropout) == (256, 0.1)


FUSED = dataclasses.replace(SMALL, token_features=16, fusion_layers=1)


def _jitted(config, observation, module=ObservationEncoder):
    """apply, compiled, and parameters moved off the values that start without an effect."""
    network = module(config)
    variables = jax.jit(network.init)(jax.random.key(0), observation)
    moved = jax.tree.map(lambda p: p + 0.02, variables)
    return jax.jit(network.apply), moved


@pytest.mark.parametrize(
    ("change", "features"),
    [
        # Two cameras * O = 2 steps * 16 of spatial softmax; proprioception 2 * 3, language 4.
        ({"fusion": "film"}, 2 * 2 * 16 + 2 * 3 + 4),
        # One token of 16.
        ({"fusion": "cross_attention"}, 16 + 2 * 3 + 4),
        # The newest step, which holds proprioception.
        ({"history": "attention"}, 16 + 4),
        ({"history": "gru"}, 16 + 4),
        ({"pool": "attention", "share_cameras": True}, 2 * 2 * 8 + 2 * 3 + 4),
    ],
)
def test_fusions_use_everything_but_the_pixels_of_missing_cameras(change, features):
    config = resolve(dataclasses.replace(FUSED, **change))
    mask = np.asarray([[True, True], [True, False]])
    language = np.random.default_rng(1).normal(size=(2, 2, 6)).astype(np.float32)
    observation = _observation(steps=2, language=language, **{"mask/a": mask})
    apply, variables = _jitted(config, observation)
    y = apply(variables, observation)
    assert y.shape == (2, features)
    assert y.dtype == jnp.float32
    for key in ("image/b", "proprio", "language"):
        value = observation[key]
        changed = 255 - value if key == "image/b" else -value
        other = apply(variables, {**observation, key: changed})
        assert not np.allclose(other, y, atol=1e-4), key
        if config.fusion == "film" and key == "language":
            # It changes what camera a is seen to show, too.
            assert not np.allclose(other[:, :16], y[:, :16], atol=1e-5)
    pixels = observation["image/a"].copy()
    pixels[1, 1] = 255 - pixels[1, 1]
    np.testing.assert_array_equal(apply(variables, {**observation, "image/a": pixels}), y)


def test_film_without_language_takes_proprioception():
    config = dataclasses.replace(FUSED, fusion="film")
    observation = _observation(cameras=("a",))
    apply, variables = _jitted(config, observation)
    other = apply(variables, {**observation, "proprio": -observation["proprio"]})
    assert not np.allclose(other[:, :16], apply(variables, observation)[:, :16], atol=1e-5)


@pytest.mark.parametrize(
    ("fusion", "missing", "named"),
    [("film", "proprio", "needs language"), ("cross_attention", "image/a", "needs a camera")],
)
def test_fusions_say_what_they_need(fusion, missing, named):
    config = dataclasses.replace(FUSED, fusion=fusion)
    observation = _observation(cameras=("a",))
    del observation[missing]
    with pytest.raises(InputError, match=named):
        jax.eval_shape(ObservationEncoder(config).init, jax.random.key(0), observation)


@pytest.mark.parametrize("history", ["attention", "gru"])
def test_history_knows_the_order_of_the_steps(history):
    config = dataclasses.replace(FUSED, history=history)
    observation = _observation(steps=3, cameras=())
    apply, variables = _jitted(config, observation)
    order = observation["proprio"][:, [1, 0, 2]]
    other = apply(variables, {**observation, "proprio": order})
    assert not np.allclose(other, apply(variables, observation), atol=1e-5)


def test_tokens_by_camera_place_and_step():
    # Cameras a and b: O = 2 steps * 4 * 4 places each; proprioception 2 steps; language 1.
    language = np.ones((2, 2, 6), np.float32)
    mask = np.asarray([[True, True], [True, False]])
    observation = _observation(steps=2, language=language, **{"mask/a": mask})
    apply, variables = _jitted(FUSED, observation, ObservationTokens)
    y = apply(variables, observation)
    assert y.shape == (2, 2 * 2 * 16 + 2 + 1, 16)
    # The second step of camera b holds tokens 48 to 63, and those alone.
    pixels = observation["image/b"].copy()
    pixels[:, 1] = 255 - pixels[:, 1]
    changed = jnp.abs(apply(variables, {**observation, "image/b": pixels}) - y).max((0, 2)) > 0
    assert np.flatnonzero(changed).tolist() == list(range(48, 64))
    # Where camera a is missing no pixel counts: its second step in the second sample.
    pixels = observation["image/a"].copy()
    pixels[:, 1] = 255 - pixels[:, 1]
    changed = jnp.abs(apply(variables, {**observation, "image/a": pixels}) - y).max(2) > 0
    assert np.flatnonzero(changed[0]).tolist() == list(range(16, 32))
    assert not changed[1].any()


def test_the_documentation_has_these_counts():
    text = (layers.ROOT / "docs" / "networks.md").read_text()
    rows = {f"`{b}` | `{size}` | {exact:,} |" for (b, size), (exact, _) in TOTALS.items()}
    fixed = set(BACKBONES) - set(SIZES)
    rows |= {f"`{b}` | {BACKBONE_TOTALS[b]:,} |" for b in fixed}
    assert [row for row in sorted(rows) if row not in text] == []
