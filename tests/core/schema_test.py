import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from jaxpolicy.core import schema
from jaxpolicy.core.schema import InputError


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    name: str = "a"


@dataclasses.dataclass(frozen=True)
class Outer:
    steps: int
    inner: Inner = dataclasses.field(default_factory=Inner)
    sizes: tuple[int, ...] = ()
    pair: tuple[int, str] = (1, "x")
    limit: float | None = None
    flag: bool = False
    extra: Mapping[str, float] = dataclasses.field(default_factory=dict)
    anything: Any = None
    layers: tuple[Inner, ...] = ()


def test_missing_keys_take_their_defaults():
    assert schema.from_mapping(Outer, {"steps": 3}) == Outer(steps=3)


def test_mapping_round_trip():
    outer = Outer(
        steps=3,
        inner=Inner(0.25, "b"),
        sizes=(1, 2),
        limit=2.0,
        flag=True,
        extra={"k": 1.0},
        layers=(Inner(), Inner(1.0)),
    )
    assert schema.from_mapping(Outer, schema.to_mapping(outer)) == outer


def test_lists_become_tuples_and_integers_become_floats():
    value = {"steps": 3, "sizes": [1, 2], "limit": 2, "inner": {"rate": 1}, "extra": {"k": 2}}
    outer = schema.from_mapping(Outer, value)
    assert outer.sizes == (1, 2)
    assert isinstance(outer.limit, float)
    assert isinstance(outer.inner.rate, float)
    assert isinstance(outer.extra["k"], float)


def test_nested_dataclass_is_taken_as_it_is():
    inner = Inner(rate=0.1)
    assert schema.from_mapping(Outer, {"steps": 1, "inner": inner}).inner is inner


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"steps": 1, "innr": {}}, "config has no key 'innr'; did you mean 'inner'?"),
        (
            {"steps": 1, "inner": {"rat": 1.0}},
            "config.inner has no key 'rat'; did you mean 'rate'?",
        ),
        (
            {"steps": 1, "inner": {"zzzzz": 1}},
            "config.inner has no key 'zzzzz'; known keys: rate, name",
        ),
        ({}, "config lacks the key 'steps'"),
        ({"steps": "3"}, "config.steps must be int, got str '3'"),
        ({"steps": 3.0}, "config.steps must be int, got float 3.0"),
        ({"steps": True}, "config.steps must be int, got bool True"),
        ({"steps": 1, "flag": 1}, "config.flag must be bool, got int 1"),
        ({"steps": 1, "limit": "x"}, "config.limit must be float, got str 'x'"),
        ({"steps": 1, "inner": 3}, "config.inner must be a mapping of Inner, got int 3"),
        ({"steps": 1, "sizes": "12"}, "config.sizes must be a list, got str '12'"),
        ({"steps": 1, "sizes": [1, "2"]}, "config.sizes[1] must be int, got str '2'"),
        ({"steps": 1, "pair": [1]}, "config.pair must have 2 elements, got 1"),
        ({"steps": 1, "pair": [1, 2]}, "config.pair[1] must be str, got int 2"),
        ({"steps": 1, "extra": [1]}, "config.extra must be a mapping, got list [1]"),
        ({"steps": 1, "extra": {"k": "v"}}, "config.extra.k must be float, got str 'v'"),
        (
            {"steps": 1, "layers": [{"rate": "v"}]},
            "config.layers[0].rate must be float, got str 'v'",
        ),
        (None, "config must be a mapping of Outer, got NoneType None"),
    ],
)
def test_errors_name_the_place(value, message):
    with pytest.raises(InputError) as e:
        schema.from_mapping(Outer, value)
    assert str(e.value) == message


def test_errors_start_with_where_the_value_came_from():
    with pytest.raises(InputError, match=r"^run/config\.json lacks the key 'steps'$"):
        schema.from_mapping(Outer, {}, "run/config.json")


def test_optional_fields_accept_none_and_others_do_not():
    assert schema.from_mapping(Outer, {"steps": 1, "limit": None}).limit is None
    with pytest.raises(InputError, match="config.sizes must be a list"):
        schema.from_mapping(Outer, {"steps": 1, "sizes": None})


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_settings_cannot_be_changed_and_can_be_hashed():
    settings = schema.Settings({"a": [1, {"b": 2}]}, c=3)
    assert settings == {"a": (1, {"b": 2}), "c": 3}
    assert hash(settings) == hash(schema.Settings(c=3, a=(1, schema.Settings(b=2))))
    for change in (
        lambda: settings.update(c=4),
        lambda: settings.pop("c"),
        lambda: settings.__setitem__("c", 4),
        lambda: settings["a"][1].clear(),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()


def test_settings_can_be_copied():
    settings = schema.Settings(a=[1, {"b": 2}])
    found = copy.deepcopy(settings)
    assert (found, type(found), type(found["a"][1])) == (settings, *[schema.Settings] * 2)


@dataclasses.dataclass(frozen=True)
class WithSettings:
    steps: int = 1
    own: schema.Settings = dataclasses.field(
        default_factory=schema.Settings, metadata=schema.OPTIONAL
    )


def test_settings_are_plain_in_records_and_absent_where_empty():
    assert schema.to_mapping(WithSettings()) == {"steps": 1}
    told = schema.to_mapping(WithSettings(own=schema.Settings(a={"b": 2})))
    assert told == {"steps": 1, "own": {"a": {"b": 2}}}
    assert type(told["own"]) is type(told["own"]["a"]) is dict
    assert schema.from_mapping(WithSettings, told).own == schema.Settings(a={"b": 2})
    with pytest.raises(InputError, match=r"config.own must be a mapping, got int 3"):
        schema.from_mapping(WithSettings, {"own": 3})
