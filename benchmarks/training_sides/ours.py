"""Our side of benchmarks/training_steps.py: each call is one compiled program."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.sides.serving import cpu_ms, serve
from benchmarks.training_sides.cases import CASES, Case
from jaxpolicy.algorithms import noise_schedules, samplers
from jaxpolicy.networks.resnet import ResNet
from jaxpolicy.networks.unet1d import UNet1D
from jaxpolicy.networks.vit import ViT

OPTIMIZER = optax.adamw(1e-4)


class Regression(nn.Module):
    """A backbone, the mean over its map, a linear layer."""

    backbone: nn.Module
    actions: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """[N, H, W, 3] -> [N, A]."""
        return nn.Dense(self.actions)(self.backbone(images).mean((1, 2)))


def network_and_inputs(case: Case) -> tuple[nn.Module, tuple[np.ndarray, ...]]:
    """The network of a case and random inputs."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    if case.kind in ("unet", "sample"):
        noisy = normal(case.batch, case.horizon, case.actions)
        time = np.zeros(case.batch, np.float32)
        return UNet1D(case.unet), (noisy, time, normal(case.batch, case.condition))
    if case.kind == "resnet":
        backbone: nn.Module = ResNet(18, case.width)
    else:
        backbone = ViT(case.patch, case.width, case.depth)
    return Regression(backbone, case.actions), (normal(case.batch, case.image, case.image, 3),)


def loss(network: nn.Module, params: Any, inputs: Any, target: jax.Array) -> jax.Array:
    """Mean squared error."""
    return jnp.mean(jnp.square(network.apply(params, *inputs) - target))


def step(network: nn.Module, state: Any, inputs: Any, target: jax.Array) -> Any:
    """One update with AdamW."""
    params, moments = state
    gradient = jax.grad(functools.partial(loss, network))(params, inputs, target)
    updates, moments = OPTIMIZER.update(gradient, moments, params)
    return optax.apply_updates(params, updates), moments


def sample(network: nn.Module, sampler: Any, params: Any, noise: Any, condition: Any) -> Any:
    """One chunk from noise."""
    denoise = functools.partial(_denoise, network, params, condition)
    return samplers.sample(sampler, denoise, noise, clip=1.0)


def _denoise(network: nn.Module, params: Any, condition: Any, x: Any, time: Any) -> jax.Array:
    return network.apply(params, x, time, condition)


def make(case: Case) -> Callable[[], object]:
    """One call of the case."""
    network, inputs = network_and_inputs(case)
    params = jax.jit(network.init)(jax.random.key(0), *inputs)
    if case.kind == "sample":
        schedule = noise_schedules.make_schedule("cosine", 100)
        sampler = samplers.make_sampler(case.sampler, schedule, "epsilon", case.steps)
        noise = np.random.default_rng(1).normal(
            size=(1, samplers.n_noise(sampler), *inputs[0].shape[1:])
        )
        run = jax.jit(functools.partial(sample, network, sampler))
        return lambda: jax.block_until_ready(run(params, noise.astype(np.float32), inputs[2]))
    update = jax.jit(functools.partial(step, network), donate_argnums=0)
    state = [(params, OPTIMIZER.init(params))]
    target = jnp.ones(jax.eval_shape(network.apply, params, *inputs).shape)

    def call() -> None:
        state[0] = jax.block_until_ready(update(state[0], inputs, target))

    return call


if __name__ == "__main__":
    serve(lambda: functools.partial(cpu_ms, make(CASES[sys.argv[1]])))
