"""The Hugging Face Hub as seen from here: repositories by name and revision, and its errors as one line.

Every function takes the client's ``HfApi``, which knows the endpoint and the token.
"""

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distillkit.errors import HubError, ParamsError
from distillkit.progress import tell

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from distillkit.manifest import FileRecord  # which would import torch

T = TypeVar("T")
DATASET = "dataset"
MAIN = "main"
ATTEMPTS = 5
LONGEST_WAIT = 300.0  # seconds
SILENCE = 300.0  # seconds without a byte after which a connection counts as lost
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w./+-]*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
PREFIXES = ("hf://datasets/", "https://huggingface.co/datasets/", "datasets/")


@dataclass(frozen=True)
class Reference:
    """A dataset repository on the Hub, and a branch, tag or commit of it."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def parse_reference(text: str) -> Reference:
    """``owner/name`` or ``owner/name@revision``, as such or as an ``hf://datasets/`` address. Raises ParamsError."""
    prefix = next((prefix for prefix in PREFIXES if text.startswith(prefix)), "")
    repo, at, revision = text.removeprefix(prefix).partition("@")
    if not REPOSITORY.fullmatch(repo) or ".." in repo or len(repo) > 193:
        raise ParamsError(f"{text!r} names no dataset of the Hub; expected owner/name or owner/name@revision")
    if at and (not REVISION.fullmatch(revision) or ".." in revision):
        raise ParamsError(f"{text!r} has revision {revision!r}; expected a branch, a tag or a commit")
    return Reference(repo, revision if at else None)


def connect() -> "HfApi":
    """The client, with the endpoint and token of its environment (``HF_ENDPOINT``, ``HF_TOKEN``, ``hf auth login``)."""
    from huggingface_hub import HfApi, get_session

    get_session().timeout = SILENCE  # the client's own is to wait for ever
    return HfApi(library_name="distillkit")


def is_offline() -> bool:
    """Whether the environment forbids to ask the Hub (``HF_HUB_OFFLINE=1``): only the client's cache counts then."""
    from huggingface_hub.constants import is_offline_mode

    return bool(is_offline_mode())


@contextmanager
def quiet_unless_terminal() -> Iterator[None]:
    """Hide the client's progress bars while stderr is no terminal."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hidden = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if hidden:
        disable_progress_bars()
    try:
        yield
    finally:
        if hidden:
            enable_progress_bars()


@contextmanager
def without_xet() -> Iterator[None]:
    """Make the client send large files by Git LFS, as ``HF_HUB_DISABLE_XET=1`` does."""
    from huggingface_hub import constants

    disabled, constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_XET, True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = disabled


def is_xet_failure(error: BaseException) -> bool:
    """Whether the client's Xet part failed, as it does against a Hub that has no Xet storage."""
    from huggingface_hub.errors import HfHubHTTPError, XetDownloadError

    if isinstance(error, HfHubHTTPError):
        return False
    return isinstance(error, XetDownloadError) or "xet" in f"{type(error).__module__} {error}".lower()


def resolve(api: "HfApi", reference: Reference) -> str:
    """The commit that the revision stands for now."""
    with hub_errors(api, str(reference)):
        found = api.dataset_info(reference.repo, revision=reference.revision).sha
    if not found or not COMMIT.fullmatch(found):
        raise HubError(f"{reference} has commit {found!r} on the Hub; expected 40 hexadecimal digits")
    return found


def listing(api: "HfApi", repo: str, revision: str) -> dict[str, Any]:
    """Every file of a revision, by its path: the client's ``RepoFile`` with size and checksums."""
    with hub_errors(api, f"{repo}@{revision}"):
        entries = api.list_repo_tree(repo, recursive=True, revision=revision, repo_type=DATASET)
        return {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}


def differing(folder: Path, records: "Mapping[str, FileRecord]", remote: Mapping[str, Any]) -> list[str]:
    """Files of ``records``, which lie in ``folder``, that the Hub lacks or has with other bytes."""
    return sorted(name for name, record in records.items() if not is_same(folder / name, record, remote.get(name)))


def is_same(path: Path, record: "FileRecord", entry: Any) -> bool:
    """Whether the Hub's entry has the recorded bytes: by SHA-256 for large files, by Git's hash for the others."""
    if entry is None or entry.size != record.size:
        return False
    if entry.lfs is not None:
        return bool(entry.lfs.sha256 == record.sha256)
    return bool(entry.blob_id == git_hash(path))


