"""The findings of ``distillkit doctor``, one line each. A check that fails or does not end gives a finding, too."""

import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

from distillkit.base.errors import DistillkitError
from distillkit.base.params import FILE

Status = Literal["ok", "warning", "failure"]
PATIENCE = 20  # seconds for a remote to answer
PLUGIN = re.compile(r"'(dvc-\w+)'")


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``remedy`` is empty if there is nothing to correct.

    ``numbers`` are the parts of an estimate, for programs: bytes or seconds, by stage or kind.
    """

    check: str
    status: Status
    found: str
    remedy: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Plain data, with ``numbers`` only if there are any."""
        return {name: value for name, value in asdict(self).items() if name != "numbers" or value}


def output(*command: str) -> str:
    """The output of a command; empty when it fails, or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, text=True, errors="surrogateescape")
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def brief(error: Exception) -> str:
    """An error in one short line."""
    return " ".join(str(error).split())[:160] or type(error).__name__


@contextmanager
def named_from_here(folder: Path) -> Iterator[None]:
    """A block whose error messages name params.yaml in ``folder`` as it is typed in the current folder."""
    try:
        yield
    except DistillkitError as error:
        text = str(error)
        if not text.startswith(str(FILE)):
            raise
        raise type(error)(f"{folder / FILE}{text.removeprefix(str(FILE))}") from None


def mistake(check: str, error: DistillkitError) -> Finding:
    """The finding for a DistillkitError. The remedy is the last part of its message, unless that says what was
    expected.
    """
    found, _, remedy = str(error).removeprefix(check).lstrip(": ").rpartition("; ")
    if not found or remedy.startswith("expected"):
        found, remedy = f"{found}; {remedy}" if found else remedy, "correct it"
    return Finding(check, "failure", found, remedy)


def guarded(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check. An error of any type becomes a finding and does not end the report."""
    try:
        yield from look()
    except DistillkitError as error:
        yield mistake(check, error)
    except Exception as error:  # the report must go on
        remedy = "if the machine is not the cause, report this line"
        yield Finding(check, "failure", f"cannot be checked: {type(error).__name__}: {brief(error)}", remedy)


def answered(check: str, question: Callable[[], Finding]) -> Finding:
    """The finding, or a failure if ``question`` raises or takes too long.

    It runs in a daemon thread, so that a hanging question blocks neither the report nor the end of the process.
    """
    answers: SimpleQueue[Finding | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(question())
        except Exception as error:  # each kind of remote has its own errors
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=PATIENCE)
    except Empty:
        return Finding(check, "failure", f"no answer in {PATIENCE} s", "check the network and the address")
    return answer if isinstance(answer, Finding) else Finding(check, "failure", brief(answer), remedy_for(answer))


def remedy_for(error: Exception) -> str:
    """The remedy for an error of DVC: install a missing plugin, else check the address and credentials."""
    if plugin := PLUGIN.search(str(error)):
        return f"pip install {plugin[1]}"
    return "check its address and your credentials: dvc remote modify --local"
