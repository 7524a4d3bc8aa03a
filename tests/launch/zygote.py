"""Runs launchers, each in a process forked from this one, which has their imports behind it.

    python -m tests.launch.zygote

Standard input has one JSON object per line: module (or the name of a script), args, cwd, and the
files stdout and stderr; standard output gets one exit code per line. A fork is to a launcher what
a fresh process is: nothing here starts a thread, touches a device or defines a flag.
"""

import gc
import json
import os
import pathlib
import runpy
import sys

from jaxpolicy.core import interruption
from jaxpolicy.pipeline import console, dagger, design, run  # noqa: F401  what launchers import
from launch import cli  # noqa: F401


def become(request: dict) -> None:
    """Makes this process the launcher; it ends by SystemExit or an exception."""
    if "pid" in request:
        pathlib.Path(request["pid"]).write_text(f"{os.getpid()}\n")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(request.get("cwd", "."))
    interruption.watch()  # As launch does where it is started by "python -m".
    sys.argv = [request["module"], *request["args"]]
    if request["module"].endswith(".py"):
        sys.path.insert(0, request["cwd"])
        runpy.run_path(request["module"], run_name="__main__")
    else:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def main() -> None:
    """Serves until standard input ends."""
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return become(json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
