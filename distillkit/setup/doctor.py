"""``distillkit doctor``: is this machine ready for the pipeline? Every check says what it found and what to do."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from distillkit import __version__
from distillkit.base import params
from distillkit.base.arguments import RESOLVE, conflict, is_pipeline
from distillkit.base.errors import DistillkitError, HubError, SourceError, counted
from distillkit.base.machine import cores, memory_available
from distillkit.data.files.container import Opened
from distillkit.estimates.fetched import fetched, images_in
from distillkit.pipeline import checks
from distillkit.process.lockfile import NAME, RWLOCK, dvc_root, is_broken, read_rwlock, unparsed
from distillkit.process.merge_lock import DRIVER
from distillkit.setup.demands import demands
from distillkit.setup.diagnostics import Finding, Status, brief, guarded, mistake, named_from_here, output
from distillkit.setup.inspection import expected, licence_stated
from distillkit.setup.local_source import (
    STOPS,
    imported_sets,
    local_images,
    not_followed,
    stage_fetch,
    stages_of,
    stages_with,
)
from distillkit.setup.remotes import dvc_remotes
from distillkit.sources import summary
from distillkit.sources.fetch import DataSpec
from distillkit.sources.licences import obstacle
from distillkit.sources.readers import FolderSource
from distillkit.training.noise_signs import second_hump, warning
from distillkit.training.score_file import ScoreSpec, read_score_file

GIB = 2**30
HERE = "activate the environment that distillkit is installed in"


def examine(folder: Path) -> Iterator[Finding]:
    """Yield a finding for everything that the pipeline in ``folder`` needs. An error in one check does not stop the
    others.
    """
    yield from guarded("python", lambda: [interpreter("python", "failure", f"stages call it: {HERE}")])
    yield from guarded("dvc", lambda: [interpreter("dvc", "warning", HERE)])
    yield from guarded("torch", lambda: [torch_pair()])
    yield from guarded("device", lambda: [device()])
    yield from guarded("Hugging Face token", lambda: [token()])
    if not folder.is_dir():
        found = "is no folder" if folder.exists() else "does not exist"
        yield Finding("folder", "failure", f"{folder} {found}", "name the folder that holds dvc.yaml")
        return
    yield from guarded("git", lambda: [git(folder)])
    yield from guarded("dvc.lock", partial(locks, folder))
    yield from guarded("dvc remote", partial(dvc_remotes, folder))
    yield from guarded("pipeline", partial(pipeline, folder))


def lines(findings: list[Finding]) -> Iterator[str]:
    """The findings as lines of text."""
    for finding in findings:
        yield f"{finding.status:8} {finding.check}: {finding.found}"
        if finding.remedy:
            yield f"         → {finding.remedy}"


# This machine


def interpreter(command: str, otherwise: Status, remedy: str) -> Finding:
    """Whether a command on the PATH belongs to the environment of this process."""
    found = shutil.which(command)
    if found is None:
        return Finding(command, "failure", "not on the PATH", remedy)
    if Path(found).parent.resolve() != Path(sys.executable).parent.resolve():
        return Finding(command, otherwise, f"{found}, but distillkit runs with {sys.executable}", remedy)
    return Finding(command, "ok", found)


def torch_pair() -> Finding:
    """Whether torch and torchvision can be imported together: different builds fail only then."""
    try:
        import torchvision
    except Exception as error:  # mismatched builds raise errors of many types
        remedy = "install both from one index: pip install --force-reinstall torch torchvision"
        return Finding("torch", "failure", brief(error), remedy)
    return Finding("torch", "ok", f"torch {torch.__version__}, torchvision {torchvision.__version__}")


def device() -> Finding:
    from distillkit.base.device import prepare_device

    try:
        chosen = prepare_device()
    except DistillkitError as error:
        return Finding("device", "failure", str(error), "unset DISTILLKIT_DEVICE")
    found = f"{chosen.type}, {cores()} cores, {memory_available() / GIB:.1f} GiB memory available"
    if chosen.type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen)
        found = f"{torch.cuda.get_device_name(chosen)}, {free / GIB:.0f} of {total / GIB:.0f} GiB free"
    return Finding("device", "ok", found)


# Git, DVC, the Hub


def git(folder: Path) -> Finding:
    """Whether there is a commit, which experiments need, and the number of uncommitted files."""
    here = partial(output, "git", "-C", str(folder))
    if shutil.which("git") is None:
        return Finding("git", "failure", "not on the PATH", "install Git")
    if not here("rev-parse", "--is-inside-work-tree"):
        return Finding("git", "failure", "no Git repository here", "git init")
    if not here("rev-parse", "--verify", "-q", "HEAD"):
        remedy = "dvc add images that lie here, then git add -A && git commit"
        return Finding("git", "warning", "no commit yet, which dvc exp and dvc metrics diff need", remedy)
    changed = here("status", "--porcelain").splitlines()
    return Finding("git", "ok", counted(len(changed), "uncommitted file") if changed else "all committed")


def locks(folder: Path) -> Iterator[Finding]:
    """A finding for each of dvc.lock and rwlock that is broken because DVC was killed while writing it."""
    found, root = "DVC cannot read it, as after a killed dvc", dvc_root(folder)
    if is_broken(folder / NAME):
        yield Finding(NAME, "failure", found, "distillkit repro restores it from Git and the run-cache")
    elif wrong := unparsed(folder / NAME):
        yield Finding(NAME, "failure", wrong, "keep one version of each stage")
    here = partial(output, "git", "-C", str(folder))
    if here("check-attr", "merge", NAME).endswith(DRIVER) and not here("config", f"merge.{DRIVER}.driver"):
        by_lines = "Git merges it by lines in this clone, although .gitattributes asks for merges by stage"
        yield Finding(NAME, "warning", by_lines, "distillkit merge-lock --install")
    if root is not None and read_rwlock(root / RWLOCK) is None:
        yield Finding(RWLOCK, "failure", found, "distillkit repro deletes it")


def token() -> Finding:
    """Whether there is a token for the Hub. The token is never shown."""
    from huggingface_hub import get_token

    check, remedy = "Hugging Face token", "hf auth login, or set HF_TOKEN"
    if get_token():
        return Finding(check, "ok", "present")
    return Finding(check, "warning", "none, which distillkit push needs", remedy)


# The pipeline


def pipeline(folder: Path) -> Iterator[Finding]:
    """Whether params.yaml is valid, and what its recipes need."""
    file = folder / params.FILE
    if not file.is_file():
        below = next((path for path in sorted(folder.iterdir()) if is_pipeline(path)), None)
        yield Finding("pipeline", "warning", f"no {file}", f"distillkit doctor {below}" if below else "distillkit init")
        return
    if line := conflict(file):
        yield Finding(str(file), "failure", f"has a merge conflict at line {line}", RESOLVE)
        return
    own = str(folder.resolve())
    sys.path.append(own)  # for networks of the user's own, as stages run in that folder
    try:
        with named_from_here(folder):
            yield from parameters(params.load(file), folder)
    except DistillkitError as error:
        yield mistake(str(file), error)
    finally:
        sys.path.remove(own)


def parameters(data: dict[str, Any], folder: Path) -> Iterator[Finding]:
    """The findings about the content of params.yaml. Raises a DistillkitError for a mistake in it."""
    yield version(data, folder / params.FILE)
    if wrong := unparsed(folder / params.FILE):
        yield Finding(params.FILE.name, "failure", wrong, "correct it; a text with a colon needs quotes")
    yield from run_cache(folder / "dvc.yaml")
    yield from extras(data)
    checks.check_params(data)
    yield from guarded("network", lambda: not_followed(data, folder))
    params.section(data, "seed", int)  # the rest of what must be there is read below
    spec = params.section(data, "data", DataSpec)
    yield from (local := list(local_images(spec.source, folder)))
    yield from guarded("licence", lambda: source_licence(spec, folder))
    yield from guarded("imported set", lambda: imported_sets(data, folder))
    opened = fetched(folder)
    there = None if opened is None else summary.read_summary(opened)
    stale = there is None or any(found.check == "fetch" for found in local)
    # DVC knows no empty folders, so a class folder without images is no change to it
    described, refused = None, any(found.status == "failure" for found in local)
    if not refused and (stale or isinstance(spec.source, FolderSource)):
        try:
            described = expected(spec, folder)
        except SourceError as error:
            yield mistake("source", error)
    if there is not None:
        checks.check_facts(data, there.shapes[0], there.classes, folder)
        yield Finding("images", "ok", "; ".join(summary.lines(there)))
    known = None if there is None or stale else sum(there.classes.values())
    yield from guarded("score file", lambda: score_file(data, folder, known))
    yield from labels(folder)
    yield from demands(data, images_in(opened), described if stale else None, folder)
    yield from misspelt(data, folder / params.FILE)


def version(data: dict[str, Any], file: Path) -> Finding:
    written = data.get("distillkit", __version__)
    if str(written) == __version__:
        return Finding("distillkit", "ok", __version__)
    remedy = f"write distillkit: {__version__} into {file} to run again what it changes, or install {written}"
    return Finding("distillkit", "warning", f"{__version__} here, {written} in {file}", remedy)


def run_cache(file: Path) -> Iterator[Finding]:
    """A finding if the images of fetch go into DVC's run-cache, as by the dvc.yaml of an earlier version."""
    if "artifacts/real" in (stage_fetch(file.parent).get("outs") or ()):
        found = "after a change of data.size, DVC may restore images of an earlier size and not run fetch"
        yield Finding(str(file), "warning", found, "write its output as - artifacts/real: {persist: true}")


