"""How a stage runs: one process at a time, with params.yaml checked first, and ending when its dvc ends."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from distillkit.process.command import run
from distillkit.process.interruption import follow_dvc, note
from distillkit.process.locks import one_at_a_time
from distillkit.process.progress import presentable


def run_stage(command: click.Command, checked: bool = True) -> NoReturn:
    """Run a stage like a command, while no other process runs the same stage. Under dvc it ends when dvc ends.

    With ``checked``, the whole params.yaml is checked first. A signal takes effect at the stage's safe points.
    """
    check_params: Callable[[], None] = checker() if checked else lambda: None

    def alone(**context: Any) -> None:
        follow_dvc()
        with sole(sys.argv):
            check_params()
            command(**context)

    run(alone, note)


def checker() -> Callable[[], None]:
    """The check of the whole params.yaml. The import is here, so that a stage without the check has no slow imports."""
    from distillkit.base import params
    from distillkit.pipeline import checks

    return lambda: checks.check_params(params.load())


@contextmanager
def sole(command: Sequence[str]) -> Iterator[None]:
    """A block that one process at a time runs for one command line. The lock of a killed process does not block others.

    It waits for a stage that outlived its dvc, which could otherwise overwrite files of a later run.
    """
    name = f"{Path(command[0]).stem}-{hashlib.sha256(repr(command[1:]).encode()).hexdigest()[:16]}"
    waiting = f"waiting for the end of another process that runs the same: {' '.join(command)}"
    with one_at_a_time(name, presentable(waiting)):
        yield
