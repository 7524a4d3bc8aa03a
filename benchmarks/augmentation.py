"""Speed of image augmentation inside jit, of each part alone and of all together.

COMMAND   python benchmarks/augmentation.py [--size 96] [--batch 64] [--seconds 3]

Images are uint8 with one observation step, compiled for all devices that JAX finds. What is
measured takes turns, so that all see the same load; CPU seconds count every thread.
"""

import argparse
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy.networks.augment import AugmentConfig, augment

COLOUR = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05}
PARTS: Mapping[str, Mapping[str, Any]] = {
    "shift": {"shift": 4},
    "shift, crop": {"shift": 4, "crop": 0.9},
    "blur": {"blur": 2.0},
    "shift, crop, blur": {"shift": 4, "crop": 0.9, "blur": 2.0},
    "colour": COLOUR,
    "cutout": {"cutout": 0.3},
    "all": {"shift": 4, "crop": 0.9, "blur": 2.0, "cutout": 0.3, **COLOUR},
}


def make(values: Mapping[str, Any]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """augment(key, images) -> images, compiled."""
    config = AugmentConfig(**{"shift": 0, **values})
    return jax.jit(functools.partial(_augmented, config=config))


def _augmented(key: jax.Array, images: jax.Array, config: AugmentConfig) -> jax.Array:
    return augment(key, images, config)


def measure(
    functions: Mapping[str, Callable[..., jax.Array]], images: jax.Array, seconds: float
) -> None:
    """Prints images per second and per CPU-second; `seconds` are for each function."""
    key = jax.random.key(0)
    spent = {name: [0, 0.0, 0.0] for name in functions}
    for function in functions.values():
        function(key, images).block_until_ready()
    while min(wall for _, wall, _ in spent.values()) < seconds:
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function(key, images).block_until_ready()
            spent[name][0] += len(images)
            spent[name][1] += time.perf_counter() - wall
            spent[name][2] += time.process_time() - cpu
    for name, (n, wall, cpu) in spent.items():
        print(f"{name:<18}{n / wall:12,.0f} images/s {n / cpu:12,.0f} images/CPU-s")


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    print(f"{args.size} x {args.size}, batch {args.batch}, {jax.devices()[0].device_kind}")
    shape = (args.batch, 1, args.size, args.size, 3)
    images = jax.random.randint(jax.random.key(1), shape, 0, 256).astype(jnp.uint8)
    measure({name: make(values) for name, values in PARTS.items()}, images, args.seconds)


if __name__ == "__main__":
    main()
