"""The 500M-parameter ViT policy on 8 devices: what each of them holds, and one update.

    python benchmarks/large_model.py                 # shapes, memory and compilation
    python benchmarks/large_model.py --train         # also allocates it and trains (16 GB)

Without accelerators, 8 devices are made of the CPU. State is sharded (loop.shard_params),
blocks are rematerialised, computation is bfloat16, masters are float32.
"""

import argparse
import functools
import time
from typing import Any

import jax
import numpy as np

from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.core.types import PolicySpec
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.training import factory, sharding
from jaxpolicy.training.config import OptimizerConfig, TrainConfig

N_DEVICES = 8
SIZE = 224

ACTION = ActionSpec(
    kind="cartesian_delta",
    names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
    units=("m", "m", "m", "rad", "rad", "rad", "1"),
    minimum=(-1.0,) * 7,
    maximum=(1.0,) * 7,
    control_hz=20.0,
)
OBSERVATION = (ArraySpec("image/front", (SIZE, SIZE, 3), "uint8"), ArraySpec("proprio", (20,)))
SPEC = PolicySpec(OBSERVATION, ACTION, 1, 8, 8)


def settings(depth: int) -> TrainConfig:
    """The large ViT; another `depth` than its own for a trial."""
    network = NetworkConfig(backbone="vit", size="large", remat=True, dtype="bfloat16")
    if depth:
        network = NetworkConfig(
            backbone="vit", widths=(1280,), depths=(depth,), remat=True, dtype="bfloat16"
        )
    return TrainConfig(network=network, optimizer=OptimizerConfig(learning_rate=1e-4), horizon=8)


def gigabytes(n: float) -> str:
    """For people."""
    return f"{n / 1e9:.2f} GB"


def compiled_step(algorithm: Any, like: Any, batch_size: int, mesh: jax.sharding.Mesh) -> Any:
    """The update for state and batch of these shapes."""
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.split(mesh)),
        factory.example_batch(SPEC, batch_size),
    )
    out = jax.tree.map(lambda x: x.sharding, like), sharding.replicated(mesh)
    step = jax.jit(algorithm.train_step, donate_argnums=0, out_shardings=out)
    return step.lower(like, batch).compile()


def train(algorithm: Any, like: Any, step: Any, args: argparse.Namespace, mesh: Any) -> None:
    """Allocates the state and does `args.steps` updates on random pictures."""
    example = jax.random.key(0), factory.example_batch(SPEC)
    start = time.perf_counter()
    state = jax.block_until_ready(sharding.init_as(algorithm.init, like, *example))
    print(f"init: {time.perf_counter() - start:.1f} s")
    rng = np.random.default_rng(0)
    batch = factory.example_batch(SPEC, args.batch)
    image = rng.integers(0, 256, batch.observation["image/front"].shape, dtype=np.uint8)
    batch = batch._replace(observation={**batch.observation, "image/front": image})
    batch = sharding.put_batch(batch, mesh)
    for i in range(args.steps):
        start = time.perf_counter()
        state, metrics = step(state, batch)
        loss = float(metrics["loss"])
        print(f"step {i}: loss {loss:.4f}, {time.perf_counter() - start:.1f} s")
    for device in mesh.devices.flat:
        shards = [s for x in jax.tree.leaves(state) for s in x.addressable_shards]
        held = sum(s.data.nbytes for s in shards if s.device == device)
        print(f"{device}: {gigabytes(held)} of state")


def main() -> None:
    """Prints what a device holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=N_DEVICES)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--depth", type=int, default=0, help="blocks; 0: those of 'large'")
    parser.add_argument("--train", action="store_true")
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", N_DEVICES)
    mesh = sharding.make_mesh(N_DEVICES)
    algorithm = factory.make_algorithm(settings(args.depth), SPEC, factory.blank_norm(SPEC))
    example = jax.random.key(0), factory.example_batch(SPEC)
    describe = functools.partial(sharding.abstract, algorithm.init, mesh, *example)
    copied, like = describe(shard="off"), describe(shard="on")
    n = sum(x.size for x in jax.tree.leaves(like.params["network"]))
    print(f"{n / 1e6:.0f}M parameters on {mesh.size} devices ({mesh.devices.flat[0].platform})")
    print(f"state on a device, copied: {gigabytes(sharding.bytes_per_device(copied))}")
    print(f"state on a device, sharded: {gigabytes(sharding.bytes_per_device(like))}")
    start = time.perf_counter()
    step = compiled_step(algorithm, like, args.batch, mesh)
    memory = step.memory_analysis()
    print(f"compiled in {time.perf_counter() - start:.0f} s")
    print(f"beside the state, a step takes {gigabytes(memory.temp_size_in_bytes)} on a device")
    if args.train:
        train(algorithm, like, step, args, mesh)


if __name__ == "__main__":
    main()
