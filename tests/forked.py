"""Stages that send themselves a signal at a given moment.

A stage can be made to send itself a signal just before it gives a file its name: whatever a stage leaves behind, it
leaves by giving a whole file or folder its name, so these are all the moments that a later run can tell apart.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from interpreter import PYTHON

from distillkit.pipeline import checkpoints


class Moment(NamedTuple):
    """Just before the file number ``at`` (from 0) gets its name, the process gets the signal."""

    signal: int
    at: int


class Ended(NamedTuple):
    """How a stage ended: minus a signal or an exit code, what it named in order, and what it said."""

    code: int
    named: list[str]
    said: str


def begin(folder: Path, command: Sequence[str], moment: Moment | None = None) -> subprocess.Popen[bytes]:
    folder.with_name(f"{folder.name}.named").write_text("")
    arguments = [str(folder), json.dumps(command), json.dumps(moment)]
    with folder.with_name(f"{folder.name}.said").open("w") as said:
        return subprocess.Popen(
            [PYTHON, __file__, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        )


def end(folder: Path, process: subprocess.Popen[bytes]) -> Ended:
    code = process.wait(120)
    named, said = (folder.with_name(f"{folder.name}.{log}").read_text() for log in ("named", "said"))
    return Ended(code, named.splitlines(), said)


def run(folder: Path, command: Sequence[str], moment: Moment | None = None) -> Ended:
    """Run a stage's command in ``folder``."""
    return end(folder, begin(folder, command, moment))


def stage(folder: Path, command: Sequence[str], moment: Moment | None) -> None:
    """In the fork: run the script, logging what gets its name."""
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


if __name__ == "__main__":
    where, line, at = sys.argv[1:]
    stage(Path(where), json.loads(line), Moment(*json.loads(at)) if json.loads(at) else None)
