"""Locks, so that one process at a time does the same work. The lock of a killed process does not block others."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distillkit.base.files import write_text
from distillkit.process.interruption import interrupt, reacting

OURS = Path(".distillkit")
LOCKS = OURS / "locks"


def keep_from_git(folder: Path = OURS) -> None:
    """Let Git ignore the folder of our own work, also in a clone, which has no such folder."""
    if not (ignored := folder / ".gitignore").exists():
        write_text(ignored, "*\n")


@contextmanager
def one_at_a_time(name: str, waiting: str) -> Iterator[None]:
    """A block that one process at a time runs for the file name ``name``; others print ``waiting`` and wait."""
    from filelock import FileLock, Timeout  # slow; --help does not need it

    keep_from_git()
    LOCKS.mkdir(exist_ok=True)
    lock = FileLock(LOCKS / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        sys.stderr.write(f"{waiting}\n")
        with reacting(interrupt):
            lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # some systems cannot remove an open file; a leftover file is harmless
            (LOCKS / f"{name}.lock").unlink()
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process works in the pipeline's ``folder``. Lock files of killed processes do not count."""
    from filelock import FileLock, Timeout

    for path in (folder / LOCKS).glob("*.lock"):
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
    return False
