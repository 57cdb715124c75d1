"""``distillkit init``: this repository's own pipeline as files for the user's repository, with numbers that fit their
images. It never overwrites a file.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from distillkit import __version__
from distillkit.base.arguments import check_methods
from distillkit.base.errors import MOST, HubError, ParamsError, SourceError, counted
from distillkit.base.names import check_package_name
from distillkit.base.params import FILE
from distillkit.foreign.importing import quoted
from distillkit.pipeline.packaging import PackageSpec
from distillkit.process.progress import tell
from distillkit.setup.defaults import Effort
from distillkit.setup.fitting import budget
from distillkit.setup.inspection import by_its_card, images_of, inspect_source, is_here, local_folder, parse_dataset
from distillkit.setup.new_files import HEAD, ROOT, Plan
from distillkit.setup.params_template import default_recipe, largest_ipc, new_size, params_text, read_back, size_for
from distillkit.setup.workflow import git_root, name_of_pipeline, replaced, workflow_files
from distillkit.sources.fetch import DataSpec
from distillkit.sources.readers import (
    HuggingFaceSource,
    Source,
    TorchvisionSource,
    torchvision_dataset,
)
from distillkit.sources.summary import Summary

USUAL, USUAL_IPC = ("window", "mtt", "selmatch"), 10
IGNORED = "/*\n!/.gitignore\n"  # else DVC would write a .gitignore into each dependency folder and change its hash
WRITTEN = (".distillkit", "artifacts", "metrics", "reports", "stages")
OURS = "    - distillkit\n"  # the code of this checkout; the user's repository does not have it
FETCH = "    - artifacts/code/fetch.txt\n"


def plan_for(
    folder: Path,
    dataset: str,
    ipcs: Sequence[int],
    methods: Sequence[str],
    name: str | None,
    workflow: bool,
    given: Mapping[str, Any] | None = None,
    minutes: int | None = None,
    to_write: bool = False,
) -> Plan:
    """The files of a pipeline in ``folder`` for the dataset named ``dataset``; ``given`` are settings of its source.

    Raises ParamsError when ``folder`` is not in a Git and DVC repository, a method is unknown, a class has too few
    images for an IPC, or the stages could not read the new files; SourceError when the images cannot be read. Without
    ``ipcs``, one is chosen that fits the smallest class. With ``minutes``, numbers are chosen so that the pipeline
    takes no longer on this machine; with ``minutes`` or ``to_write``, the notes say how long it takes. Nothing is
    downloaded except a card on the Hub. If ``folder`` has a pipeline already, only a workflow is planned. A conflict
    that is seen before the images ends a plan ``to_write``.
    """
    top = git_root(folder)
    if name is not None:
        check_package_name(name)
    if workflow and (there := name_of_pipeline(folder)):
        return Plan(folder, workflow_files(folder, top, name or there))
    source = parse_dataset(dataset, folder, given)
    check_apart(source, folder)
    files = without_images(source, folder)
    if to_write and (early := Plan(folder, files)).conflicts():
        return early
    tell_if_outside(source, folder, top)
    methods = list(dict.fromkeys(methods))
    found = inspected(source, folder, dataset)
    check_methods(methods)
    ipcs, chosen = ipcs_for(found, ipcs, methods)
    package = PackageSpec(name or f"{named(dataset)}-distilled", default_recipe(ipcs, methods))
    check_package_name(package.name)
    text, effort, notes = partial(params_text, source, found, ipcs, methods, package), Effort(), tuple[str, ...]()
    if to_write or minutes is not None:
        largest = max(found.classes.values()) if found and found.shapes else MOST
        effort, notes = budget(minutes, max(ipcs), text, partial(images_of, found, size_for(found)), largest)
    files |= {Path(FILE): text(effort), **(workflow_files(folder, top, package.name) if workflow else {})}
    read_back(files[Path(FILE)], source, package)
    known = found if found and found.shapes else None
    return Plan(folder, files, known, resized(known) + chosen + notes)


def resized(found: Summary | None) -> tuple[str, ...]:
    """The note that the images will have another size, if so."""
    size = new_size(found) if found else None
    return (f"all images will be resized to {size[0]}x{size[1]} (data.size in params.yaml)",) if size else ()


def without_images(source: Source, folder: Path) -> dict[Path, str]:
    """The files that are the same whatever the images are."""
    files = {
        Path("dvc.yaml"): pipeline_text(source, folder),
        Path(".distillkit/.gitignore"): "*\n",
        Path("artifacts/.gitignore"): IGNORED,
    }
    scripts = sorted((ROOT / "stages").glob("*.py"))
    return files | {Path("stages") / path.name: path.read_text(encoding="utf-8") for path in scripts}


def inspected(source: Source, folder: Path, dataset: str) -> Summary | None:
    """What is known of the images. Where they cannot be read, the error says first that there is a pipeline already."""
    try:
        if is_here(source, folder):
            return inspect_source(DataSpec(source), folder)
        return from_afar(source, folder, dataset)
    except SourceError as error:
        if (folder / FILE).exists():
            raise SourceError(f"{folder / FILE} is there already, so nothing was written; besides, {error}") from None
        raise


def from_afar(source: Source, folder: Path, dataset: str) -> Summary | None:
    """What is known without a download: the content of a card on the Hub, or None. Prints what is assumed."""
    reason, found, path = "", None, Path(dataset)
    if path.parent != Path() and path.parent.is_dir():
        expected = f"expected a folder with images; a dataset of the Hub can be written as hf://datasets/{dataset}"
        raise ParamsError(f"--dataset is {dataset!r}, but the folder {path.parent} has no {path.name!r}; {expected}")
    if isinstance(source, TorchvisionSource):
        torchvision_dataset(source.name)
    if isinstance(source, HuggingFaceSource):
        try:
            found = by_its_card(source)
        except HubError as error:
            reason = f" ({error})"
    if found is None:
        known, assumed = f"is not on this machine{reason}", "10 classes and images of 32x32; check data.size, the"
    else:
        images = counted(sum(found.classes.values()), "training image")
        known = f"has {images} in {counted(len(found.classes), 'class')}, says its card"
        assumed = "images of 32x32; check data.size, the"
    tell(f"{dataset} {known}: assumed {assumed} networks' depth and the batches in {folder / FILE}")
    return found


def check_apart(source: Source, folder: Path) -> None:
    """Raise ParamsError if the pipeline would be inside the images' folder, or the images in folders that it writes."""
    if (local := local_folder(source, folder)) is None:
        return
    here = folder.resolve()
    images = (here / local).resolve()
    if here == images or images in here.parents:
        raise ParamsError(
            f"--dataset: the pipeline in {folder} would lie inside the folder of the images; expected it outside; "
            "name a folder outside, or move the images into a folder of their own"
        )
    if any(images.is_relative_to(here / part) for part in WRITTEN):
        raise ParamsError(f"--dataset is {local}, where the pipeline writes its own files; move the images elsewhere")


