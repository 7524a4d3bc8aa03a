"""What every launcher shares: flags -> ExperimentConfig, errors -> exit codes.

Exit codes: 0 done and gate passed; 1 bad input (one line on stderr); 2 usage;
3 done, gate not passed; 130 and 143 ended by SIGINT or SIGTERM (one line on stderr says how
to go on).
"""

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from jaxpolicy.core import interruption, schema
from jaxpolicy.core.schema import InputError
from jaxpolicy.pipeline import experiment
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training.loop import enable_compilation_cache

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


def define_workdir() -> flags.FlagHolder:
    """--workdir, the run directory."""
    return flags.DEFINE_string(
        "workdir", None, "Run directory: everything the run writes goes there.", required=True
    )


def define_config(required: bool = True) -> flags.FlagHolder:
    """--config=FILE[:VARIANT], with --config.KEY=VALUE overrides."""
    text = "Experiment file, e.g. configs/lift_demo.py or configs/bc.py:lift:debug; override any "
    text += "value with --config.KEY=VALUE (e.g. --config.optimizer.learning_rate=3e-4)."
    if not required:
        text += " Default: the config.json of --workdir."
    holder = config_flags.DEFINE_config_file("config", None, text, lock_config=True)
    if required:
        flags.mark_flag_as_required("config")
    return holder


def config_from(holder: flags.FlagHolder, workdir: str = "") -> ExperimentConfig:
    """The experiment that --config names, else the one recorded in `workdir`."""
    if holder.value is None:
        return experiment.load(workdir)
    return experiment.from_mapping(_read(holder).to_dict(), "config")


def _read(holder: flags.FlagHolder) -> Any:
    """The ConfigDict; a file that does not load raises only when it is touched."""
    try:
        holder.value.to_dict  # noqa: B018
    except (OSError, ImportError, SyntaxError, AttributeError) as e:
        raise InputError(f"--config: {e}") from e
    return holder.value


def run(main: Callable[[], int]) -> None:
    """Parses flags, calls `main` and exits with the code it returns."""
    interruption.watch()
    for name in sorted({"config", "workdir"} & set(flags.FLAGS)):
        # Makes --help of the launcher show what is defined here.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    app.run(lambda argv: _guarded(main, argv), flags_parser=_parse)


def _guarded(main: Callable[[], int], argv: Sequence[str]) -> None:
    if len(argv) > 1:
        _stop(USAGE, f"unexpected argument '{argv[1]}'; flags start with --")
    if not flags.FLAGS["verbosity"].present:
        # Checkpointing reports every move at INFO; --verbosity=0 shows it.
        logging.set_verbosity(logging.WARNING)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        enable_compilation_cache(_cache_directory())
    try:
        with interruption.handled():
            code = main()
    except InputError as e:
        _end_if_full(e, str(e))
        _stop(BAD_INPUT, str(e))
    except OSError as e:
        where = f"{e.filename}: " if e.filename else ""
        _end_if_full(e, f"{where}cannot write: {e.strerror}; what was finished before is intact")
        raise
    sys.exit(code)


def _end_if_full(error: BaseException, message: str) -> None:
    """Where a disk is full, ends at once: what runs at exit would fail to write once more."""
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "errno", None) not in _FULL:
        cause = cause.__cause__
    if cause is not None:
        sys.stderr.write(f"error: {' '.join(message.split())}\n")
        sys.stderr.flush()
        os._exit(BAD_INPUT)


def _cache_directory() -> Path:
    """Where compiled programs are kept between runs: $XDG_CACHE_HOME/jaxpolicy."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxpolicy" / "xla"


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(list(argv))
    except AttributeError as e:
        # The message begins with the quoted key, however many times it is quoted.
        words = re.findall(r"\w+", str(e))
        _stop(BAD_INPUT, _unknown_key(words[0], argv) if words else repr(e))
    except flags.IllegalFlagValueError as e:
        # A configuration that raises comes with its traceback; the last line says why.
        reason = str(e).strip().splitlines()[-1].partition("InputError: ")[2]
        _stop(BAD_INPUT if "--config" in str(e) else USAGE, reason or str(e))
    except flags.Error as e:
        _stop(USAGE, f"{e}; --help lists the flags")
    except InputError as e:
        _stop(BAD_INPUT, str(e))


def _unknown_key(key: str, argv: Sequence[str]) -> str:
    """Names the override that holds `key` and the nearest key that exists."""
    overrides = [
        a.partition("=")[0].lstrip("-") for a in argv if a.lstrip("-").startswith("config.")
    ]
    paths = [o.removeprefix("config.") for o in overrides if key in o.split(".")]
    path = paths[0] if paths else key
    known = list(_flatten(schema.to_mapping(ExperimentConfig())))
    close = difflib.get_close_matches(path, known, n=1, cutoff=0.4)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"config has no key '{path}'{hint}"


def _flatten(value: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, item in value.items():
        keys.append(prefix + name)
        if isinstance(item, Mapping):
            keys += _flatten(item, f"{prefix}{name}.")
    return keys


def _stop(code: int, message: str) -> NoReturn:
    first_line = " ".join(message.split())
    sys.stderr.write(f"error: {first_line}\n")
    sys.exit(code)
