import dataclasses
import gc
import json
import weakref

import h5py
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import DatasetSpec
from jaxpolicy.data import open_source
from jaxpolicy.data.formats import robomimic_writer
from tests.data.episodes import SPEC, assert_same, make_episode
from tests.data.formats import hdf5_files


@pytest.fixture
def _walk_here(monkeypatch):
    hdf5_files.walk_here(monkeypatch)


def write(path, episodes, **options):
    return robomimic_writer.write(path, episodes, SPEC, "Lift", **options)


@pytest.mark.usefixtures("_walk_here")
@pytest.mark.parametrize("compression", robomimic_writer.COMPRESSIONS)
def test_round_trip_keeps_everything(tmp_path, compression):
    success = (True, False, None)
    episodes = [make_episode(i, n_steps=1 + i, success=success[i]) for i in range(3)]
    episodes[1] = dataclasses.replace(
        episodes[1],
        metadata=dataclasses.replace(
            episodes[1].metadata, complete=False, variation={"friction": 0.5}
        ),
    )
    assert write(tmp_path / "d.hdf5", iter(episodes), compression=compression) == 3
    source = open_source(tmp_path / "d.hdf5")
    assert source.spec == SPEC
    assert len(source) == 3
    for wrote, read in zip(episodes, source, strict=True):
        assert_same(wrote, read)


def test_a_folder_that_holds_the_file_opens_too(tmp_path):
    write(tmp_path / "d.hdf5", [make_episode(0)])
    assert_same(open_source(tmp_path)[0], make_episode(0))


def test_the_file_is_laid_out_as_robomimic_documents(tmp_path):
    episodes = [make_episode(0, 2), make_episode(1, 3)]
    write(tmp_path / "d.hdf5", episodes, masks={"train": ["e-001"], "valid": ["e-000"]})
    with h5py.File(tmp_path / "d.hdf5") as file:
        data = file["data"]
        assert list(data) == ["demo_0", "demo_1"]
        assert data.attrs["total"] == 5
        env_args = json.loads(data.attrs["env_args"])
        assert env_args["env_name"] == "Lift"
        assert env_args["env_kwargs"]["control_freq"] == 20.0
        demo = data["demo_1"]
        assert demo.attrs["num_samples"] == 3
        assert json.loads(demo.attrs["ep_meta"]) == {"lang": "lift cube 1"}
        assert set(demo) == {"obs", "actions", "rewards", "dones"}
        assert set(demo["obs"]) == {"wrist_image", "wrist_mask", "privileged", "proprio"}
        assert demo["obs/wrist_image"].shape == (3, 8, 8, 3)
        assert demo["obs/wrist_image"].chunks == (1, 8, 8, 3)
        # Episode 1 is terminal.
        assert demo["dones"][:].tolist() == [0, 0, 1]
        assert file["mask/train"][:].tolist() == [b"demo_1"]
        assert file["mask/valid"][:].tolist() == [b"demo_0"]


def test_the_description_of_the_environment_may_be_given(tmp_path):
    given = {"env_name": "PickPlace", "type": 1, "env_kwargs": {}}
    write(tmp_path / "d.hdf5", [make_episode(0)], env_args=given)
    with h5py.File(tmp_path / "d.hdf5") as file:
        assert json.loads(file["data"].attrs["env_args"]) == given


def watched(n, alive):
    """`n` episodes; after each, `alive` gets how many of them are still referenced."""
    references = []
    for i in range(n):
        episode = make_episode(i)
        references.append(weakref.ref(episode))
        yield episode
        del episode
        gc.collect()
        alive.append(sum(r() is not None for r in references))


def test_writing_streams(tmp_path):
    # While the next episode is made, the writer may hold the last one: 1 of 10.
    alive = []
    write(tmp_path / "d.hdf5", watched(10, alive))
    assert len(alive) == 10
    assert max(alive) <= 1


BAD_EPISODES = {
    "no steps": (
        dataclasses.replace(make_episode(1), action=np.zeros((0, 2), np.float32)),
        "episode 'e-001': holds no steps",
    ),
    "NaN": (
        dataclasses.replace(make_episode(1), action=np.full((4, 2), np.nan, np.float32)),
        "episode 'e-001': 'action' holds NaN",
    ),
    "missing key": (
        dataclasses.replace(make_episode(1), observation={}),
        "episode 'e-001': observation 'image/wrist' is missing",
    ),
    "repeated id": (make_episode(0), "episode 'e-000': episode_id must be unique"),
}


@pytest.mark.parametrize("name", BAD_EPISODES)
def test_a_bad_episode_is_named_and_leaves_nothing(tmp_path, name):
    episode, message = BAD_EPISODES[name]
    with pytest.raises(InputError, match=message):
        write(tmp_path / "d.hdf5", [make_episode(0), episode])
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_producer_leaves_nothing(tmp_path):
    def episodes():
        yield make_episode(0)
        raise RuntimeError("simulator died")

    with pytest.raises(RuntimeError, match="simulator died"):
        write(tmp_path / "d.hdf5", episodes())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused(tmp_path):
    path = tmp_path / "d.hdf5"
    with pytest.raises(InputError, match="there are no episodes to write"):
        write(path, [])
    with pytest.raises(InputError, match="compression must be one of"):
        write(path, [make_episode(0)], compression="zstd")
    with pytest.raises(InputError, match="mask 'train': there is no episode 'e-007'"):
        write(path, [make_episode(0)], masks={"train": ["e-007"]})
    first = SPEC.observation[0]
    twins = tuple(dataclasses.replace(first, name=n) for n in ("image/a_b", "image/a/b"))
    with pytest.raises(InputError, match="collide"):
        robomimic_writer.write(path, [], DatasetSpec(twins, SPEC.action), "Lift")
    assert list(tmp_path.iterdir()) == []
    write(path, [make_episode(0)])
    with pytest.raises(InputError, match="d.hdf5: exists"):
        write(path, [make_episode(1)])
    with pytest.raises(InputError, match="cannot create this folder"):
        write(path / "below.hdf5", [make_episode(1)])
