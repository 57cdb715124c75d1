"""Whether DVC's remotes answer: asked in a way that raises where nobody does, as ``exists`` of many filesystems does
not."""

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
    """What a remote says of its own folder. Raises what its filesystem raises when it does not answer."""
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
    remedy = f"correct its address: dvc remote modify {name} url URL; is a disk not mounted, a bucket not made?"
    return Finding(check, "failure", f"{protocol}: neither the folder nor what should hold it exists", remedy)


def entry_of(files: Any, path: str) -> dict[str, Any] | None:
    """What there is at a path; None when the filesystem answers that there is nothing."""
    try:
        found: dict[str, Any] = files.info(path)
    except FileNotFoundError:
        return None
    return found


def parents(files: Any, path: str) -> list[str]:
    """Where the folder would be made: the folder above it; in an object store, where folders are but names, any."""
    from dvc_objects.fs.base import ObjectFileSystem

    above = [str(parent) for parent in files.parents(path) if str(parent) not in ("", ".", path)]
    return above if isinstance(files, ObjectFileSystem) else above[:1]


def status_of(files: Any, url: str) -> int:
    """The HTTP status that a request for the remote's folder gets, with the remote's own credentials."""
    from fsspec.asyn import sync

    async def ask() -> int:
        session = await files.set_session()
        async with session.get(url, allow_redirects=True, raise_for_status=False) as response:
            return int(response.status)

    status: int = sync(files.loop, ask)
    return status


def from_the_web(check: str, protocol: str, status: int) -> Finding:
    """Of a web server's answer: what is not there may be that a folder has no page, as anywhere."""
    if status in REFUSED:
        remedy = "check your credentials: dvc remote modify --local"
        return Finding(check, "failure", f"{protocol} answers {status}: access is refused", remedy)
    if status >= 500:
        return Finding(check, "failure", f"{protocol} answers {status}", "look after the server, or try again later")
    return Finding(check, "ok", f"{protocol} answers")
