"""Where episodes' random keys come from.

Collection, evaluation, reinforcement learning, evaluation while training and DAgger draw
their starts from streams that are different by construction: the key of an episode is
fold_in(fold_in(key(0), stream), seed), and no two stages use the same stream. A policy is
therefore never evaluated on a start that it was shown or chosen by, whatever the seeds are.
"""

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "COLLECTION",
    "DAGGER",
    "EVALUATION",
    "TRAINING",
    "VALIDATION",
    "episode_key",
    "episode_keys",
]

COLLECTION = 1
EVALUATION = 2
TRAINING = 3
VALIDATION = 4
DAGGER = 5


def episode_key(stream: int, seed: int | jax.Array) -> jax.Array:
    """The random key of one episode.

    Args:
      stream: one of the above.
      seed: int32 or Python int [], not negative.

    Returns:
      A PRNG key [].
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), stream), seed)


def episode_keys(stream: int, seeds: np.ndarray) -> jax.Array:
    """`episode_key` of several seeds [E] -> keys [E]."""
    array = jnp.asarray(np.asarray(seeds, np.uint32))
    return jax.vmap(episode_key, in_axes=(None, 0))(stream, array)
