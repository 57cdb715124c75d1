"""How a stage script or a command runs: one line for a user's mistake, exit codes that tell, nobody else at it."""

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from distillkit.errors import DistillkitError
from distillkit.interruption import Interrupted, Interruption, end_with_parent, orphaned
from distillkit.locks import one_at_a_time
from distillkit.progress import presentable

AGAIN = "run the same command again to go on"


def run_stage(command: click.Command) -> NoReturn:
    """Run a stage like any command, while no other process runs the same one; under dvc it ends with dvc.

    What is wrong with params.yaml, for whatever stage, is told first.
    """
    from distillkit import checks, params  # not above: commands answer before anything heavy is imported

    if "DVC_STAGE" in os.environ:
        end_with_parent()
        if orphaned():
            leave(f"the dvc that started this stage has ended; {AGAIN}", 128 + signal.SIGTERM)

    def alone(**context: Any) -> None:
        with sole(sys.argv):
            checks.check_params(params.load())
            command(**context)

    run(alone)


def run(command: Callable[..., Any]) -> NoReturn:
    """Run a command and exit: 0 well, 1 a mistake (one line), 2 usage, 130 Ctrl-C, 143 SIGTERM."""
    interruption = Interruption()
    interruption.listen()
    try:
        command(standalone_mode=False, obj=interruption)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except DistillkitError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}; check the path, its permissions and the disk")
    except (Interrupted, KeyboardInterrupt, click.Abort) as stopped:
        leave(str(stopped) or f"interrupted; {AGAIN}", interruption.code)
    sys.exit(0)


def fail(line: str) -> NoReturn:
    sys.stderr.write("error: " + presentable(" ".join(line.split())) + "\n")
    sys.exit(1)


def leave(line: str, code: int) -> NoReturn:
    """End now, not when the last worker thread has done what it is at."""
    sys.stderr.write("\n" * sys.stderr.isatty() + line + "\n")
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


@contextmanager
def sole(command: Sequence[str]) -> Iterator[None]:
    """A block that one process at a time runs for one command line; a killed process holds nobody up.

    A stage that outlived its dvc is waited for, so that it cannot write what a later run has already written anew.
    """
    name = f"{Path(command[0]).stem}-{hashlib.sha256(repr(command[1:]).encode()).hexdigest()[:16]}"
    with one_at_a_time(name, f"waiting for another process to end that runs the same: {' '.join(command)}"):
        yield
