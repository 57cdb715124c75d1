"""Fetch a published package: pinned to a commit, only the recipe asked for, every byte checked, nothing executed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.base.arguments import package_reference
from distillkit.base.errors import ArtifactError, HubError, ParamsError
from distillkit.base.references import COMMIT, MAIN, Reference
from distillkit.data.files.artifact import load_synthetic
from distillkit.data.files.container import Opened
from distillkit.data.files.packed import ELSEWHERE
from distillkit.data.images import SyntheticSet
from distillkit.hub.client import (
    Entry,
    announced,
    check_download,
    connect,
    download,
    forget,
    is_offline,
    listing,
    resolve,
    short,
)
from distillkit.hub.errors import patiently
from distillkit.package.folders import MANIFEST, SIGN_OFF, SIGN_OFFS, check_target, files_in, replacing
from distillkit.package.manifest import (
    ARTIFACT,
    PARQUET,
    FileRecord,
    Manifest,
    Package,
    check_file,
    check_recipe,
    open_package,
    read_manifest,
)
from distillkit.package.sign_offs import LARGEST, MOST
from distillkit.process.progress import tell, track

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LARGEST_MANIFEST = 16 * 2**20  # bytes


@dataclass(frozen=True)
class Remote:
    """A package at one commit; offline, as far as it is in the client's cache, where ``path`` is its manifest."""

    api: "HfApi"
    repo: str
    commit: str
    path: Path
    manifest: Manifest

    def __str__(self) -> str:
        return short(self.repo, self.commit)


