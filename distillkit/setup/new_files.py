"""Writing of files into the user's repository: all or none, and without overwriting."""

import difflib
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from distillkit.base.errors import ParamsError
from distillkit.base.files import write_text
from distillkit.sources.summary import Summary

TEMPLATES = Path(__file__).parents[1] / "template"  # in the wheel; in a checkout, the original files are used
ROOT = TEMPLATES if TEMPLATES.is_dir() else Path(__file__).parents[2]
HEAD = "# Written by `distillkit init`, version {version}; you can edit this file.\n"


@dataclass(frozen=True)
class Plan:
    """The files to write: text by path relative to the pipeline's ``folder``. ``summary`` describes the images, if
    read. ``notes`` are lines for the user.
    """

    folder: Path
    files: Mapping[Path, str]
    summary: Summary | None = None
    notes: tuple[str, ...] = ()

    def target(self, path: Path) -> Path:
        """The absolute path of a file. The folder need not exist for a ``..`` in the path."""
        return Path(os.path.normpath(self.folder.resolve() / path))

    def conflicts(self) -> list[str]:
        """Reasons not to write: existing files where folders are needed, and files with another content."""
        blocked = sorted({found for path in self.files for found in self.no_folders(path)})
        differing = [f"{self.named(path)} is there already and differs" for path in self.differing()]
        return [*(f"{path} is there already and is no folder" for path in blocked), *differing]

    def no_folders(self, path: Path) -> Iterator[Path]:
        for parent in (*self.target(path).parents, self.folder):
            if exists(parent) and not parent.is_dir():
                yield Path(os.path.relpath(parent))

    def differing(self) -> list[Path]:
        return [path for path, text in self.files.items() if exists(self.target(path)) and self.found(path) != text]

    def named(self, path: Path) -> Path:
        return Path(os.path.normpath(self.folder / path))

    def found(self, path: Path) -> str | None:
        """The text of an existing file; None when it cannot be read as text."""
        try:
            return self.target(path).read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            return None


def exists(path: Path) -> bool:
    """Whether the path exists, even as a broken link."""
    return os.path.lexists(path)


def write(planned: Plan) -> list[Path]:
    """Write all files or none, and return the new ones. Raises ParamsError for a conflict.

    Existing files with the same content are not written again.
    """
    if conflicts := planned.conflicts():
        raise ParamsError(f"{conflicts[0]}; expected nothing there; nothing was written")
    missing = [path for path in planned.files if not exists(planned.target(path))]
    made: list[Path] = []
    try:
        for name in missing:
            path = planned.target(name)
            made += [path, *(parent for parent in path.parents if not exists(parent))]
            write_text(path, planned.files[name])
    except BaseException:
        unmake(made)
        raise
    return missing


def outcome(planned: Plan, written: list[Path]) -> str:
    """The result of :func:`write` in one line."""
    kept, following = len(planned.files) - len(written), f"next: {next_command(planned.folder)}"
    if not written:
        there = "the file is" if kept == 1 else f"all {kept} files are"
        return f"nothing to write: {there} in {planned.folder} already, with the same content; {following}"
    names = " and ".join(str(planned.named(path)) for path in written)
    what = f"{len(written)} files to {planned.folder}" if len(written) > 2 else names
    return f"wrote {what}{f' ({kept} were there already)' if kept else ''}; {following}"


def unmake(made: list[Path]) -> None:
    """Remove new files, and new folders if they are empty."""
    for path in sorted(made, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()


def differences(planned: Plan) -> Iterator[str]:
    """The differences between existing files and the new ones, as unified diffs."""
    for path in planned.differing():
        name, found = planned.named(path), planned.found(path)
        if found is None:
            yield f"{name} exists, but cannot be read as text"
            continue
        old, new = found.splitlines(), planned.files[path].splitlines()
        changes = list(difflib.unified_diff(old, new, f"{name} (yours)", f"{name} (distillkit's)", lineterm=""))
        yield from changes or [f"{name} differs in its line endings"]


def remedy(conflict: str) -> str:
    """What to do about something that is in the way."""
    by_hand = "change it by hand as shown, " if conflict.endswith("differs") else ""
    if ".github/" in conflict:
        return f"{by_hand}remove it, or leave out --ci"
    names = chain(["distill"], (f"distill-{number}" for number in count(2)))
    return f"{by_hand}remove it, or name a new folder: distillkit init {next(n for n in names if not exists(Path(n)))}"


def next_command(folder: Path) -> str:
    """The next command to run in the current folder."""
    here = Path(os.path.relpath(folder.resolve()))
    return "dvc repro" if here == Path() else f"dvc repro {shlex.quote((here / 'dvc.yaml').as_posix())}"
