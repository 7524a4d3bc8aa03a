"""Frozen dataclasses as configuration schema: strict conversion from plain mappings.

Standard library only. Every configuration of the library is a frozen dataclass;
this file turns JSON or ConfigDict contents into one, and says what is wrong with
a key, a type or a missing value in one line.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["InputError", "from_mapping", "to_mapping"]

T = TypeVar("T")


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where and what to do.

    Launchers print the message without a traceback and exit with code 1.
    """


def to_mapping(config: Any) -> dict[str, Any]:
    """Dataclass -> nested plain dict (tuples kept); inverse of `from_mapping`."""
    return dataclasses.asdict(config)


def from_mapping(cls: type[T], value: Any, where: str = "config") -> T:
    """Builds the frozen dataclass `cls` from a mapping, recursively and strictly.

    Args:
      cls: a dataclass type.
      value: mapping of field names; missing fields take their defaults.
      where: dotted place of `value`, used in messages.

    Raises:
      InputError: unknown key (names the nearest), missing key, or wrong type.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be a mapping of {cls.__name__}, got {_kind(value)}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in value:
        if key not in fields:
            raise InputError(f"{where} has no key '{key}'{_nearest(str(key), fields)}")
    missing = [n for n, f in fields.items() if n not in value and _required(f)]
    if missing:
        raise InputError(f"{where} lacks the key '{missing[0]}'")
    converted = {k: _convert(hints[k], v, f"{where}.{k}") for k, v in value.items()}
    return cls(**converted)


def _required(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _nearest(key: str, names: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known keys: {', '.join(names)}"


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `hint`."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_mapping(hint, value, where)  # type: ignore
    if origin in (typing.Union, types.UnionType):
        return _convert_optional(hint, value, where)
    if origin is tuple:
        return _convert_tuple(hint, value, where)
    if origin is not None and issubclass(origin, Mapping):
        return _convert_mapping(hint, value, where)
    return _convert_scalar(hint, value, where)


def _convert_optional(hint: Any, value: Any, where: str) -> Any:
    inner = [h for h in typing.get_args(hint) if h is not type(None)]
    return None if value is None else _convert(inner[0], value, where)


def _convert_tuple(hint: Any, value: Any, where: str) -> tuple:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f"{where} must be a list, got {_kind(value)}")
    inner = typing.get_args(hint)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_convert(inner[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if len(inner) != len(value):
        raise InputError(f"{where} must have {len(inner)} elements, got {len(value)}")
    places = [f"{where}[{i}]" for i in range(len(value))]
    return tuple(map(_convert, inner, value, places))


def _convert_mapping(hint: Any, value: Any, where: str) -> dict:
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be a mapping, got {_kind(value)}")
    inner = typing.get_args(hint)[1]
    return {str(k): _convert(inner, v, f"{where}.{k}") for k, v in value.items()}


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_wrong_bool = isinstance(value, bool) and hint is not bool
    if not isinstance(value, hint) or is_wrong_bool:
        raise InputError(f"{where} must be {hint.__name__}, got {_kind(value)}")
    return value