def pull(api: "HfApi", reference: Reference, recipe: str | None, out: Path) -> tuple[Package, str]:
    """The package, or one recipe of it, in folder ``out``, and the commit it comes from.

    Other recipes of the same package that lie in ``out`` stay; another version of it there is replaced. Raises HubError
    when the Hub does not give what the manifest promises, and ArtifactError when ``out`` holds anything else.
    """
    present = package_in(out)
    remote = open_remote(api, reference)
    if recipe is not None:
        check_recipe(recipe, remote.manifest.name, remote.manifest.recipes)
    recipes = [recipe] if recipe else remote.manifest.recipes
    kept = kept_recipes(present, remote, recipes)
    if present and set(recipes) <= set(kept):
        return present, remote.commit
    files = fetch_all(remote, remote.manifest.files_of([name for name in recipes if name not in kept]))
    with replacing(out) as built:
        for name in remote.manifest.files_of([*recipes, *kept]):
            (built / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(files.get(name, out / name), built / name)
        shutil.copyfile(remote.path, built / MANIFEST)
        open_package(built)
        if present and files_in(out) != set(present.files):
            raise ArtifactError(f"{out} changed while the package was fetched; nothing was replaced; pull again")
    return open_package(out), remote.commit


def package_in(out: Path) -> Package | None:
    """The package that is in ``out`` already. Raises ArtifactError when anything else is."""
    check_target(out)
    if not out.is_dir() or not any(out.iterdir()):
        return None
    try:
        return open_package(out)
    except ArtifactError as error:
        reason = str(error).rpartition("; ")[0]
        raise ArtifactError(f"{reason}; it is not replaced; remove {out}, or choose another folder with -o") from None


def kept_recipes(present: Package | None, remote: Remote, recipes: list[str]) -> tuple[str, ...]:
    """Recipes that stay in the folder, because they are of this very version; of another one none do, which is told."""
    if present is None:
        return ()
    if present.name != remote.manifest.name:
        found = f"{present.folder} has package {present.name!r}, not {remote.manifest.name!r}"
        raise ArtifactError(f"{found}; it is not replaced; remove it, or choose another folder with -o")
    if present.manifest == remote.manifest:
        return present.recipes
    gone = [name for name in present.recipes if name not in recipes]
    lost = f", and its {', '.join(gone)} removed" if gone else ""
    tell(f"{present.folder} has another version of {present.name!r}, which is replaced{lost}")
    return ()


def load_with_provenance(reference: str | Path, recipe: str | None = None) -> tuple[SyntheticSet, dict[str, Any]]:
    """A distilled set and what it says of itself, checked: of a package on the Hub (``owner/name``,
    ``owner/name@revision``), of a packaged folder, or from a single artifact.

    Args:
        reference: where it is; a path that exists comes before a name on the Hub.
        recipe: which set of a package; its default when missing.

    Raises:
        ArtifactError, HubError: what is there is no package, or has other bytes than its manifest says.
        ParamsError: the name cannot be one, or there is no such recipe.

    """
    path = Path(reference)
    if path.is_file() or path.suffix == ".safetensors":
        if recipe is not None:
            raise ParamsError(f"{path} is a single set; expected no recipe, but got {recipe!r}; leave it out")
        return load_synthetic(path)
    if (repository := package_reference(str(reference))) is None:
        package = open_package(path)
        return load_synthetic(package.artifact(package.choose(recipe)))
    remote = open_remote(connect(), repository)
    name = recipe or remote.manifest.default
    check_recipe(name, remote.manifest.name, remote.manifest.recipes)
    artifact = f"{name}/{ARTIFACT}"
    fetched = fetch_all(remote, {artifact})[artifact]
    if ELSEWHERE in Opened(fetched, "synthetic").header:
        fetch_all(remote, {f"{name}/{PARQUET}"})  # which comes to lie beside it in the cache
    return load_synthetic(fetched)


@contextmanager
def pulled(text: str, recipe: str | None = None) -> Iterator[Package]:
    """A package by its folder or its name on the Hub, which is pulled into a temporary folder."""
    if (reference := package_reference(text)) is None:
        yield open_package(Path(text))
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield pull(connect(), reference, recipe, Path(temporary, "package"))[0]


# The Hub


def open_remote(api: "HfApi", reference: Reference) -> Remote:
    """The package that a reference means now. The manifest is asked for by revision, so that the cache knows it too."""
    revision = reference.revision or MAIN

    def opened() -> Remote:
        expected, entry = None, None
        if not is_offline():
            expected = resolve(api, Reference(reference.repo, revision))
            entry = manifest_entry(api, reference.repo, expected)
        path = download(api, reference.repo, MANIFEST, revision)
        commit = path.parent.name
        if not COMMIT.fullmatch(commit) or expected not in (None, commit):
            raise HubError(f"{reference} changed while it was read, or the Hub contradicts itself", transient=True)
        check_download(path, entry, f"{reference} sent a damaged {MANIFEST}")
        try:
            return Remote(api, reference.repo, commit, path, read_manifest(path))
        except ArtifactError as error:
            raise HubError(f"{reference}: {str(error).replace(str(path), MANIFEST)}") from None

    return patiently(opened)


def manifest_entry(api: "HfApi", repo: str, commit: str) -> Entry:
    """What the Hub says of the manifest. Raises HubError unless there is one of reasonable size."""
    entry = announced(api, repo, commit, [MANIFEST]).get(MANIFEST)
    found = f"no {MANIFEST}" if entry is None else f"a {MANIFEST} of {entry.size:,} bytes"
    if entry is None or entry.size > LARGEST_MANIFEST:
        raise HubError(f"{repo} has {found} (commit {commit[:12]}); expected a package that distillkit pushed")
    return entry


def fetch_all(remote: Remote, names: set[str]) -> dict[str, Path]:
    """Checked files in the cache. Nothing is downloaded whose size on the Hub is not the manifest's."""
    records = remote.manifest.files
    if not is_offline():
        found = patiently(lambda: announced(remote.api, remote.repo, remote.commit, sorted(names)))
        for name in sorted(names):
            has = f"has {found[name].size} bytes" if name in found else "lacks it"
            if has != f"has {records[name].size} bytes":
                listed = f"{remote}: the manifest lists {name} of {records[name].size} bytes"
                raise HubError(f"{listed}, but the Hub {has}; do not use it; tell its publisher")
    return {name: fetch(remote, name, records[name]) for name in track(sorted(names), f"pull {remote.repo}")}


def fetch(remote: Remote, name: str, record: FileRecord) -> Path:
    """One file in the cache; when it has other bytes than recorded it is asked for once more, then forgotten."""
    problem, attempt = "", partial(download, remote.api, remote.repo, name, remote.commit)
    for _ in range(1 if is_offline() else 2):
        path = patiently(attempt)
        try:
            check_file(path, record, f"{remote}: {name}")
            return path
        except ArtifactError as error:
            problem = str(error).rpartition("; ")[0]
            forget(path)
    raise HubError(f"{problem}; the download was deleted; pull again; if this happens again, do not use the package")


def fetch_sign_offs(api: "HfApi", repo: str, commit: str, folder: Path) -> list[str]:
    """Download a commit's sign-offs into the package in ``folder`` and return their paths in it; offline, none.

    The manifest does not list them, so only small files with known names are fetched. Raises HubError when a file has
    other bytes than the Hub lists.
    """
    if is_offline():
        return []
    entries = patiently(lambda: listing(api, repo, commit))
    folder_name = f"{SIGN_OFFS}/"
    small = [name for name, entry in entries.items() if name.startswith(folder_name) and entry.size <= LARGEST]
    found = sorted(name for name in small if SIGN_OFF.fullmatch(name.removeprefix(folder_name)))[: 2 * MOST]
    for name in found:
        path = download(api, repo, name, commit)
        check_download(path, entries[name], f"{repo} sent a damaged {name}")
        (folder / SIGN_OFFS).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / name)
    return found
