import jax
import numpy as np

from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.networks.policy import ChunkPolicy, ValueNetwork

CONFIG = NetworkConfig(widths=(8,), depths=(1,), hidden=16, layers=1)


def test_chunk_of_actions():
    rng = np.random.default_rng(0)
    observation = {
        "image/a": rng.integers(0, 255, (2, 1, 16, 16, 3), dtype=np.uint8),
        "proprio": rng.normal(size=(2, 1, 3)).astype(np.float32),
    }
    network = ChunkPolicy(CONFIG, horizon=4, output_size=5)
    y, variables = network.init_with_output(jax.random.key(0), observation)
    assert y.shape == (2, 4, 5)
    assert set(variables["params"]) == {"encoder", "mlp", "head"}
    # Samples do not see each other.
    alone = network.apply(variables, jax.tree.map(lambda x: x[1:], observation))
    np.testing.assert_allclose(alone, y[1:], atol=1e-5)


def test_values():
    observation = {"privileged": np.ones((3, 2, 4), np.float32)}
    y, variables = ValueNetwork(CONFIG).init_with_output(jax.random.key(0), observation)
    assert y.shape == (3,)
    assert set(variables["params"]) == {"mlp", "head"}
