"""Our ResNet, ViT and U-Net in PyTorch; modules are named like ours, so weights can be copied."""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor


class FiLM(nn.Module):
    """x (1 + scale) + shift."""

    def __init__(self, condition: int, features: int) -> None:
        super().__init__()
        self.Dense_0 = nn.Linear(condition, 2 * features)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[N, F, T] and [N, C] -> [N, F, T]."""
        scale, shift = self.Dense_0(condition)[..., None].chunk(2, 1)
        return x * (1 + scale) + shift


class ResNetBlock(nn.Module):
    """Basic or bottleneck block."""

    def __init__(self, channels: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        sizes = [(1, 1, width), (3, stride, width), (1, 1, 4 * width)]
        sizes = sizes if bottleneck else [(3, stride, width), (3, 1, width)]
        self.count = len(sizes)
        inputs = channels
        for i, (size, step, features) in enumerate(sizes, 1):
            self._add(str(i), inputs, features, size, step)
            inputs = features
        self.has_skip = stride != 1 or channels != inputs
        if self.has_skip:
            self._add("_skip", channels, inputs, 1, stride)

    def _add(self, suffix: str, inputs: int, features: int, size: int, stride: int) -> None:
        conv = nn.Conv2d(inputs, features, size, stride, size // 2, bias=False)
        self.add_module(f"conv{suffix}", conv)
        self.add_module(f"norm{suffix}", nn.GroupNorm(features // 16, features))

    def _apply_pair(self, suffix: str, x: Tensor) -> Tensor:
        return getattr(self, f"norm{suffix}")(getattr(self, f"conv{suffix}")(x))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, F, h, w]."""
        y = x
        for i in range(1, self.count + 1):
            y = self._apply_pair(str(i), y)
            if i < self.count:
                y = functional.relu(y)
        return functional.relu(y + (self._apply_pair("_skip", x) if self.has_skip else x))


class ResNet(nn.Module):
    """ResNet-18 or 50 with group normalisation."""

    def __init__(self, layers: int = 18, width: int = 64) -> None:
        super().__init__()
        bottleneck, depths = layers == 50, {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[layers]
        self.conv = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.norm = nn.GroupNorm(width // 16, width)
        channels, self.names = width, []
        for stage, depth in enumerate(depths):
            for i in range(depth):
                inner = width * 2**stage
                block = ResNetBlock(channels, inner, 2 if stage and not i else 1, bottleneck)
                self.names.append(f"stage{stage}_block{i}")
                self.add_module(self.names[-1], block)
                channels = inner * (4 if bottleneck else 1)
        self.features = channels

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, F, h, w]."""
        x = functional.relu(self.norm(self.conv(x)))
        x = functional.max_pool2d(x, 3, 2, 1)
        for name in self.names:
            x = getattr(self, name)(x)
        return x


class ViTBlock(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_self, self.norm_mlp = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, F] -> same."""
        n, length, width = x.shape
        parts = self.qkv(self.norm_self(x)).reshape(n, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(y.transpose(1, 2).reshape(n, length, width))
        hidden = functional.gelu(self.mlp_in(self.norm_mlp(x)), approximate="tanh")
        return x + self.mlp_out(hidden)


class ViT(nn.Module):
    """Patch stem, learned positions, blocks, layer norm."""

    def __init__(self, image: int, patch: int, width: int, depth: int) -> None:
        super().__init__()
        self.features = width
        self.stem = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(torch.randn(1, (image // patch) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*[ViTBlock(width, width // 64) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, F, T, 1]."""
        x = self.stem(x).flatten(2).transpose(1, 2) + self.positions
        return self.norm(self.blocks(x)).transpose(1, 2)[..., None]


class Regression(nn.Module):
    """A backbone, the mean over its map, a linear layer."""

    def __init__(self, backbone: nn.Module, actions: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(backbone.features, actions)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, A]."""
        return self.head(self.backbone(x).mean((2, 3)))


class ConvBlock(nn.Module):
    """Convolution, group normalisation, Mish."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(inputs, features, 5, 1, 2), nn.GroupNorm(8, features)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, T] -> [N, F, T]."""
        return functional.mish(self.norm(self.conv(x)))


class FiLMBlock(nn.Module):
    """Two ConvBlocks around a FiLM."""

    def __init__(self, inputs: int, features: int, condition: int) -> None:
        super().__init__()
        self.first, self.second = ConvBlock(inputs, features), ConvBlock(features, features)
        self.film = FiLM(condition, features)
        self.residual = nn.Conv1d(inputs, features, 1) if inputs != features else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[N, C, T] -> [N, F, T]."""
        y = self.film(self.first(x), functional.mish(condition))
        return self.second(y) + self.residual(x)


class TimeEmbedding(nn.Module):
    """Sines and cosines, two linear layers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.Dense_0, self.Dense_1 = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        frequency = torch.exp(torch.linspace(0.0, -math.log(10000.0), size // 2))
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, time: Tensor) -> Tensor:
        """[N] -> [N, size]."""
        angle = time[:, None] * self.frequency
        x = torch.cat([angle.sin(), angle.cos()], -1)
        return self.Dense_1(functional.mish(self.Dense_0(x)))


class UNet1D(nn.Module):
    """The conditional U-Net of diffusion policies."""

    def __init__(
        self, widths: Sequence[int], actions: int, condition: int, embedding: int = 256
    ) -> None:
        super().__init__()
        self.levels, condition = len(widths), condition + embedding
        self.time = TimeEmbedding(embedding)
        inputs = actions
        for i, width in enumerate(widths):
            if i:
                self.add_module(f"down{i}", nn.Conv1d(inputs, inputs, 3, 2, 1))
            inputs = self._pair(f"encode{i}", inputs, width, condition)
        inputs = self._pair("middle", inputs, widths[-1], condition)
        for i in range(self.levels - 1, 0, -1):
            inputs = self._pair(f"decode{i}", inputs + widths[i], widths[i - 1], condition)
            self.add_module(f"up{i}", nn.ConvTranspose1d(inputs, inputs, 4, 2, 1))
        self.last, self.head = ConvBlock(inputs, widths[0]), nn.Linear(widths[0], actions)

    def _pair(self, name: str, inputs: int, width: int, condition: int) -> int:
        self.add_module(f"{name}_0", FiLMBlock(inputs, width, condition))
        self.add_module(f"{name}_1", FiLMBlock(width, width, condition))
        return width

    def _blocks(self, name: str, x: Tensor, condition: Tensor) -> Tensor:
        for i in range(2):
            x = getattr(self, f"{name}_{i}")(x, condition)
        return x

    def forward(self, noisy: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """[N, H, A], [N] and [N, C] -> [N, H, A]."""
        condition = torch.cat([self.time(time), condition], -1)
        x, skips = noisy.transpose(1, 2), []
        for i in range(self.levels):
            if i:
                x = getattr(self, f"down{i}")(x)
            x = self._blocks(f"encode{i}", x, condition)
            skips.append(x)
        x = self._blocks("middle", x, condition)
        for i in range(self.levels - 1, 0, -1):
            x = self._blocks(f"decode{i}", torch.cat([x, skips[i]], 1), condition)
            x = getattr(self, f"up{i}")(x)
        return self.head(self.last(x).transpose(1, 2))
