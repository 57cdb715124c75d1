"""A Git merge driver for dvc.lock, which merges by stage.

Git merges it by lines. So two people who each add a recipe get a conflict, as both add lines at the end.
"""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from distillkit.base.errors import ArtifactError
from distillkit.base.files import write_text
from distillkit.process.lockfile import NAME

DRIVER = "dvc-lock"
ATTRIBUTE = f"{NAME} merge={DRIVER}"
COMMAND = "distillkit merge-lock %O %A %B %P"


class Merged(NamedTuple):
    """Entries by name; those that both sides changed, each in its own way, are ``conflicts``, with both versions.

    The version of a side that has removed the entry is None.
    """

    entries: dict[str, Any]
    conflicts: dict[str, tuple[Any, Any]]


def merged(base: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Merged:
    """Three-way merge by name. Our order stays; what only they have comes last, as DVC adds new stages."""
    entries, conflicts = dict[str, Any](), dict[str, tuple[Any, Any]]()
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        before, one, other = (side.get(name) for side in (base, ours, theirs))
        if one == other or other == before:
            chosen = one
        elif one == before:
            chosen = other
        else:
            conflicts[name] = (one, other)
            chosen = one or other  # its place
        if chosen is not None:
            entries[name] = chosen
    return Merged(entries, conflicts)


def merge_lock(base: Path, ours: Path, theirs: Path, name: str, rerun: bool = False) -> list[str]:
    """Merge into ``ours``, as Git asks its drivers; the stages in conflict, whose two versions are then marked there.

    With ``rerun``, such stages are left out instead, so that ``dvc repro`` makes them again. Raises ArtifactError where
    a side is no dvc.lock; the file then has Git's own merge, with its conflicts.
    """
    from dvc.utils.serialize import dumps_yaml

    try:
        sides = [read(path) for path in (base, ours, theirs)]
    except ValueError as error:
        labels = [part for label in ("ours", "base", "theirs") for part in ("-L", label)]
        subprocess.run(["git", "merge-file", *labels, ours, base, theirs], check=False, capture_output=True)
        raise ArtifactError(f"{name}: {error}; expected a whole dvc.lock; merged by lines, look through it") from None
    stages = merged(*(side.get("stages", {}) for side in sides))
    others = merged(*({key: value for key, value in side.items() if key != "stages"} for side in sides))
    conflicts = {} if rerun else stages.conflicts
    kept = {key: value for key, value in stages.entries.items() if key in conflicts or key not in stages.conflicts}
    if others.conflicts or conflicts:
        text = marked({**others.entries, **({"stages": kept} if kept else {})}, {**conflicts, **others.conflicts})
    else:
        text = dumps_yaml({**others.entries, **({"stages": kept} if kept else {})})
    write_text(ours, text)
    return [*conflicts, *others.conflicts]


def read(path: Path) -> dict[str, Any]:
    """The entries of a dvc.lock; an empty file, which Git gives where there is no common version, has none."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import ParseError, parse_yaml
    from voluptuous import Invalid

    try:
        data: dict[str, Any] = parse_yaml(path.read_text(encoding="utf-8"), path) or {}
        if data:
            COMPILED_LOCKFILE_SCHEMA(data)
    except (UnicodeDecodeError, ParseError, Invalid) as error:
        raise ValueError(f"one side cannot be read ({' '.join(str(error).split())[:200]})") from None
    return data


def marked(data: Mapping[str, Any], conflicts: Mapping[str, tuple[Any, Any]]) -> str:
    """The text of a dvc.lock, with both versions of what is in conflict between Git's markers."""

    def parts(entries: Mapping[str, Any], indent: str) -> Iterable[str]:
        for name, entry in entries.items():
            if name == "stages" and not indent:
                yield "stages:\n" + "".join(parts(entry, "  "))
            elif name in conflicts:
                one, other = (lines(name, side, indent) for side in conflicts[name])
                yield f"<<<<<<< ours\n{one}=======\n{other}>>>>>>> theirs\n"
            else:
                yield lines(name, entry, indent)

    return "".join(parts(data, ""))


def lines(name: str, entry: Any, indent: str) -> str:
    """YAML of one entry; nothing where a side has removed it."""
    from dvc.utils.serialize import dumps_yaml

    if entry is None:
        return ""
    return "".join(f"{indent}{line}\n" for line in dumps_yaml({name: entry}).splitlines())


def install(rerun: bool = False) -> list[str]:
    """Make Git merge every dvc.lock of the repository in this folder so; what was done, for people."""
    root = git("rev-parse", "--show-toplevel")
    command = COMMAND.replace("merge-lock", "merge-lock --rerun") if rerun else COMMAND
    git("config", f"merge.{DRIVER}.name", "DVC's lock file, by stage")
    git("config", f"merge.{DRIVER}.driver", command)
    path = Path(root) / ".gitattributes"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if ATTRIBUTE in text.splitlines():
        return [f"Git merges {NAME} by stage; .gitattributes says so already"]
    write_text(path, text + "\n" * (bool(text) and not text.endswith("\n")) + ATTRIBUTE + "\n")
    return [f"Git merges {NAME} by stage; commit .gitattributes; every clone runs this command once"]


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        found = " ".join(done.stderr.split()) or f"git {arguments[0]} failed"
        raise ArtifactError(f"{found}; expected a Git repository; run this in one")
    return done.stdout.strip()
