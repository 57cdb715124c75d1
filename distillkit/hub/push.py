"""Publish a package in one commit that is safe to repeat; check the result, tag it, and write a receipt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    check_download,
    differing,
    download,
    is_offline,
    listing,
    quiet_client,
    resolve,
    sums_of,
)
from distillkit.hub.errors import hub_errors, patiently, token_of, without_token
from distillkit.hub.receipts import Pushed, check_receipt, write_receipt
from distillkit.package.folders import CARD, MANIFEST, sign_offs_in
from distillkit.package.manifest import Manifest, Package, open_package, printable, read_manifest
from distillkit.process.progress import tell, without_passwords
from distillkit.sources.licences import licence_of_imported, obstacle

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SMALL = 10 * 2**20  # most bytes of a file that is sent from memory
OURS = (CARD, ".gitattributes")  # files that a repository may have before the first push


@dataclass(frozen=True)
class Head:
    """The newest commit of the repository: its files, and its manifest if it is a package."""

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
) -> Pushed:
    """Make ``repo`` contain the package in ``folder``, without files of an earlier package. A tag is never moved.

    ``may_publish`` is the user's statement that the images' licence allows it, for licences that distillkit cannot
    judge. Raises ArtifactError unless the folder agrees with its manifest, ParamsError for invalid names, and HubError
    when the Hub refuses, keeps failing, or has other bytes at the end. After each of these, running it again is safe.
    """
    package = open_package(folder, whole=True)
    check_permitted(package, may_publish)
    repo = requested(api, repo, tag, receipt)
    sums = checked_sums(folder)
    recipes = counted(len(package.recipes), "recipe")
    title = message or f"{package.name}: {recipes}, manifest {sums[MANIFEST].sha256[:12]}"
    patiently(lambda: ensure_repository(api, repo, private))
    commit = tagged = patiently(lambda: tagged_commit(api, repo, tag, sums))
    sent: list[str] = []
    removed: list[str] = []
    if commit is None:
        head = patiently(lambda: read_head(api, repo))
        sent, removed = changes(head, sums)
        commit = patiently(lambda: land(api, repo, head, folder, sums, title))
        patiently(lambda: create_tag(api, repo, tag, commit, f"{package.name} {tag}"))
    pushed = Pushed(repo, without_passwords(api.endpoint), commit, tag, sums[MANIFEST].sha256, sent, removed)
    if receipt is not None:
        write_receipt(receipt, pushed, is_head=tagged is None)
    return pushed


def checked_sums(folder: Path) -> dict[str, Sums]:
    """Checksums of all files to send, including sign-offs. Raises ArtifactError unless they agree with the manifest."""
    records = read_manifest(folder / MANIFEST).files
    sums = {name: sums_of(folder / name) for name in (*records, MANIFEST)}
    if changed := [name for name, record in records.items() if sums[name].sha256 != record.sha256]:
        raise ArtifactError(f"{folder / changed[0]} changed while it was pushed; package it again")
    return sums | {name: sums_of(folder / name) for name in sign_offs_in(folder)}


def check_permitted(package: Package, may_publish: bool) -> None:
    """Raise ArtifactError if the images' licence forbids derived sets or is unknown; with ``may_publish`` only warn."""
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
            remedy = (
                "look it up and set data.licence, or import with --licence; use --i-may-publish if you have permission"
            )
            raise ArtifactError(f"{printable(found)}; expected one that allows derived sets; {remedy}")
        tell(f"warning: {printable(found)}; published because of --i-may-publish")
        return


def requested(api: "HfApi", repo: str, tag: str | None, receipt: Path | None) -> str:
    """The repository's name, after all checks that need no request."""
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
    """Create the dataset repository if necessary. Raises HubError when it should be ``private`` and is public."""
    with hub_errors(api, repo):
        api.create_repo(repo, repo_type=DATASET, exist_ok=True, visibility="private" if private else None)
        found = api.dataset_info(repo, timeout=SILENCE)
    if private and not found.private:
        raise HubError(f"{repo} exists and is public; expected a private one; make it private on the Hub first")


