"""The program `jaxpolicy`: one command for every launcher."""

import difflib
import importlib
import sys

from jaxpolicy.core import interruption

from . import help_text

__all__ = ["COMMANDS", "main"]

# Stage, command, what it does. A command is the module of that name beside this file.
COMMANDS = (
    ("1 collect", "collect", "records demonstrations of the scripted expert"),
    ("2 process", "process", "cleans, splits and measures a dataset"),
    ("", "convert", "writes a dataset in another format"),
    ("4 design", "design", "prints a network before it is trained"),
    ("5 train", "train", "trains a policy, one or many seeds and settings"),
    ("", "dagger", "labels what the policy runs into, and trains again"),
    ("6 evaluate", "evaluate", "measures success in closed loop, or errors on recorded actions"),
    ("8 deploy", "export", "writes verified ONNX and TF Lite artefacts"),
    ("all", "pipeline", "the whole road, from demonstrations to an artefact"),
    ("", "list", "what there is to choose from"),
)


def main() -> None:
    """Runs the launcher that the first argument names."""
    interruption.watch()
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(help_text.commands(COMMANDS, _program()))
        sys.exit(0)
    names = [name for _, name, _ in COMMANDS]
    if arguments[0] not in names:
        close = difflib.get_close_matches(arguments[0], names, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else f"; there are {', '.join(names)}"
        sys.stderr.write(f"error: no command '{arguments[0]}'{hint}\n")
        sys.exit(2)
    launcher = importlib.import_module(f"{__package__}.{arguments[0]}")
    sys.argv = [f"jaxpolicy {arguments[0]}", *arguments[1:]]
    launcher.cli.run(launcher.main)


def _program() -> str:
    """As it was started: the console script, or the package in a checkout."""
    return "python -m launch" if __package__ == "launch" else "jaxpolicy"


if __name__ == "__main__":
    main()
