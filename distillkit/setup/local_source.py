"""Images, networks and imported sets on this machine: whether clones will have them, and whether DVC will see that they
change.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from distillkit.base import params
from distillkit.base.errors import counted
from distillkit.base.files import canonical_json, sha256
from distillkit.base.outside import UnreadableError, content, read_yaml
from distillkit.base.params import FILE
from distillkit.data.files.container import Opened
from distillkit.networks.factories import FACTORIES
from distillkit.pipeline.own_code import files_of_module
from distillkit.process.lockfile import dvc_root
from distillkit.setup.diagnostics import Finding, guarded, output
from distillkit.setup.inspection import local_folder
from distillkit.setup.new_files import next_command
from distillkit.sources.licences import licence_of_imported, obstacle
from distillkit.sources.readers import HuggingFaceSource, Source

STOPS = "distillkit push stops, unless --i-may-publish says that you may"
MIB = 2**20
IN_GIT = 100 * MIB  # bytes of images that Git may hold: every clone has all that was ever in it
HASHED = 1024 * MIB  # bytes that are read, for a few seconds, to know whether a folder has changed


def local_images(source: Source, folder: Path) -> Iterator[Finding]:
    """Findings about the folder of images that the pipeline in ``folder`` reads; none for another source."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    if (local := local_folder(source, folder)) is None:
        if not isinstance(source, HuggingFaceSource) or source.id not in (stage_fetch(folder).get("deps") or ()):
            return
        local = source.id  # a dataset that is no folder any more
    place = (folder / local).resolve()
    if not place.exists():
        remedy = f"dvc pull, or correct data.source in {folder / FILE}"
        yield Finding("source", "failure", f"{place} does not exist", remedy)
        return
    with suppress(DvcException), Repo(str(folder)) as repo:  # of what DVC cannot read there are other findings
        index, root = repo.index, str(repo.root_dir)
        yield from guarded("source", lambda: in_clones(local, place, index, root, folder))
        yield from guarded("fetch", lambda: since_fetch(local, place, index, folder))


def stage_fetch(folder: Path) -> Mapping[str, Any]:
    """The stage fetch in dvc.yaml; empty where there is none."""
    return stages_of(folder).get("fetch", {})


