"""Fetch a published package: pinned to a commit, only the recipe asked for, every byte checked, nothing executed."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.artifact import load_synthetic
from distillkit.errors import ArtifactError, HubError, ParamsError
from distillkit.hub import (
    DATASET,
    MAIN,
    Reference,
    connect,
    hub_errors,
    is_offline,
    is_same,
    parse_reference,
    patiently,
    quiet_unless_terminal,
    resolve,
)
from distillkit.images import SyntheticSet
from distillkit.manifest import (
    ARTIFACT,
    MANIFEST,
    FileRecord,
    Manifest,
    Package,
    check_file,
    check_recipe,
    open_package,
    read_manifest,
    record_of,
    replacing,
)
from distillkit.progress import track

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LARGEST_MANIFEST = 16 * 2**20  # bytes


@dataclass(frozen=True)
class Remote:
    """A package at one commit; offline, as far as it is in the client's cache."""

    api: "HfApi"
    repo: str
    commit: str
    manifest: Manifest
    cache: Path | None
    wait: Callable[[float], None]


def pull(
    api: "HfApi",
    reference: Reference,
    recipe: str | None,
    out: Path,
    cache: Path | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> tuple[Package, str]:
    """The package, or one recipe of it, in folder ``out``, and the commit it comes from.

    Other recipes of the same package that lie in ``out`` stay; another version of it there is replaced. Raises HubError
    when the Hub does not give what the manifest promises, and ArtifactError when ``out`` holds anything else.
    """
    present = open_package(out) if out.is_dir() and any(out.iterdir()) else None
    remote = open_remote(api, reference, cache, wait)
    if recipe is not None:
        check_recipe(recipe, remote.manifest.name, remote.manifest.recipes)
    recipes = [recipe] if recipe else remote.manifest.recipes
    kept = present.recipes if present and present.manifest == asdict(remote.manifest) else ()
    if present and set(recipes) <= set(kept):
        return present, remote.commit
    files = fetch_all(remote, remote.manifest.files_of([name for name in recipes if name not in kept]))
    with replacing(out) as built:
        for name in remote.manifest.files_of([*recipes, *kept]):
            (built / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(files.get(name, out / name), built / name)
        shutil.copyfile(fetch(remote, MANIFEST, None), built / MANIFEST)
        open_package(built)
    return open_package(out), remote.commit


def load(reference: str | Path, recipe: str | None = None, *, cache: Path | None = None) -> SyntheticSet:
    """A distilled set, checked: of a package on the Hub (``owner/name``, ``owner/name@revision``), of a packaged
    folder, or from a single artifact.

    Args:
        reference: where it is; a path that exists comes before a name on the Hub.
        recipe: which set of a package; its default when missing.
        cache: the Hub client's cache; its own when missing.

    Raises:
        ArtifactError, HubError: what is there is no package, or has other bytes than its manifest says.
        ParamsError: the name cannot be one, or the package has no such recipe.

    """
    path = Path(reference)
    if path.is_file() or path.suffix == ".safetensors":
        return load_synthetic(path)[0]
    if (path / MANIFEST).is_file():
        package = open_package(path)
        return load_synthetic(package.artifact(recipe or package.default))[0]
    remote = open_remote(connect(), parse_reference(str(reference)), cache)
    name = recipe or remote.manifest.default
    check_recipe(name, remote.manifest.name, remote.manifest.recipes)
    artifact = f"{name}/{ARTIFACT}"
    return load_synthetic(fetch_all(remote, {artifact})[artifact])[0]


@contextmanager
def pulled(text: str, recipe: str | None = None) -> Iterator[Package]:
    """A package by its folder or its name on the Hub, which is pulled into a temporary folder."""
    if Path(text).exists():
        yield open_package(Path(text))
        return
    try:
        reference = parse_reference(text)
    except ParamsError:
        raise ParamsError(f"{text} is no folder here and no owner/name of the Hub; expected a package") from None
    with tempfile.TemporaryDirectory() as temporary:
        yield pull(connect(), reference, recipe, Path(temporary, "package"))[0]


def open_remote(
    api: "HfApi", reference: Reference, cache: Path | None = None, wait: Callable[[float], None] = time.sleep
) -> Remote:
    """The package that a reference means now. The manifest is asked for by revision, so that the cache knows it too."""
    revision = reference.revision or MAIN

    def opened() -> Remote:
        commit, entry = None, None
        if not is_offline():
            commit = resolve(api, Reference(reference.repo, revision))
            entry = manifest_entry(api, reference.repo, commit)
        path = download(api, reference.repo, MANIFEST, revision, cache)
        if entry is not None and not is_same(path, record_of(path), entry):
            forget(path)
            raise HubError(f"{reference} sent a damaged {MANIFEST}, or moved while it was read", transient=True)
        return Remote(api, reference.repo, path.parent.name, checked_manifest(path, reference), cache, wait)

    return patiently(opened, wait)


def manifest_entry(api: "HfApi", repo: str, commit: str) -> Any:
    """What the Hub says of the manifest. Raises HubError unless there is one of reasonable size."""
    entry = announced(api, repo, commit, [MANIFEST]).get(MANIFEST)
    found = f"no {MANIFEST}" if entry is None else f"a {MANIFEST} of {entry.size:,} bytes"
    if entry is None or entry.size > LARGEST_MANIFEST:
        raise HubError(f"{repo} has {found} (commit {commit[:12]}); expected a package that distillkit pushed")
    return entry


def checked_manifest(path: Path, reference: Reference) -> Manifest:
    try:
        return read_manifest(path)
    except ArtifactError as error:
        raise HubError(f"{reference}: {str(error).replace(str(path), MANIFEST)}") from None


def announced(api: "HfApi", repo: str, commit: str, names: list[str]) -> dict[str, Any]:
    """What the Hub says of these files: the client's entries with size and checksums, by path."""
    with hub_errors(api, f"{repo}@{commit[:12]}"):
        return {entry.path: entry for entry in api.get_paths_info(repo, names, revision=commit, repo_type=DATASET)}


def fetch_all(remote: Remote, names: set[str]) -> dict[str, Path]:
    """Checked files in the cache. Nothing is downloaded whose size on the Hub is not the manifest's."""
    records = remote.manifest.files
    if not is_offline():
        entries = patiently(lambda: announced(remote.api, remote.repo, remote.commit, sorted(names)), remote.wait)
        for name in sorted(names):
            found = entries[name].size if name in entries else None
            if found != records[name].size:
                has = "lacks it" if found is None else f"has {found} bytes"
                raise HubError(
                    f"{remote.repo}@{remote.commit[:12]}: the manifest lists {name} of {records[name].size} bytes, but "
                    f"the Hub {has}; do not use it; tell its publisher"
                )
    description = f"pull {remote.repo}"
    return {name: fetch(remote, name, records[name]) for name in track(sorted(names), description)}


def fetch(remote: Remote, name: str, record: FileRecord | None) -> Path:
    """One file in the cache; when it has other bytes than recorded it is asked for once more, then forgotten."""
    problem = ""
    for force in (False,) if is_offline() else (False, True):
        attempt = partial(download, remote.api, remote.repo, name, remote.commit, remote.cache, force)
        path = patiently(attempt, remote.wait)
        try:
            if record is not None:
                check_file(path, record, f"{remote.repo}@{remote.commit[:12]}: {name}")
            return path
        except ArtifactError as error:
            problem = str(error).rpartition("; ")[0]
            forget(path)
    raise HubError(f"{problem}; what came is thrown away; do not use it if that happens again")


def forget(path: Path) -> None:
    """Remove a file from the client's cache, where it may be a link to its content."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def download(api: "HfApi", repo: str, name: str, revision: str, cache: Path | None, force: bool = False) -> Path:
    """The file in the client's cache, which lies in a folder named after the commit."""
    short = revision[:12] if len(revision) == 40 else revision
    with hub_errors(api, f"{repo}@{short}"), quiet_unless_terminal():
        return Path(
            api.hf_hub_download(repo, name, repo_type=DATASET, revision=revision, cache_dir=cache, force_download=force)
        )
