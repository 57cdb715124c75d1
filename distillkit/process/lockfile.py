"""Repairs of DVC's ``dvc.lock`` and rwlock: entries of removed stages, and incomplete files after a kill."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distillkit.base.arguments import conflict
from distillkit.base.files import write_text

NAME, RWLOCK = "dvc.lock", ".dvc/tmp/rwlock"


def dvc_root(folder: Path) -> Path | None:
    """The nearest folder from ``folder`` up with a ``.dvc``, also one of ``dvc init --subdir``; None without one."""
    return next((path for path in (folder.resolve(), *folder.resolve().parents) if (path / ".dvc").is_dir()), None)


def keep_stages(path: Path, wanted: Sequence[str]) -> None:
    """Keep only the entries of the stages ``wanted``, in this order. The file is replaced atomically."""
    from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

    data = parse_yaml_for_update(path.read_text(encoding="utf-8"), path)
    data["stages"] = {name: data["stages"][name] for name in wanted}
    write_text(path.resolve(), dumps_yaml(data))


def forget_removed(folder: Path = Path(), *, dry: bool = False) -> list[str]:
    """Remove shards and recipes from dvc.lock that params.yaml no longer names, unless ``dry``. Returns their stage
    names.
    """
    from dvc.dvcfile import load_file
    from dvc.repo import Repo, lock_repo
    from dvc.utils.serialize import load_yaml

    path = folder / NAME
    with Repo(str(folder), _wait_for_lock=True) as repo, lock_repo(repo):
        found = list(load_yaml(path).get("stages", ())) if path.exists() else []
        made = set(load_file(repo, str(folder.resolve() / "dvc.yaml")).stages)
        removed = [name for name in found if "@" in name and name not in made]
        if removed and not dry:
            keep_stages(path, [name for name in found if name not in removed])
    return removed


def is_broken(path: Path) -> bool:
    """Whether DVC cannot read the file, for example because it was killed while writing. Merge conflicts do not
    count.
    """
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import ParseError, parse_yaml
    from voluptuous import Invalid

    try:
        text = path.read_text(encoding="utf-8")
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(text, path))
        return not text.endswith("\n")  # a file that is cut inside a hash can be parsed
    except FileNotFoundError:
        return False
    except (UnicodeDecodeError, ParseError, Invalid):
        return not conflict(path)


def read_rwlock(path: Path) -> dict[str, Any] | None:
    """What DVC's processes are reading and writing, by the rwlock at ``path``; nothing if there is no such file.

    None if DVC cannot read the file.
    """
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid

    try:
        return dict(SCHEMA(json.loads(path.read_text(encoding="utf-8") if path.exists() else "{}")))
    except (ValueError, Invalid):
        return None


def words(error: Exception) -> str:
    """An error of DVC in one line; of a file that DVC cannot parse, with the line where it stopped."""
    cause = error.__cause__
    if (mark := getattr(cause, "problem_mark", None)) is None:
        return " ".join(str(error).split())
    return f"{error} (line {mark.line + 1}: {getattr(cause, 'problem', None) or 'not valid YAML'})"


def unparsed(file: Path) -> str:
    """Why DVC cannot parse a YAML file; empty if it can, or if there is none."""
    from dvc.utils.serialize import ParseError, parse_yaml

    try:
        parse_yaml(file.read_text(encoding="utf-8"), file)
    except FileNotFoundError:
        return ""
    except (UnicodeDecodeError, ParseError) as error:
        found = conflict(file)
        return f"has a merge conflict at line {found}" if found else words(error)
    return ""


def put_back(root: Path, say: Callable[[str], None]) -> None:
    """Replace each broken dvc.lock of the repository at ``root`` by the last commit's version, or remove it.

    DVC restores later results from its run-cache.
    """
    for name in lock_files(root):
        path = root / name
        if not is_broken(path):
            continue
        path.unlink()
        committed = git(root, "show", f"HEAD:./{name}")
        if committed:
            write_text(path, committed)
        if is_broken(path):
            path.unlink()
        now = "put back as it was committed" if path.exists() else "removed"
        say(f"DVC cannot read {name}, as after a killed dvc: {now}; DVC takes later results from its run-cache")


def lock_files(root: Path) -> list[str]:
    """Paths of all dvc.lock files, relative to ``root``, in Git or untracked."""
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", NAME, f"**/{NAME}")
    return sorted({*listed.split("\0"), NAME} - {""})


def git(root: Path, *arguments: str) -> str:
    """The output of a git command; empty when it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