def misspelt(data: dict[str, Any], file: Path) -> Iterator[Finding]:
    """A finding for every section with almost the name of one of ours; the user's stages may have others."""
    known = {"distillkit", "expert_shards", "recipes", *checks.SECTIONS}
    for name in sorted(map(str, data.keys() - known)):
        for meant in get_close_matches(name, known, n=1, cutoff=0.8):
            found = f"has a section {name!r}, which distillkit does not read"
            yield Finding(str(file), "warning", found, f"rename it to {meant!r}, unless your own stages read it")


def extras(data: dict[str, Any]) -> Iterator[Finding]:
    """Findings for missing packages that only some recipes need."""
    recipes = params.section(data, "recipes", dict[str, Any]).items()
    wanted = [name for name, recipe in recipes if isinstance(recipe, dict) and recipe.get("method") == "diffusion"]
    if wanted and find_spec("diffusers") is None:
        remedy = "pip install 'distillkit[diffusion]'"
        yield Finding("diffusers", "failure", f"not installed, but {wanted[0]} needs it", remedy)


def source_licence(spec: DataSpec, folder: Path) -> Iterator[Finding]:
    """Whether the licence of the source lets a set be published; nothing where it is not known without the Hub."""
    try:
        if (opened := fetched(folder)) is None:
            licence = licence_stated(spec, folder)
        else:
            licence = spec.licence or str(opened.field("source", dict).get("licence", ""))
    except HubError:  # fetch will tell
        return
    if (found := obstacle(licence)) is None:
        yield Finding("licence", "ok", licence)
    else:
        yield Finding("licence", "warning", found, f"look it up and set data.licence; {STOPS}")


