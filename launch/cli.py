"""What every launcher shares: flags -> ExperimentConfig, errors -> exit codes.

Exit codes: 0 done and gate passed; 1 bad input (one line on stderr); 2 usage;
3 done, gate not passed; 130 and 143 ended by SIGINT or SIGTERM (one line on stderr says how
to go on).
"""

import difflib
import errno
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from absl import app, flags, logging

from jaxpolicy.core import interruption
from jaxpolicy.core.schema import InputError

from . import configurations, help_text

if TYPE_CHECKING:
    from jaxpolicy.pipeline.experiment import ExperimentConfig

__all__ = [
    "BAD_INPUT",
    "GATE_NOT_PASSED",
    "USAGE",
    "config_from",
    "define_config",
    "define_workdir",
    "run",
]

BAD_INPUT = 1
USAGE = 2
GATE_NOT_PASSED = 3
# No user's mistake, and nothing that a traceback would explain.
_FULL = (errno.ENOSPC, errno.EDQUOT)

_HELP = ("-h", "-help", "--help", "--helpshort", "--helpfull", "-?")
_OVERRIDE = "--config."


def define_workdir() -> flags.FlagHolder:
    """--workdir, the run directory."""
    holder = flags.DEFINE_string(
        "workdir", None, "Run directory: everything the run writes goes there.", required=True
    )
    flags.register_validator("workdir", _is_path, "is empty; is a shell variable not set?")
    return holder


def _is_path(value: str | None) -> bool:
    return value != ""


def define_config(required: bool = True) -> flags.FlagHolder:
    """--config=NAME[:VARIANT], with --config.KEY=VALUE overrides, --plugin and --print_config."""
    text = "Experiment: a shipped configuration by name (bc.py:lift:debug), or a file of your own"
    text += " by path. Change any value of it with --config.KEY=VALUE."
    if not required:
        text += " Default: what the run in --workdir was made with."
    flags.DEFINE_multi_string("override", [], "KEY=VALUE, the same as --config.KEY=VALUE.")
    flags.DEFINE_multi_string(
        "plugin",
        [],
        "Module, or path of a .py file, that brings parts of your own (see docs/plugins.md); may "
        "be given several times. The run remembers it.",
    )
    flags.DEFINE_bool("print_config", False, "Print the configuration as flags, and stop.")
    return flags.DEFINE_string("config", None, text, required=required)


def config_from(holder: flags.FlagHolder, workdir: str = "") -> "ExperimentConfig":
    """The experiment that --config names, else that of `workdir`; its plug-ins are loaded.

    With --print_config it is printed, and the launcher ends.
    """
    from jaxpolicy.pipeline import experiment, overrides, plugins, trained

    given = [_pair(text) for text in flags.FLAGS.override]
    if holder.value is None:
        config = trained.override(experiment.load(workdir), given)
    else:
        config = overrides.apply(experiment.from_mapping(configurations.load(holder.value)), given)
    config = plugins.use(config, flags.FLAGS.plugin)
    if flags.FLAGS.print_config:
        lines = (f"--config.{k}={shlex.quote(str(v))}\n" for k, v in overrides.keys(config))
        sys.stdout.writelines(lines)
        sys.exit(0)
    return config


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise InputError(f"--config.{text}: write --config.KEY=VALUE")
    return key, value


def run(main: Callable[[], int]) -> None:
    """Parses flags, calls `main` and exits with the code it returns."""
    interruption.watch()
    module = sys.modules[main.__module__]
    if any(a in _HELP for a in sys.argv[1:]):
        sys.stdout.write(help_text.launcher(module))
        sys.exit(0)
    app.run(lambda argv: _guarded(main, argv), flags_parser=_parse)


def _guarded(main: Callable[[], int], argv: Sequence[str]) -> None:
    if len(argv) > 1:
        _stop(USAGE, f"unexpected argument '{argv[1]}'; flags start with --")
    if not flags.FLAGS["verbosity"].present:
        # Checkpointing reports every move at INFO; --verbosity=0 shows it.
        logging.set_verbosity(logging.WARNING)
    try:
        with interruption.handled():
            if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
                _enable_cache()
            code = main()
    except InputError as e:
        _end_if_full(e, str(e))
        _stop(BAD_INPUT, str(e))
    except BrokenPipeError:
        # Whoever read the output has seen enough of it (`| head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as e:
        where = f"{e.filename}: " if e.filename else ""
        _end_if_full(e, f"{where}cannot write: {e.strerror}; what was finished before is intact")
        raise
    sys.exit(code)


def _enable_cache() -> None:
    """Compiled programs are kept between runs, in $XDG_CACHE_HOME/jaxpolicy."""
    from jaxpolicy.training.loop import enable_compilation_cache

    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    enable_compilation_cache(root / "jaxpolicy" / "xla")


def _end_if_full(error: BaseException, message: str) -> None:
    """Where a disk is full, ends at once: what runs at exit would fail to write once more."""
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "errno", None) not in _FULL:
        cause = cause.__cause__
    if cause is not None:
        sys.stderr.write(f"error: {' '.join(message.split())}\n")
        sys.stderr.flush()
        os._exit(BAD_INPUT)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(_as_flags(argv))
    except flags.UnrecognizedFlagError as e:
        _stop(USAGE, f"unknown flag --{e.flagname}{_nearest(e.flagname)}")
    except flags.IllegalFlagValueError as e:
        missing = re.search(r"flag --(\w+)=None: ", str(e))
        if missing is None:
            _stop(USAGE, f"{e}; --help explains the flags")
        name = missing.group(1)
        _stop(USAGE, f"--{name} is missing. {flags.FLAGS[name].help}")
    except flags.Error as e:
        _stop(USAGE, f"{e}; --help explains the flags")


def _as_flags(argv: Sequence[str]) -> list[str]:
    """`--config.KEY=VALUE` and `--config.KEY VALUE` as --override=KEY=VALUE.

    A key that stands alone is true.
    """
    result: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*result, argument, *rest]
        dashed = "-" + argument if re.match(r"-config\.", argument) else argument
        if dashed.startswith(_OVERRIDE):
            key = dashed.removeprefix(_OVERRIDE)
            if "=" not in key:
                alone = not rest or rest[0].startswith("--")
                key += "=" + ("true" if alone else rest.pop(0))
            argument = f"--override={key}"
        result.append(argument)
    return result


def _nearest(name: str) -> str:
    known = [flag for flag in help_text.flag_names() if flag != "override"]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean --{close[0]}?" if close else ""
    return f"{hint}; --help lists the flags" if not close else hint


def _stop(code: int, message: str) -> NoReturn:
    first_line = " ".join(message.split())
    sys.stderr.write(f"error: {first_line}\n")
    sys.exit(code)
