"""Publish a package: one guarded commit, safe to repeat, checked when it is there, tagged, and put on record."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.artifact import pretty_json, write_text
from distillkit.errors import ArtifactError, HubError, ParamsError
from distillkit.hub import (
    DATASET,
    MAIN,
    REVISION,
    Reference,
    differing,
    hub_errors,
    is_same,
    is_xet_failure,
    listing,
    parse_reference,
    patiently,
    quiet_unless_terminal,
    resolve,
    token_of,
    without_xet,
)
from distillkit.manifest import CARD, MANIFEST, FileRecord, Manifest, open_package, read_manifest, record_of
from distillkit.progress import tell

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OURS = (CARD, ".gitattributes")  # what a repository may hold before the first push


@dataclass(frozen=True)
class Receipt:
    """What is where: ``commit`` of ``repo`` holds the package whose manifest.json has this SHA-256."""

    repo: str
    endpoint: str
    commit: str
    tag: str | None
    manifest_sha256: str


@dataclass(frozen=True)
class Pushed:
    """The outcome: ``sent`` and ``removed`` are paths; both are empty when the Hub had it all."""

    receipt: Receipt
    sent: list[str]
    removed: list[str]


@dataclass(frozen=True)
class Head:
    """A commit of the repository: its files, and its manifest if it is a package."""

    commit: str
    files: Mapping[str, Any]
    manifest: Manifest | None


def push(
    api: "HfApi",
    folder: Path,
    repo: str,
    *,
    tag: str | None = None,
    private: bool = False,
    message: str | None = None,
    receipt: Path | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Pushed:
    """Make ``repo`` hold the package in ``folder`` and nothing of an earlier one; a tag is never moved.

    Raises ArtifactError unless the folder is exactly its manifest, ParamsError for unusable names, and HubError when
    the Hub refuses, fails for good, or ends up with other bytes. After any of them, running it again is safe.
    """
    package = open_package(folder, whole=True)
    repo = requested(api, repo, tag, receipt)
    records = {**read_manifest(folder / MANIFEST).files, MANIFEST: record_of(folder / MANIFEST)}
    patiently(lambda: ensure_repository(api, repo, private), wait)
    title = message or f"{package.name}: {len(package.recipes)} recipes, manifest {records[MANIFEST].sha256[:12]}"
    patiently(lambda: ensure_repository(api, repo, private), wait)
    commit = patiently(lambda: tagged_commit(api, repo, tag, folder, records), wait)
    sent: list[str] = []
    removed: list[str] = []
    if commit is None:
        head = patiently(lambda: read_head(api, repo), wait)
        sent, removed = changes(head, folder, records)
        commit = patiently(lambda: land(api, repo, head, folder, records, title), wait)
        patiently(lambda: create_tag(api, repo, tag, commit, f"{package.name} {tag}"), wait)
    pushed = Pushed(Receipt(repo, api.endpoint, commit, tag, records[MANIFEST].sha256), sent, removed)
    if receipt is not None:
        write_receipt(receipt, pushed.receipt)
    return pushed


def requested(api: "HfApi", repo: str, tag: str | None, receipt: Path | None) -> str:
    """The repository's name, once it is sure that nothing about the request can fail only later."""
    reference = parse_reference(repo)
    if reference.revision is not None:
        raise ParamsError(f"push makes a new commit of {reference.repo}; drop @{reference.revision}, or use --tag")
    if tag is not None and (not REVISION.fullmatch(tag) or ".." in tag or tag == MAIN):
        raise ParamsError(f"tag is {tag!r}; expected a name such as v1.0, of letters, digits, '.', '-' and '_'")
    if receipt is not None:
        read_receipts(receipt)
    if not token_of(api):
        raise HubError(
            "there is no token for the Hub; expected one that may write; run `hf auth login`, or set HF_TOKEN"
        )
    return reference.repo


def ensure_repository(api: "HfApi", repo: str, private: bool) -> None:
    """Create the dataset repository if need be. Raises HubError when ``private`` is asked for and it is public."""
    with hub_errors(api, repo):
        api.create_repo(repo, repo_type=DATASET, exist_ok=True, visibility="private" if private else None)
        found = api.dataset_info(repo)
    if private and not found.private:
        raise HubError(f"{repo} exists and is public; expected a private one; make it private on the Hub first")


def tagged_commit(
    api: "HfApi", repo: str, tag: str | None, folder: Path, records: Mapping[str, FileRecord]
) -> str | None:
    """The commit a tag is at, if it holds this very package already; None when there is no such tag.

    Raises HubError when the tag holds something else.
    """
    if tag is None:
        return None
    with hub_errors(api, repo):
        tags = [found.name for found in api.list_repo_refs(repo, repo_type=DATASET).tags]
    if tag not in tags:
        return None
    commit = resolve(api, Reference(repo, tag))
    if differing(folder, records, listing(api, repo, commit)):
        raise HubError(
            f"{repo} has tag {tag!r} on other files (commit {commit[:12]}); tags do not move; choose another"
        )
    return commit


def read_head(api: "HfApi", repo: str) -> Head:
    """The newest commit of main. Raises HubError when the repository holds something that is no package."""
    commit = resolve(api, Reference(repo, MAIN))
    files = listing(api, repo, commit)
    if MANIFEST in files:
        return Head(commit, files, remote_manifest(api, repo, commit, files[MANIFEST]))
    if others := sorted(set(files) - set(OURS)):
        raise HubError(
            f"{repo} holds {others[0]} and no {MANIFEST}; expected an empty dataset or a package; choose another"
        )
    return Head(commit, files, None)