def score_file(data: dict[str, Any], folder: Path, images: int | None) -> Iterator[Finding]:
    """Whether the user's score file, if there is one, has a number for each training image; None: not known yet."""
    spec = params.section(data, "score", ScoreSpec) if "score" in data else None
    if spec is None or spec.file is None:
        return
    file = folder / spec.file
    if "score" in stages_of(folder) and "score" not in stages_with(file, folder, "deps"):
        found = f"{spec.file} is no dependency of stage score, which may run before it is there, or not after a change"
        yield Finding("score file", "warning", found, "add it to deps of score in dvc.yaml")
    if not file.exists() and (makers := stages_with(file, folder, "outs")):
        yield Finding("score file", "ok", f"{spec.file} is an output of stage {makers[0]}, which has not run here")
    elif images is not None or not file.is_file():
        read_score_file(replace(spec, file=str(file)), images or 0)
        yield Finding("score file", "ok", f"{spec.file} has a number for each of {images} training images")


def labels(folder: Path) -> Iterator[Finding]:
    """Whether experts contradict labels as if these were wrong, once there are experts and their scores."""
    file = folder / "artifacts/difficulty.safetensors"
    if not file.is_file() or not (opened := Opened(file, "difficulty")).has("probability-margin"):  # earlier version
        return
    found = warning(second_hump(opened.tensor("probability-margin", [None], torch.float32)))
    if found is not None:
        found, _, remedy = found.partition("; ")
        yield Finding("labels", "warning", found, remedy)
