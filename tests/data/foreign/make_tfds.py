"""Writes tfds_array_record/, tfds_parquet/, tfds_oxe/ and tfds_sequential/ with TFDS itself.

Needs the environment of requirements-interop.lock (TensorFlow, ArrayRecord, PyArrow):

    make venv-interop && .venv-interop/bin/python tests/data/foreign/make_tfds.py

The first two hold episodes of ../bridge_dataset, JPEG bytes unchanged, with two cameras and no
language embedding. The others are synthetic, in the shapes of Open X-Embodiment datasets.
"""

import pathlib
import shutil

import numpy as np
import tensorflow_datasets as tfds

HERE = pathlib.Path(__file__).resolve().parent
CAMERAS = ("image_0", "image_3")
BRIDGE_SPLITS = {"train": (0, 1), "val": (4,)}
F = tfds.features


def floats(*shape, encoding="none"):
    return F.Tensor(shape=shape, dtype=np.float32, encoding=encoding)


def step_flags():
    return {key: np.bool_ for key in ("is_first", "is_last", "is_terminal")}


def bridge_features():
    step = {
        "observation": {
            **{c: F.Image(shape=(64, 64, 3), encoding_format="jpeg") for c in CAMERAS},
            "state": floats(7),
        },
        "action": floats(7),
        "discount": np.float32,
        "reward": np.float32,
        "language_instruction": F.Text(),
        **step_flags(),
    }
    metadata = {"file_path": F.Text(), "episode_id": np.int32}
    return F.FeaturesDict({"steps": F.Dataset(step), "episode_metadata": metadata})


def select(value, feature):
    """The part of a nested example that `feature` has."""
    if isinstance(feature, F.FeaturesDict):
        return {key: select(value[key], part) for key, part in feature.items()}
    return value


class BridgeDataset(tfds.core.GeneratorBasedBuilder):
    """A few episodes of bridge_dataset, read and written by TFDS."""

    name = "bridge_dataset"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=bridge_features())

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in BRIDGE_SPLITS}

    def _generate_examples(self, split):
        source = tfds.builder_from_directory(HERE.parent / "bridge_dataset" / "1.0.0")
        raw = {camera: tfds.decode.SkipDecoding() for camera in CAMERAS}
        episodes = source.as_dataset(split=split, decoders={"steps": {"observation": raw}})
        features = bridge_features()
        for i, episode in enumerate(tfds.as_numpy(episodes)):
            if i in BRIDGE_SPLITS[split]:
                steps = [select(s, features["steps"].feature) for s in episode["steps"]]
                metadata = select(episode["episode_metadata"], features["episode_metadata"])
                yield i, {"steps": steps, "episode_metadata": metadata}


def oxe_features():
    """The keys of fractal20220817_data; kuka's zlib encoding for one of them."""
    observation = {
        "image": F.Image(shape=(32, 40, 3), encoding_format="jpeg"),
        "natural_language_instruction": F.Text(),
        "natural_language_embedding": floats(512),
        "gripper_closed": floats(1),
        "base_pose_tool_reached": floats(7),
        "height_to_bottom": floats(1, encoding="zlib"),
        "orientation_box": floats(2, 3),
        "workspace_bounds": floats(3, 3),
    }
    action = {
        "world_vector": floats(3),
        "rotation_delta": floats(3),
        "gripper_closedness_action": floats(1),
        "base_displacement_vector": floats(2),
        "base_displacement_vertical_rotation": floats(1),
        "terminate_episode": F.Tensor(shape=(3,), dtype=np.int32),
    }
    step = {"observation": observation, "action": action, "reward": np.float32, **step_flags()}
    aspects = {"success": np.bool_, "has_aspects": np.bool_}
    return F.FeaturesDict({"steps": F.Dataset(step), "aspects": aspects})


def oxe_value(rng, feature):
    if isinstance(feature, F.Text):
        return "pick rxbar chocolate from bottom drawer"
    if isinstance(feature, F.Image):
        smooth = rng.integers(0, 256, (4, 5, 3), np.uint8)
        return smooth.repeat(8, axis=0).repeat(8, axis=1)
    return rng.normal(size=feature.shape).astype(feature.np_dtype)


def oxe_step(rng, t, n_steps, features):
    last = t == n_steps - 1
    step = {
        group: {key: oxe_value(rng, part) for key, part in features[group].items()}
        for group in ("observation", "action")
    }
    # One-hot: terminate, continue, arm only.
    step["action"]["terminate_episode"] = np.array([last, not last, 0], np.int32)
    step["reward"] = np.float32(last)
    return step | {"is_first": t == 0, "is_last": last, "is_terminal": last}


class Fractal(tfds.core.GeneratorBasedBuilder):
    """Synthetic episodes with nested observations and a nested action."""

    name = "fractal_like"
    VERSION = tfds.core.Version("0.1.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=oxe_features())

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        features = oxe_features()["steps"].feature
        for i in range(3):
            rng, n_steps = np.random.default_rng(i), 6 + i
            steps = [oxe_step(rng, t, n_steps, features) for t in range(n_steps)]
            yield (
                f"episode-{i}",
                {
                    "steps": steps,
                    "aspects": {"success": i != 1, "has_aspects": True},
                },
            )


def write(builder, folder, file_format, num_shards):
    shutil.rmtree(HERE / folder, ignore_errors=True)
    config = tfds.download.DownloadConfig(num_shards=num_shards)
    builder(data_dir=HERE / folder, file_format=file_format).download_and_prepare(
        download_config=config
    )
    for leftover in ("downloads", "extracted"):
        shutil.rmtree(HERE / folder / leftover, ignore_errors=True)


def write_sequential(folder):
    """SequentialWriter names its files without the number of shards."""
    shutil.rmtree(HERE / folder, ignore_errors=True)
    target = HERE / folder / "pushes" / "1.0.0"
    target.mkdir(parents=True)
    step = {"observation": {"state": floats(4)}, "action": floats(2), **step_flags()}
    info = tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity("pushes", "1.0.0", target, "tests"),
        features=F.FeaturesDict({"steps": F.Dataset(step)}),
    )
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=2, overwrite=False)
    writer.initialize_splits(["train", "test"])
    for i in range(4):
        rng, last = np.random.default_rng(i), 4 + i
        steps = [
            {
                "observation": {"state": rng.normal(size=4).astype(np.float32)},
                "action": rng.normal(size=2).astype(np.float32),
                "is_first": t == 0,
                "is_last": t == last,
                "is_terminal": t == last and i % 2 == 0,
            }
            for t in range(last + 1)
        ]
        writer.add_examples({"test" if i == 3 else "train": [{"steps": steps}]})
    writer.close_all()


if __name__ == "__main__":
    write(BridgeDataset, "tfds_array_record", "array_record", num_shards=None)
    write(BridgeDataset, "tfds_parquet", "parquet", num_shards=None)
    write(Fractal, "tfds_oxe", "tfrecord", num_shards=2)
    write_sequential("tfds_sequential")
