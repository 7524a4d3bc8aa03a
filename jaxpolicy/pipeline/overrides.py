"""Values given by dotted keys, as `--config.KEY=VALUE` and the grids of sweeps have them."""

import ast
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxpolicy.core import schema
from jaxpolicy.core.schema import InputError
from jaxpolicy.pipeline import experiment
from jaxpolicy.pipeline.experiment import ExperimentConfig

__all__ = ["apply", "assign", "keys", "literal", "split"]

_WORDS = {"true": True, "false": False}


def apply(
    config: ExperimentConfig, given: Sequence[tuple[str, str]], where: str = "config"
) -> ExperimentConfig:
    """`config` with the values `given` as (dotted key, text).

    A text field takes the text as it is. Other values are Python literals, true or false; a
    tuple may be written without brackets: `front,wrist`.

    Raises:
      InputError: no such key (names the nearest), or a value of the wrong type.
    """
    mapping = schema.to_mapping(config)
    for key, text in given:
        assign(mapping, key, _value(text, _hint(key, where)), where)
    return experiment.from_mapping(mapping, where)


def assign(mapping: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Sets a dotted key; one that does not exist is found by the schema afterwards."""
    *sections, last = key.split(".")
    for section in sections:
        inner = mapping.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"{where}: '{key}': {section} is a value, not a section")
        mapping = inner
    mapping[last] = value


def literal(text: str) -> Any:
    """A Python literal (a number, a tuple in brackets), true, false, or the text."""
    try:
        return _WORDS[text] if text in _WORDS else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def split(text: str, mark: str) -> list[str]:
    """Splits at `mark`, but not inside brackets."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c == mark and not depth:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts]


def keys(config: Any) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all that a configuration sets."""
    return _flat(schema.to_mapping(config))


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield prefix + name, item


def _hint(key: str, where: str) -> Any:
    """The annotated type of a dotted key; Any inside free mappings."""
    hint: Any = ExperimentConfig
    for part in key.split("."):
        hint = _inner(hint)
        if not dataclasses.is_dataclass(hint):
            return Any
        hints = typing.get_type_hints(hint)
        if part not in hints:
            raise InputError(f"{where} has no key '{key}'{_nearest(key)}")
        hint = hints[part]
    return _inner(hint)


def _inner(hint: Any) -> Any:
    """X of `X | None`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(h for h in typing.get_args(hint) if h is not type(None))
    return hint


def _nearest(key: str) -> str:
    known = [k for k, _ in keys(ExperimentConfig())]
    known += sorted({k.rpartition(".")[0] for k in known} - {""})
    # The last word says most of what was meant.
    last = key.rpartition(".")[2]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    close = close or [k for k in known if k.rpartition(".")[2] == last]
    close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    return f"; did you mean '{close[0]}'?" if close else "; --print_config lists all keys"


def _value(text: str, hint: Any) -> Any:
    if hint is str:
        return text
    found = literal(text)
    if typing.get_origin(hint) is tuple and not isinstance(found, tuple | list):
        return tuple(literal(part) for part in split(text, ",") if part)
    return found