def git_hash(path: Path) -> str:
    """The name Git gives to the file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def hub_errors(api: "HfApi", what: str) -> Iterator[None]:
    """Turn whatever the client raises into a HubError of one line that cannot show the token."""
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except HubError:
        raise
    except Exception as error:
        if isinstance(error, OfflineModeIsEnabled):
            line = f"{what} is not all in the cache and HF_HUB_OFFLINE is set; unset it to reach the Hub"
        elif "metadata in README.md" in str(error):
            said = first_line(" ".join(str(error).split()))
            line = f"{what}: the Hub does not take the card ({said}); mend what it is made from, and package it again"
        elif (http := refusal(error, what, api.endpoint)) is not None:
            line = http
        elif is_xet_failure(error):
            line = f"{what}: the Xet client failed ({first_line(error)}); try again, or set HF_HUB_DISABLE_XET=1"
        elif is_unreachable(error):
            line = f"the Hub at {api.endpoint} cannot be reached for {what} ({first_line(error)}); try again later"
        elif isinstance(error, HFValidationError):
            line = f"{what}: {first_line(error)}; correct the name"
        elif isinstance(error, (OSError, ValueError, RuntimeError)):
            line = f"{what}: the Hub's client failed ({first_line(error)}); try again"
        else:
            raise
        raise HubError(without_token(line, api), is_transient(error), retry_after(error)) from None


def refusal(error: BaseException, what: str, endpoint: str) -> str | None:
    """One line for an answer of the Hub that is no success; None for another kind of error."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        cause = error.__cause__
        if cause is None:
            return f"{what} is not in the cache; unset HF_HUB_OFFLINE to fetch it"
        if (deeper := refusal(cause, what, endpoint)) is not None:
            return deeper
        return f"the Hub at {endpoint} cannot be reached for {what} ({first_line(cause)}); try again later"
    if not isinstance(error, errors.HfHubHTTPError):
        return refusal(error.__cause__, what, endpoint) if error.__cause__ else None
    status = error.response.status_code
    said = f" ({first_line(error.server_message)})" if error.server_message else ""
    if isinstance(error, errors.GatedRepoError):
        return f"{what} is gated; ask for access at {endpoint}, then run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{what} does not exist on the Hub; expected a branch, tag or commit of it; check the revision"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{what} lacks a file on the Hub{said}; expected a package that distillkit pushed"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{what} is not on the Hub at {endpoint}, or hidden from you; check the name, or run `hf auth login`"
    return f"{what}: {STATUS.get(status, f'the Hub answered {status}')}{said}; {REMEDY.get(status, 'try again later')}"


STATUS = {
    400: "the Hub calls the request bad (400)",
    401: "the Hub does not know your token (401)",
    403: "your token may not do that (403)",
    404: "the Hub does not find it (404)",
    409: "the Hub reports a conflict (409)",
    412: "somebody else has committed in between (412)",
    413: "the Hub takes nothing so large (413)",
    429: "the Hub wants fewer requests (429)",
}
REMEDY = {
    400: "check what is sent",
    401: "run `hf auth login`, or set HF_TOKEN",
    403: "use one with write access to it",
    404: "check the name",
    409: "look at the repository, then run this again",
    412: "look at the new commit, then run this again",
    413: "package fewer or smaller sets",
}


def is_unreachable(error: BaseException) -> bool:
    """Whether the connection failed rather than the Hub answered."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    return isinstance(error, ConnectionError) or type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore")


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later. A conflict may: our own earlier attempt may have caused it."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 409, 412, 429) or error.response.status_code >= 500
    cause = error.__cause__
    return is_unreachable(error) or (cause is not None and is_transient(cause))


def retry_after(error: BaseException) -> float | None:
    """Seconds that the Hub asks us to wait, at most five minutes."""
    from huggingface_hub.errors import HfHubHTTPError

    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(asked), LONGEST_WAIT) if asked.isdecimal() else None


def patiently(action: Callable[[], T], wait: Callable[[float], None] = time.sleep) -> T:
    """What ``action`` returns, tried again after transient errors; it must be safe to repeat."""
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except HubError as error:
            if not error.transient:
                raise
            seconds = 2.0 ** (attempt - 1) if error.wait is None else error.wait
            tell(f"{error}; trying again in {seconds:g} s ({attempt} of {ATTEMPTS - 1})")
            wait(seconds)
    return action()


def first_line(error: object, limit: int = 200) -> str:
    """The first line of a message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}…"


def without_token(text: str, api: "HfApi") -> str:
    """``text`` with the token masked, should a server have sent it back."""
    token = token_of(api)
    return text.replace(token, "<token>") if token else text


def token_of(api: "HfApi") -> str | None:
    """The token in use, if any."""
    from huggingface_hub import get_token

    return api.token if isinstance(api.token, str) else get_token()