def stages_of(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """The stages in dvc.yaml by name; none if it cannot be read."""
    with suppress(OSError, UnreadableError, KeyError, TypeError, AttributeError):
        stages = read_yaml(content(folder / "dvc.yaml"))["stages"].items()
        return {name: stage for name, stage in stages if isinstance(stage, dict)}
    return {}


def declared(folder: Path, kind: Literal["deps", "outs"]) -> list[tuple[Path, str]]:
    """The paths under ``kind`` of all stages, each with the name of its stage."""
    stages = stages_of(folder).items()
    entries = [(part, name) for name, stage in stages for part in stage.get("do", stage).get(kind, ())]
    paths = [part if isinstance(part, str) else next(iter(part)) for part, _ in entries]
    return [((folder / path).resolve(), name) for path, (_, name) in zip(paths, entries, strict=True)]


def stages_with(file: Path, folder: Path, kind: Literal["deps", "outs"]) -> list[str]:
    """The stages with ``file``, or a folder that it is in, under ``kind``."""
    return [name for path, name in declared(folder, kind) if file.resolve().is_relative_to(path)]


def in_clones(local: str, place: Path, index: Any, root: str, folder: Path) -> Iterator[Finding]:
    """Whether Git or DVC has all files of ``place``. Nothing without Git, which is a finding of its own."""
    if not (top := output("git", "-C", root, "rev-parse", "--show-toplevel")):
        return
    if not place.is_relative_to(Path(top).resolve()):
        found = f"{place} is outside the repository, so clones and CI do not have the images"
        files = f"{folder / FILE} and in {folder / 'dvc.yaml'} (stage fetch)"
        remedy = f"move it inside, correct its path in {files}, then dvc add it"
        yield Finding("source", "warning", found, remedy)
        return
    outputs = {Path(out.fs_path).resolve(): out for out in index.outs if out.protocol == "local"}
    outputs = {path: out for path, out in outputs.items() if place.is_relative_to(path) or path.is_relative_to(place)}
    in_git = files_of(place)
    missing = [path for path in files_of(place, "--others") if not any(map(path.is_relative_to, outputs))]
    added = [path for path, out in outputs.items() if out.stage.is_data_source and has_changed(out)]
    if missing:
        yield in_neither(local, place, missing, len(in_git))
    elif added:
        found = f"{local} has changed since dvc add, so clones get the earlier images"
        yield Finding("source", "warning", found, f"dvc add {typed(added[0])}; or dvc checkout {typed(added[0])}")
    elif (size := bytes_of(in_git)) > IN_GIT:
        found = (
            f"{local} is in Git with {counted(len(in_git), 'file')} of {size / MIB:,.0f} MiB, in every clone for good"
        )
        yield Finding("source", "warning", found, f"git rm -rq --cached {typed(place)} && dvc add {typed(place)}")
    elif in_git or outputs:
        yield Finding("source", "ok", f"{local}, in {'Git' if in_git else 'DVC'}")


def in_neither(local: str, place: Path, missing: list[Path], in_git: int) -> Finding:
    """The finding for files that clones do not get, with a command that Git and DVC let through."""
    of = f" of {len(missing) + in_git:,}" if in_git else ""
    size = f"{bytes_of(missing) / MIB:,.1f} MiB"
    found = f"{local}: {len(missing):,}{of} files ({size}) are in neither Git nor DVC, so clones and CI lack them"
    remedy = f"dvc add {typed(place)}, before any git add"
    if in_git:  # dvc add refuses what Git has
        remedy = (
            f"git add {typed(place)}; or all into DVC: git rm -rq --cached {typed(place)} && dvc add {typed(place)}"
        )
    elif rule := output("git", "-C", str(place.parent), "check-ignore", "-v", f"{place}.dvc").partition("\t")[0]:
        file, _, pattern = rule.split(":", 2)
        remedy = f"remove the line {pattern} from {file}, which hides {place.name}.dvc from Git, then {remedy}"
    return Finding("source", "warning", found, remedy)


def files_of(place: Path, *which: str) -> list[Path]:
    """Files in ``place`` that Git has; with ``--others`` all the rest, ignored ones, too."""
    listed = output("git", "-C", str(place), "ls-files", "-z", *which).split("\0")
    return [place / name for name in listed if name and not name.endswith((".gitignore", ".dvc"))]


def bytes_of(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files if path.is_file())


def typed(path: Path) -> str:
    """A path as it is typed in the current folder."""
    return shlex.quote(os.path.relpath(path))


def since_fetch(local: str, place: Path, index: Any, folder: Path) -> Iterator[Finding]:
    """A finding if ``dvc.lock`` has other images in ``place``, or another section ``data``, than are there now."""
    from dvc.dependency import ParamsDependency

    file = str(folder.resolve() / "dvc.yaml")
    stages = [stage for stage in index.stages if (stage.path, getattr(stage, "name", "")) == (file, "fetch")]
    deps = [dep for stage in stages for dep in stage.deps if dep.hash_info]  # those that a run has recorded
    settings = [dep for dep in deps if isinstance(dep, ParamsDependency) and dep.workspace_status()]
    changed = [local] if any(has_changed(dep) for dep in deps if Path(dep.fs_path).resolve() == place) else []
    for found in [*changed, *(f"data in {folder / FILE}" for _ in settings)]:
        remedy = f"{next_command(folder)} fetches again, and runs what depends on it"
        yield Finding("fetch", "warning", f"{found} has changed since fetch", remedy)


def has_changed(recorded: Any) -> bool:
    """Whether a folder differs from DVC's record of it: in number or bytes of its files, or in their checksums.

    False if that is not known: without a record, or for a large folder of as many files and bytes.
    """
    if not recorded.hash_info or not recorded.exists:
        return False
    files = [recorded.fs.info(path)["size"] for path in recorded.dvcignore.find(recorded.fs, recorded.fs_path)]
    if (len(files), sum(files)) != (recorded.meta.nfiles, recorded.meta.size):
        return True
    return sum(files) <= HASHED and bool(recorded.changed_checksum())


def not_followed(data: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    """A warning for each file of the user's own networks that no stage in ``folder`` depends on. They were imported."""
    for name, factory in FACTORIES.items():
        if canonical_json(name) not in canonical_json(data):
            continue
        for file in files_of_module(factory.__module__):
            here = file.resolve().is_relative_to(dvc_root(folder) or folder.resolve())
            if here and not stages_with(file, folder, "deps"):
                place = os.path.relpath(file.resolve(), folder.resolve())
                found = f"{place} is no dependency of any stage, so an edit of it runs nothing again"
                remedy = "add it to deps of the stages that train the network in dvc.yaml"
                yield Finding("network", "warning", found, remedy)


def imported_sets(data: dict[str, Any], folder: Path) -> Iterator[Finding]:
    """Findings about the files of all recipes with the method imported."""
    for name, recipe in params.section(data, "recipes", dict[str, Any]).items():
        if recipe.get("method") == "imported":
            yield from guarded("imported set", partial(imported_set, name, recipe, folder))


def imported_set(name: str, recipe: dict[str, Any], folder: Path) -> Iterator[Finding]:
    """Whether the file is there, unless a stage makes it; inside the folder; the one that is meant; and its licence."""
    check, file = "imported set", folder / str(recipe.get("file"))
    if not file.is_file():
        if not stages_with(file, folder, "outs"):
            yield Finding(check, "failure", f"{file} of {name} does not exist", "import or pull it first")
        return
    if not file.resolve().is_relative_to(folder.resolve()):
        found = f"{file} of {name} is outside of the pipeline's folder, where the stage does not read it"
        yield Finding(check, "failure", found, "copy it there")
    if sha256(file) != recipe.get("sha256"):
        found = f"{file} of {name} has another sha256 than the recipe"
        yield Finding(check, "failure", found, "paste the recipe that import prints")
    record = {"method": "imported", "notes": Opened(file, "synthetic").field("notes", dict)}
    if missing := obstacle(licence_of_imported(record), f"the imported images of {name}"):
        yield Finding("licence", "warning", missing, f"look it up and import again with --licence; {STOPS}")
