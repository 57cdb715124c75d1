"""Ctrl-C, SIGTERM and the end of the dvc that started us: the first ends this process in order, the next at once.

The first is noted, and looked at where it is safe to stop: between steps, tasks and images (:func:`check`). So no
library in between can take it for a fault of its own, or lose it.
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
ONE_REQUEST = 1.0  # seconds: a process group's signal, and the death of the parent that it killed as well
AGAIN = "run the same command again to go on"


class Interrupted(BaseException):
    """This process was asked to end. No Exception, so that nothing on the way takes it for a fault to recover from."""


def note() -> None:
    """The first signal is noted, no more; it is seen at the next :func:`check`."""


def interrupt() -> None:
    """The first signal is raised as well, in the main thread; should it be lost there, the next :func:`check` sees it.

    For what waits for others (a network, a lock, a person), where there is no safe point and nothing half done.
    """
    raise Interrupted


def end() -> NoReturn:
    """The first signal ends the process: nothing has begun yet, and an exception would come out of some import."""
    leave(f"interrupted; {AGAIN}", exit_code())


@dataclass
class Heard:
    """The first signal and when it came, 0 before that; and what it does beside being noted."""

    number: int = 0
    arrived: float = 0.0
    react: Callable[[], None] = note


HEARD = Heard()  # signals are sent to the process, so there is one


def listen(react: Callable[[], None] = end) -> None:
    """Hear the signals from here on, but for those that this process was started to ignore.

    What fails before :func:`~distillkit.process.command.run`, as imports may, ends as it would in there.
    """
    sys.excepthook = end_unrun
    HEARD.react = react
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hear)


def end_unrun(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> NoReturn:
    """The last resort of :func:`listen`; Python asks ``sys.excepthook`` for no exit code."""
    del kind, trace
    from distillkit.process.command import ended  # which imports this

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
    """Whether a signal has come."""
    return bool(HEARD.number)


def check() -> None:
    """A point where it is safe to stop, in any thread. Raises Interrupted when a signal has come."""
    if asked():
        raise Interrupted


def exit_code() -> int:
    """The exit code by which shells know a process that a signal ended."""
    return 128 + (HEARD.number or signal.SIGINT)


@contextmanager
def reacting(react: Callable[[], None]) -> Iterator[None]:
    """A block in which a signal does this; there and back are safe points."""
    check()
    before, HEARD.react = HEARD.react, react
    try:
        yield
    finally:
        HEARD.react = before
    check()


@contextmanager
def guest() -> Iterator[None]:
    """A block in a process that goes on after it, a notebook: Ctrl-C is seen where it is safe to stop, a second now.

    Raises KeyboardInterrupt in both cases. Changes nothing but in a main thread that has Python's own Ctrl-C.
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
    """End now, not when the last worker thread has done what it is at."""
    with suppress(OSError):
        sys.stderr.write("\n" * sys.stderr.isatty() + line + "\n")
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def end_with_parent() -> bool:
    """Send ourselves SIGTERM when the process that started us ends; False where Linux's pidfds are not to be had.

    dvc, when it is killed alone, leaves the stage it runs behind.
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


def started_by() -> list[int]:
    """The parent's process id and, where that is a shell that waits for our command line to end, its parent's.

    Some shells (bash, zsh) become the command that ``-c`` gives them, others (dash) wait for it.
    """
    parent = os.getppid()
    command = Path(f"/proc/{parent}/cmdline").read_text(errors="replace").split("\0")
    if "-c" not in command or not any(sys.argv[0] in part for part in command):
        return [parent]
    return [parent, int(Path(f"/proc/{parent}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])]


def orphaned() -> bool:
    """Whether the dvc that started us has ended before :func:`end_with_parent` could watch it.

    Then whoever takes in orphans stands where dvc stood: init, or a user's systemd. A dvc that is itself the first
    process of a container shares our session. False where there is no telling.
    """
    try:
        parent = started_by()[-1]
        takes_orphans = parent == 1 or Path(f"/proc/{parent}/comm").read_text().strip() == "systemd"
        return takes_orphans and os.getsid(parent) != os.getsid(0)
    except (OSError, AttributeError):
        return False
