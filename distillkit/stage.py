"""How a stage script or a command runs: one line for a user's mistake, exit codes that tell, nobody else at it."""

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from distillkit.errors import DistillkitError
from distillkit.interruption import (
    AGAIN,
    Interrupted,
    asked,
    check,
    end_with_parent,
    exit_code,
    interrupt,
    leave,
    listen,
    note,
    orphaned,
)
from distillkit.locks import one_at_a_time
from distillkit.progress import presentable


def run_stage(command: click.Command) -> NoReturn:
    """Run a stage like any command, while no other process runs the same one; under dvc it ends with dvc.

    A signal is seen where the stage's own work is safe to stop.
    """
    if "DVC_STAGE" in os.environ:
        end_with_parent()
        if orphaned():
            leave(f"the dvc that started this stage has ended; {AGAIN}", 128 + signal.SIGTERM)

    def alone(**context: Any) -> None:
        with sole(sys.argv):
            command(**context)

    run(alone, note)


def run(command: Callable[..., Any], react: Callable[[], None] = interrupt) -> NoReturn:
    """Run a command and exit: 0 well, 1 a mistake (one line), 2 usage, 130 Ctrl-C, 143 SIGTERM.

    ``react`` is what the first signal does. Once one has come, whatever the command ends with is its doing.
    """
    listen(react)
    try:
        command(standalone_mode=False)
        check()
    except (Interrupted, KeyboardInterrupt, click.Abort) as stopped:
        leave(str(stopped) or f"interrupted; {AGAIN}", exit_code())
    except BaseException as error:
        if asked():
            leave(f"interrupted; {AGAIN}", exit_code())
        ended(error)
    sys.exit(0)


def ended(by: BaseException) -> NoReturn:
    """Exit as the error says, or raise it where it is a defect of ours."""
    try:
        raise by
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except DistillkitError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}; check the path, its permissions and the disk")


def fail(line: str) -> NoReturn:
    sys.stderr.write("error: " + presentable(" ".join(line.split())) + "\n")
    sys.exit(1)


@contextmanager
def sole(command: Sequence[str]) -> Iterator[None]:
    """A block that one process at a time runs for one command line; a killed process holds nobody up.

    A stage that outlived its dvc is waited for, so that it cannot write what a later run has already written anew.
    """
    name = f"{Path(command[0]).stem}-{hashlib.sha256(repr(command[1:]).encode()).hexdigest()[:16]}"
    with one_at_a_time(name, f"waiting for another process to end that runs the same: {' '.join(command)}"):
        yield
