"""Publish a package: one guarded commit, safe to repeat, checked when it is there, tagged, and put on record."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.base.arguments import push_target
from distillkit.base.errors import ArtifactError, HubError, counted
from distillkit.base.references import MAIN, Reference
from distillkit.hub.client import (
    DATASET,
    SILENCE,
    Entry,
    Sums,
    differing,
    is_offline,
    listing,
    quiet_client,
    resolve,
    short,
    sums_of,
)
from distillkit.hub.errors import hub_errors, patiently, token_of, without_token
from distillkit.hub.receipts import Receipt, check_receipt, write_receipt
from distillkit.package.folders import CARD, MANIFEST, sign_offs_in
from distillkit.package.manifest import Manifest, Package, open_package, printable, read_manifest
from distillkit.process.progress import tell, without_passwords
from distillkit.sources.licences import licence_of_imported, obstacle

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SMALL = 10 * 2**20  # bytes of a file that is sent from memory
OURS = (CARD, ".gitattributes")  # what a repository may hold before the first push


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
    files: Mapping[str, Entry]
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
    may_publish: bool = False,
    wait: Callable[[float], None] = time.sleep,
) -> Pushed:
    """Make ``repo`` hold the package in ``folder`` and nothing of an earlier one; a tag is never moved.

    ``may_publish`` is the user's word that the licence of the images allows it, for where that cannot be told.

    Raises ArtifactError unless the folder is exactly its manifest, ParamsError for unusable names, and HubError when
    the Hub refuses, fails for good, or ends up with other bytes. After any of them, running it again is safe.
    """
    package = open_package(folder, whole=True)
    check_permitted(package, may_publish)
    repo = requested(api, repo, tag, receipt)
    sums = checked_sums(folder)
    recipes = counted(len(package.recipes), "recipe")
    title = message or f"{package.name}: {recipes}, manifest {sums[MANIFEST].sha256[:12]}"
    patiently(lambda: ensure_repository(api, repo, private), wait)
    commit = tagged = patiently(lambda: tagged_commit(api, repo, tag, sums), wait)
    sent: list[str] = []
    removed: list[str] = []
    if commit is None:
        head = patiently(lambda: read_head(api, repo), wait)
        sent, removed = changes(head, sums)
        commit = patiently(lambda: land(api, repo, head, folder, sums, title), wait)
        patiently(lambda: create_tag(api, repo, tag, commit, f"{package.name} {tag}"), wait)
    pushed = Pushed(Receipt(repo, without_passwords(api.endpoint), commit, tag, sums[MANIFEST].sha256), sent, removed)
    if receipt is not None:
        write_receipt(receipt, pushed.receipt, is_head=tagged is None)
    return pushed


def checked_sums(folder: Path) -> dict[str, Sums]:
    """Checksums of all files to send, sign-offs with them. Raises ArtifactError unless they are the manifest's."""
    records = read_manifest(folder / MANIFEST).files
    sums = {name: sums_of(folder / name) for name in (*records, MANIFEST)}
    if changed := [name for name, record in records.items() if sums[name].sha256 != record.sha256]:
        raise ArtifactError(f"{folder / changed[0]} changed while it was pushed; package it again")
    return sums | {name: sums_of(folder / name) for name in sign_offs_in(folder)}


def check_permitted(package: Package, may_publish: bool) -> None:
    """Raise ArtifactError where the images' licence forbids derived sets or is not known; told if the user may."""
    for recipe in package.recipes:
        record = package.recipe_json(recipe)
        source = record["provenance"].get("source")
        licence = source.get("licence", "") if isinstance(source, Mapping) else ""
        found = obstacle(str(licence))
        if found is None and (own := licence_of_imported(record)):
            found = obstacle(own, f"the imported images of {recipe}")
        if found is None:
            continue
        if not may_publish:
            mend = "look it up and set data.licence, or import with --licence; say --i-may-publish if you may"
            raise ArtifactError(f"{printable(found)}; expected one that allows derived sets; {mend}")
        tell(f"warning: {printable(found)}; published as --i-may-publish says")
        return


def requested(api: "HfApi", repo: str, tag: str | None, receipt: Path | None) -> str:
    """The repository's name, once it is sure that nothing about the request can fail only later."""
    name = push_target(repo, tag)
    if receipt is not None:
        check_receipt(receipt)
    if is_offline():
        raise HubError("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it")
    if not token_of(api):
        raise HubError(
            "there is no token for the Hub; expected one that may write; run `hf auth login`, or set HF_TOKEN"
        )
    return name


def ensure_repository(api: "HfApi", repo: str, private: bool) -> None:
    """Create the dataset repository if need be. Raises HubError when ``private`` is asked for and it is public."""
    with hub_errors(api, repo):
        api.create_repo(repo, repo_type=DATASET, exist_ok=True, visibility="private" if private else None)
        found = api.dataset_info(repo, timeout=SILENCE)
    if private and not found.private:
        raise HubError(f"{repo} exists and is public; expected a private one; make it private on the Hub first")


def tagged_commit(api: "HfApi", repo: str, tag: str | None, sums: Mapping[str, Sums]) -> str | None:
    """The commit a tag is at, if it holds this very package already; None when there is no such tag.

    Raises HubError when the tag holds something else, or is a branch.
    """
    if tag is None:
        return None
    with hub_errors(api, repo):
        refs = api.list_repo_refs(repo, repo_type=DATASET)
    if tag in [branch.name for branch in refs.branches]:
        raise HubError(f"{repo} has a branch {tag!r}; expected a tag of another name; choose one")
    if tag not in [found.name for found in refs.tags]:
        return None
    commit = resolve(api, Reference(repo, tag))
    if differing(sums, listing(api, repo, commit)):
        raise HubError(f"{repo} has tag {tag!r} on other files (at {commit[:12]}); tags do not move; choose another")
    if (head := resolve(api, Reference(repo, MAIN))) != commit:
        tell(f"{repo}: {tag} is this package already; {MAIN} is further on, at commit {head[:12]}, and stays there")
    return commit


