"""Access to the Hugging Face Hub: repositories by name and revision, and their files.

Every function gets the client's ``HfApi``, which has the endpoint and the token. Errors become HubErrors of one line.
Data from the Hub is not trusted: listings are checked for their form, and all bytes later by their checksums.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.base.errors import HubError
from distillkit.base.references import COMMIT, Reference
from distillkit.hub.errors import LONGEST_WAIT, hub_errors

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DATASET = "dataset"
SILENCE = 120.0  # seconds without data after which a connection counts as lost


def connect() -> "HfApi":
    """The client, with endpoint and token as usual (``HF_ENDPOINT``, ``HF_TOKEN``, ``hf auth login``).

    It waits at most two minutes for a silent Hub, and at most one minute between its own attempts. Raises HubError for
    a malformed token.
    """
    from huggingface_hub import HfApi, get_session, get_token
    from huggingface_hub.utils import logging

    if not (token := get_token() or "").isascii() or not token.isprintable():
        raise HubError("the Hub's token has characters that no token can have; run `hf auth login`, or set HF_TOKEN")
    session = get_session()
    session.timeout = SILENCE
    hooks = session.event_hooks
    if shorten_wait not in hooks["response"]:
        session.event_hooks = {**hooks, "response": [*hooks["response"], shorten_wait]}
    logging.set_verbosity_error()
    return HfApi(library_name="distillkit")


def shorten_wait(response: Any) -> None:
    """Limit how long the Hub can make the client sleep to LONGEST_WAIT."""
    asked = response.headers.get("Retry-After", "")
    if asked and not (asked.isdecimal() and len(asked) < 4 and int(asked) <= LONGEST_WAIT):
        response.headers["Retry-After"] = str(int(LONGEST_WAIT))
    if response.status_code == 429 and "ratelimit" in response.headers:
        del response.headers["ratelimit"]


def is_offline() -> bool:
    """Whether the environment forbids requests to the Hub (``HF_HUB_OFFLINE=1``). Then only the client's cache is
    used.
    """
    from huggingface_hub.constants import is_offline_mode

    return bool(is_offline_mode())


@contextmanager
def quiet_client(on_terminal: bool = False) -> Iterator[None]:
    """Hide the client's progress bars if stderr is not a terminal; with ``on_terminal`` also on a terminal."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hidden = (on_terminal or not sys.stderr.isatty()) and not are_progress_bars_disabled()
    if hidden:
        disable_progress_bars()
    try:
        yield
    finally:
        if hidden:
            enable_progress_bars()


# The files of a repository


@dataclass(frozen=True)
class Entry:
    """A file in the Hub's listing. ``sha256`` is given for large files (LFS); ``git`` is the id of Git's object."""

    size: int
    sha256: str | None
    git: str


@dataclass(frozen=True)
class Sums:
    """A file's size and both checksums, computed in one reading."""

    size: int
    sha256: str
    git: str

    def equal(self, entry: Entry | None) -> bool:
        """Whether the file on the Hub has the same bytes."""
        if entry is None or entry.size != self.size:
            return False
        return entry.git == self.git if entry.sha256 is None else entry.sha256 == self.sha256


def sums_of(path: Path) -> Sums:
    size = path.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            sha256.update(block)
            git.update(block)
    return Sums(size, sha256.hexdigest(), git.hexdigest())


def resolve(api: "HfApi", reference: Reference) -> str:
    """The commit that the revision refers to now. Raises HubError."""
    with hub_errors(api, str(reference)):
        found = api.dataset_info(reference.repo, revision=reference.revision, timeout=SILENCE).sha
    if not isinstance(found, str) or not COMMIT.fullmatch(found):
        raise HubError(f"{reference}: the Hub names no commit; expected 40 hexadecimal digits; check HF_ENDPOINT")
    return found


def listing(api: "HfApi", repo: str, revision: str) -> dict[str, Entry]:
    """Every file of a revision, by path. Raises HubError."""
    with hub_errors(api, short(repo, revision)):
        return entries(api.list_repo_tree(repo, recursive=True, revision=revision, repo_type=DATASET))


def announced(api: "HfApi", repo: str, revision: str, names: list[str]) -> dict[str, Entry]:
    """The Hub's entries for these files, by path, without those that do not exist. Raises HubError."""
    with hub_errors(api, short(repo, revision)):
        return entries(api.get_paths_info(repo, names, revision=revision, repo_type=DATASET))


def entries(listed: Iterable[Any]) -> dict[str, Entry]:
    """The files in a listing of the client. Raises TypeError for a malformed entry."""
    found = {}
    for entry in listed:
        if hasattr(entry, "blob_id"):
            sha256 = entry.lfs.sha256 if entry.lfs is not None else None
            parts = {"path": (entry.path, str), "size": (entry.size, int), "oid": (entry.blob_id, str)}
            for name, (value, kind) in parts.items():
                if not isinstance(value, kind):
                    raise TypeError(f"a listed file has no {name}")
            found[entry.path] = Entry(entry.size, sha256, entry.blob_id)
    return found


def differing(sums: Mapping[str, Sums], remote: Mapping[str, Entry]) -> list[str]:
    """Files that the Hub lacks or has with different bytes."""
    return sorted(name for name, wanted in sums.items() if not wanted.equal(remote.get(name)))


def short(repo: str, revision: str) -> str:
    return f"{repo}@{revision[:12] if COMMIT.fullmatch(revision) else revision}"


# Downloads


def download(api: "HfApi", repo: str, name: str, revision: str) -> Path:
    """The file in the client's cache, which lies in a folder named after the commit."""
    with hub_errors(api, short(repo, revision)), quiet_client():
        return Path(api.hf_hub_download(repo, name, repo_type=DATASET, revision=revision))


def check_download(path: Path, entry: Entry | None, problem: str) -> None:
    """Raise HubError, with this problem, and delete the file, if it has other bytes than the Hub lists."""
    if entry is not None and not sums_of(path).equal(entry):
        forget(path)
        raise HubError(f"{problem}; try again later", transient=True)


def forget(path: Path) -> None:
    """Remove a file from the client's cache, where it may be a link to its content."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
