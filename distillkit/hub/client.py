"""The Hugging Face Hub as seen from here: repositories by name and revision, their files, and errors of one line.

Every function takes the client's ``HfApi``, which knows the endpoint and the token. What the Hub says is not trusted:
listings are checked for their form, and all bytes later for their checksums.
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
SILENCE = 120.0  # seconds without a byte after which a connection counts as lost


def connect() -> "HfApi":
    """The client, with the endpoint and token of its environment (``HF_ENDPOINT``, ``HF_TOKEN``, ``hf auth login``).

    It waits for a silent Hub for two minutes, not for ever, and between its own attempts for one at most.
    """
    from huggingface_hub import HfApi, get_session, get_token
    from huggingface_hub.utils import logging

    if not (token := get_token() or "").isascii() or not token.isprintable():
        raise HubError("the Hub's token has characters that no token has; run `hf auth login`, or correct HF_TOKEN")
    session = get_session()
    session.timeout = SILENCE
    hooks = session.event_hooks
    if shorten_wait not in hooks["response"]:
        session.event_hooks = {**hooks, "response": [*hooks["response"], shorten_wait]}
    logging.set_verbosity_error()
    return HfApi(library_name="distillkit")


def shorten_wait(response: Any) -> None:
    """Let no Hub make the client sleep for longer than LONGEST_WAIT."""
    asked = response.headers.get("Retry-After", "")
    if asked and not (asked.isdecimal() and len(asked) < 4 and int(asked) <= LONGEST_WAIT):
        response.headers["Retry-After"] = str(int(LONGEST_WAIT))
    if response.status_code == 429 and "ratelimit" in response.headers:
        del response.headers["ratelimit"]


def is_offline() -> bool:
    """Whether the environment forbids to ask the Hub (``HF_HUB_OFFLINE=1``): only the client's cache counts then."""
    from huggingface_hub.constants import is_offline_mode

    return bool(is_offline_mode())


@contextmanager
def quiet_client(on_terminal: bool = False) -> Iterator[None]:
    """Hide the client's progress bars while stderr is no terminal, or there too."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hidden = (on_terminal or not sys.stderr.isatty()) and not are_progress_bars_disabled()
    if hidden:
        disable_progress_bars()
    try:
        yield
    finally:
        if hidden:
            enable_progress_bars()


# What a repository holds


@dataclass(frozen=True)
class Entry:
    """A file as the Hub lists it: by SHA-256 where it is kept as a large file, else by Git's hash of its content."""

    size: int
    sha256: str | None
    git: str


@dataclass(frozen=True)
class Sums:
    """A file's size and both its checksums, taken in one reading."""

    size: int
    sha256: str
    git: str

    def equal(self, entry: Entry | None) -> bool:
        """Whether the Hub has these bytes."""
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
    """The commit that the revision stands for now."""
    with hub_errors(api, str(reference)):
        found = api.dataset_info(reference.repo, revision=reference.revision, timeout=SILENCE).sha
    if not isinstance(found, str) or not COMMIT.fullmatch(found):
        raise HubError(f"{reference}: the Hub names no commit; expected 40 hexadecimal digits; is this a Hub?")
    return found


def listing(api: "HfApi", repo: str, revision: str) -> dict[str, Entry]:
    """Every file of a revision, by its path."""
    with hub_errors(api, short(repo, revision)):
        return entries(api.list_repo_tree(repo, recursive=True, revision=revision, repo_type=DATASET))


def announced(api: "HfApi", repo: str, revision: str, names: list[str]) -> dict[str, Entry]:
    """What the Hub says of these files, by path; it lacks the others."""
    with hub_errors(api, short(repo, revision)):
        return entries(api.get_paths_info(repo, names, revision=revision, repo_type=DATASET))


def entries(listed: Iterable[Any]) -> dict[str, Entry]:
    """The files among the client's entries. Raises TypeError for one that is no such thing."""
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
    """Files that the Hub lacks or has with other bytes."""
    return sorted(name for name, wanted in sums.items() if not wanted.equal(remote.get(name)))


def short(repo: str, revision: str) -> str:
    return f"{repo}@{revision[:12] if COMMIT.fullmatch(revision) else revision}"
