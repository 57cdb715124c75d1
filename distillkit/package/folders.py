"""Folders of packages: which names are safe, which files count, and how one takes another's place."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distillkit.base.errors import ArtifactError
from distillkit.base.files import atomic_folder

MANIFEST, CARD = "manifest.json", "README.md"
FROM_THE_HUB = (".gitattributes", ".cache")  # what the Hub and its client add to a folder
JUNK = (".DS_Store", "Thumbs.db", "desktop.ini")  # what file browsers leave behind; never listed, never sent


def files_in(folder: Path) -> set[str]:
    """Paths in ``folder`` of all files (and links to folders) but the manifest and what the Hub adds."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = {path.relative_to(folder).as_posix() for path in paths}
    parts = {name: name.split("/") for name in names - {MANIFEST}}
    return {name for name, part in parts.items() if part[0] not in FROM_THE_HUB and part[-1] not in JUNK}


def check_target(folder: Path) -> None:
    """Raise ArtifactError unless a package may take the place of ``folder``: nothing, an empty folder, or a package."""
    if folder.is_symlink() and not folder.exists():
        raise ArtifactError(f"{folder} is a link to nothing; expected a folder to write to; choose another")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise ArtifactError(f"{folder} is where you are, and would be replaced; go elsewhere or choose another folder")
    if folder.exists() and not (folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))):
        expected = "expected nothing or an earlier package there; remove it or choose another folder"
        raise ArtifactError(f"{folder} exists and is no package; {expected}")
    parent = next(path for path in folder.resolve().parents if path.exists())
    if not parent.is_dir():
        raise ArtifactError(f"{parent} is no folder, so {folder} cannot be in it; choose another folder")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder`` when the block ends well; what the Hub added stays.

    Raises ArtifactError for what a package may not take the place of.
    """
    check_target(folder)
    with atomic_folder(folder) as built:
        yield built
        for name in FROM_THE_HUB:
            if (folder / name).is_dir():
                shutil.copytree(folder / name, built / name)
            elif (folder / name).is_file():
                shutil.copyfile(folder / name, built / name)
