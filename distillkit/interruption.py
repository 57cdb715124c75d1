"""Ctrl-C, SIGTERM and the end of the dvc that started us: the first ends this process in order, the next at once."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONE_REQUEST = 1.0  # seconds: a process group's signal, and the death of the parent that it killed as well


class Interrupted(BaseException):
    """This process was asked to end. No Exception, so that nothing on the way takes it for a fault to recover from."""


class Interruption:
    """What becomes of Ctrl-C and SIGTERM: the first raises Interrupted in the main thread, another ends the process.

    Inside :meth:`held_back` the first one waits until the work there has come to a good place to stop.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.number, self.arrived, self.held, self.clock = 0, 0.0, False, clock

    def listen(self) -> None:
        """Hear the signals from here on, but for those that this process was started to ignore."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.hear)

    def hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        if not self.number:
            self.number, self.arrived = number, self.clock()
            if not self.held:
                raise Interrupted
        elif self.clock() - self.arrived > ONE_REQUEST:
            os._exit(128 + number)

    @property
    def code(self) -> int:
        """The exit code by which shells know a process that a signal ended."""
        return 128 + (self.number or signal.SIGINT)

    @contextmanager
    def held_back(self) -> Iterator[Callable[[], bool]]:
        """A block in which a signal raises nothing, until the block ends; it yields whether one has come."""
        self.held = True
        try:
            yield lambda: bool(self.number)
        finally:
            self.held = False
        if self.number:
            raise Interrupted


def never() -> bool:
    """Nobody asks to stop."""
    return False


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
