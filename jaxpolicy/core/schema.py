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

__all__ = ["OPTIONAL", "InputError", "Settings", "from_mapping", "to_mapping"]

# Metadata of a field that records leave out while it is empty, so that they stay as they were.
OPTIONAL = {"optional": True}

T = TypeVar("T")


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where and what to do.

    Launchers print the message without a traceback and exit with code 1.
    """


class Settings(dict[str, Any]):
    """Settings whose schema only a plug-in knows: a mapping that cannot be changed.

    Lists become tuples and mappings Settings, all the way down, so that it can be hashed as
    the configuration that holds it; `from_mapping` makes the plug-in's own dataclass of it.
    """

    def __init__(self, *args: Any, **values: Any):
        """As `dict`."""
        super().__init__({str(k): _fixed(v) for k, v in dict(*args, **values).items()})

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> Any:
        return Settings, (dict(self),)

    def plain(self) -> dict[str, Any]:
        """The same as nested plain dicts."""
        return {k: v.plain() if isinstance(v, Settings) else v for k, v in self.items()}

    def _refuse(self, *args: Any, **values: Any) -> Any:
        raise TypeError("Settings cannot be changed; make others")

    __setitem__ = __delitem__ = __ior__ = _refuse  # type: ignore[assignment]
    clear = pop = popitem = setdefault = update = _refuse  # type: ignore[assignment]


def _fixed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Settings(value)
    return tuple(map(_fixed, value)) if isinstance(value, list | tuple) else value


def to_mapping(config: Any) -> dict[str, Any]:
    """Dataclass -> nested plain dict (tuples kept); inverse of `from_mapping`.

    Fields marked OPTIONAL are left out where they are empty.
    """
    return _tidied(config, dataclasses.asdict(config))


def _tidied(config: Any, found: dict[str, Any]) -> dict[str, Any]:
    """`found` of `config` without empty optional fields, settings as plain dicts; in place."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _tidied(value, found[field.name])
        elif "optional" in field.metadata and not value:
            del found[field.name]
        elif isinstance(value, Settings):
            found[field.name] = value.plain()
    return found


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
    if hint is Settings:
        return Settings(_convert_mapping(Mapping[str, Any], value, where))
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
