"""What ``distillkit doctor`` finds: a line each, also when the looking itself fails or never ends."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Literal

from distillkit.base.errors import DistillkitError

Status = Literal["ok", "warning", "failure"]
PATIENCE = 20  # seconds for a remote to answer
PLUGIN = re.compile(r"'(dvc-\w+)'")


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``remedy`` is empty where there is nothing to mend.

    ``numbers`` are what an estimate is made of, for programs: bytes or seconds, by stage or by what they are of.
    """

    check: str
    status: Status
    found: str
    remedy: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For programs; ``numbers`` only where there are some."""
        return {name: value for name, value in asdict(self).items() if name != "numbers" or value}


def brief(error: Exception) -> str:
    """An error in one short line."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def mistake(check: str, error: DistillkitError) -> Finding:
    """The finding for an error of ours, whose last part says what to do, unless it says what was expected."""
    found, _, remedy = str(error).removeprefix(check).lstrip(": ").rpartition("; ")
    if not found or remedy.startswith("expected"):
        found, remedy = f"{found}; {remedy}" if found else remedy, "correct it"
    return Finding(check, "failure", found, remedy)


def guarded(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check; an error of any kind is one more, and not the end of the report."""
    try:
        yield from look()
    except DistillkitError as error:
        yield mistake(check, error)
    except Exception as error:  # the report must go on
        remedy = "if this is no fault of the machine, report it with this line"
        yield Finding(check, "failure", f"cannot be checked: {type(error).__name__}: {brief(error)}", remedy)


def answered(check: str, question: Callable[[], Finding]) -> Finding:
    """The finding, or a failure when the question raises or takes too long; nobody waits for it then, not at the end
    of the process either."""
    answers: SimpleQueue[Finding | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(question())
        except Exception as error:  # every kind of remote raises errors of its own
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=PATIENCE)
    except Empty:
        return Finding(check, "failure", f"no answer in {PATIENCE} s", "check the network and the address")
    return answer if isinstance(answer, Finding) else Finding(check, "failure", brief(answer), remedy_for(answer))


def remedy_for(error: Exception) -> str:
    """What to do about an error of DVC's: install a plugin that it misses, else look at address and credentials."""
    if plugin := PLUGIN.search(str(error)):
        return f"pip install {plugin[1]}"
    return "check its address and your credentials: dvc remote modify --local"