def tell_if_outside(source: Source, folder: Path, top: Path) -> None:
    """Warn about images that clones of the repository at ``top`` will not have."""
    if (local := local_folder(source, folder)) is None:
        return
    if not (images := (folder.resolve() / local).resolve()).is_relative_to(top):
        tell(
            f"warning: {images} is outside the repository, so clones, CI and experiments in copies do not have the "
            "images; move them inside and track them: dvc add"
        )


def named(dataset: str) -> str:
    """A package name for a dataset: the last part of its name."""
    last = Path(dataset.partition("@")[0]).name.rpartition(":")[2]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-.").lower() or "images"


def ipcs_for(
    found: Summary | None, given: Sequence[int], methods: Sequence[str]
) -> tuple[Sequence[int], tuple[str, ...]]:
    """The ``given`` images per class, or else the usual number or as many as fit; and what to say about the choice.

    Raises ParamsError when the smallest class has too few images.
    """
    if found is None:
        return given or [USUAL_IPC], ()
    limits = {method: largest_ipc(found, method) for method in methods}
    most = min(limits.values())
    strictest = ", ".join(method for method in methods if limits[method] == most)
    name, count = min(found.classes.items(), key=itemgetter(1))
    images, smallest = counted(count, "training image"), f"the smallest class ({name!r})"
    if not found.shapes:  # a card says only how many images there are in all
        images, smallest = f"at most {images}", "the smallest class"
    if not most:
        remedy = " ".join(f"--method {method}" for method in methods if limits[method]) or "--method random"
        raise ParamsError(f"{smallest} has {images}; expected more for {strictest}; add images, or pass {remedy}")
    reason = f"the most for {strictest} with {images} in {smallest}"
    if given and max(given) > most:
        raise ParamsError(f"--ipc is {max(given)}; expected at most {most}, {reason}; pass --ipc {most}")
    if given or most >= USUAL_IPC:
        return given or [USUAL_IPC], ()
    return [most], (f"ipc: {most} instead of {USUAL_IPC}; it is {reason}",)


def pipeline_text(source: Source, folder: Path) -> str:
    """The text of dvc.yaml. The stage code depends on the version in params.yaml instead of the files of this checkout,
    and fetch depends on the images if they are in a local folder.
    """
    text = replaced((ROOT / "dvc.yaml").read_text(encoding="utf-8"), OURS, "    params: [distillkit]\n")
    if (local := local_folder(source, folder)) is not None:
        escaped = quoted(local.replace("${", "\\${"))  # which would begin a variable
        text = replaced(text, FETCH, f"{FETCH}    - {escaped}\n")
    return HEAD.format(version=__version__) + text
