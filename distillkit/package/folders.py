"""Folders of packages: which files belong to a package, and how a new package replaces an earlier one."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distillkit.base.errors import ArtifactError
from distillkit.base.files import atomic_folder
from distillkit.base.outside import UnreadableError, content, read_json

MANIFEST, CARD, CROISSANT = "manifest.json", "README.md", "croissant.json"
SIGN_OFFS = "sign-offs"  # a folder of other people's findings, added after the manifest and not listed in it
FROM_THE_HUB = (".gitattributes", ".cache")  # what the Hub and its client add to a folder
SIGN_OFF = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.json(\.sig)?")  # in that folder, with a signature beside it
JUNK = (".DS_Store", "Thumbs.db", "desktop.ini")  # what file browsers leave behind; never listed, never sent


def files_in(folder: Path) -> set[str]:
    """Paths in ``folder`` of all files and links to folders, except manifest, sign-offs and files that the Hub adds."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = {path.relative_to(folder).as_posix() for path in paths}
    parts = {name: name.split("/") for name in names - {MANIFEST}}
    listed = {name for name, part in parts.items() if part[0] not in FROM_THE_HUB and part[-1] not in JUNK}
    return listed - set(sign_offs_in(folder))


def sign_offs_in(folder: Path) -> list[str]:
    """Paths in ``folder`` of sign-offs and their signatures."""
    found = (path for path in (folder / SIGN_OFFS).glob("*") if path.is_file() and SIGN_OFF.fullmatch(path.name))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def check_target(folder: Path) -> None:
    """Raise ArtifactError unless a package may replace ``folder``: it must be missing, empty or a package."""
    if folder.is_symlink() and not folder.exists():
        raise ArtifactError(f"{folder} is a link to a missing target; expected a folder to write to; choose another")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise ArtifactError(f"{folder} contains the current folder, and would be replaced; choose another folder")
    if folder.exists() and not (folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))):
        expected = "expected nothing or an earlier package there; remove it or choose another folder"
        raise ArtifactError(f"{folder} exists and is no package; {expected}")
    parent = next(path for path in folder.resolve().parents if path.exists())
    if not parent.is_dir():
        raise ArtifactError(f"{parent} is no folder, so {folder} cannot be in it; choose another folder")


def check_only_listed(folder: Path) -> None:
    """Raise ArtifactError if a package's folder has files that its manifest does not list, such as a user's."""
    try:
        listed = set(read_json(content(folder / MANIFEST))["files"])
    except (UnreadableError, KeyError, TypeError):
        listed = set()
    if more := sorted(files_in(folder) - listed - {CARD}):
        raise ArtifactError(
            f"{folder} has files that its manifest does not list, such as {more[0]}, which would be removed; expected "
            "only those of a package; move them, or choose another folder"
        )


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder that replaces ``folder`` when the block succeeds; sign-offs and files of the Hub stay.

    Raises ArtifactError if a package may not replace ``folder``, or if it is a package with a user's files in it.
    """
    check_target(folder)
    if (folder / MANIFEST).is_file():
        check_only_listed(folder)
    with atomic_folder(folder) as built:
        yield built
        for name in (*FROM_THE_HUB, SIGN_OFFS):
            if (folder / name).is_dir():
                shutil.copytree(folder / name, built / name, copy_function=copy_new, dirs_exist_ok=True)
            elif (folder / name).is_file():
                shutil.copyfile(folder / name, built / name)


def copy_new(old: str, new: str) -> None:
    """Copy a regular file, unless there is one already."""
    if Path(old).is_file() and not Path(new).exists():
        shutil.copyfile(old, new)
