"""``distillkit clean``: files that params.yaml no longer needs, and abandoned unfinished work."""

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
SNAPSHOTS = "artifacts/snapshots"  # of recipes; not under DVC, so no stage moves any of them away
KEPT_FOR_LATER = (".distillkit/work", ".distillkit/live")
PACKAGES = "artifacts/hub"


class Item(NamedTuple):
    """A file or folder that can be deleted, why, and its size in bytes."""

    path: Path
    why: str
    size: int


def found(folder: Path) -> Iterator[tuple[Path, str]]:
    """Everything in the pipeline's ``folder`` that can be deleted, and why. Raises ParamsError for an unreadable
    params.yaml.
    """
    data = params.load(folder / params.FILE)
    made = {**FOLDERS, "recipes": (*FOLDERS["recipes"], SNAPSHOTS)}
    unwanted = (unnamed(folder / name, stems(data, section)) for section, names in made.items() for name in names)
    for path in dict.fromkeys(
        path for paths in unwanted for path in paths
    ):  # without duplicates: metrics/audit is inside metrics
        yield path, "it belongs to nothing in params.yaml"
    if (folder / LEFT_OVER).exists():
        yield folder / LEFT_OVER, "files moved there because they belonged to nothing in params.yaml"
    package = params.section(data, "package", dict).get("name")
    for path in sorted((folder / PACKAGES).glob("*/manifest.json")):
        if path.parent.name != package:
            yield path.parent, f"a package with another name than {package}"
    for path in (path for name in KEPT_FOR_LATER for path in sorted((folder / name).glob("*"))):
        yield path, f"unfinished work, last written {age(path)} ago; its stage would continue it"
    for path in (path for name in WRITTEN for path in sorted((folder / name).rglob(".*.tmp"))):
        yield path, "an incomplete file of a process that was killed"


def age(path: Path) -> str:
    """The time since anything in ``path`` was written, as text."""
    newest = max(part.stat().st_mtime for part in [path, *path.rglob("*")])
    hours = (time.time() - newest) / 3600
    return f"{hours / 24:.0f} days" if hours > 48 else f"{hours:.0f} hours" if hours >= 1 else "less than an hour"


def size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(part.lstat().st_size for part in paths if not part.is_dir())


def clean(folder: Path, delete: bool) -> tuple[list[Item], list[str]]:
    """Find, and with ``delete`` delete, items and entries of dvc.lock that are not needed. Returns both.

    Raises ParamsError when a stage is running in ``folder``, because deletion would remove its work.
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
    """The result as lines of text."""
    verb = "deleted" if deleted else "would delete"
    for item in items:
        yield f"{verb} {item.path} ({written(item.size)}): {item.why}"
    for name in entries:
        yield f"{verb} the entry {name} of dvc.lock: params.yaml does not name it"
    if not items and not entries:
        yield "nothing is left over"
        return
    total = written(sum(item.size for item in items))
    yield total if deleted else f"{total}; nothing is deleted without --delete"


def written(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"
