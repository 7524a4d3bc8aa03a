import dataclasses
import json
import shutil

import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import DataConfig, images, open_source
from jaxpolicy.data.formats import example_proto, rlds, rlds_writer, tfrecord
from tests.data.episodes import BRIDGE, SPEC, assert_same, make_episode

SHARD = "lift-train.tfrecord-00000-of-00001"


@pytest.fixture
def dataset(tmp_path):
    """Two episodes of four steps."""
    rlds_writer.write(tmp_path / "d", [make_episode(i) for i in range(2)], SPEC, "lift", "png")
    return tmp_path / "d"


@pytest.fixture(scope="module")
def bridge():
    return open_source(BRIDGE, "rlds")


def edit(path, change):
    """Rewrites a JSON file after `change(contents)`."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_records(path, change):
    """Rewrites every record of a file after `change(values)`."""
    values = [example_proto.decode(tfrecord.read(r), "") for r in tfrecord.index(path)]
    with open(path, "wb") as file:
        for value in values:
            change(value)
            tfrecord.write(file, example_proto.encode(value))


class TestBridge:
    """A real dataset, written by TFDS: 25 episodes of 10 steps in each of two splits."""

    def test_spec(self, bridge):
        assert len(bridge) == 50
        cameras = tuple(f"image/image_{k}" for k in range(4))
        masks = tuple(f"mask/image_{k}" for k in range(4))
        assert bridge.spec.keys == (*cameras, "language", *masks, "proprio")
        assert bridge.spec["image/image_0"].shape == (64, 64, 3)
        assert bridge.spec["language"].shape == (512,)
        assert bridge.spec["proprio"].shape == (7,)
        assert bridge.spec.action.kind == "unknown"
        assert bridge.spec.action.names == tuple(f"action_{i}" for i in range(7))
        assert bridge.spec.action.units == ("1",) * 7

    def test_first_episode(self, bridge):
        episode = bridge[0]
        assert len(episode) == 10
        assert episode.language_instruction == "put cup from counter or drying rack into sink"
        np.testing.assert_allclose(
            episode.action[1], [-0.0018, 0.0002, 0.0024, 0.0338, -0.0146, -0.1956, 1], atol=6e-5
        )
        np.testing.assert_allclose(
            episode.observation["proprio"][0],
            [0.234, 0.112, 0.175, 0.1, -0.214, 0.213, 1.001],
            atol=6e-4,
        )
        assert episode.observation["language"].shape == (10, 512)
        assert episode.metadata.success is None
        assert episode.metadata.source == "bridge_dataset/train"
        assert episode.metadata.episode_id.endswith("/val/out.npy#5")
        for s in bridge.spec.observation:
            s.validate(episode.observation[s.name])

    def test_the_fourth_camera_is_missing_and_the_others_are_not(self, bridge):
        # Every has_image_<k> of this copy is False, yet cameras 0 to 2 show the kitchen.
        for i in range(0, 50, 7):
            observation = bridge[i].observation
            for k in range(3):
                assert observation[f"mask/image_{k}"].all()
                assert observation[f"image/image_{k}"].std() > 20
            assert not observation["mask/image_3"].any()
            assert not observation["image/image_3"].any()

    def test_the_two_splits_hold_the_same_episodes(self, bridge):
        digests = [bridge.content_hash(i) for i in range(50)]
        assert len(set(digests)) == 25
        assert set(digests[:25]) == set(digests[25:])

    def test_only_wanted_cameras_are_decoded(self, bridge):
        episode = bridge.load(3, ("image_1",))
        assert [k for k in episode.observation if k.startswith("image/")] == ["image/image_1"]
        assert not any(k.startswith("image/") for k in bridge.load(3, ()).observation)
        with pytest.raises(InputError, match="no camera 'front'; there are: image_0, image_1"):
            bridge.load(0, ("front",))

    def test_a_true_flag_is_believed(self, tmp_path):
        shutil.copytree(BRIDGE / "1.0.0", tmp_path / "d")
        shard = tmp_path / "d" / "bridge_dataset-train.tfrecord-00000-of-00001"
        flag = "episode_metadata/has_image_3"
        edit_records(shard, lambda v: v.update({flag: np.array([True])}))
        observation = open_source(tmp_path / "d", "rlds").load(0, ("image_3",)).observation
        assert observation["mask/image_3"].all()

    def test_columns_can_be_chosen(self):
        config = DataConfig(action_keys=("action", "reward"), proprio_keys=("state", "state"))
        source = open_source(BRIDGE, "rlds", config)
        assert source.spec.action.size == 8
        assert source[0].action.shape == (10, 8)
        assert source[0].observation["proprio"].shape == (10, 14)
        assert source.fingerprint() != open_source(BRIDGE, "rlds").fingerprint()

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (DataConfig(action_keys=("delta",)), "no field 'delta'; there are: action, "),
            (DataConfig(proprio_keys=("joints",)), "no field 'joints'; there are: "),
            (DataConfig(proprio_keys=("image_0",)), "field 'observation/image_0' must be a vector"),
        ],
    )
    def test_missing_columns_are_named(self, config, message):
        with pytest.raises(InputError, match=message):
            open_source(BRIDGE, "rlds", config)


def test_without_our_facts_it_is_anybodys_dataset(dataset):
    (dataset / "jaxpolicy.json").unlink()
    source = open_source(dataset, "rlds")
    assert source.spec.keys == ("image/image_wrist", "proprio")
    assert source.spec.action.kind == "unknown"
    np.testing.assert_array_equal(source[1].action, make_episode(1).action)
    assert source[1].metadata == make_episode(1).metadata


VARIATION = "episode_metadata/variation_json"


def test_variation_of_an_episode_is_text_metadata(tmp_path):
    varied = make_episode(0, variation={"mass": 1.25, "camera_position/wrist/x": -0.01})
    rlds_writer.write(tmp_path / "d", [varied, make_episode(1)], SPEC, "lift", "png")
    source = open_source(tmp_path / "d", "rlds")
    assert source[0].metadata.variation == {"mass": 1.25, "camera_position/wrist/x": -0.01}
    assert source[1].metadata.variation == {}


def test_datasets_without_variation_have_none(dataset):
    edit_records(dataset / SHARD, lambda v: v.pop(VARIATION))
    assert open_source(dataset, "rlds")[0].metadata.variation == {}


@pytest.mark.parametrize(
    "text", ["[1]", '{"a": "b"}', '{"a": NaN}', "{", '{"a": true}', "9" * 5000]
)
def test_bad_variation_is_named(dataset, text):
    edit_records(dataset / SHARD, lambda v: v.update({VARIATION: [text.encode()]}))
    with pytest.raises(InputError, match="variation_json of episode 0 must be JSON that maps"):
        open_source(dataset, "rlds")[0]


def test_the_folder_is_found_from_above(dataset, tmp_path):
    assert rlds.find_directory(tmp_path) == dataset
    shutil.copytree(dataset, tmp_path / "e")
    with pytest.raises(InputError, match="holds several datasets"):
        rlds.find_directory(tmp_path)


def test_fingerprint_follows_content_and_not_place(dataset, tmp_path):
    first = open_source(dataset, "rlds").fingerprint()
    shutil.move(dataset, tmp_path / "moved")
    assert open_source(tmp_path / "moved", "rlds").fingerprint() == first
    edit_records(
        tmp_path / "moved" / SHARD,
        lambda v: v.update({"steps/reward": v["steps/reward"] + np.float32(1)}),
    )
    assert open_source(tmp_path / "moved", "rlds").fingerprint() != first


def test_content_hash_ignores_metadata(tmp_path):
    twin = dataclasses.replace(make_episode(0), metadata=make_episode(1).metadata)
    rlds_writer.write(tmp_path / "d", [make_episode(0), twin, make_episode(2)], SPEC, "lift", "png")
    source = open_source(tmp_path / "d", "rlds")
    assert source.content_hash(0) == source.content_hash(1) != source.content_hash(2)


def test_images_of_open_size_take_it_from_the_first_episode(dataset):
    (dataset / "jaxpolicy.json").unlink()
    open_size = {"dimensions": ["-1", "-1", "3"]}
    edit(dataset / "features.json", lambda f: image(f).update(shape=open_size))
    source = open_source(dataset, "rlds")
    assert source.spec["image/image_wrist"].shape == (8, 8, 3)
    expected = make_episode(1).observation["image/wrist"]
    np.testing.assert_array_equal(source[1].observation["image/image_wrist"], expected)


def steps(features):
    return features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"][
        "features"
    ]


def image(features):
    return steps(features)["observation"]["featuresDict"]["features"]["image_wrist"]["image"]


def truncate(d):
    (d / SHARD).write_bytes((d / SHARD).read_bytes()[:-9])


def drop_record(d):
    (d / SHARD).write_bytes((d / SHARD).read_bytes()[: tfrecord.index(d / SHARD)[1].offset])


def flip(d):
    data = bytearray((d / SHARD).read_bytes())
    data[tfrecord.index(d / SHARD)[0].offset + 50] ^= 4
    (d / SHARD).write_bytes(data)


def info(change):
    return lambda d: edit(d / "dataset_info.json", change)


def no_splits(value):
    value["splits"] = []


def bad_length(value):
    value["splits"][0]["shardLengths"] = ["many"]


def escape(value):
    value["splits"][0]["filepathTemplate"] = "../{DATASET}"


def action_size(d):
    shape = {"dimensions": ["3"]}
    edit(d / "features.json", lambda f: steps(f)["action"]["tensor"].update(shape=shape))


def foreign_action_size(d):
    (d / "jaxpolicy.json").unlink()
    action_size(d)


def records(change):
    return lambda d: edit_records(d / SHARD, change)


def resize_image(values):
    frame = images.encode(np.zeros((8, 9, 3), np.uint8), "png")
    values["steps/observation/image_wrist"][2] = frame


def break_image(values):
    values["steps/observation/image_wrist"][2] = b"nothing"


def lose_image(values):
    values["steps/observation/image_wrist"].pop()


def lose_steps(values):
    values["steps/is_first"] = np.zeros(0, np.int64)


WHERE = f"{SHARD}: episode 0 of 'train'"
DAMAGE = {
    "truncated": (truncate, f"{SHARD}: truncated: the record at byte"),
    "record lost": (drop_record, f"{SHARD}: holds 1 records, dataset_info.json says 2"),
    "bit flipped": (flip, f"{SHARD}: corrupt: record at byte 0 fails its checksum"),
    "shard missing": (lambda d: (d / SHARD).unlink(), f"{SHARD}: cannot read: No such file"),
    "no info": (lambda d: (d / "dataset_info.json").unlink(), "no dataset_info.json here or below"),
    "no features": (lambda d: (d / "features.json").unlink(), "features.json: missing"),
    "info no JSON": (
        lambda d: (d / "dataset_info.json").write_text("{"),
        "dataset_info.json: not valid JSON",
    ),
    "info no object": (
        lambda d: (d / "dataset_info.json").write_text("[]"),
        "dataset_info.json: must hold a JSON object",
    ),
    "features binary": (
        lambda d: (d / "features.json").write_bytes(b"\xff\xfe"),
        "features.json: cannot read",
    ),
    "facts no JSON": (
        lambda d: (d / "jaxpolicy.json").write_text(""),
        "jaxpolicy.json: not valid JSON",
    ),
    "facts of the future": (
        lambda d: edit(d / "jaxpolicy.json", lambda f: f.update(format_version=2)),
        "jaxpolicy.json: format_version must be 1, got 2",
    ),
    "facts with a typo": (
        lambda d: edit(d / "jaxpolicy.json", lambda f: f.update(acton={})),
        "jaxpolicy.json has no key 'acton'; did you mean 'action'",
    ),
    "facts and features differ": (
        lambda d: edit(d / "features.json", lambda f: steps(f).pop("action")),
        "no field 'action'; there are: ",
    ),
    "other format": (
        info(lambda i: i.update(fileFormat="csv")),
        r"dataset_info.json: fileFormat must be one of \['array_record', .*got 'csv'",
    ),
    "no splits": (info(no_splits), "the dataset holds no episodes"),
    "bad shard length": (info(bad_length), "dataset_info.json: malformed splits"),
    "path outside": (info(escape), "shard name '../lift' leaves the folder"),
    "image size": (records(resize_image), r"step 2: .* must be \[8, 8, 3\], got \[8, 9, 3\]"),
    "facts and features disagree": (
        action_size,
        r"'action' is number \[3\], the dataset's jaxpolicy.json says \[2\]",
    ),
    "action size": (
        foreign_action_size,
        f"{WHERE}: feature 'steps/action' must hold .4, 3. = 12 values by features.json, holds 8",
    ),
    "key missing": (
        records(lambda v: v.pop("steps/action")),
        f"{WHERE}: feature 'steps/action' is missing",
    ),
    "images missing": (
        records(lambda v: v.pop("steps/observation/image_wrist")),
        f"{WHERE}: image feature 'steps/observation/image_wrist' is missing",
    ),
    "one image missing": (records(lose_image), f"{WHERE}: .* holds 3 images, not 4"),
    "image undecodable": (records(break_image), f"{WHERE}, step 2, .*: cannot decode the image"),
    "no steps": (records(lose_steps), f"{WHERE}: the episode holds no steps"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_line_that_names_it(dataset, name):
    damage, message = DAMAGE[name]
    damage(dataset)
    with pytest.raises(InputError, match=message) as error:
        open_source(dataset, "rlds")[0]
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such dataset folder"):
        open_source(tmp_path / "nowhere", "rlds")


def test_load_matches_getitem(dataset):
    source = open_source(dataset, "rlds")
    assert_same(source[1], source.load(1))
    assert_same(source[1], source.load(1, ("wrist",)))
