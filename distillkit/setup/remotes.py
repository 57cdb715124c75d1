"""Whether DVC's remotes can be reached. The checks use calls that raise when there is no answer; ``exists`` of many
filesystems does not raise.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from distillkit.setup.diagnostics import Finding, answered, brief

WEB = ("http", "https")
REFUSED = (401, 403, 407)


def dvc_remotes(folder: Path) -> Iterator[Finding]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(folder))
    except DvcException as error:
        yield Finding("dvc repository", "failure", brief(error), "dvc init")
        return
    with repo:
        names = list(repo.config["remote"])
        if not names:
            yield Finding("dvc remote", "warning", "none; results stay on this machine", "dvc remote add -d NAME URL")
        for name in names:
            yield answered(f"dvc remote {name}", partial(reached, repo, name))


def reached(repo: Any, name: str) -> Finding:
    """The state of a remote's folder. Raises the filesystem's errors when it does not answer."""
    check, remote = f"dvc remote {name}", repo.cloud.get_remote(name)
    files, protocol = remote.fs, str(remote.fs.protocol)
    if protocol in WEB:
        return from_the_web(check, protocol, status_of(files.fs, remote.path))
    if (entry := entry_of(files, remote.path)) is not None:
        if entry.get("type") == "file":
            return Finding(check, "failure", f"{protocol}: it is a file; expected a folder", "correct its address")
        return Finding(check, "ok", f"{protocol} answers")
    if any(entry_of(files, parent) is not None for parent in parents(files, remote.path)):
        return Finding(check, "warning", f"{protocol} answers, but the folder does not exist yet", "dvc push makes it")
    remedy = f"correct its address: dvc remote modify {name} url URL; or mount the disk, or create the bucket"
    return Finding(check, "failure", f"{protocol}: neither the folder nor its parent exists", remedy)


def entry_of(files: Any, path: str) -> dict[str, Any] | None:
    """The entry at a path; None when the filesystem answers that it does not exist."""
    try:
        found: dict[str, Any] = files.info(path)
    except FileNotFoundError:
        return None
    return found


def parents(files: Any, path: str) -> list[str]:
    """The parent folder; in an object store, where folders are only names, all parents."""
    from dvc_objects.fs.base import ObjectFileSystem

    above = [str(parent) for parent in files.parents(path) if str(parent) not in ("", ".", path)]
    return above if isinstance(files, ObjectFileSystem) else above[:1]


def status_of(files: Any, url: str) -> int:
    """The HTTP status of a request for the remote's folder, with the remote's credentials."""
    from fsspec.asyn import sync

    async def ask() -> int:
        session = await files.set_session()
        async with session.get(url, allow_redirects=True, raise_for_status=False) as response:
            return int(response.status)

    status: int = sync(files.loop, ask)
    return status


def from_the_web(check: str, protocol: str, status: int) -> Finding:
    """The finding for a web server's status. 404 is no failure, because a folder often has no page."""
    if status in REFUSED:
        remedy = "check your credentials: dvc remote modify --local"
        return Finding(check, "failure", f"{protocol} answers {status}: access is refused", remedy)
    if status >= 500:
        return Finding(check, "failure", f"{protocol} answers {status}", "check the server, or try again later")
    return Finding(check, "ok", f"{protocol} answers")
