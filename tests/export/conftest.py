"""One small trained-looking policy and its bundle, made once."""

import jax
import numpy as np
import optax
import pytest

from jaxpolicy.algorithms import bc
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.core.types import PolicySpec
from jaxpolicy.export import bundle as exporter
from jaxpolicy.export.config import ExportConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.training.factory import LoadedPolicy, example_batch

ACTION = ActionSpec(
    "cartesian_delta",
    ("dx", "dyaw", "gripper"),
    ("m", "rad", "1"),
    (-0.03, -0.3, 0.0),
    (0.03, 0.3, 1.0),
    20.0,
)
# Out of order on purpose: exporting sorts. Two cameras, one of them resized and masked.
INPUTS = (
    ArraySpec("proprio", (4,)),
    ArraySpec("image/wrist", (16, 16, 3), "uint8"),
    ArraySpec("image/front", (24, 24, 3), "uint8"),
    ArraySpec("mask/front", (), "bool"),
    ArraySpec("language", (6,)),
)
CONFIG = ExportConfig(n_golden=40, latency_runs=3)


def random_observations(n, seed=0):
    """Raw observations [n, 2, ...] of INPUTS."""
    rng = np.random.default_rng(seed)
    return {s.name: _random(rng, s, (n, 2, *s.shape)) for s in INPUTS}


def _random(rng, spec, shape):
    if spec.dtype == "uint8":
        return rng.integers(0, 256, shape, np.uint8)
    if spec.dtype == "bool":
        return rng.random(shape) > 0.5
    return rng.normal(2.0, 3.0, shape).astype(np.float32)


def make_policy():
    """A behavioural-cloning policy with random parameters and uneven statistics."""
    rng = np.random.default_rng(1)
    norm = {
        "action": normalization.fit([rng.uniform(-0.02, 0.5, (50, 3)).astype(np.float32)]),
        "proprio": normalization.fit([rng.normal(2.0, 3.0, (50, 4)).astype(np.float32)]),
    }
    spec = PolicySpec(INPUTS, ACTION, 2, 3, 2)
    network = NetworkConfig(widths=(8,), depths=(2,), hidden=16, language_features=4, image_size=16)
    algorithm = bc.make(spec, network, bc.BCConfig(), optax.sgd(0.1), norm)
    state = algorithm.init(jax.random.key(0), example_batch(spec))
    # A fresh head is nearly silent; a trained one is not, and only then do runtimes differ.
    network = dict(state.params["network"])
    network["head"] = jax.tree.map(lambda x: 10.0 * x, network["head"])
    params = {**state.params, "network": network}
    return LoadedPolicy(algorithm, spec, params, {"name": "tiny", "algorithm": "bc"}, 7, "d1")


@pytest.fixture(scope="session")
def policy():
    return make_policy()


@pytest.fixture(scope="session")
def observations():
    return random_observations(48)


@pytest.fixture(scope="session")
def bundle(policy, observations, tmp_path_factory):
    """An exported policy; tests that damage it work on a copy."""
    directory = tmp_path_factory.mktemp("run") / "export"
    exporter.export(policy, directory, observations, CONFIG)
    return directory


@pytest.fixture(scope="session")
def sampling_policy(policy):
    """The same with an algorithm that draws random numbers."""
    return policy._replace(algorithm=policy.algorithm._replace(act=_sample))


def _sample(params, observation, key):
    del params
    rows = len(observation["proprio"])
    return jax.random.normal(key, (rows, 3, 3))
