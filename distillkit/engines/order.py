"""The order for a job: a tar with the current files of the repository and with settings for the node.

The files are those that Git tracks or would add, including changes that are not committed. Files under DVC are not in
it: the node gets them from DVC's cache or remote.
"""

import hashlib
import io
import json
import os
import secrets
import subprocess
import tarfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any, NamedTuple

from distillkit.base.errors import DistillkitError
from distillkit.base.files import write_text
from distillkit.engines.results import offer, opened, reaching

ORDER, CONFIG = "order.json", ".dvc/config"
LARGEST = 256 * 2**20  # bytes of files that are not under DVC
PACKAGES = ("torch", "numpy", "dvc")  # besides distillkit itself, packages that can change a result or how it is stored
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # they change how a large network rounds
PACKAGE = Path(__file__).parents[1]


class Places(NamedTuple):
    """Where jobs and controller exchange files: a DVC ``remote``, if any, and a folder ``work`` for unfinished work.

    A node that can access DVC's cache uses it instead of the remote, except with ``alone``.
    """

    remote: str | None
    alone: bool = False
    work: Path | None = None


def versions() -> dict[str, str]:
    """The versions that have to be the same on all nodes; for distillkit, a digest of its code."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE)}\n".encode() + path.read_bytes())
    found = {"python": ".".join(python_version().split(".")[:2]), "distillkit": digest.hexdigest()[:12]}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def differences(here: dict[str, str], there: dict[str, str]) -> str:
    """ "torch 2.9 (here 2.14)" for each version that differs."""
    return ", ".join(f"{name} {there.get(name)} (here {here[name]})" for name in here if here[name] != there.get(name))


def token(cache: Path) -> str:
    """A random text in a file of the cache. A node that reads the same text has access to the same cache."""
    path = cache / ".distillkit"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        write_text(path, secrets.token_hex(16))
    return path.read_text(encoding="utf-8")


def pack(address: str, places: Places, offered: set[str]) -> bytes:
    """The order for one stage. If a remote is used, the stage's inputs are pushed to it first.

    Raises DistillkitError outside a Git repository, and if the files outside DVC are too large to send.
    """
    with opened(address, places.remote) as (repo, stage):
        root = Path(repo.root_dir)
        if places.remote is not None:
            with reaching(places.remote):
                offer(repo, stage, places.remote, offered)
        paths = sorted({*files_of_git(root), *plain_inputs(repo, stage, root)} - {CONFIG, ".dvc/config.local"})
        check_size(root, paths)
        cache = Path(repo.cache.local_cache_dir).resolve()
        order = {
            "stage": address,
            "folder": os.path.relpath(Path.cwd(), root),
            "work": str(places.work.resolve() if places.work else Path(stage.wdir).resolve() / ".distillkit"),
            "work_given": places.work is not None,
            "stage_folder": os.path.relpath(Path(stage.wdir).resolve(), root),
            "cache": str(cache),
            "token": "" if places.alone else token(cache),
            "remote": places.remote,
            "versions": versions(),
            "environment": {name: os.environ[name] for name in os.environ if name.startswith("DISTILLKIT_")}
            | {name: os.environ.get(name) for name in THREADS},
        }
        return tar_of(root, paths, {ORDER: json.dumps(order, sort_keys=True), CONFIG: config_text(repo, places.remote)})


def files_of_git(root: Path) -> Iterator[str]:
    """Paths, relative to ``root``, of all files that Git tracks or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DistillkitError(
            f"{root} is not in a Git repository; expected one, because jobs get the files that Git lists; run git init"
        )
    for name in set(done.stdout.split("\0")) - {""}:
        if ".distillkit" not in Path(name).parts and ((root / name).is_symlink() or (root / name).is_file()):
            yield name


def plain_inputs(repo: Any, stage: Any, root: Path) -> Iterator[str]:
    """The inputs of the stage that are not under DVC, also those that Git ignores."""
    kept = [Path(out.fs_path) for out in repo.index.outs if out.use_cache]
    for dep in stage.deps:
        path = Path(dep.fs_path)
        if dep.protocol != "local" or not path.is_relative_to(root) or any(path.is_relative_to(out) for out in kept):
            continue
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file() and not any(file.is_relative_to(out) for out in kept):
                yield file.relative_to(root).as_posix()


def check_size(root: Path, paths: list[str]) -> None:
    sizes = {path: (root / path).lstat().st_size for path in paths}
    if sum(sizes.values()) > LARGEST:
        largest = max(sizes, key=lambda path: sizes[path])
        found = f"files outside DVC have {sum(sizes.values()):,} bytes ({largest}: {sizes[largest]:,})"
        raise DistillkitError(
            f"{found}; expected at most {LARGEST:,}, because each job gets a copy; dvc add the large ones"
        )


def config_text(repo: Any, remote: str | None) -> str:
    """DVC's configuration for a job: our cache types and remotes, without what is only valid here."""
    from configobj import ConfigObj

    written = ConfigObj()
    core: dict[str, Any] = {"no_scm": True, "analytics": False, "check_update": False}
    written["core"] = core | ({"remote": remote} if remote else {})
    written["cache"] = {name: repo.config["cache"][name] for name in ("type",) if repo.config["cache"].get(name)}
    for name, options in repo.config["remote"].items() if remote else ():
        written[f'remote "{name}"'] = {option: value for option, value in options.items() if value is not None}
    return "\n".join(written.write())


def tar_of(root: Path, paths: list[str], texts: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path in paths:
            archive.add(root / path, path, recursive=False)
        for name, text in texts.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o600
            archive.addfile(info, io.BytesIO(text.encode()))
    return data.getvalue()
