"""Commits with many files each, because the Hub limits the number of commits per time.

The files of a push wait until a batch is full; then one commit uploads the batch. Files are committed in the order in
which they were added, so that DVC's list of a folder never arrives before the folder's files. A commit may be repeated,
because the client skips files that are already there: the next push completes a failed one.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from distillkit.base.errors import HubError, counted
from distillkit.hub.client import DATASET, quiet_client
from distillkit.hub.errors import hub_errors, patiently

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
FILES_PER_COMMIT = 100
BYTES_PER_COMMIT = 2**29  # the Hub accepts 1 GB of small files in one commit, sent as base64


class Upload(NamedTuple):
    """A file to upload: its path in the repository, and its content as a local path or bytes."""

    path: str
    source: str | bytes
    size: int


@dataclass(eq=False)
class CommitQueue:
    """Uploads to one branch of one repository, from any number of threads."""

    api: "HfApi"
    repo: str
    branch: str
    waiting: list[Upload] = field(default_factory=list)
    landed: int = 0
    error: HubError | None = None  # of the running push; after an error, nothing more is committed
    lock: threading.Lock = field(default_factory=threading.Lock)  # for ``waiting``
    turn: threading.Lock = field(default_factory=threading.Lock)  # for commits, one at a time

    def gather(self, upload: Upload) -> None:
        """Add a file. It is committed when the batch is full, or by :meth:`finish`, which raises the error if there is
        one.
        """
        with self.lock:
            self.waiting.append(upload)
            full = is_full(self.waiting)
        if full:
            self.commit_in_order(full_only=True)

    def finish(self) -> None:
        """Commit the waiting files. Raises HubError if any of them, or an earlier batch, could not be sent."""
        self.commit_in_order()
        error, landed, self.error, self.landed = self.error, self.landed, None, 0
        if error is not None:
            note = f"; {counted(landed, 'file')} sent, run this again for the rest" if landed else ""
            raise HubError(f"{error}{note}")

    def commit_in_order(self, full_only: bool = False) -> None:
        """Commit batches. After one that failed or was interrupted, the others are dropped."""
        with self.turn:
            while batch := self.take(full_only):
                if self.error is None:
                    self.error = HubError(f"{self.repo}@{self.branch}: the upload was interrupted; run it again")
                    try:
                        add_files(self.api, self.repo, self.branch, batch)
                        self.error, self.landed = None, self.landed + len(batch)
                    except HubError as error:
                        self.error = error

    def take(self, full_only: bool) -> list[Upload]:
        """The next batch: as many uploads as one commit may have."""
        with self.lock:
            if full_only and not is_full(self.waiting):
                return []
            count = next((n for n in range(1, len(self.waiting)) if is_full(self.waiting[:n])), len(self.waiting))
            batch, self.waiting = self.waiting[:count], self.waiting[count:]
            return batch


def is_full(uploads: Sequence[Upload]) -> bool:
    return len(uploads) >= FILES_PER_COMMIT or sum(upload.size for upload in uploads) >= BYTES_PER_COMMIT


def add_files(api: "HfApi", repo: str, branch: str, uploads: Sequence[Upload]) -> None:
    """Add the files in one commit; retried after transient errors."""
    from huggingface_hub import CommitOperationAdd

    def attempt() -> None:
        with hub_errors(api, f"{repo}@{branch}"):
            operations = [CommitOperationAdd(upload.path, upload.source) for upload in uploads]
            commit(api, repo, branch, operations, f"dvc: add {counted(len(operations), 'file')}")

    patiently(attempt)


def delete_files(api: "HfApi", repo: str, branch: str, paths: Sequence[str]) -> None:
    """Delete those of the files that exist, in a few commits; retried after transient errors."""
    from huggingface_hub import CommitOperationDelete

    def attempt(some: Sequence[str]) -> None:
        with hub_errors(api, f"{repo}@{branch}"):
            present = [entry.path for entry in api.get_paths_info(repo, list(some), revision=branch, repo_type=DATASET)]
            operations = [CommitOperationDelete(path, is_folder=False) for path in present]
            if operations:
                commit(api, repo, branch, operations, f"dvc: remove {counted(len(present), 'file')}")

    for some in chunks(paths, FILES_PER_COMMIT):
        patiently(partial(attempt, some))


def commit(api: "HfApi", repo: str, branch: str, operations: Sequence[Any], message: str) -> None:
    with quiet_client(on_terminal=True):  # DVC shows its own bars
        api.create_commit(repo, list(operations), commit_message=message, repo_type=DATASET, revision=branch)


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


_queues: dict[tuple[str, str, str], CommitQueue] = {}
_queues_lock = threading.Lock()


def queue_of(api: "HfApi", repo: str, branch: str) -> CommitQueue:
    """The queue of this process for a branch. All filesystems that DVC creates in a push share it."""
    with _queues_lock:
        return _queues.setdefault((api.endpoint, repo, branch), CommitQueue(api, repo, branch))


def finish_all() -> None:
    """Finish all queues. Raises the first error after all have been tried."""
    errors = []
    for queue in list(_queues.values()):
        try:
            queue.finish()
        except HubError as error:
            errors.append(error)
    if errors:
        raise errors[0]
