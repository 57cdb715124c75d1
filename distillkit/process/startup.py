"""Faster start and end of processes that import torch.

Importing torch creates several hundred thousand objects that live as long as the process. Python's garbage collector
would scan them again and again during the imports: 0.7 of the 2.3 seconds of a process that only imports torch. At the
end, Python would delete them one by one: 0.3 to 0.4 seconds.
"""

import atexit
import gc
import os
import sys
from functools import cache
from typing import NoReturn

from distillkit.process.interruption import listen

SERVER = "DISTILLKIT_WARM"  # the variable with the address of the forks' server; if it is empty, none is started
CODES: list[int] = []  # the exit code, once :func:`end` was called


def begin() -> None:
    """The first call of a stage: handle signals, let a fork run it if possible, and disable garbage collection during
    imports."""
    end_at_once()
    listen()
    if os.environ.get(SERVER):
        from distillkit.process.warm import hand_over

        hand_over()
    gc.disable()


def set_imports_apart() -> None:
    """Enable garbage collection again, but exclude all present objects. Called after the imports."""
    gc.freeze()
    gc.enable()


@cache
def end_at_once() -> None:
    """Let this process end as soon as all that is registered later with atexit has run, if it ends by :func:`end`."""
    atexit.register(end_without_deletions)


def end_without_deletions() -> None:
    if not CODES:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # Python reports it
        return
    os._exit(CODES[-1])


def end(code: int) -> NoReturn:
    """``sys.exit(code)`` at the end of a command."""
    CODES.append(code)
    sys.exit(code)
