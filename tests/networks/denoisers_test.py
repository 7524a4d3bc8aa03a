"""Every denoiser uses all of its inputs, and refuses sizes that do not go together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.networks import denoisers
from jaxpolicy.networks.denoisers import DENOISERS, WITH_TOKENS, DenoiserConfig, DiffusionPolicy
from jaxpolicy.networks.encoder import NetworkConfig

TINY = DenoiserConfig(
    embedding=4,
    mlp_widths=(8,),
    unet_widths=(4, 8),
    unet_kernel=3,
    unet_groups=2,
    transformer_width=8,
    transformer_layers=1,
    transformer_heads=2,
)


def arguments(name):
    rng = np.random.default_rng(0)
    shape = (2, 3, 5) if name in WITH_TOKENS else (2, 5)
    condition = rng.normal(size=shape).astype(np.float32)
    noisy = rng.normal(size=(2, 4, 3)).astype(np.float32)
    return noisy, np.array([1.0, 2.0], np.float32), condition


def random_like(shapes):
    """Random everywhere: fresh heads and FiLMs are silent."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("name", sorted(DENOISERS))
def test_everything_matters(name):
    module, inputs = DENOISERS[name](TINY, jnp.float32), arguments(name)
    params = random_like(jax.eval_shape(module.init, jax.random.key(0), *inputs))
    apply = jax.jit(module.apply)
    base = apply(params, *inputs)
    assert base.shape == inputs[0].shape
    assert base.dtype == jnp.float32
    for i, x in enumerate(inputs):
        changed = [*inputs[:i], x.copy(), *inputs[i + 1 :]]
        changed[i][0] += 0.3
        difference = np.abs(apply(params, *changed) - base).max((1, 2))
        assert difference[0] > 1e-3
        assert difference[1] < 1e-5


def test_order_of_actions_matters_to_the_transformer():
    # Without positions it would give reversed answers to a reversed chunk.
    module, (noisy, time, condition) = (
        DENOISERS["transformer"](TINY, None),
        arguments("transformer"),
    )
    params = random_like(jax.eval_shape(module.init, jax.random.key(0), noisy, time, condition))
    apply = jax.jit(module.apply)
    forward, backward = (
        apply(params, noisy, time, condition),
        apply(params, noisy[:, ::-1], time, condition),
    )
    assert np.abs(forward - backward[:, ::-1]).max() > 1e-3


@pytest.mark.parametrize("name", ["mlp", "transformer"])
def test_policy_is_an_encoder_and_a_denoiser(name):
    module = DiffusionPolicy(NetworkConfig(), name, TINY)
    noisy, time, _ = arguments(name)
    observation = {"proprio": np.ones((2, 1, 5), np.float32)}
    params = random_like(jax.eval_shape(module.init, jax.random.key(0), observation, noisy, time))
    whole = module.apply(params, observation, noisy, time)
    encoding = module.apply(params, observation, method=module.encode)
    parts = module.apply(params, noisy, time, encoding, method=module.denoise)
    np.testing.assert_allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cnn", {}, "diffusion.denoiser must be one of"),
        ("unet1d", {"unet_widths": (4, 9)}, "multiples of unet_groups"),
        ("unet1d", {"unet_widths": ()}, "multiples of unet_groups"),
        ("unet1d", {"unet_widths": (4, 4, 4, 4)}, "divisible by 8, got 4"),
        ("transformer", {"transformer_heads": 3}, "multiple of transformer_heads"),
        ("mlp", {"embedding": 3}, "even and at least 4"),
    ],
)
def test_wrong_values(name, changes, message):
    with pytest.raises(InputError, match=message):
        denoisers.check("diffusion", name, dataclasses.replace(TINY, **changes), 4)


@pytest.mark.parametrize("name", sorted(DENOISERS))
def test_right_values(name):
    denoisers.check("diffusion", name, TINY, 4)
