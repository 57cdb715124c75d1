"""One process at a time at the same work; a killed process holds nobody up."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distillkit.process.interruption import interrupt, reacting

LOCKS = Path(".distillkit/locks")


@contextmanager
def one_at_a_time(name: str, waiting: str) -> Iterator[None]:
    """A block that one process at a time runs under this name, a file's; ``waiting`` is said where another is at it."""
    from filelock import FileLock, Timeout  # not for --help

    LOCKS.mkdir(parents=True, exist_ok=True)
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
        with suppress(OSError):  # an open file cannot be removed everywhere; it does no harm
            (LOCKS / f"{name}.lock").unlink()
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process is at work in ``folder``, the pipeline's; locks that a killed one has left do not count."""
    from filelock import FileLock, Timeout

    for path in (folder / LOCKS).glob("*.lock"):
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
    return False
