"""Files to be written into other people's repositories: all of them or none, and never over anything."""

import difflib
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from distillkit.base.errors import ParamsError
from distillkit.base.files import write_text
from distillkit.sources.summary import Summary

TEMPLATES = Path(__file__).parents[1] / "template"  # in the wheel; in a checkout the files themselves
ROOT = TEMPLATES if TEMPLATES.is_dir() else Path(__file__).parents[2]
HEAD = "# Written by `distillkit init`, version {version}; yours from now on.\n"


@dataclass(frozen=True)
class Plan:
    """What to write: text by path from the folder of the pipeline; ``summary`` is of the images, if they were read.

    ``notes`` are lines about it for people.
    """

    folder: Path
    files: Mapping[Path, str]
    summary: Summary | None = None
    notes: tuple[str, ...] = ()

    def target(self, path: Path) -> Path:
        """Where a file goes; the folder need not be there for the ``..`` in a path."""
        return Path(os.path.normpath(self.folder.resolve() / path))

    def conflicts(self) -> list[str]:
        """What stands in the way: what is no folder where one is needed, and files that say something else."""
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
        """What a file says; None when it cannot be read as text."""
        try:
            return self.target(path).read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            return None


def exists(path: Path) -> bool:
    """Whether there is anything at all, be it a link to nothing."""
    return os.path.lexists(path)


def write(planned: Plan) -> list[Path]:
    """Write every file, each whole, or none, and say which. Raises ParamsError when something stands in the way.

    What is there already and says the same is left alone.
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
    """What :func:`write` did, in a line."""
    kept, following = len(planned.files) - len(written), f"next: {next_command(planned.folder)}"
    if not written:
        there = "the file is" if kept == 1 else f"all {kept} files are"
        return f"nothing to write: {there} in {planned.folder} already, as it would be written; {following}"
    what = f"{len(written)} files to {planned.folder}" if len(written) > 1 else str(planned.named(written[0]))
    return f"wrote {what}{f' ({kept} were there already)' if kept else ''}; {following}"


def unmake(made: list[Path]) -> None:
    """Remove files, and the folders that were made for them, where they are empty."""
    for path in sorted(made, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()


def differences(planned: Plan) -> Iterator[str]:
    """What would change in files that are there, as unified diffs."""
    for path in planned.differing():
        name, found = planned.named(path), planned.found(path)
        if found is None:
            yield f"{name} is there, but cannot be read as text"
            continue
        old, new = found.splitlines(), planned.files[path].splitlines()
        changes = list(difflib.unified_diff(old, new, f"{name} (yours)", f"{name} (distillkit's)", lineterm=""))
        yield from changes or [f"{name} differs in how its lines end"]


def next_command(folder: Path) -> str:
    """What to run where one stands."""
    here = Path(os.path.relpath(folder.resolve()))
    return "dvc repro" if here == Path() else f"dvc repro {shlex.quote((here / 'dvc.yaml').as_posix())}"
