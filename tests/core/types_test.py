import dataclasses

import jax
import numpy as np
import pytest

from jaxpolicy.core import types
from jaxpolicy.core.specs import ActionSpec, ArraySpec

ACTION = ActionSpec("joint_delta", ("q",), ("rad",), (-1.0,), (1.0,), 10.0)
SPEC = types.DatasetSpec(
    (ArraySpec("image/a", (4, 4, 3), "uint8"), ArraySpec("proprio", (2,))), ACTION
)


def _episode(length):
    return types.Episode(
        observation={"proprio": np.zeros((length, 2), np.float32)},
        action=np.zeros((length, 1), np.float32),
        reward=np.zeros(length, np.float32),
        is_terminal=False,
        language_instruction="",
        metadata=types.EpisodeMetadata("e-1"),
    )


def test_length_of_an_episode_is_its_number_of_steps():
    assert len(_episode(7)) == 7


def test_nobody_said_whether_it_succeeded():
    assert types.EpisodeMetadata("e-1").success is None


def test_dataset_spec_by_key():
    assert SPEC["proprio"].shape == (2,)
    assert SPEC.keys == ("image/a", "proprio")
    with pytest.raises(KeyError, match="absent"):
        SPEC["absent"]


@pytest.mark.parametrize("record", [types.EpisodeMetadata("e"), _episode(1), SPEC])
def test_records_do_not_change(record):
    field = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, field, None)


def test_batch_and_train_state_are_trees_of_arrays():
    batch = types.Batch(
        {"proprio": np.zeros((2, 1, 3))}, np.zeros((2, 4, 1)), np.ones((2, 4), bool)
    )
    state = types.TrainState(
        np.int32(0), {"network": {"w": np.zeros(2)}}, (), np.zeros(2, np.uint32)
    )
    assert len(jax.tree.leaves(batch)) == 3
    assert len(jax.tree.leaves(state)) == 3
    assert isinstance(jax.tree.map(np.asarray, batch), types.Batch)
