import json

import pytest
from google.protobuf import json_format
from tensorflow_datasets.core import features as tfds_features

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats import features
from jaxpolicy.data.formats.features import Feature
from tests.data.episodes import BRIDGE

FEATURES = (
    Feature("steps/observation/image_wrist", "image", (8, 8, 3), "uint8", "jpeg"),
    Feature("steps/observation/state", "tensor", (2,), "float32", doc="Unit: m."),
    Feature("steps/is_first", "tensor", (), "bool"),
    Feature("steps/language_instruction", "text"),
    Feature("episode_metadata/seed", "tensor", (), "int64"),
)


def test_round_trip():
    assert features.parse(features.to_json(FEATURES), "f") == {f.path: f for f in FEATURES}


def test_what_is_written_is_what_tfds_itself_writes():
    written = json.loads(features.to_json(FEATURES))
    tree = tfds_features.FeaturesDict.from_json(written)
    assert json.loads(json_format.MessageToJson(tree.to_proto())) == written


def test_bridge_features():
    text = (BRIDGE / "1.0.0" / "features.json").read_text()
    found = features.parse(text, "f")
    assert found["steps/action"].shape == (7,)
    assert found["steps/observation/image_2"].shape == (64, 64, 3)
    assert found["episode_metadata/has_image_3"].dtype == "bool"
    assert found["steps/language_instruction"].kind == "text"


def test_open_dimensions_and_unknown_kinds():
    steps = {
        "a": {"tensor": {"shape": {"dimensions": ["-1", "2"]}, "dtype": "float32"}},
        "b": {"tensor": {"shape": {}, "dtype": "bfloat16", "encoding": "none"}},
        "c": {"tensor": {"shape": {}, "dtype": "float32", "encoding": "lz4"}},
        "d": {"pythonClassName": "os.system", "sequence": {"feature": {"text": {}}}},
        "e": {"image": {"shape": {"dimensions": ["-1", "-1", "3"]}, "dtype": "uint8"}},
        "f": {"tensor": {"shape": {}, "dtype": "float32", "encoding": "zlib"}},
    }
    tree = {"steps": {"sequence": {"feature": {"featuresDict": {"features": steps}}}}}
    found = features.parse(json.dumps({"featuresDict": {"features": tree}}), "f")
    assert found["steps/a"].shape == (None, 2)
    assert [found[f"steps/{k}"].kind for k in "bcd"] == ["other"] * 3
    assert (found["steps/f"].kind, found["steps/f"].encoding) == ("tensor", "zlib")
    assert found["steps/e"].shape == (None, None, 3)
    assert found["steps/e"].encoding == "png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "f: not a TFDS feature description"),
        ("[1]", "f: not a TFDS feature description"),
        ("3", "f: not a TFDS feature description"),
        ('{"featuresDict": {"features": {"steps": 3}}}', "f: not a TFDS feature description"),
        ('{"featuresDict": {"features": {"image": {"text": {}}}}}', "f: no 'steps' feature"),
        ("[" * 100_000, "f: not a TFDS feature description"),
    ],
)
def test_bad_descriptions_are_named(text, message):
    with pytest.raises(InputError, match=message):
        features.parse(text, "f")
