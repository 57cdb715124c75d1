"""How a stage script or a command runs: one line for a user's mistake, exit codes that tell, a fixed arithmetic."""

import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from distillkit.errors import DistillkitError
from distillkit.progress import presentable


def run(command: click.Command) -> NoReturn:
    """Run a command and exit: 0 well, 1 a mistake (one line), 2 usage, 130 Ctrl-C, 143 SIGTERM."""
    signal.signal(signal.SIGTERM, terminate)
    try:
        command(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except DistillkitError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}; check the path, its permissions and the disk")
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted; run the same command again to go on", 130)
    sys.exit(0)


def fail(line: str, code: int = 1) -> NoReturn:
    sys.stderr.write("error: " + presentable(" ".join(line.split())) + "\n")
    sys.exit(code)


def terminate(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends the process like an exit, so that temporary files go; checkpoints stay."""
    del frame
    sys.exit(128 + number)
