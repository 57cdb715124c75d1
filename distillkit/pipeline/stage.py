"""How a stage runs: alone, checked first, and ending with the dvc that started it."""

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from distillkit.process.command import run
from distillkit.process.interruption import AGAIN, end_with_parent, leave, note, orphaned
from distillkit.process.locks import one_at_a_time
from distillkit.process.progress import presentable


def run_stage(command: click.Command, checked: bool = True) -> NoReturn:
    """Run a stage like any command, while no other process runs the same one; under dvc it ends with dvc.

    What is wrong with params.yaml, for whatever stage, is told first, where ``checked``. A signal is seen where the
    stage's own work is safe to stop.
    """
    check_params: Callable[[], None] = checker() if checked else lambda: None

    def alone(**context: Any) -> None:
        if "DVC_STAGE" in os.environ:
            end_with_parent()
            if orphaned():
                leave(f"the dvc that started this stage has ended; {AGAIN}", 128 + signal.SIGTERM)
        with sole(sys.argv):
            check_params()
            command(**context)

    run(alone, note)


def checker() -> Callable[[], None]:
    """The check of params.yaml as a whole. Imported here: a stage that does without imports nothing heavy."""
    from distillkit.base import params
    from distillkit.pipeline import checks

    return lambda: checks.check_params(params.load())


@contextmanager
def sole(command: Sequence[str]) -> Iterator[None]:
    """A block that one process at a time runs for one command line; a killed process holds nobody up.

    A stage that outlived its dvc is waited for, so that it cannot write what a later run has already written anew.
    """
    name = f"{Path(command[0]).stem}-{hashlib.sha256(repr(command[1:]).encode()).hexdigest()[:16]}"
    waiting = f"waiting for another process to end that runs the same: {' '.join(command)}"
    with one_at_a_time(name, presentable(waiting)):
        yield
