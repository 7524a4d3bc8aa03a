import jax
import numpy as np

from jaxpolicy.sim import streams


def test_streams_share_no_key_whatever_the_seeds():
    seeds = np.arange(2000)
    keys = [
        np.asarray(jax.random.key_data(streams.episode_keys(s, seeds)))
        for s in (streams.COLLECTION, streams.EVALUATION, streams.TRAINING, streams.VALIDATION)
    ]
    found = {tuple(k) for part in keys for k in part}
    assert len(found) == 4 * len(seeds)


def test_keys_of_many_are_those_of_each():
    many = streams.episode_keys(streams.EVALUATION, np.asarray([3, 10_000]))
    one = streams.episode_key(streams.EVALUATION, 10_000)
    assert (jax.random.key_data(many[1]) == jax.random.key_data(one)).all()