def read_head(api: "HfApi", repo: str) -> Head:
    """The newest commit of main. Raises HubError when the repository holds something that is no package."""
    commit = resolve(api, Reference(repo, MAIN))
    files = listing(api, repo, commit)
    if MANIFEST in files:
        return Head(commit, files, remote_manifest(api, repo, commit, files[MANIFEST]))
    if others := sorted(set(files) - set(OURS)):
        found = f"{repo} holds {without_token(others[0], api)} and no {MANIFEST}"
        raise HubError(f"{found}; expected an empty dataset or a package; choose another")
    return Head(commit, files, None)


def remote_manifest(api: "HfApi", repo: str, commit: str, entry: Entry) -> Manifest | None:
    """The manifest at a commit; None for one that we cannot read, which then lists nothing that may be removed."""
    with tempfile.TemporaryDirectory() as temporary:
        with hub_errors(api, short(repo, commit)), quiet_client():
            path = Path(api.hf_hub_download(repo, MANIFEST, repo_type=DATASET, revision=commit, local_dir=temporary))
        if not sums_of(path).equal(entry):
            raise HubError(f"{repo} sent a damaged {MANIFEST}; try again later", transient=True)
        try:
            return read_manifest(path)
        except ArtifactError:
            return None


def land(api: "HfApi", repo: str, before: Head, folder: Path, sums: Mapping[str, Sums], title: str) -> str:
    """Commit what differs on top of ``before`` unless it has landed already, and return the commit that has it all.

    Raises HubError when the branch has moved to something else.
    """
    head = read_head(api, repo)
    sent, removed = changes(head, sums)
    if not sent and not removed:
        return head.commit
    if head.commit != before.commit:
        moved = f"{repo} moved from commit {before.commit[:12]} to {head.commit[:12]} meanwhile"
        raise HubError(f"{moved}, and this push is not in it; look at that commit, then push again")
    tell_of_edits(head)
    content = operations(folder, sums, sent, removed)
    with hub_errors(api, repo), quiet_client():
        api.create_commit(repo, content, commit_message=title, repo_type=DATASET, parent_commit=head.commit)
    head = read_head(api, repo)
    if lacking := differing(sums, head.files):
        raise HubError(f"{repo} has other bytes in {lacking[0]} than were sent (commit {head.commit[:12]}); push again")
    return head.commit


def operations(folder: Path, sums: Mapping[str, Sums], sent: Sequence[str], removed: Sequence[str]) -> list[Any]:
    """The commit's content: of small files the checked bytes themselves.

    Raises ArtifactError when a file is not what it was when it was checked.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    additions = []
    for name in sent:
        path = folder / name
        addition = CommitOperationAdd(name, path.read_bytes() if sums[name].size <= SMALL else path)
        if addition.upload_info.sha256.hex() != sums[name].sha256:
            raise ArtifactError(f"{path} changed while it was pushed; package it again")
        additions.append(addition)
    return [*additions, *(CommitOperationDelete(name, is_folder=False) for name in removed)]


def changes(head: Head, sums: Mapping[str, Sums]) -> tuple[list[str], list[str]]:
    """Files to send, and files of the earlier package to remove. What no manifest lists is left alone."""
    listed = set(head.manifest.files) if head.manifest else set()
    return differing(sums, head.files), sorted((listed & set(head.files)) - set(sums))


def tell_of_edits(head: Head) -> None:
    """Say which files were changed on the Hub since the last push, because this one replaces them."""
    for name, record in head.manifest.files.items() if head.manifest else ():
        entry = head.files.get(name)
        if entry is not None and (entry.size, entry.sha256 or record.sha256) != (record.size, record.sha256):
            tell(f"warning: {name} was edited on the Hub; commit {head.commit[:12]} keeps that, this push replaces it")


def create_tag(api: "HfApi", repo: str, tag: str | None, commit: str, message: str) -> None:
    """An annotated tag, if one is wanted, on ``commit``; one that is on this commit already is well."""
    if tag is None:
        return
    with hub_errors(api, f"{repo}@{tag}"):
        api.create_tag(repo, tag=tag, revision=commit, tag_message=message, repo_type=DATASET, exist_ok=True)
    if (found := resolve(api, Reference(repo, tag))) != commit:
        raise HubError(f"{repo} has it all in commit {commit}, but tag {tag!r} is on {found}; choose another tag")


def lines(pushed: Pushed) -> Sequence[str]:
    """The outcome for people."""
    receipt = pushed.receipt
    where = f"{receipt.repo}@{receipt.tag}" if receipt.tag else receipt.repo
    if not pushed.sent and not pushed.removed:
        return [f"{where}: nothing to send, commit {receipt.commit} has it all"]
    removed = f", {len(pushed.removed)} removed" if pushed.removed else ""
    changed = f"{counted(len(pushed.sent), 'file')} sent{removed}"
    return [f"{where}: {changed}, commit {receipt.commit}"]


def as_dict(pushed: Pushed) -> dict[str, Any]:
    """The outcome for programs."""
    return {**asdict(pushed.receipt), "sent": pushed.sent, "removed": pushed.removed}
