"""PyTorch's side of benchmarks/training_steps.py, eager or compiled.

Pictures and convolutions are in PyTorch's fastest memory format here, `channels_last`, and
AdamW is its fused one.
"""

import functools
import sys
from collections.abc import Callable

import torch

from benchmarks.sides.serving import cpu_ms, serve
from benchmarks.training_sides import torch_networks as networks
from benchmarks.training_sides.cases import CASES, Case

THREADS = 1


def network_and_inputs(case: Case) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """The network of a case and random inputs."""
    torch.manual_seed(0)
    if case.kind in ("unet", "sample"):
        network = networks.UNet1D(case.unet, case.actions, case.condition)
        noisy = torch.randn(case.batch, case.horizon, case.actions)
        return network, (noisy, torch.zeros(case.batch), torch.randn(case.batch, case.condition))
    if case.kind == "resnet":
        backbone = networks.ResNet(18, case.width)
    else:
        backbone = networks.ViT(case.image, case.patch, case.width, case.depth)
    network = networks.Regression(backbone, case.actions).to(memory_format=torch.channels_last)
    images = torch.randn(case.batch, 3, case.image, case.image)
    return network, (images.contiguous(memory_format=torch.channels_last),)


def make(case: Case, compiled: bool = False) -> Callable[[], object]:
    """One call of the case."""
    torch.set_num_threads(THREADS)
    network, inputs = network_and_inputs(case)
    run = torch.compile(network) if compiled else network
    if case.kind == "sample":
        return lambda: sample(run, case, inputs)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=1e-4, fused=True)
    target = torch.ones_like(network(*inputs).detach())

    def call() -> None:
        optimizer.zero_grad()
        torch.square(run(*inputs) - target).mean().backward()
        optimizer.step()

    return call


@torch.inference_mode()
def sample(
    denoise: Callable[..., torch.Tensor], case: Case, inputs: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    """DDIM (eta 0) or DDPM (eta 1), as an open loop like those of other libraries."""
    angle = (torch.arange(101) / 100 + 0.008) / 1.008 * torch.pi / 2
    signal = (torch.cos(angle) ** 2)[1:].clamp(min=1e-4).tolist()
    levels = [round(100 - i * 100 / case.steps) - 1 for i in range(case.steps)]
    x, _, condition = inputs
    for i, level in enumerate(levels):
        now, then = signal[level], signal[levels[i + 1]] if i + 1 < len(levels) else 1.0
        y = denoise(x, torch.full((len(x),), float(level)), condition)
        clean = ((x - (1 - now) ** 0.5 * y) / now**0.5).clamp(-1, 1)
        noise = (x - now**0.5 * clean) / (1 - now) ** 0.5
        deviation = 0.0
        if case.sampler == "ddpm":
            deviation = ((1 - then) / (1 - now) * (1 - now / then)) ** 0.5
        x = then**0.5 * clean + max(1 - then - deviation**2, 0.0) ** 0.5 * noise
        if deviation:
            x = x + deviation * torch.randn_like(x)
    return x


if __name__ == "__main__":
    compiled = "--compile" in sys.argv
    serve(lambda: functools.partial(cpu_ms, make(CASES[sys.argv[1]], compiled)))
