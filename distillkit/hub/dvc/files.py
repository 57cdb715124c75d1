"""Files of dataset repositories by path, ``datasets/owner/name[@revision]/path``, in the form that DVC needs.

A revision is resolved to a commit once; everything listed, compared and downloaded is from that commit. An entry's
``etag`` is the Hub's checksum (SHA-256 for large files, Git's hash for others), and every downloaded file must match
it.
"""

import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, NamedTuple
from urllib.parse import unquote

from dvc.exceptions import DvcException
from huggingface_hub import HfFileSystem
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.hf_file_system import HfFileSystemResolvedRepositoryPath

from distillkit.base.errors import HubError, ParamsError
from distillkit.base.references import MAIN, Reference, parse_reference
from distillkit.hub.client import DATASET, connect, is_offline, resolve, sums_of
from distillkit.hub.dvc.commits import chunks
from distillkit.hub.errors import hub_errors, patiently

Entry = dict[str, Any]
ADDRESS = re.compile(r"(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+))?(?:/(?P<path>.*))?")
PATHS_PER_REQUEST = 100


class RemoteError(HubError, DvcException):  # type: ignore[misc]  # DVC is not typed
    """A HubError that DVC shows as one line."""


@contextmanager
def errors_for_dvc() -> Iterator[None]:
    """Convert a HubError to a RemoteError."""
    try:
        yield
    except RemoteError:
        raise
    except HubError as error:
        raise RemoteError(str(error)) from None


class Place(NamedTuple):
    """A path in a repository; ``root`` is the part of the address before the path."""

    repo: str
    revision: str
    path: str
    root: str


@errors_for_dvc()
def parse_place(address: str) -> Place:
    """Parse ``datasets/owner/name[@revision][/path]``, with or without ``hf://``. Raises HubError."""
    text = address.removeprefix("hf://").rstrip("/")
    found = ADDRESS.fullmatch(text.removeprefix("datasets/")) if text.startswith("datasets/") else None
    if found is None:
        raise HubError(f"hf://{text} is no address of a dataset; expected hf://datasets/owner/name@revision/path")
    path = (found["path"] or "").strip("/")
    revision = unquote(found["revision"] or MAIN)
    try:
        reference = parse_reference(f"{found['repo']}@{revision}")
    except ParamsError as error:
        raise HubError(str(error)) from None
    return Place(reference.repo, revision, path, text[: len(text) - len(path)].rstrip("/") if path else text)


