import jax
import numpy as np

from jaxpolicy.sim import streams


def test_streams_share_no_key_whatever_the_seeds():
    seeds = np.arange(2000)
    names = ("COLLECTION", "EVALUATION", "TRAINING", "VALIDATION", "DAGGER")
    keys = [
        np.asarray(jax.random.key_data(streams.episode_keys(getattr(streams, name), seeds)))
        for name in names
    ]
    found = {tuple(k) for part in keys for k in part}
    assert len(found) == len(names) * len(seeds)


def test_keys_of_many_are_those_of_each():
    many = streams.episode_keys(streams.EVALUATION, np.asarray([3, 10_000]))
    one = streams.episode_key(streams.EVALUATION, 10_000)
    assert (jax.random.key_data(many[1]) == jax.random.key_data(one)).all()