def remote_manifest(api: "HfApi", repo: str, commit: str, entry: Any) -> Manifest | None:
    """The manifest at a commit; None for one that we cannot read, which then lists nothing that may be removed."""
    with tempfile.TemporaryDirectory() as temporary:
        with hub_errors(api, f"{repo}@{commit[:12]}"), quiet_unless_terminal():
            path = Path(api.hf_hub_download(repo, MANIFEST, repo_type=DATASET, revision=commit, local_dir=temporary))
        if not is_same(path, record_of(path), entry):
            raise HubError(f"{repo} sent a damaged {MANIFEST}; try again later", transient=True)
        try:
            return read_manifest(path)
        except ArtifactError:
            return None


def land(api: "HfApi", repo: str, before: Head, folder: Path, records: Mapping[str, FileRecord], title: str) -> str:
    """Commit what differs on top of ``before`` unless it has landed already, and return the commit that has it all.

    Raises HubError when the branch has moved to something else.
    """
    head = read_head(api, repo)
    sent, removed = changes(head, folder, records)
    if not sent and not removed:
        return head.commit
    if head.commit != before.commit:
        raise HubError(
            f"{repo} moved from commit {before.commit[:12]} to {head.commit[:12]} meanwhile, and this push is not in "
            "it; look at that commit, then push again"
        )
    tell_of_edits(head)
    with hub_errors(api, repo), quiet_unless_terminal():
        commit(api, repo, partial(operations, folder, records, sent, removed), title, head.commit)
    head = read_head(api, repo)
    if lacking := differing(folder, records, head.files):
        raise HubError(f"{repo} has other bytes in {lacking[0]} than were sent (commit {head.commit[:12]}); push again")
    return head.commit


def commit(api: "HfApi", repo: str, content: Callable[[], list[Any]], title: str, parent: str) -> None:
    """One commit, which the Hub refuses unless ``parent`` is the head. Xet first, where the client has it, else LFS."""

    def create() -> None:
        api.create_commit(repo, content(), commit_message=title, repo_type=DATASET, parent_commit=parent)

    try:
        create()
    except Exception as error:
        if not is_xet_failure(error):
            raise
        tell(f"{repo}: Xet storage does not answer, sending by Git LFS")
        with without_xet():
            create()


def operations(
    folder: Path, records: Mapping[str, FileRecord], sent: Sequence[str], removed: Sequence[str]
) -> list[Any]:
    """The commit's content. Raises ArtifactError when a file has changed since it was checked."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    additions = [CommitOperationAdd(name, folder / name) for name in sent]
    for addition in additions:
        if addition.upload_info.sha256.hex() != records[addition.path_in_repo].sha256:
            raise ArtifactError(f"{folder / addition.path_in_repo} changed while it was pushed; package it again")
    return [*additions, *(CommitOperationDelete(name, is_folder=False) for name in removed)]


def changes(head: Head, folder: Path, records: Mapping[str, FileRecord]) -> tuple[list[str], list[str]]:
    """Files to send, and files of the earlier package to remove. What no manifest lists is left alone."""
    listed = set(head.manifest.files) if head.manifest else set()
    return differing(folder, records, head.files), sorted((listed & set(head.files)) - set(records))


def tell_of_edits(head: Head) -> None:
    """Say which files were changed on the Hub since the last push, because this one replaces them."""
    for name, record in head.manifest.files.items() if head.manifest else ():
        entry = head.files.get(name)
        changed = entry is not None and (entry.size != record.size or (entry.lfs and entry.lfs.sha256 != record.sha256))
        if changed:
            tell(f"warning: {name} was edited on the Hub; commit {head.commit[:12]} keeps that, this push replaces it")


def create_tag(api: "HfApi", repo: str, tag: str | None, commit: str, message: str) -> None:
    """An annotated tag, if one is wanted, on ``commit``; one that is on this commit already is well."""
    if tag is None:
        return
    with hub_errors(api, f"{repo}@{tag}"):
        api.create_tag(repo, tag=tag, revision=commit, tag_message=message, repo_type=DATASET, exist_ok=True)
    if (found := resolve(api, Reference(repo, tag))) != commit:
        raise HubError(f"{repo} has it all in commit {commit}, but tag {tag!r} is on {found}; choose another tag")


# The receipt


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Add to the receipts in ``path``, one for each repository, sorted."""
    described = {key: value for key, value in asdict(receipt).items() if key != "repo"}
    write_text(path, pretty_json({**read_receipts(path), receipt.repo: described}))


def read_receipts(path: Path) -> dict[str, Any]:
    """The receipts so far. Raises ArtifactError when the file is no such record."""
    if not path.exists():
        return {}
    try:
        receipts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ArtifactError(
            f"{path} cannot be read ({error}); expected receipts of distillkit push; choose another"
        ) from None
    if not isinstance(receipts, dict) or not all(isinstance(entry, dict) for entry in receipts.values()):
        raise ArtifactError(f"{path} holds no receipts of distillkit push; choose another file with --receipt")
    return receipts


def lines(pushed: Pushed) -> Sequence[str]:
    """The outcome for people."""
    receipt = pushed.receipt
    where = f"{receipt.repo}@{receipt.tag}" if receipt.tag else receipt.repo
    if not pushed.sent and not pushed.removed:
        return [f"{where}: nothing to send, commit {receipt.commit} has it all"]
    counted = f"{len(pushed.sent)} files sent" + (f", {len(pushed.removed)} removed" if pushed.removed else "")
    return [f"{where}: {counted}, commit {receipt.commit}"]


def as_dict(pushed: Pushed) -> dict[str, Any]:
    """The outcome for programs."""
    return {**asdict(pushed.receipt), "sent": pushed.sent, "removed": pushed.removed}