class HubFiles(HfFileSystem):
    """The client's filesystem, with checksums in all listings and one commit for each revision."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.api = self._api = connect()
        self._commits: dict[tuple[str, str], str] = {}
        self._trees: dict[str, dict[str, Entry]] = {}  # folder -> all entries below it, by their path
        self._entries: dict[str, Entry] = {}  # single paths that were requested; empty if the path does not exist
        self._lock = threading.RLock()

    @contextmanager
    def errors(self, place: Place) -> Iterator[None]:
        if is_offline():
            raise HubError(f"hf://{place.root} is on the Hub and HF_HUB_OFFLINE is set; unset it to reach the Hub")
        with hub_errors(self._api, f"{place.repo}@{place.revision}"):
            yield

    @errors_for_dvc()
    def commit_of(self, place: Place) -> str:
        """The commit that the revision referred to at the first request."""
        with self._lock:
            key = (place.repo, place.revision)
            if key not in self._commits:
                with self.errors(place):
                    self._commits[key] = patiently(lambda: resolve(self._api, Reference(*key)))
            return self._commits[key]

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget commits and listings. Called after a write."""
        with self._lock:
            self._commits.clear()
            self._trees.clear()
            self._entries.clear()

    def resolve_path(self, path: str, revision: str | None = None) -> HfFileSystemResolvedRepositoryPath:
        """Override for the client's own operations, such as downloads: it uses our commit but keeps the address."""
        place = parse_place(path)
        resolved = HfFileSystemResolvedRepositoryPath(DATASET, place.repo, self.commit_of(place), place.path)
        resolved.root = place.root
        return resolved

    def entry_of(self, place: Place, item: Any) -> Entry:
        name = f"{place.root}/{item.path}"
        if not hasattr(item, "blob_id"):
            return {"name": name, "size": 0, "type": "directory"}
        etag = item.blob_id if item.lfs is None else item.lfs.sha256
        return {"name": name, "size": item.size, "type": "file", "etag": etag, "xet_hash": item.xet_hash}

    def infos(self, paths: Iterable[str]) -> dict[str, Entry]:
        """The entries of those paths that exist, with few requests."""
        known = {path: self.known(path) for path in paths}
        unknown: dict[tuple[str, str], list[str]] = {}
        for path in (path for path, entry in known.items() if entry is None):
            unknown.setdefault(parse_place(path)[:2], []).append(path)
        for addresses in unknown.values():
            for some in chunks(addresses, PATHS_PER_REQUEST):
                known |= self.ask_for(some)
        return {path: entry for path, entry in known.items() if entry}

    def known(self, path: str) -> Entry | None:
        """The entry if no request is needed; empty if the path does not exist, None if the Hub must be asked."""
        place = parse_place(path)
        if not place.path:
            self.commit_of(place)
            return {"name": place.root, "size": 0, "type": "directory"}
        name = f"{place.root}/{place.path}"
        with self._lock:
            tree = self.tree_over(name)
            return self._entries.get(path) if tree is None else tree.get(name, {})

    def tree_over(self, name: str) -> dict[str, Entry] | None:
        """A cached listing that must have the path's entry if the path exists; None without one."""
        folder = name
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in self._trees:
                return self._trees[folder]
        return None

    @errors_for_dvc()
    def ask_for(self, addresses: Sequence[str]) -> dict[str, Entry]:
        """Request the entries of addresses in one repository; empty for those that do not exist."""
        places = {address: parse_place(address) for address in addresses}
        one = places[addresses[0]]
        commit = self.commit_of(one)
        names = [place.path for place in places.values()]

        def ask() -> list[Any]:
            with self.errors(one):
                return list(self._api.get_paths_info(one.repo, names, revision=commit, repo_type=DATASET))

        items = {item.path: item for item in patiently(ask)}
        found = {
            address: self.entry_of(place, items[place.path]) if place.path in items else {}
            for address, place in places.items()
        }
        with self._lock:
            self._entries |= found
        return found

    def info(self, path: str, refresh: bool = False, revision: str | None = None, **options: Any) -> Entry:
        found = self.infos([path])
        if path not in found:
            raise FileNotFoundError(f"hf://{path} is not on the Hub")
        return found[path]

    def tree(self, path: str) -> dict[str, Entry]:
        """All entries below a folder; empty if there is no such folder."""
        place = parse_place(path)
        folder = f"{place.root}/{place.path}".rstrip("/")
        with self._lock:
            wider = None if folder in self._trees else self.tree_over(folder)
            if wider is not None:
                return {name: entry for name, entry in wider.items() if name.startswith(f"{folder}/")}
            if folder not in self._trees:
                self._trees[folder] = {entry["name"]: entry for entry in self.list_tree(place)}
            return self._trees[folder]

    @errors_for_dvc()
    def list_tree(self, place: Place) -> list[Entry]:
        commit = self.commit_of(place)

        def ask() -> list[Any]:
            with self.errors(place):
                try:
                    items = self._api.list_repo_tree(
                        place.repo, place.path or None, recursive=True, revision=commit, repo_type=DATASET
                    )
                    return [item for item in items if item.path != place.path]
                except EntryNotFoundError:
                    return []

        return [self.entry_of(place, item) for item in patiently(ask)]

    def ls(
        self, path: str, detail: bool = True, refresh: bool = False, revision: str | None = None, **options: Any
    ) -> list[Any]:
        path = path.removeprefix("hf://").rstrip("/")
        entry = self.info(path)
        found = [entry]
        if entry["type"] == "directory":
            depth = path.count("/") + 1
            found = [below for name, below in self.tree(path).items() if name.count("/") == depth]
        return found if detail else [each["name"] for each in found]

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        refresh: bool = False,
        revision: str | None = None,
        prefix: str = "",
        **options: Any,
    ) -> Any:
        path = path.removeprefix("hf://").rstrip("/")
        depth = path.count("/") + (maxdepth or 10**6)
        found = {
            name: entry
            for name, entry in sorted(self.tree(path).items())
            if (withdirs or entry["type"] == "file")
            and name.count("/") <= depth
            and name.startswith(f"{path}/{prefix}")
        }
        if not found and not prefix:
            found = {name: entry for name, entry in self.infos([path]).items() if entry["type"] == "file"}
        return found if detail else list(found)

    def exists(self, path: str, **options: Any) -> bool:
        return bool(self.infos([path]))

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, revision: str | None = None, **options: Any
    ) -> Any:
        """Download the whole file, check it, and open the local copy, which is deleted when it is closed."""
        if mode != "rb":
            raise NotImplementedError(f"hf://{path} cannot be opened with mode {mode!r}")
        file = TemporaryFile()  # noqa: SIM115  the caller closes it
        with TemporaryDirectory() as folder:
            copy = Path(folder) / "file"
            self.fetch(path, str(copy))
            with copy.open("rb") as content:
                shutil.copyfileobj(content, file)
        file.seek(0)
        return file

    @errors_for_dvc()
    def fetch(self, path: str, to: str) -> int:
        """Download a file to ``to`` and check it against the Hub's checksum. Returns the size. Raises HubError."""
        place, entry = parse_place(path), self.info(path)

        def attempt() -> None:
            with self.errors(place):
                super(HubFiles, self).get_file(path, to)
            if entry["etag"] not in ((sums := sums_of(Path(to))).sha256, sums.git):
                Path(to).unlink()
                raise HubError(f"hf://{path} has other bytes than the Hub lists; try again later", True, wait=0)

        patiently(attempt)
        return int(entry["size"])
