"""A Hugging Face Hub on the loopback: all that the client asks about datasets, in memory, with faults to order.

    with Hub() as hub:
        HfApi(endpoint=hub.endpoint, token=hub.token).create_repo("someone/set", repo_type="dataset")
        hub.fault(Fault("POST", "/commit/", kind="drop-after"))

A large file goes by LFS, and its bytes are checked against their SHA-256 as the real Hub does. Commits, refs and trees
are real: a revision is a branch, a tag or a commit, and a stale parent is refused. What the server itself gets wrong
is raised when the `with` ends, so that a test cannot pass on a broken server.
"""

import base64
import hashlib
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import EllipsisType
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

import yaml

LARGE_SUFFIXES = (".safetensors", ".parquet", ".png")
LARGE_BYTES = 10 * 2**20
FIRST_FILES = {".gitattributes": b"*.safetensors filter=lfs\n*.parquet filter=lfs\n*.png filter=lfs\n"}
FIRST_DATE = datetime(2026, 1, 1, tzinfo=UTC)


# ── what a repository holds ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Blob:
    """A file's bytes, and whether they are kept by LFS."""

    data: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @cached_property
    def oid(self) -> str:
        """As git names it: of the LFS pointer when there is one."""
        held = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    message: str
    files: dict[str, Blob]
    date: str

    def oid_of(self, path: str) -> str | None:
        """Of a file, of a folder by what lies under it, or nothing."""
        if path in self.files:
            return self.files[path].oid
        under = [f"{blob.oid} {name}" for name, blob in sorted(self.files.items()) if name.startswith(f"{path}/")]
        return hashlib.sha1("\n".join(under).encode()).hexdigest() if under else None

    def listing(self, folder: str, recursive: bool) -> list[str]:
        """The paths in a folder, or all under it, in order, folders among them."""
        start = f"{folder}/" if folder else ""
        found = set()
        for path in self.files:
            if path.startswith(start):
                parts = path[len(start) :].split("/")
                depths = range(1, len(parts) + 1) if recursive else [1]
                found |= {start + "/".join(parts[:depth]) for depth in depths}
        return sorted(found)


class Repo:
    """A dataset repository; `commits` of all branches in the order they came."""

    def __init__(self, name: str, private: bool, lock: AbstractContextManager[bool]):
        self.name, self.private, self.lock = name, private, lock
        self.owner = name.partition("/")[0]
        self.commits: list[Commit] = []
        self.branches: dict[str, str] = {}
        self.tags: dict[str, tuple[str, str]] = {}  # name -> (commit, message)
        self.lfs: dict[str, bytes] = {}  # SHA-256 -> what was uploaded, committed or not
        self.write({path: Blob(data, lfs=False) for path, data in FIRST_FILES.items()}, "initial commit")

    @property
    def head(self) -> str:
        return self.branches["main"]

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag, or a commit's own 40 digits."""
        oid = self.branches.get(revision) or self.tags.get(revision, (revision,))[0]
        return next((commit for commit in self.commits if commit.oid == oid), None)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        commit = self.at(revision)
        assert commit is not None, f"{self.name} has no revision {revision}"
        return {path: blob.data for path, blob in commit.files.items()}

    def history(self, revision: str) -> list[Commit]:
        """A commit and those before it, newest first."""
        found, commit = [], self.at(revision)
        while commit is not None:
            found.append(commit)
            commit = self.at(commit.parent) if commit.parent else None
        return found

    def last_change(self, path: str, revision: str) -> Commit:
        """The newest commit that changed a path."""
        history = self.history(revision)
        for commit, before in pairwise(history):
            if commit.oid_of(path) != before.oid_of(path):
                return commit
        return history[-1]

    def commit(self, changes: dict[str, bytes | None], title: str = "by another", branch: str = "main") -> str:
        """Behind the client's back: write or, with None, delete files; the new commit."""
        with self.lock:
            files = dict(self.at(branch).files)
            for path, data in changes.items():
                if data is None:
                    del files[path]
                else:
                    files[path] = Blob(data, is_large(path, len(data)))
                    self.lfs |= {files[path].sha256: data} if files[path].lfs else {}
            return self.write(files, title, branch=branch)

    def write(self, files: dict[str, Blob], title: str, message: str = "", branch: str = "main") -> str:
        with self.lock:
            parent = self.branches.get(branch)
            date = (FIRST_DATE + timedelta(minutes=len(self.commits))).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            parts = [self.name, str(parent), title, message, date, *(f"{p} {b.oid}" for p, b in sorted(files.items()))]
            oid = hashlib.sha1("\n".join(parts).encode()).hexdigest()
            self.commits.append(Commit(oid, parent, title, message, files, date))
            self.branches[branch] = oid
            return oid


