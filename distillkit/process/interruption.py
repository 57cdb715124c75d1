"""How a process stops on Ctrl-C, SIGTERM or the end of its parent dvc: in order after the first signal, at once after
the second.

The first signal is recorded. The process checks for it where stopping is safe: between steps, tasks and images
(:func:`check`). So no library can lose the signal or treat it as an error of its own.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONE_REQUEST = 1.0  # seconds in which signals count as one: a group's signal, and the end of the parent it killed
AGAIN = "run the same command again to go on"


class Interrupted(BaseException):
    """This process was asked to stop. It is a BaseException, so that no handler of Exception catches it."""


def note() -> None:
    """Reaction to the first signal: none. The next :func:`check` raises."""


def interrupt() -> None:
    """Reaction to the first signal: raise Interrupted in the main thread. If it is lost, the next :func:`check` raises.

    For code that waits (for a network, a lock or the user): it has no safe point and no unfinished work.
    """
    raise Interrupted


def end() -> NoReturn:
    """Reaction to the first signal: end the process. Used during imports, which could catch an exception."""
    leave(f"interrupted; {AGAIN}", exit_code())


@dataclass
class Heard:
    """The first signal and its time (both 0 before it), and the function that it calls."""

    number: int = 0
    arrived: float = 0.0
    react: Callable[[], None] = note


HEARD = Heard()  # signals are sent to the process, so there is one object


def listen(react: Callable[[], None] = end) -> None:
    """Handle signals from now on, except those that this process was started to ignore.

    An error outside :func:`~distillkit.process.command.run`, such as in an import, then ends the process in the same
    way.
    """
    sys.excepthook = end_unrun
    HEARD.react = react
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hear)


def end_unrun(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> NoReturn:
    """The ``sys.excepthook`` of :func:`listen`. It must exit itself, because Python ignores its return value."""
    del kind, trace
    from distillkit.process.command import ended  # it imports this module

    try:
        ended(error)
    except SystemExit as told:
        sys.stderr.flush()
        os._exit(int(told.code or 0))


def hear(number: int, frame: FrameType | None) -> None:
    del frame
    if not HEARD.number:
        HEARD.number, HEARD.arrived = number, time.monotonic()
        HEARD.react()
    elif time.monotonic() - HEARD.arrived > ONE_REQUEST:
        os._exit(128 + number)


def asked() -> bool:
    """Whether a signal has arrived."""
    return bool(HEARD.number)


def check() -> None:
    """A safe point to stop, in any thread. Raises Interrupted when a signal has arrived."""
    if asked():
        raise Interrupted


def exit_code() -> int:
    """128 + the signal's number: the exit code of a process that a signal ended."""
    return 128 + (HEARD.number or signal.SIGINT)


@contextmanager
def reacting(react: Callable[[], None]) -> Iterator[None]:
    """A block in which a signal calls ``react``. Its start and end are safe points."""
    check()
    before, HEARD.react = HEARD.react, react
    try:
        yield
    finally:
        HEARD.react = before
    check()


@contextmanager
def guest() -> Iterator[None]:
    """A block in a process that continues after it (a notebook): Ctrl-C stops at the next safe point, a second one at
    once.

    Both raise KeyboardInterrupt. Does nothing outside the main thread, or if Python's own Ctrl-C handler is not set.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def hear_twice(number: int, frame: FrameType | None) -> None:
        if HEARD.number:
            signal.default_int_handler(number, frame)
        HEARD.number, HEARD.arrived = number, time.monotonic()

    signal.signal(signal.SIGINT, hear_twice)
    try:
        yield
        check()
    except Interrupted as stopped:
        raise KeyboardInterrupt(str(stopped)) from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        HEARD.number, HEARD.arrived = 0, 0.0


def leave(line: str, code: int) -> NoReturn:
    """Print ``line`` on stderr and end at once, without waiting for worker threads."""
    with suppress(OSError):
        sys.stderr.write("\n" * sys.stderr.isatty() + line + "\n")
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def end_with_parent() -> bool:
    """Make this process get SIGTERM when its parent process ends. Returns False without Linux's pidfds.

    A dvc that is killed alone does not stop the stage that it runs.
    """
    try:
        watched = [os.pidfd_open(pid) for pid in started_by()]
    except (OSError, AttributeError):
        return False

    def wait() -> None:
        select.select(watched, [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
    return True


def follow_dvc() -> None:
    """In a stage: end when its dvc ends, at once if it has ended already."""
    if "DVC_STAGE" in os.environ:
        end_with_parent()
        if orphaned():
            leave(f"the dvc that started this process has ended; {AGAIN}", 128 + signal.SIGTERM)


def started_by() -> list[int]:
    """Process ids of the parent and, if that is a shell that waits for our command line, of its parent.

    With ``-c``, some shells (bash, zsh) are replaced by the command; others (dash) wait for it.
    """
    parent = os.getppid()
    command = Path(f"/proc/{parent}/cmdline").read_text(errors="replace").split("\0")
    if "-c" not in command or not any(sys.argv[0] in part for part in command):
        return [parent]
    return [parent, int(Path(f"/proc/{parent}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])]


def orphaned() -> bool:
    """Whether the dvc that started this process ended before :func:`end_with_parent` could watch it.

    The parent is then the process that adopts orphans: init, or the user's systemd. A dvc that is itself process 1 of a
    container has our session id. Returns False if unknown.
    """
    try:
        parent = started_by()[-1]
        takes_orphans = parent == 1 or Path(f"/proc/{parent}/comm").read_text().strip() == "systemd"
        return takes_orphans and os.getsid(parent) != os.getsid(0)
    except (OSError, AttributeError):
        return False
