"""How a command runs and ends: one line for a user's mistake, clear exit codes, and a saved traceback for other
errors.
"""

import errno
import hashlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import click

from distillkit.base.errors import DistillkitError
from distillkit.process.interruption import AGAIN, Interrupted, asked, check, exit_code, interrupt, leave, listen
from distillkit.process.progress import presentable
from distillkit.process.startup import end, set_imports_apart

UNFORESEEN = 70  # EX_SOFTWARE in sysexits.h
LONGEST = 1500  # characters in the line of an error
FULL = (errno.ENOSPC, errno.EDQUOT)
MEMORY = (
    "can't allocate memory",
    "CUDA out of memory",
    "Cannot allocate memory",
)  # texts in errors of torch and of the dynamic linker


def run(command: Callable[..., Any], react: Callable[[], None] = interrupt) -> NoReturn:
    """Run a command and exit.

    The exit codes are 0 success, 1 a user's mistake (one line on stderr), 2 wrong usage, 70 an unexpected error, 130
    Ctrl-C, 143 SIGTERM. The first signal calls ``react``. After a signal, every error counts as caused by it.
    """
    listen(react)
    set_imports_apart()
    try:
        command(standalone_mode=False)
        check()
    except (Interrupted, KeyboardInterrupt, click.Abort) as stopped:
        leave(str(stopped) or f"interrupted; {AGAIN}", exit_code())
    except BaseException as error:
        if asked():
            leave(f"interrupted; {AGAIN}", exit_code())
        ended(error)
    end(0)


def ended(by: BaseException) -> NoReturn:
    """Exit with the code and message for the error ``by``."""
    try:
        raise by
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        end(error.exit_code)
    except click.ClickException as error:
        fail(usage(error), error.exit_code)
    except click.exceptions.Exit as error:
        end(error.exit_code)
    except DistillkitError as error:
        fail(str(error))
    except Exception as error:
        if (line := of_the_machine(error)) is not None:
            fail(line)
        fail(unforeseen(error), UNFORESEEN)


def usage(error: click.ClickException) -> str:
    """The message for wrong usage of a command: found, expected, what to do."""
    found, _, close = error.format_message().rstrip(".").partition(". Did you mean ")
    found += f" (did you mean {close})" if close else ""
    if "; " in found:
        return found
    if (context := getattr(error, "ctx", None)) is None:
        return f"{found}; see --help"
    return f"{found}; expected {context.get_usage().removeprefix('Usage: ')}; see {context.command_path} --help"


def of_the_machine(error: Exception) -> str | None:
    """One line for an error of the operating system (memory, threads, files); None for any other error."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in MEMORY) or is_errno(error, errno.ENOMEM):
        found = f"there is not enough memory ({text[:200] or 'no details given'})"
        return f"{found}; lower batch, width or data.size, or use a machine with more"
    if "can't start new thread" in text or is_errno(error, errno.EAGAIN):
        return f"the system allows no more threads or processes ({text}); end others, or raise the limit: ulimit -u"
    if is_errno(error, errno.EMFILE, errno.ENFILE) or "Too many open files" in text:
        return f"too many files are open ({text}); raise the limit: ulimit -n 1024"
    if is_errno(error, *FULL):
        return f"{place_of(error)}: {os.strerror(error.errno or 0)}; make room, then run the same command again"
    if type(error).__module__ == "sqlite3":  # of DVC and its libraries
        remedy = "make room, or raise the limit of ulimit -f, then run the same command again"
        return f"a database of DVC cannot be used ({text}); {remedy}"
    if isinstance(error, OSError):
        return f"{place_of(error)}: {error.strerror or error}; check the path, its permissions and the disk"
    return None


def is_errno(error: Exception, *numbers: int) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and error.errno in numbers


def place_of(error: OSError) -> str:
    return str(error.filename or "a file")


def unforeseen(error: Exception) -> str:
    """One line for an unexpected error, with the path of the file that has the traceback."""
    text = presentable("".join(traceback.format_exception(error)))
    name = f"error-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]}.txt"
    kept = "the details cannot be written anywhere"
    for folder in (Path(".distillkit"), Path(tempfile.gettempdir())):
        with suppress(OSError):
            (folder / name).write_text(text, encoding="utf-8", errors="replace")
            kept = f"the details are in {folder / name}"
            break
    found = f"{type(error).__name__}: {str(error)[:200] or 'no reason given'}"
    if isinstance(error, ImportError):
        return f"{found}; expected distillkit with all it needs; activate its environment, or install it again: {kept}"
    return f"{found}; this error is unexpected; please report it: {kept}"


def fail(line: str, code: int = 1) -> NoReturn:
    line = presentable(" ".join(line.split()))
    sys.stderr.write(f"error: {line if len(line) <= LONGEST else line[: LONGEST - 300] + ' … ' + line[-300:]}\n")
    end(code)
