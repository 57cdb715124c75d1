"""Stages in forks of a process that has imported everything once, so that many runs take little time.

A fork can be made to send itself a signal just before it gives a file its name: whatever a stage leaves behind, it
leaves by giving a whole file or folder its name, so these are all the moments that a later run can tell apart.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from distillkit.pipeline import checkpoints

IMPORTED_ONCE = ("datasets", "matplotlib.figure", "sklearn.datasets", "sklearn.model_selection", "torch", "filelock")
OURS = (
    "methods",
    "package.build",
    "pipeline.checkpoints",
    "pipeline.unfinished",
    "process.command",
    "report.page",
    "sources.fetch",
    "training.score_file",
)
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([*IMPORTED_ONCE, *(f"distillkit.{name}" for name in OURS)])


class Moment(NamedTuple):
    """Just before the file number ``at`` (from 0) gets its name, the process gets the signal."""

    signal: int
    at: int


class Ended(NamedTuple):
    """How a stage ended: minus a signal or an exit code, what it named in order, and what it said."""

    code: int
    named: list[str]
    said: str


def begin(folder: Path, command: Sequence[str], moment: Moment | None = None) -> BaseProcess:
    for log in ("named", "said"):
        folder.with_name(f"{folder.name}.{log}").write_text("")
    process = FORKS.Process(target=stage, args=(folder, command, moment))
    process.start()
    return process


def end(folder: Path, process: BaseProcess) -> Ended:
    process.join(120)
    assert process.exitcode is not None, "still running after two minutes"
    named, said = (folder.with_name(f"{folder.name}.{log}").read_text() for log in ("named", "said"))
    return Ended(process.exitcode, named.splitlines(), said)


def run(folder: Path, command: Sequence[str], moment: Moment | None = None) -> Ended:
    """Run a stage's command in ``folder``."""
    return end(folder, begin(folder, command, moment))


def stage(folder: Path, command: Sequence[str], moment: Moment | None) -> None:
    """In the fork: run the script, logging what gets its name."""
    said = os.open(folder.with_name(f"{folder.name}.said"), os.O_WRONLY | os.O_APPEND)
    os.dup2(said, 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the process that runs the tests does with it
    named = folder.with_name(f"{folder.name}.named").open("a", buffering=1)
    count = 0

    def naming(method):
        def instead(self, target):
            nonlocal count
            if Path(target).name == "metrics.json":  # a view, written by the clock
                return method(self, target)
            count += 1
            if moment and moment.at == count - 1:
                os.kill(os.getpid(), moment.signal)
            result = method(self, target)
            named.write(f"{Path(target).name}\n")
            return result

        return instead

    for name in ("replace", "rename"):
        setattr(Path, name, naming(getattr(Path, name)))
    checkpoints.SECONDS_BETWEEN_CHECKPOINTS = 0
    os.chdir(folder)
    sys.argv = list(command)
    runpy.run_path(command[0], run_name="__main__")
