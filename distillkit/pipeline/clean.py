"""``distillkit clean``: what params.yaml no longer asks for, and what is left of work that was given up."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from distillkit.base import params
from distillkit.base.errors import ParamsError
from distillkit.data.leftovers import FOLDERS, LEFT_OVER, stems, unnamed
from distillkit.process.lockfile import forget_removed
from distillkit.process.locks import is_held

WRITTEN = ("artifacts", "metrics", "reports")
KEPT_FOR_LATER = (".distillkit/work", ".distillkit/live")
PACKAGES = "artifacts/hub"
MIB = 2**20


class Item(NamedTuple):
    """A file or folder that may go, why, and how many bytes it takes."""

    path: Path
    why: str
    size: int


def found(folder: Path) -> Iterator[tuple[Path, str]]:
    """All that may go in the pipeline's ``folder``, and why. Raises ParamsError when its params.yaml cannot be read."""
    data = params.load(folder / params.FILE)
    unwanted = (unnamed(folder / name, stems(data, section)) for section, names in FOLDERS.items() for name in names)
    for path in dict.fromkeys(path for paths in unwanted for path in paths):  # metrics/audit lies in metrics
        yield path, "of nothing that params.yaml names"
    if (folder / LEFT_OVER).exists():
        yield folder / LEFT_OVER, "moved there: of nothing that params.yaml named"
    package = params.section(data, "package", dict).get("name")
    for path in sorted((folder / PACKAGES).glob("*/manifest.json")):
        if path.parent.name != package:
            yield path.parent, f"a package of another name than {package}"
    for path in (path for name in KEPT_FOR_LATER for path in sorted((folder / name).glob("*"))):
        yield path, f"unfinished work, last touched {age(path)} ago; its stage would go on from it"
    for path in (path for name in WRITTEN for path in sorted((folder / name).rglob(".*.tmp"))):
        yield path, "half a file, left by a process that was killed"


def age(path: Path) -> str:
    """How long ago anything in it was written, in words."""
    newest = max(part.stat().st_mtime for part in [path, *path.rglob("*")])
    hours = (time.time() - newest) / 3600
    return f"{hours / 24:.0f} days" if hours > 48 else f"{hours:.0f} hours" if hours >= 1 else "less than an hour"


def size(path: Path) -> int:
    """Bytes of a file, or of all that is in a folder."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(part.lstat().st_size for part in paths if not part.is_dir())


def clean(folder: Path, delete: bool) -> tuple[list[Item], list[str]]:
    """What may go, and which entries of dvc.lock; with ``delete`` it is gone when this returns.

    Raises ParamsError when a stage is running there, whose work it would take away.
    """
    if delete and is_held(folder):
        raise ParamsError(f"a stage is running in {folder}; expected none; wait for its end, and clean again")
    items = [Item(path, why, size(path)) for path, why in found(folder)]
    entries = forget_removed(folder, dry=not delete) if (folder / "dvc.yaml").exists() else []
    for item in items if delete else ():
        if item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        else:
            item.path.unlink(missing_ok=True)
    return items, entries


def lines(items: Sequence[Item], entries: Sequence[str], deleted: bool) -> Iterator[str]:
    """For people."""
    verb = "deleted" if deleted else "would delete"
    for item in items:
        yield f"{verb} {item.path} ({item.size / MIB:.1f} MiB): {item.why}"
    for name in entries:
        yield f"{verb} the entry {name} of dvc.lock: params.yaml does not name it"
    total = f"{sum(item.size for item in items) / MIB:.1f} MiB"
    yield total if deleted else f"{total}; nothing is deleted without --delete"
