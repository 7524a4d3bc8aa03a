"""Small records as JSON: written whole or not at all, compared as they read back."""

import json
import os
from pathlib import Path
from typing import Any

from jaxpolicy.core import atomic

__all__ = ["plain", "read", "text", "write"]


def plain(value: Any) -> Any:
    """`value` as it reads back from JSON: tuples are lists, keys are strings."""
    return json.loads(json.dumps(value))


def read(path: str | os.PathLike[str]) -> Any:
    """What a file holds; None where it is missing or no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value`, indented, in one step."""
    atomic.write_text(path, text(value))


def text(value: Any) -> str:
    """What `write` writes."""
    return json.dumps(value, indent=1) + "\n"
