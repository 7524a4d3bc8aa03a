import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats import example_proto
from jaxpolicy.data.formats.features import Feature


def test_bytes_on_the_wire_by_hand():
    # Example{features{feature{key "a" value{int64_list{value: [1]}}}}}, proto3, packed:
    #   Int64List   0a 01 01            field 1, length 1, varint 1
    #   Feature     1a 03 ...           field 3 (int64_list), length 3
    #   entry       0a 01 61  12 05 ... field 1 key "a", field 2 value, 5 bytes: 10 in all
    #   Features    0a 0a ...           field 1, length 10
    #   Example     0a 0c ...           field 1, length 12
    expected = bytes.fromhex("0a0c 0a0a 0a0161 1205 1a03 0a0101".replace(" ", ""))
    assert example_proto.encode({"a": np.array([True])}) == expected


def test_round_trip():
    values = {
        "b": [b"x", b"", b"\0\xff"],
        "f": np.array([[0.1, -2], [3, np.inf]], np.float32),
        "i": np.array([-(2**40), 7]),
        "none": np.zeros(0, np.float32),
    }
    found = example_proto.decode(example_proto.encode(values), "here")
    assert found["b"] == values["b"]
    np.testing.assert_array_equal(found["f"], values["f"].ravel())
    np.testing.assert_array_equal(found["i"], values["i"])
    assert len(found["none"]) == 0


def test_equal_values_have_equal_bytes():
    a, b = np.ones(1), np.zeros(1)
    assert example_proto.encode({"a": a, "b": b}) == example_proto.encode({"b": b, "a": a})


def test_garbage_is_named():
    with pytest.raises(InputError, match=r"here: not a tf.train.Example"):
        example_proto.decode(b"\xff" * 20, "here")


def test_text_cannot_be_a_number():
    with pytest.raises(InputError, match="feature 'a': dtype"):
        example_proto.encode({"a": np.array(["x"])})


def test_column_restores_shape_and_dtype():
    feature = Feature("steps/a", "tensor", (2,), "float64")
    column = example_proto.column({"steps/a": np.arange(6)}, feature, 3, "here")
    np.testing.assert_array_equal(column, [[0, 1], [2, 3], [4, 5]])
    assert column.dtype == np.float64


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "here: feature 'steps/a' is missing"),
        ([b"x"], "here: feature 'steps/a' must hold numbers, holds bytes"),
        (np.arange(5), r"must hold \[3, 2\] = 6 values by features.json, holds 5"),
    ],
)
def test_column_names_what_is_wrong(value, message):
    values = {} if value is None else {"steps/a": value}
    with pytest.raises(InputError, match=message):
        example_proto.column(values, Feature("steps/a", "tensor", (2,), "float32"), 3, "here")


def test_column_of_open_shape_is_refused():
    feature = Feature("steps/a", "tensor", (None,), "float32")
    with pytest.raises(InputError, match="'steps/a' has no fixed shape"):
        example_proto.column({"steps/a": np.arange(6)}, feature, 3, "here")