def is_large(path: str, size: int) -> bool:
    return size > LARGE_BYTES or (size > 0 and path.endswith(LARGE_SUFFIXES))


# ── requests, answers and faults ──────────────────────────────────────────────────────────────────────────────────────


class Request(NamedTuple):
    """One line of the log; status 0 is a connection closed without an answer."""

    method: str
    path: str  # with its query
    status: int
    body_bytes: bytes
    headers: dict[str, str]  # names in lower case


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012  never written to


class RefusalError(Exception):
    """An answer of failure; `code` is what the client reads first."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str):
        super().__init__(message)
        named = {"X-Error-Code": code} if code else {}
        self.answer = Answer(
            status,
            json.dumps({"error": message}).encode(),
            {"Content-Type": "application/json", "X-Error-Message": message, **named, **headers},
        )


@dataclass
class Fault:
    """What goes wrong with the requests that match, `times` of them after `after` others.

    status        answer with the status, and do nothing
    status-after  do it, then answer with the status: a lost reply
    drop          close the connection, and do nothing
    drop-after    do it, then close the connection
    truncate      announce the whole length, send half, close
    corrupt       the same length with one byte flipped
    wrong-size    a size that lies: a listing and a HEAD announce one byte more, a GET sends one less
    call          run `call(hub)` first, then go on
    """

    method: str  # "*" is any
    path: str  # a regular expression, searched in the path with its query
    kind: str = "status"
    status: int | None = None
    times: int = 1
    after: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    call: Callable[["Hub"], object] | None = None
    seen: int = field(default=0, init=False)  # requests that matched

    def __post_init__(self) -> None:
        assert self.kind in FAULT_KINDS, f"no fault {self.kind}; there are {', '.join(FAULT_KINDS)}"
        assert (self.status is not None) == self.kind.startswith("status"), f"{self.kind} and status {self.status}"
        assert (self.call is not None) == (self.kind == "call"), f"{self.kind} and call {self.call}"

    @property
    def hits(self) -> int:
        return max(0, min(self.seen - self.after, self.times))

    def takes(self, method: str, path: str) -> bool:
        if self.method not in ("*", method) or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.after < self.seen <= self.after + self.times


FAULT_KINDS = ("status", "status-after", "drop", "drop-after", "truncate", "corrupt", "wrong-size", "call")


def refuse(fault: Fault) -> Answer:
    answer = RefusalError(fault.status, "a fault of the test").answer
    return answer._replace(headers=answer.headers | fault.headers)


def spoil(fault: Fault, answer: Answer, method: str) -> Answer:
    """The answer with its bytes or its sizes wrong."""
    body, headers = answer.body, answer.headers | fault.headers
    if fault.kind == "corrupt" and body:
        middle = len(body) // 2
        body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
    if fault.kind == "wrong-size" and headers.get("Content-Type") == "application/json":
        body = json.dumps(grow(json.loads(body))).encode()
    elif fault.kind == "wrong-size":
        size = len(body) + (1 if method == "HEAD" else -1)
        body = body if method == "HEAD" else body[:-1]
        headers |= {"Content-Length": str(size)} | ({"X-Linked-Size": str(size)} if "X-Linked-Size" in headers else {})
    return answer._replace(body=body, headers=headers)


def grow(value: Any) -> Any:
    """Every `size` in a listing one larger."""
    if isinstance(value, list):
        return [grow(part) for part in value]
    if isinstance(value, dict):
        return {key: part + 1 if key == "size" else grow(part) for key, part in value.items()}
    return value


@dataclass(frozen=True)
class Ask:
    """A request as the routes below see it: who asks, and the parts of its path."""

    hub: "Hub"
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    user: str | None
    role: str | None
    parts: dict[str, str]

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body or b"{}")

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() in ("1", "true")

    def repo(self, write: bool = False) -> Repo:
        repo = self.hub.repos.get(self.parts["repo"])
        if repo is None or (repo.private and self.user != repo.owner):
            status = 401 if self.user is None else 404  # as the Hub does, so that a private name is not told
            raise RefusalError(
                status, "Invalid username or password." if status == 401 else "Repository not found", "RepoNotFound"
            )
        if write:
            self.may_write(repo.name)
        return repo

    def may_write(self, name: str) -> None:
        if self.user is None:
            raise RefusalError(401, "Invalid username or password.")
        if self.role != "write" or self.user != name.partition("/")[0]:
            raise RefusalError(
                403, f"You don't have the rights to write to {name} with a {self.role} token of {self.user}"
            )

    def commit(self, repo: Repo) -> Commit:
        commit = repo.at(self.parts["revision"])
        if commit is None:
            raise RefusalError(404, f"Invalid rev id: {self.parts['revision']}", "RevisionNotFound")
        return commit

    def page(self, entries: list[Any]) -> Answer:
        """One page of a list, with a link to the next."""
        size = min(int(self.query.get("limit", self.hub.page_size)), self.hub.page_size)
        start = int(self.query.get("cursor", 0))
        following = urlencode({**self.query, "cursor": start + size})
        link = {"Link": f'<{self.hub.endpoint}{urlsplit(self.path).path}?{following}>; rel="next"'}
        return say(entries[start : start + size], link if start + size < len(entries) else {})


def say(value: Any, headers: dict[str, str] | None = None, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})


# ── the routes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def whoami(ask: Ask) -> Answer:
    if ask.user is None:
        raise RefusalError(401, "Invalid username or password.")
    token = {"displayName": "test", "role": ask.role, "createdAt": "2026-01-01T00:00:00.000Z"}
    auth = {"type": "access_token", "accessToken": token}
    return say({"type": "user", "id": ask.user, "name": ask.user, "fullname": ask.user, "orgs": [], "auth": auth})


def create_repo(ask: Ask) -> Answer:
    wanted = ask.json
    name = f"{wanted.get('organization') or ask.user}/{wanted['name']}"
    ask.may_write(name)
    if wanted.get("type") != "dataset":
        raise RefusalError(400, "this Hub holds datasets only")
    url = {"url": f"{ask.hub.endpoint}/datasets/{name}", "name": name}
    if name in ask.hub.repos:
        return say({**url, "error": "You already created this dataset repo"}, status=409)
    ask.hub.create(name, private=wanted.get("visibility") == "private" or wanted.get("private") is True)
    return say(url)


def delete_repo(ask: Ask) -> Answer:
    name = f"{ask.json.get('organization') or ask.user}/{ask.json['name']}"
    ask.parts["repo"] = name
    ask.repo(write=True)
    del ask.hub.repos[name]
    return say({})


def change_settings(ask: Ask) -> Answer:
    repo = ask.repo(write=True)
    if "visibility" in ask.json or "private" in ask.json:
        repo.private = ask.json.get("visibility") == "private" or ask.json.get("private") is True
    return say({"private": repo.private})


def validate_card(ask: Ask) -> Answer:
    errors, warnings = card_problems(ask.json["content"])
    listed = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return say(listed, status=400 if errors else 200)


def preupload(ask: Ask) -> Answer:
    repo = ask.repo(write=True)
    present = ask.commit(repo).files
    files = []
    for file in ask.json["files"]:
        mode = "lfs" if is_large(file["path"], file["size"]) and ask.hub.xet is not True else "regular"
        oid = present[file["path"]].etag if file["path"] in present else None
        files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return say({"files": files})


def lfs_batch(ask: Ask) -> Answer:
    repo = ask.repo(write=True)
    objects = []
    for wanted in ask.json["objects"]:
        upload = {"href": f"{ask.hub.endpoint}/lfs/{repo.name}/{wanted['oid']}", "header": {}}
        verify = {"href": f"{ask.hub.endpoint}/datasets/{repo.name}.git/info/lfs/objects/verify", "header": {}}
        actions = {} if wanted["oid"] in repo.lfs else {"actions": {"upload": upload, "verify": verify}}
        objects.append({"oid": wanted["oid"], "size": wanted["size"], **actions})
    return say({"transfer": "basic", "objects": objects})


def lfs_put(ask: Ask) -> Answer:
    found = hashlib.sha256(ask.body).hexdigest()
    if found != ask.parts["oid"]:
        raise RefusalError(400, f"BadDigest: SHA-256 is {found}, expected {ask.parts['oid']}")
    ask.hub.repos[ask.parts["repo"]].lfs[found] = ask.body
    return Answer(200)


def lfs_verify(ask: Ask) -> Answer:
    data = ask.repo(write=True).lfs.get(ask.json["oid"])
    if data is None or len(data) != ask.json["size"]:
        raise RefusalError(404, f"no object {ask.json['oid']} of {ask.json['size']} bytes")
    return say({})


def make_commit(ask: Ask) -> Answer:
    repo, branch = ask.repo(write=True), ask.parts["revision"]
    lines = [json.loads(line) for line in ask.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if "create_pr" in ask.query or branch not in repo.branches:
        raise RefusalError(404, f"no branch {branch} to commit to", "RevisionNotFound")
    if header.get("parentCommit") not in (None, repo.branches[branch]):
        raise RefusalError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(ask.commit(repo).files)
    for oid in {line["value"]["oid"] for line in lines if line["key"] == "lfsFile"} - set(repo.lfs):
        if ask.hub.xet == "local" and (found := xet_file(ask.hub.xet_folder, oid)):
            ask.hub.xet_hashes[oid], repo.lfs[oid] = found
    for line in lines:
        apply(line["key"], line["value"], files, repo)
    folders = {folder for path in files for folder in map(str, Path(path).parents)}
    if clash := sorted(folders & set(files)):
        raise RefusalError(400, f"{clash[0]} is a file and a folder")
    if errors := card_problems(files["README.md"].data.decode())[0] if "README.md" in files else []:
        raise RefusalError(400, f"Invalid metadata in README.md: {'; '.join(errors)}")
    oid = repo.write(files, header["summary"], header.get("description", ""), branch)
    return say(
        {"success": True, "commitOid": oid, "commitUrl": f"{ask.hub.endpoint}/datasets/{repo.name}/commit/{oid}"}
    )


def apply(key: str, value: dict[str, Any], files: dict[str, Blob], repo: Repo) -> None:
    """One line of a commit, onto the files."""
    path = value.get("path", "")
    if key != "header" and (not path or path.startswith("/") or {"..", ".git", ""} & set(path.rstrip("/").split("/"))):
        raise RefusalError(400, f"{path!r} is not a path of a repository")
    if key == "file":
        files[path] = Blob(base64.b64decode(value["content"], validate=True), lfs=False)
    elif key == "lfsFile":
        data = repo.lfs.get(value["oid"])
        if data is None or value.get("size", len(data)) != len(data):
            raise RefusalError(400, f"an LFS pointer pointed to a file that does not exist. Offending file: - {path}")
        files[path] = Blob(data, lfs=True)
    elif key == "deletedFile" and path in files:
        del files[path]
    elif key == "deletedFolder" and (inside := [name for name in files if name.startswith(f"{path.rstrip('/')}/")]):
        for name in inside:
            del files[name]
    elif key.startswith("deleted"):
        raise RefusalError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
    elif key != "header":
        raise RefusalError(400, f"unknown operation {key}")


def make_tag(ask: Ask) -> Answer:
    repo = ask.repo(write=True)
    name, commit = ask.json["tag"], ask.commit(repo)
    if name in repo.tags:
        raise RefusalError(409, f"Tag reference exists already: {name}")
    repo.tags[name] = (commit.oid, ask.json.get("message", ""))
    return say({})


def delete_tag(ask: Ask) -> Answer:
    if ask.repo(write=True).tags.pop(ask.parts["revision"], None) is None:
        raise RefusalError(404, f"no tag {ask.parts['revision']}", "RevisionNotFound")
    return say({})


def make_branch(ask: Ask) -> Answer:
    repo, name = ask.repo(write=True), ask.parts["revision"]
    start = repo.at(ask.json.get("startingPoint", "main"))
    if name in repo.branches:
        raise RefusalError(409, f"Branch already exists: {name}")
    if start is None:
        raise RefusalError(404, f"Invalid rev id: {ask.json['startingPoint']}", "RevisionNotFound")
    repo.branches[name] = start.oid
    return say({})


def delete_branch(ask: Ask) -> Answer:
    repo, name = ask.repo(write=True), ask.parts["revision"]
    if name == "main":
        raise RefusalError(403, "Cannot delete the default branch")
    if repo.branches.pop(name, None) is None:
        raise RefusalError(404, f"no branch {name}", "RevisionNotFound")
    return say({})


def refs(ask: Ask) -> Answer:
    repo = ask.repo()
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": oid} for n, oid in repo.branches.items()]
    tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": oid} for n, (oid, _) in repo.tags.items()]
    return say({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


def commits(ask: Ask) -> Answer:
    repo = ask.repo()
    by = [{"user": repo.owner}]
    history = repo.history(ask.commit(repo).oid)
    return ask.page(
        [{"id": c.oid, "title": c.title, "message": c.message, "date": c.date, "authors": by} for c in history]
    )


def info(ask: Ask) -> Answer:
    repo = ask.repo()
    ask.parts.setdefault("revision", "main")
    commit = ask.commit(repo)
    card = front_matter(commit.files["README.md"].data.decode()) if "README.md" in commit.files else None
    siblings = [{"rfilename": path} for path in sorted(commit.files)]
    if ask.flag("blobs"):
        siblings = [
            {"rfilename": path, "size": len(blob.data), "blobId": blob.oid, **lfs_part(blob, "sha256")}
            for path, blob in sorted(commit.files.items())
        ]
    tags = (card or {}).get("tags") or []
    told = {
        "id": repo.name,
        "author": repo.owner,
        "sha": commit.oid,
        "private": repo.private,
        "tags": tags,
    }
    dates = {"createdAt": repo.commits[0].date, "lastModified": commit.date}
    counts = {"downloads": 0, "likes": 0, "usedStorage": sum(map(len, repo.lfs.values()))}
    return say({**told, **dates, **counts, "gated": False, "disabled": False, "cardData": card, "siblings": siblings})


def lfs_part(blob: Blob, oid_key: str) -> dict[str, Any]:
    sizes = {"size": len(blob.data), "pointerSize": len(blob.pointer)}
    return {"lfs": {oid_key: blob.sha256, **sizes}} if blob.lfs else {}


def entry(repo: Repo, commit: Commit, path: str, expand: bool) -> dict[str, Any]:
    """A file or a folder, as a tree lists it."""
    blob = commit.files.get(path)
    found = {"type": "file" if blob else "directory", "oid": commit.oid_of(path), "path": path}
    found |= {"size": len(blob.data), **lfs_part(blob, "oid")} if blob else {"size": 0}
    if expand:
        last = repo.last_change(path, commit.oid)
        found["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
    return found


def tree(ask: Ask) -> Answer:
    repo = ask.repo()
    commit, folder = ask.commit(repo), ask.parts.get("path", "").strip("/")
    paths = commit.listing(folder, ask.flag("recursive"))
    if folder and not paths:
        raise RefusalError(404, f"{folder} does not exist on {ask.parts['revision']}", "EntryNotFound")
    return ask.page([entry(repo, commit, path, ask.flag("expand")) for path in paths])


def paths_info(ask: Ask) -> Answer:
    repo = ask.repo()
    commit = ask.commit(repo)
    if "json" in ask.headers.get("content-type", ""):
        paths, expand = ask.json["paths"], bool(ask.json.get("expand"))
    else:
        form = parse_qs(ask.body.decode())
        paths, expand = form.get("paths", []), form.get("expand") in (["true"], ["1"])
    return say([entry(repo, commit, path, expand) for path in paths if commit.oid_of(path)])


def resolve(ask: Ask) -> Answer:
    repo = ask.repo()
    commit = ask.commit(repo)
    blob = commit.files.get(ask.parts["path"])
    if blob is None:
        raise RefusalError(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit.oid})
    headers = {"ETag": f'"{blob.etag}"', "X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    headers |= {"Content-Type": "application/octet-stream"}
    if blob.lfs:
        headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.data))}
    if blob.lfs and blob.sha256 in ask.hub.xet_hashes:
        token = f"{ask.hub.endpoint}/api/datasets/{repo.name}/xet-read-token/{commit.oid}"
        headers |= {"X-Xet-Hash": ask.hub.xet_hashes[blob.sha256], "Link": f'<{token}>; rel="xet-auth"'}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", ask.headers.get("range", ""))
    if asked is None or not any(asked.groups()):
        return Answer(200, blob.data, headers)
    first, last = asked.groups()
    size = len(blob.data)
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise RefusalError(416, "Requested range not satisfiable", **{"Content-Range": f"bytes */{size}"})
    return Answer(206, blob.data[start:end], headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"})


def xet_token(ask: Ask) -> Answer:
    """Where to bring the chunks of a large file, or get them: a folder, which the client's own test store opens."""
    repo = ask.repo(write=ask.parts["kind"] == "write")
    if ask.hub.xet != "local":
        raise RefusalError(404, f"{repo.name} is not kept by Xet")
    ends, url = int(time.time()) + 3600, f"local://{ask.hub.xet_folder}"
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": "token-of-xet", "X-Xet-Token-Expiration": str(ends)}
    return say({"casUrl": url, "accessToken": "token-of-xet", "exp": ends}, headers)