def tagged_commit(api: "HfApi", repo: str, tag: str | None, sums: Mapping[str, Sums]) -> str | None:
    """The commit of an existing tag that has this package; None when the tag does not exist.

    Raises HubError when the tag has other files, or is a branch.
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
        found = f"{repo} has tag {tag!r} at commit {commit[:12]}, which has other files"
        raise HubError(f"{found}; expected a new tag, because tags never move; choose another")
    if (head := resolve(api, Reference(repo, MAIN))) != commit:
        tell(f"{repo}: tag {tag} already has this package; {MAIN} has a later commit, {head[:12]}, and is not changed")
    return commit


def read_head(api: "HfApi", repo: str) -> Head:
    """The newest commit of main. Raises HubError when the repository has files but is not a package."""
    commit = resolve(api, Reference(repo, MAIN))
    files = listing(api, repo, commit)
    if MANIFEST in files:
        return Head(commit, files, remote_manifest(api, repo, commit, files[MANIFEST]))
    if others := sorted(set(files) - set(OURS)):
        found = f"{repo} holds {without_token(others[0], api)} and no {MANIFEST}"
        raise HubError(f"{found}; expected an empty dataset or a package; choose another")
    return Head(commit, files, None)


def remote_manifest(api: "HfApi", repo: str, commit: str, entry: Entry) -> Manifest | None:
    """The manifest at a commit; None if it cannot be read. Then no file counts as listed, so none is removed."""
    path = download(api, repo, MANIFEST, commit)
    check_download(path, entry, f"{repo} sent a damaged {MANIFEST}")
    try:
        return read_manifest(path)
    except ArtifactError:
        return None


def land(api: "HfApi", repo: str, before: Head, folder: Path, sums: Mapping[str, Sums], title: str) -> str:
    """Commit what differs on top of ``before``, unless that has been done, and return the commit with all files.

    Raises HubError when the branch has moved to something else.
    """
    head = read_head(api, repo)
    sent, removed = changes(head, sums)
    if not sent and not removed:
        return head.commit
    if head.commit != before.commit:
        found = f"somebody else has committed to {repo} meanwhile: {head.commit[:12]} after {before.commit[:12]}"
        raise HubError(f"{found}; this push is not in it; look at that commit, then push again")
    tell_of_edits(head)
    content = operations(folder, sums, sent, removed)
    with hub_errors(api, repo), quiet_client():
        api.create_commit(repo, content, commit_message=title, repo_type=DATASET, parent_commit=head.commit)
    head = read_head(api, repo)
    if lacking := differing(sums, head.files):
        raise HubError(f"{repo} has other bytes in {lacking[0]} than were sent (commit {head.commit[:12]}); push again")
    return head.commit


def operations(folder: Path, sums: Mapping[str, Sums], sent: Sequence[str], removed: Sequence[str]) -> list[Any]:
    """The content of the commit. Small files are sent as the checked bytes.

    Raises ArtifactError when a file has changed since it was checked.
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
    """Files to send, and files of the earlier package to remove. Files that its manifest does not list are not
    removed.
    """
    listed = set(head.manifest.files) if head.manifest else set()
    return differing(sums, head.files), sorted((listed & set(head.files)) - set(sums))


def tell_of_edits(head: Head) -> None:
    """Warn of files that were edited on the Hub since the last push, because this push replaces them."""
    for name, record in head.manifest.files.items() if head.manifest else ():
        entry = head.files.get(name)
        if entry is not None and (entry.size, entry.sha256 or record.sha256) != (record.size, record.sha256):
            kept = f"commit {head.commit[:12]} keeps the edit"
            tell(f"warning: {name} was edited on the Hub; this push replaces it; {kept}")


def create_tag(api: "HfApi", repo: str, tag: str | None, commit: str, message: str) -> None:
    """Create an annotated tag on ``commit``, unless it exists there. Does nothing when ``tag`` is None."""
    if tag is None:
        return
    with hub_errors(api, f"{repo}@{tag}"):
        api.create_tag(repo, tag=tag, revision=commit, tag_message=message, repo_type=DATASET, exist_ok=True)
    if (found := resolve(api, Reference(repo, tag))) != commit:
        raise HubError(f"{repo} has all files in commit {commit}, but tag {tag!r} is on {found}; choose another tag")


def lines(pushed: Pushed) -> Sequence[str]:
    """The result as lines of text."""
    where = f"{pushed.repo}@{pushed.tag}" if pushed.tag else pushed.repo
    if not pushed.sent and not pushed.removed:
        return [f"{where}: nothing to send, commit {pushed.commit} has all files"]
    removed = f", {len(pushed.removed)} removed" if pushed.removed else ""
    return [f"{where}: {counted(len(pushed.sent), 'file')} sent{removed}, commit {pushed.commit}"]
