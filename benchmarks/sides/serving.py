"""What a side does: a process that answers when another asks. Standard library only.

A side is a module that runs alone. It makes something ready, says so, and then does one call
for every line it reads, so that the calls of several sides alternate.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

ANSWER = "answer: "
WARM_UP = 3


def serve(make: Callable[[], Callable[[], Any]], warm_up: int = WARM_UP) -> None:
    """Answers what each call returns, until the input ends.

    Args:
      make: gives the call; its results are plain data.
      warm_up: calls before the first that is asked for.
    """
    start = time.perf_counter()
    call = make()
    for _ in range(warm_up):
        call()
    answer(time.perf_counter() - start)
    for _ in sys.stdin:
        answer(call())


def cpu_ms(call: Callable[[], object]) -> float:
    """Does a call; CPU time of the process meanwhile, in milliseconds."""
    before = time.process_time()
    call()
    return 1e3 * (time.process_time() - before)


def answer(value: Any) -> None:
    """One answer, among whatever a library prints."""
    print(ANSWER + json.dumps(value), flush=True)
