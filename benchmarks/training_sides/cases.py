"""What benchmarks/training_steps.py measures, on both sides. Standard library only."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
      kind: "resnet", "vit" or "unet", a training step, or "sample".
      batch: samples.
      image: side of the pictures; networks for pictures.
      width, depth, patch: of the ViT; width of the ResNet-18.
      unet: widths of the U-Net.
      horizon, actions, condition: shapes of the U-Net.
      sampler, steps: of "sample".
    """

    kind: str
    batch: int = 1
    image: int = 96
    width: int = 64
    depth: int = 0
    patch: int = 16
    unet: tuple[int, ...] = (256, 512, 1024)
    horizon: int = 16
    actions: int = 7
    condition: int = 64
    sampler: str = "ddim"
    steps: int = 10


CASES = {
    "ResNet-18 step, 96 x 96, batch 32": Case("resnet", batch=32),
    "ViT step, 96 x 96, batch 32, 192 wide, 6 deep": Case("vit", batch=32, width=192, depth=6),
    "ViT step, 224 x 224, batch 8, 384 wide, 6 deep": Case(
        "vit", batch=8, image=224, width=384, depth=6
    ),
    "U-Net step, [64, 128], batch 64": Case("unet", batch=64, unet=(64, 128)),
    "U-Net step, [256, 512, 1024], batch 64": Case("unet", batch=64),
    "DDIM-10, U-Net [256, 512, 1024], batch 1": Case("sample"),
    "DDPM-100, U-Net [256, 512, 1024], batch 1": Case("sample", sampler="ddpm", steps=100),
    "DDIM-10, U-Net [64, 128], batch 1": Case("sample", unet=(64, 128)),
    "DDPM-100, U-Net [64, 128], batch 1": Case("sample", unet=(64, 128), sampler="ddpm", steps=100),
}
