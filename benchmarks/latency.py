"""Latency of one decision on the CPU: JAX, ONNX Runtime and LiteRT, and their parity.

COMMAND   python benchmarks/latency.py [--size tiny] [--image 64] [--runs 500] [--threads 1]

The policy is behavioural cloning with random parameters, one camera and 20 numbers of
proprioception; speed does not depend on the parameters. JAX uses as many threads as it
likes, the runtimes `--threads`.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxpolicy.algorithms import bc
from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.core.types import PolicySpec
from jaxpolicy.deploy import BACKENDS, load
from jaxpolicy.deploy.runtime import percentiles
from jaxpolicy.export import bundle, policy_function, verify
from jaxpolicy.export.config import ExportConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.training import factory
from jaxpolicy.training.config import OptimizerConfig

N_PROPRIO, N_ACTION, N_OBSERVATIONS, WARM_UP = 20, 5, 64, 20


def make_policy(size: str, image: int) -> factory.LoadedPolicy:
    """Behavioural cloning of `size` on images of `image` pixels."""
    names = tuple(f"a{i}" for i in range(N_ACTION))
    bounds = (-1.0,) * N_ACTION, (1.0,) * N_ACTION
    action = ActionSpec("unknown", names, ("1",) * N_ACTION, *bounds, control_hz=20.0)
    inputs = (
        ArraySpec("image/wrist", (image, image, 3), "uint8"),
        ArraySpec("proprio", (N_PROPRIO,)),
    )
    spec = PolicySpec(inputs, action, n_obs_steps=1, horizon=1, n_action_steps=1)
    norm = {"action": _unit_stats(N_ACTION), "proprio": _unit_stats(N_PROPRIO)}
    optimizer = factory.make_optimizer(OptimizerConfig(), 1)
    algorithm = bc.make(spec, NetworkConfig(size=size), bc.BCConfig(), optimizer, norm)
    params = jax.jit(algorithm.init)(jax.random.key(0), factory.example_batch(spec)).params
    return factory.LoadedPolicy(algorithm, spec, params, {"name": size}, 0, "")


def _unit_stats(n: int) -> NormStats:
    one, zero = np.ones(n, np.float32), np.zeros(n, np.float32)
    return NormStats(-one, one, zero, one, -one, one)


def make_observations(image: int) -> dict[str, np.ndarray]:
    """Random raw observations, each [N, 1, ...]."""
    rng = np.random.default_rng(0)
    return {
        "image/wrist": rng.integers(0, 256, (N_OBSERVATIONS, 1, image, image, 3), np.uint8),
        "proprio": rng.normal(size=(N_OBSERVATIONS, 1, N_PROPRIO)).astype(np.float32),
    }


def measure(
    predict: Callable[[Mapping[str, np.ndarray]], Any],
    observations: Mapping[str, np.ndarray],
    runs: int,
) -> dict[str, float]:
    """Percentiles in milliseconds over `runs` single observations."""
    seconds = []
    for i in range(WARM_UP + runs):
        at = i % N_OBSERVATIONS
        one = {k: v[at : at + 1] for k, v in observations.items()}
        start = time.perf_counter()
        np.asarray(predict(one))
        seconds.append(time.perf_counter() - start)
    return percentiles(seconds[WARM_UP:])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="tiny", help="network preset")
    parser.add_argument("--image", type=int, default=64, help="side of the images, pixels")
    parser.add_argument("--runs", type=int, default=500, help="timed decisions")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtimes")
    flags = parser.parse_args()
    policy, observations = make_policy(flags.size, flags.image), make_observations(flags.image)
    run = jax.jit(policy_function.make(policy))
    _print("jax", measure(run, observations, flags.runs), "")
    with tempfile.TemporaryDirectory() as parent:
        directory = Path(parent) / "export"
        bundle.export(policy, directory, observations, ExportConfig(latency_runs=0))
        errors = verify.verify(directory)["artefacts"]
        for kind in BACKENDS:
            backend = load(directory, kind, flags.threads)
            error = f"max error {errors[kind]['max_abs_error']:.1e}"
            _print(kind, measure(backend, observations, flags.runs), error)


def _print(name: str, ms: Mapping[str, float], note: str) -> None:
    print(f"{name:<8}{ms['p50']:8.2f} ms p50 {ms['p95']:8.2f} ms p95  {note}")


if __name__ == "__main__":
    main()
