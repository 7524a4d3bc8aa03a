"""What `--help` prints. It imports nothing heavy: help is there in a moment."""

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from types import ModuleType

from absl import flags

from . import configurations

__all__ = ["commands", "flag_names", "launcher"]

_WIDTH = 100
_INDENT = " " * 6


def launcher(module: ModuleType) -> str:
    """Help of one launcher: its docstring as written, its flags, and the configurations."""
    parts = [inspect.cleandoc(module.__doc__ or ""), _flags()]
    if "config" in flags.FLAGS:
        parts.append(_configurations())
    return "\n\n".join(parts) + "\n"


def commands(table: Sequence[tuple[str, str, str]], program: str) -> str:
    """Help of the whole program: (stage, command, what it does) a line."""
    rows = [f"  {stage:<10} {program} {name:<9} {text}" for stage, name, text in table]
    return "\n".join(
        [
            "Robot-manipulation policies, from demonstrations to a deployed controller.",
            "",
            "  stage      command",
            *rows,
            "",
            f"{program} COMMAND --help explains a command.",
            "",
        ]
    )


def flag_names() -> tuple[str, ...]:
    """Flags that the launcher and this package define."""
    return tuple(flag.name for flag in _ours())


def _ours() -> Iterator[flags.Flag]:
    package = __package__ or ""
    for name, found in sorted(flags.FLAGS.flags_by_module_dict().items()):
        if name == sys.argv[0] or name == "__main__" or name.startswith(f"{package}."):
            yield from found


def _flags() -> str:
    lines = ["Flags:"]
    for flag in sorted(_ours(), key=lambda f: f.name):
        if flag.name == "override":
            continue
        value = "" if flag.boolean else "=" + _kind(flag)
        # What absl adds of its own.
        told = re.sub(r"^<[^>]*>: |;\s*repeat this option.*$", "", flag.help)
        told += "" if flag.default in (None, "", False, []) else f" Default: {flag.default}."
        lines.append(f"  --{flag.name}{value}")
        lines += textwrap.wrap(told, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return "\n".join(lines)


def _kind(flag: flags.Flag) -> str:
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        return "|".join(choices)
    return "NAME[:VARIANT]" if flag.name == "config" else flag.name.upper()


def _configurations() -> str:
    lines = ["Configurations, with what may follow after a colon:"]
    for name, summary, variants in configurations.listing():
        lines.append(f"  {name:<15} {summary}")
        if variants:
            lines.append(f"  {'':<15} {'  '.join(variants)}")
    lines.append(f"TASK is one of {', '.join(configurations.tasks())}")
    return "\n".join(lines)