def xet_file(folder: Path, sha256: str) -> tuple[str, bytes] | None:
    """Xet's name for a file and its bytes, put together from the chunks of the store, if it was uploaded whole."""
    for shard in folder.glob("xet/xorbs/shards/*.mdb"):
        data, at = shard.read_bytes(), 48
        while data[at : at + 32] != b"\xff" * 32:  # a file: a header, its terms, a check of each, its SHA-256; of 48 B
            flags, count = struct.unpack_from("<II", data, at + 32)
            starts = [at + 48 * number for number in range(1 + count * (1 + (flags >> 31)) + (flags >> 30 & 1))]
            if flags >> 30 & 1 and xet_name(data, starts[-1]) == sha256:
                spans = [
                    (xet_name(data, at), *struct.unpack_from("<II", data, at + 40)) for at in starts[1 : count + 1]
                ]
                whole = b"".join(b"".join(xet_chunks(folder, xorb)[first:last]) for xorb, first, last in spans)
                assert hashlib.sha256(whole).hexdigest() == sha256, f"Xet brought other bytes for {sha256}"
                return xet_name(data, at), whole
            at = starts[-1] + 48
    return None


def xet_name(data: bytes, at: int) -> str:
    return struct.pack(">4Q", *struct.unpack_from("<4Q", data, at)).hex()


