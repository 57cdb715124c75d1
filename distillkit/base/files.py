"""Atomic writing of files: a file is complete or unchanged. No slow import, so that a command that only writes text
starts quickly.
"""

import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from distillkit.base.errors import LARGEST, ArtifactError
from distillkit.base.outside import content, shown


@contextmanager
def atomic_write(path: Path, size: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``. When the block succeeds, the file replaces ``path``; else it is removed.

    Temporary files that a killed process left beside ``path`` are removed as well. ``size`` is the file's size in
    bytes, if known. Raises ArtifactError when ``path`` exists and is not a regular file, and on a full disk, whichever
    library reported it. Other OSErrors name ``path``, not the temporary file.
    """
    if path.exists() and not path.is_file():
        raise ArtifactError(f"{path} is no regular file; expected a path to write a file to; choose another")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode & 0o777  # as the umask allows; some libraries set fewer permissions
    except OSError as error:  # the error itself would name the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        if (number := error_number(error)) is not None:
            raise ArtifactError(not_written(path, number, size)) from None
        if isinstance(error, OSError) and error.filename in (None, temporary, str(temporary)):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces ``folder`` when the block succeeds; else ``folder`` is unchanged.

    Raises ArtifactError on a full disk.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    built, old = temporary / "new", temporary / "old"
    try:
        built.mkdir()
        yield built
        try:
            if folder.exists():
                folder.rename(old)
            built.rename(folder)
        except BaseException:  # a signal between the two renames, too
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
    except OSError as error:
        if (number := error_number(error)) is None:
            raise
        raise ArtifactError(not_written(folder, number)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def error_number(error: Exception) -> int | None:
    """The errno of an error that means a full disk or quota; None for any other error."""
    told = re.search(r"os error (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    return number if number in (errno.ENOSPC, errno.EDQUOT) else None


def not_written(path: Path, number: int, size: int | None = None) -> str:
    """The message for a full disk: the file, its size and the free space."""
    free = f"{shutil.disk_usage(path.parent).free:,} bytes are free"
    takes = free if size is None else f"it takes {size:,} bytes, {free}"
    return f"{path} is not written: {os.strerror(number)} ({takes}); make room, then run the same command again"


def remove_leftovers(path: Path) -> None:
    """Remove temporary files and folders of ``path`` that a killed process left beside it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    data = text.encode()
    with atomic_write(path, len(data)) as temporary:
        temporary.write_bytes(data)


def canonical_json(value: Any) -> str:
    """JSON as it is written inside files: sorted keys, no spaces. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def pretty_json(value: Any) -> str:
    """JSON for people and Git: sorted keys, indented, a newline at the end. Raises ValueError for NaN, infinity."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    write_text(path, pretty_json(value))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[float]]) -> None:
    """Write a CSV of numbers with eight significant digits."""
    lines = [",".join(header), *(",".join(f"{value:.8g}" for value in row) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def read_csv(path: Path, x: str, y: str) -> list[tuple[int, float]]:
    """Read two columns of a CSV written by :func:`write_csv`: counts in ``x``, finite numbers in ``y``.

    Raises ArtifactError when the file is missing or is not such a table.
    """
    try:
        header, *lines = content(path).decode().splitlines()
        places = [header.split(",").index(name) for name in (x, y)]
        cells = [line.split(",") for line in lines]
        return [(count_in(row[places[0]]), number_in(row[places[1]])) for row in cells]
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; expected a curve; run the stage that writes it") from None
    except (ValueError, IndexError) as error:
        raise ArtifactError(f"{path} is no table of {x} and {y} ({error}); run its stage again") from None


def count_in(cell: str) -> int:
    """The count in a cell. Raises ValueError unless the cell has 1 to 15 digits and nothing else."""
    if not (cell.isascii() and cell.isdigit() and len(cell) <= 15):
        raise ValueError(f"found {shown(cell, 40)} for a count")
    return int(cell)


def number_in(cell: str) -> float:
    """The number in a cell. Raises ValueError for text, NaN, infinity, and numbers beyond float32's range."""
    if not abs(value := float(cell)) <= LARGEST:
        raise ValueError(f"found {shown(cell, 40)} for a number")
    return value
