"""Our RLDS folders through TensorFlow Datasets, and theirs through ours."""

import numpy as np
import pytest

from jaxpolicy.data import open_source
from jaxpolicy.data.formats import rlds_writer
from tests.data.episodes import BRIDGE, SPEC, make_episode

pytest.importorskip("tensorflow", reason="needs TensorFlow: run `make test-interop`")

import tensorflow_datasets as tfds  # noqa: E402


def read(directory, split="train"):
    """All episodes as TFDS gives them: (metadata, list of steps)."""
    dataset = tfds.builder_from_directory(directory).as_dataset(split=split)
    for episode in dataset:
        metadata = {k: v.numpy() for k, v in episode["episode_metadata"].items()}
        yield metadata, list(episode["steps"].as_numpy_iterator())


def stack(steps, *path):
    values = steps
    for name in path:
        values = [v[name] for v in values]
    return np.stack(values)


@pytest.mark.parametrize("shard_mb", [0, 256])
def test_tfds_reads_what_we_write(tmp_path, shard_mb):
    episodes = [make_episode(i, 2 + i, success=i != 1) for i in range(4)]
    rlds_writer.write(tmp_path / "d", episodes, SPEC, "lift", "png", shard_mb=shard_mb)
    builder = tfds.builder_from_directory(tmp_path / "d")
    assert (builder.name, str(builder.version)) == ("lift", "1.0.0")
    assert builder.info.splits["train"].num_examples == 4
    for (metadata, steps), wrote in zip(read(tmp_path / "d"), episodes, strict=True):
        np.testing.assert_array_equal(stack(steps, "action"), wrote.action)
        np.testing.assert_array_equal(stack(steps, "reward"), wrote.reward)
        np.testing.assert_array_equal(
            stack(steps, "observation", "image_wrist"), wrote.observation["image/wrist"]
        )
        np.testing.assert_array_equal(
            stack(steps, "observation", "state"), wrote.observation["proprio"]
        )
        assert steps[0]["is_first"]
        assert steps[-1]["is_last"]
        assert bool(steps[-1]["is_terminal"]) == wrote.is_terminal
        assert steps[0]["language_instruction"].decode() == wrote.language_instruction
        assert metadata["episode_id"].decode() == wrote.metadata.episode_id
        assert bool(metadata["success"]) == wrote.metadata.success
        assert metadata["seed"] == wrote.metadata.seed


@pytest.mark.parametrize("split", ["train", "val"])
def test_we_read_a_real_dataset_as_tfds_does(split):
    source = open_source(BRIDGE, "rlds")
    ours = [source.load(i, ("image_0", "image_3")) for i in range(50)]
    ours = [e for e in ours if e.metadata.source.endswith(split)]
    theirs = list(read(BRIDGE / "1.0.0", split))
    assert len(ours) == len(theirs) == 25
    for episode, (metadata, steps) in zip(ours, theirs, strict=True):
        number = metadata["episode_id"]
        assert episode.metadata.episode_id == f"{metadata['file_path'].decode()}#{number}"
        np.testing.assert_array_equal(episode.action, stack(steps, "action"))
        np.testing.assert_array_equal(
            episode.observation["proprio"], stack(steps, "observation", "state")
        )
        np.testing.assert_array_equal(
            episode.observation["language"], stack(steps, "language_embedding")
        )
        # Two JPEG decoders round differently; TensorFlow takes the fast inverse DCT.
        theirs_image = stack(steps, "observation", "image_0").astype(int)
        difference = np.abs(episode.observation["image/image_0"] - theirs_image)
        assert difference.mean() < 3
        assert difference.max() <= 32
        assert not stack(steps, "observation", "image_3").any()
        assert not episode.observation["mask/image_3"].any()


def test_the_copy_that_we_write_of_a_real_dataset_reads_alike(tmp_path):
    source = open_source(BRIDGE, "rlds")
    rlds_writer.write(tmp_path / "d", [source[i] for i in range(5)], source.spec, "copy", "png")
    for (_, steps), i in zip(read(tmp_path / "d"), range(5), strict=True):
        episode = source[i]
        for camera in range(4):
            np.testing.assert_array_equal(
                stack(steps, "observation", f"image_image_{camera}"),
                episode.observation[f"image/image_{camera}"],
            )
            np.testing.assert_array_equal(
                stack(steps, "observation", f"mask_image_{camera}"),
                episode.observation[f"mask/image_{camera}"],
            )