def xet_chunks(folder: Path, xorb: str) -> list[bytes]:
    """The chunks of one object of the store, which must not be compressed."""
    data, at, chunks = (folder / f"xet/xorbs/xorbs/default.{xorb}").read_bytes(), 0, []
    while data[at] == 0:  # the version; the end begins with a letter
        size = int.from_bytes(data[at + 1 : at + 4], "little")
        assert data[at + 4] == 0, "a compressed chunk; is HF_XET_XORB_COMPRESSION_POLICY none?"
        chunks.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return chunks


def access(ask: Ask) -> Answer:
    ask.repo()
    return say({})


def other_kind(ask: Ask) -> Answer:
    """A model or a space: there is none here."""
    raise RefusalError(401 if ask.user is None else 404, "Repository not found", "RepoNotFound")


REPO, REVISION = r"(?P<repo>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
API = f"/api/datasets/{REPO}"
ROUTES: list[tuple[str, str, Callable[[Ask], Answer]]] = [
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/repos/create", create_repo),
    ("DELETE", "/api/repos/delete", delete_repo),
    ("PUT", f"{API}/settings", change_settings),
    ("GET", f"{API}/auth-check", access),
    ("GET", f"{API}/xet-(?P<kind>read|write)-token/{REVISION}", xet_token),
    ("POST", "/api/validate-yaml", validate_card),
    ("POST", f"{API}/preupload/{REVISION}", preupload),
    ("POST", f"/datasets/{REPO}\\.git/info/lfs/objects/batch", lfs_batch),
    ("POST", f"/datasets/{REPO}\\.git/info/lfs/objects/verify", lfs_verify),
    ("PUT", f"/lfs/{REPO}/(?P<oid>[0-9a-f]{{64}})", lfs_put),
    ("POST", f"{API}/commit/{REVISION}", make_commit),
    ("POST", f"{API}/tag/{REVISION}", make_tag),
    ("DELETE", f"{API}/tag/{REVISION}", delete_tag),
    ("POST", f"{API}/branch/{REVISION}", make_branch),
    ("DELETE", f"{API}/branch/{REVISION}", delete_branch),
    ("GET", f"{API}/refs", refs),
    ("GET", f"{API}/commits/{REVISION}", commits),
    ("GET", f"{API}/tree/{REVISION}(/(?P<path>.*))?", tree),
    ("POST", f"{API}/paths-info/{REVISION}", paths_info),
    ("GET", f"{API}/revision/{REVISION}", info),
    ("GET", API, info),
    ("GET", f"/datasets/{REPO}/resolve/{REVISION}/(?P<path>.+)", resolve),
    ("*", "/api/(models|spaces|kernels|buckets)/.*", other_kind),
]


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Hub:
    """The server, running between `with Hub() as hub:` and its end.

    What becomes of Xet: False tells the client to do without; True leaves it enabled but asks for files of any size as
    regular ones, so that it has nothing to do; "local" has large files go through it, into a folder of this Hub.
    """

    def __init__(self, xet: bool | Literal["local"] = False, page_size: int = 1000):
        self.xet, self.page_size = xet, page_size
        self.xet_hashes: dict[str, str] = {}  # SHA-256 -> Xet's own name
        self.token, self.reader_token = "token-to-write", "token-to-read"
        self.tokens = {self.token: ("someone", "write"), self.reader_token: ("reader", "read")}  # -> (user, role)
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.errors: list[Exception] = []  # of the server itself
        self.lock = threading.RLock()
        self.connections: set[socket.socket] = set()

    def __enter__(self) -> "Hub":
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.folder = TemporaryDirectory(prefix="hub-", ignore_cleanup_errors=True)  # a client may still write
        self.xet_folder = Path(self.folder.name)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        for connection in list(self.connections):
            hang_up(connection)
        self.folder.cleanup()
        if self.errors and kind is None:
            raise self.errors[0]

    def create(self, name: str, private: bool = False) -> Repo:
        """A repository with its first commit."""
        self.repos[name] = Repo(name, private, self.lock)
        return self.repos[name]

    def fault(self, fault: Fault) -> None:
        with self.lock:
            self.faults.append(fault)

    def environment(self, home: Path, token: str | EllipsisType | None = ...) -> dict[str, str]:
        """Of a process that knows this Hub only, all variables of it; a token of None is no token."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        shown = self.token if token is ... else token
        return {
            **kept,
            **({} if shown is None else {"HF_TOKEN": shown}),
            **({"HF_XET_XORB_COMPRESSION_POLICY": "none"} if self.xet else {"HF_HUB_DISABLE_XET": "1"}),
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The first armed fault for this request, once the calls before it have run."""
        for fault in list(self.faults):
            with self.lock:
                taken = fault.takes(method, path)
            if taken and fault.kind != "call":
                return fault
            if taken:
                fault.call(self)
        return None

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        try:
            with self.lock:
                return self.route(method, path, headers, body)
        except RefusalError as refusal:
            return refusal.answer
        except Exception as error:
            self.errors.append(error)
            return RefusalError(501, f"the test server broke: {error!r}").answer

    def route(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        url = urlsplit(path)
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.tokens:
            raise RefusalError(401, "Invalid credentials in Authorization header")
        user, role = self.tokens.get(token, (None, None))
        for known, pattern, act in ROUTES:
            fits = known in ("*", method) or (known, method) == ("GET", "HEAD")
            if fits and (match := re.fullmatch(pattern, url.path)):
                parts = {name: unquote(part) for name, part in match.groupdict().items() if part is not None}
                return act(Ask(self, method, path, dict(parse_qsl(url.query)), headers, body, user, role, parts))
        raise RefusalError(404, f"this Hub does not speak {method} {url.path}")


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self) -> None:
        self.hub.connections.discard(self.connection)
        super().finish()

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # the client hung up
            pass
        except Exception as error:
            self.hub.errors.append(error)

    def act(self) -> None:
        method, path, headers = self.command, self.path, {name.lower(): value for name, value in self.headers.items()}
        body = self.read_body(headers)
        fault = self.hub.take_fault(method, path)
        kind = fault.kind if fault else ""
        acts = kind not in ("status", "drop")
        answer = self.hub.answer(method, path, headers, body) if acts else Answer(0)
        if kind in ("status", "status-after"):
            answer = refuse(fault)
        elif kind in ("corrupt", "wrong-size"):
            answer = spoil(fault, answer, method)
        dropped = kind in ("drop", "drop-after")
        self.hub.requests.append(Request(method, path, 0 if dropped else answer.status, body, headers))
        if dropped:
            hang_up(self.connection)
            self.close_connection = True
        else:
            self.send(answer, len(answer.body) // 2 if kind == "truncate" else None)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = act

    def read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, answer: Answer, cut: int | None) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[:cut])
        self.close_connection = self.close_connection or cut is not None

    def log_message(self, format: str, *values: object) -> None:
        pass


def hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # the client was first
        connection.shutdown(socket.SHUT_RDWR)


# ── what the Hub says about a card ────────────────────────────────────────────────────────────────────────────────────

LICENSES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
other"""
SIZES = "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T n>1T"
LISTS_OF_TEXT = ("tags", "task_categories", "task_ids", "source_datasets", "annotations_creators", "language_creators")


def front_matter(content: str) -> Any:
    found = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", content, re.DOTALL)
    return yaml.safe_load(found[1]) if found else None


def card_problems(content: str) -> tuple[list[str], list[str]]:
    """Errors, which refuse a card, and warnings, which do not."""
    try:
        card = front_matter(content)
    except yaml.YAMLError as error:
        return [f"YAML does not parse: {' '.join(str(error).split())}"], []
    if card is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(card, dict):
        return ["metadata must be a mapping"], []
    errors = [
        f'"{key}" must be an array of strings' for key in LISTS_OF_TEXT if key in card and not is_texts(card[key])
    ]
    for key in ("license", "size_categories", "language"):
        fits = key not in card or isinstance(card[key], str) or is_texts(card[key])
        errors += [] if fits else [f'"{key}" must be a string or an array of strings']
    errors += [] if isinstance(card.get("pretty_name", ""), str) else ['"pretty_name" must be a string']
    for key, known in (("license", LICENSES.split()), ("size_categories", SIZES.split())):
        values = [card[key]] if isinstance(card.get(key), str) else card.get(key) if is_texts(card.get(key)) else []
        errors += [f'"{key}" must be one of {known}, not {value}' for value in values if value not in known]
    return errors + config_problems(card.get("configs", [])), []


def is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def config_problems(configs: object) -> list[str]:
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        return ['"configs" must be an array of objects']
    errors, names = [], [config.get("config_name") for config in configs]
    for config in configs:
        name, files = config.get("config_name"), config.get("data_files")
        if not isinstance(name, str):
            errors.append('"configs[].config_name" is required and must be a string')
        if files is None and "data_dir" not in config:
            errors.append(f'"configs[].data_files" is required in {name}')
        elif files is not None and not (isinstance(files, str) or is_texts(files) or is_splits(files)):
            errors.append(f'"configs[].data_files" of {name} must be a path, paths, or objects of split and path')
    if len(set(map(str, names))) < len(names):
        errors.append('"configs[].config_name" must be unique')
    if sum(config.get("default") is True for config in configs) > 1:
        errors.append('"configs" has more than one default')
    return errors


def is_splits(files: object) -> bool:
    return isinstance(files, list) and all(
        isinstance(part, dict) and isinstance(part.get("split"), str) and "path" in part for part in files
    )
