"""``distillkit init``: the pipeline of this very repository, as ordinary files of somebody else's, filled in for their
images. Nothing that is there is ever overwritten."""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, log2
from pathlib import Path
from typing import Any

from distillkit import __version__
from distillkit.artifact import write_text
from distillkit.errors import HubError, ParamsError
from distillkit.foreign import quoted
from distillkit.package import PackageSpec
from distillkit.params import hint, load, section
from distillkit.progress import tell
from distillkit.readers import FolderSource, HuggingFaceSource, Source, TorchvisionSource
from distillkit.survey import Survey, by_its_card, parse_dataset, survey

TEMPLATES = Path(__file__).parent / "template"  # in the wheel; in a checkout the files themselves
ROOT = TEMPLATES if TEMPLATES.is_dir() else Path(__file__).parents[1]
PARTS: dict[str, tuple[str, ...]] = {  # beside full and random, which are always there
    "confident": (),
    "herding": (),
    "k-centre": (),
    "moderate": (),
    "kmeans": (),
    "window": ("window_start",),
    "mtt": ("matching", "optim"),
    "selmatch": ("window_start", "distill_fraction", "matching", "optim"),
}
USUAL = ("window", "mtt", "selmatch")
HEAD = "# Written by `distillkit init`, version {version}; yours from now on.\n"
IGNORED = (
    "/*\n!/.gitignore\n"  # else DVC writes a .gitignore into each folder that is a dependency, which changes its hash
)
OURS = "- distillkit/"  # a dependency on the code of this checkout, which a repository of theirs has not


@dataclass(frozen=True)
class Plan:
    """What to write: text by path from the folder of the pipeline."""

    folder: Path
    files: Mapping[Path, str]

    def conflicts(self) -> list[Path]:
        """Files that are there already and say something else."""
        return [path for path, text in self.files.items() if exists(self.folder / path) and self.found(path) != text]

    def found(self, path: Path) -> str:
        try:
            return (self.folder / path).read_text(encoding="utf-8")
        except (UnicodeDecodeError, IsADirectoryError):
            return ""


def exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def plan_for(
    folder: Path, dataset: str, ipcs: Sequence[int], methods: Sequence[str], name: str | None, workflow: bool
) -> Plan:
    """The files of a pipeline in ``folder`` for a dataset as people name it.

    Raises ParamsError when ``folder`` is in no Git and DVC repository, a method is unknown or a class has fewer images
    than an IPC asks for, and SourceError when the images cannot be read. Of what would have to be downloaded no more is
    read than a card on the Hub. Where a pipeline is already, a workflow is written alone.
    """
    top = git_root(folder)
    if workflow and (there := name_of_pipeline(folder)):
        return Plan(folder, workflow_file(folder, top, name or there))
    source = parse_dataset(dataset, folder)
    found = survey(source, folder) if is_here(source, folder) else from_afar(source, dataset)
    check_request(found, ipcs, methods)
    name = name or f"{named(dataset)}-distilled"
    files = {
        Path("dvc.yaml"): pipeline_text(source, folder),
        Path("params.yaml"): params_text(source, found, ipcs, methods, name),
        Path(".distillkit/.gitignore"): "*\n",
        Path("artifacts/.gitignore"): IGNORED,
    }
    for path in sorted((ROOT / "stages").glob("*.py")):
        files[Path("stages") / path.name] = path.read_text(encoding="utf-8")
    if workflow:
        files |= workflow_file(folder, top, name)
    return Plan(folder, files)


def name_of_pipeline(folder: Path) -> str | None:
    """The package's name, if ``folder`` has a pipeline of ours. Raises ParamsError when params.yaml does not say it."""
    try:
        if "artifacts/hub/" not in (folder / "dvc.yaml").read_text(encoding="utf-8"):
            return None
    except (OSError, UnicodeDecodeError):
        return None
    return section(load(folder / "params.yaml"), "package", PackageSpec, folder / "params.yaml").name


def is_here(source: Source, folder: Path) -> bool:
    """Whether the images can be looked at without a download."""
    if isinstance(source, HuggingFaceSource):
        return Path(os.path.normpath(folder / source.id)).is_dir()
    return not isinstance(source, TorchvisionSource)


def from_afar(source: Source, dataset: str) -> Survey | None:
    """What can be known without a download: what a card on the Hub says, else nothing. What is assumed is told."""
    reason, found = "", None
    if isinstance(source, HuggingFaceSource):
        try:
            found = by_its_card(source)
        except HubError as error:
            reason = f" ({error})"
    if found is None:
        known, assumed = f"is not on this machine{reason}", "10 classes and images of 32x32; look over data.size, the"
    else:
        known = f"has {found.images:,} training images in {found.classes} classes, says its card"
        assumed = "images of 32x32; look over data.size, the"
    tell(f"{dataset} {known}: assumed {assumed} networks' depth and the batches in params.yaml")
    return found


def named(dataset: str) -> str:
    """A package's name for a dataset: the last part of what people call it."""
    last = Path(dataset.partition("@")[0]).name.rpartition(":")[2]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-.").lower() or "images"


def check_request(found: Survey | None, ipcs: Sequence[int], methods: Sequence[str]) -> None:
    for method in methods:
        if method not in PARTS:
            expected = f"expected some of {', '.join(PARTS)}; full and random are always there"
            raise ParamsError(f"--method is {method!r}{hint(method, PARTS)}; {expected}")
    if found is not None and max(ipcs) > found.smallest_class:
        raise ParamsError(
            f"--ipc is {max(ipcs)}, but the smallest class has {found.smallest_class} training images; "
            "expected at most so many"
        )


def git_root(folder: Path) -> Path:
    """The folder that holds ``.git``. Raises ParamsError outside a Git and DVC repository."""
    parents = [folder.resolve(), *folder.resolve().parents]
    top = next((path for path in parents if (path / ".git").exists()), None)
    if top is None or not any((path / ".dvc").is_dir() for path in parents):
        raise ParamsError(f"{folder} is in no Git and DVC repository; expected one; run `git init && dvc init` first")
    return top


# dvc.yaml


def pipeline_text(source: Source, folder: Path) -> str:
    """The pipeline without dependencies on this checkout's code; instead every stage depends on the version in
    params.yaml, and the fetch stage on the images if they lie in the repository."""
    lines = (ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.strip().startswith(OURS)]
    lines = [line for line in lines if not line.startswith("#")]
    return HEAD.format(version=__version__) + "\n".join(with_inputs(lines, local_folder(source, folder))) + "\n"


def with_inputs(lines: Iterable[str], folder: str | None) -> Iterator[str]:
    for line in lines:
        yield line
        indent = " " * (len(line) - len(line.lstrip()))
        if line.strip() == "params:":
            yield f"{indent}- distillkit"
        if line.strip() == "- stages/fetch.py" and folder is not None:
            yield f"{indent}- {folder}"


def local_folder(source: Source, folder: Path) -> str | None:
    """Where the images lie, if on this machine."""
    if isinstance(source, FolderSource):
        return source.path
    return source.id if isinstance(source, HuggingFaceSource) and is_here(source, folder) else None


# params.yaml


@dataclass(frozen=True)
class Numbers:
    """What follows from the images; the rest of params.yaml is as it is here."""

    depth: int
    batch: int
    expert_batch: int
    student_batch: int
    steps: int


def numbers_for(found: Survey | None, size: tuple[int, int], ipcs: Sequence[int]) -> Numbers:
    """A ConvNet that halves the images down to 4 pixels (to 2 those of 8), batches that the classes fill."""
    classes, images = (10, 1000) if found is None else (found.classes, found.images)
    side = max(size)
    batch = 50 if classes <= 10 else 128
    return Numbers(
        depth=max(1, ceil(log2(side)) - 2) if side > 8 else 2 if side == 8 else 1,
        batch=batch,
        expert_batch=64 if images <= 5_000 else 128,
        student_batch=min(batch, classes * min(ipcs)),
        steps=200 if side <= 16 else 500,
    )


def params_text(source: Source, found: Survey | None, ipcs: Sequence[int], methods: Sequence[str], name: str) -> str:
    """params.yaml of this repository with its comments, filled in for the images."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    size = size_for(found)
    numbers = numbers_for(found, size, ipcs)
    shown = [f"  source: {flow({key: value for key, value in asdict(source).items() if value not in unsaid(source)})}"]
    if found is None or not found.uniform or max(found.shapes[0][1:]) != max(size):
        shown.append(f"  size: [{size[0]}, {size[1]}]          # height, width to which every image is resized")
    sections = dict(split_sections(text))
    fraction = [line for line in sections["data"] if line.lstrip().startswith("test_fraction")]
    sections["data"] = ["data:", *shown, *fraction, ""]
    sections["recipes"] = [*recipe_lines(sections["recipes"], ipcs, methods), ""]
    sections["package"] = ["package:", f"  name: {name}", f"  default: {default_recipe(ipcs, methods)}"]
    joined = "\n".join(line for lines in sections.values() for line in lines) + "\n"
    for old, new in {
        "depth: 2": f"depth: {numbers.depth}",
        "batch: 64": f"batch: {numbers.expert_batch}",
        "student_batch: 50": f"student_batch: {numbers.student_batch}",
        "batch: 50,": f"batch: {numbers.batch},",
        "steps: 200,": f"steps: {numbers.steps},",
    }.items():
        joined = joined.replace(old, new)
    version = f"distillkit: {__version__}  # what made the results; a change runs everything again"
    return HEAD.format(version=__version__) + version + "\n" + joined


def size_for(found: Survey | None) -> tuple[int, int]:
    """The images' own size where they have one of at most 128 pixels, else a square that a laptop can bear."""
    if found is not None and found.uniform and max(found.shapes[0][1:]) <= 128:
        return found.shapes[0][1:]
    return 32, 32


def default_recipe(ipcs: Sequence[int], methods: Sequence[str]) -> str:
    return f"{methods[-1]}-ipc{max(ipcs)}"


def unsaid(source: Source) -> tuple[Any, ...]:
    """Values that a source has anyway."""
    return (None, "train", "test", True) if not isinstance(source, TorchvisionSource) else (None, True)


def flow(values: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {quoted(str(value))}" for key, value in values.items()) + "}"


def split_sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """The file's top-level sections by name, each with the comment above it; first what stands before them all."""
    name, lines = "", list[str]()
    comment: list[str] = []
    for line in text.splitlines():
        if line.startswith("#") and name:
            comment.append(line)
            continue
        if match := re.match(r"(\w+):", line):
            yield name, lines
            name, lines = match[1], [*comment, line]
            comment = []
        else:
            lines.append(line)
    yield name, lines


def recipe_lines(template: Sequence[str], ipcs: Sequence[int], methods: Sequence[str]) -> Iterator[str]:
    """The recipes section for every IPC and method; a block is written out where it is first used, then named."""
    yield from template[: template.index("recipes:") + 1]
    yield "  full: {method: full}"
    written: set[str] = set()
    for ipc in sorted(set(ipcs)):
        yield ""
        yield f"  random-ipc{ipc}: {{method: random, ipc: {ipc}}}"
        for method in methods:
            yield f"  {method}-ipc{ipc}:"
            yield f"    method: {method}"
            yield f"    ipc: {ipc}"
            for key in PARTS[method]:
                yield from part(template, key, written)


def part(template: Sequence[str], key: str, written: set[str]) -> Iterator[str]:
    """One entry of a recipe as it stands in the template, or its alias."""
    start = next(index for index, line in enumerate(template) if line.startswith(f"    {key}: "))
    anchor = re.search(r"&(\w+)", template[start])
    if anchor and key in written:
        yield f"    {key}: *{anchor[1]}"
        return
    written.add(key)
    yield template[start]
    for line in template[start + 1 :]:
        if not line.startswith("      "):
            return
        yield line


# The workflow, and writing


def workflow_file(folder: Path, top: Path, name: str) -> dict[Path, str]:
    """The workflow's text by its path, as Plan has it."""
    target = Path(os.path.relpath(top / ".github/workflows/distill.yml", folder.resolve()))
    return {target: workflow_text(folder.resolve(), top, name)}


def workflow_text(folder: Path, top: Path, name: str) -> str:
    """The CI workflow for the pipeline in ``folder`` of the repository at ``top``, with package ``name``."""
    data = next(path for path in (folder, *folder.parents) if (path / ".dvc").is_dir())  # of `dvc init --subdir`, too
    text = (ROOT / "ci/github.yml").read_text(encoding="utf-8")
    text = text.replace("working-directory: .", f"working-directory: {folder.relative_to(top).as_posix()}")
    text = text.replace("path: .dvc/cache", f"path: {(data / '.dvc/cache').relative_to(top).as_posix()}")
    return text.replace("DISTILLKIT_VERSION", __version__).replace("PACKAGE_NAME", name)


def write(planned: Plan) -> None:
    """Write every file, each whole. Raises ParamsError when one is there already with something else in it."""
    if conflicts := planned.conflicts():
        raise ParamsError(f"{conflicts[0]} is there already; expected nothing there; nothing was written")
    for path, text in planned.files.items():
        if not exists(planned.folder / path):
            write_text(planned.folder / path, text)


def differences(planned: Plan) -> Iterator[str]:
    """What would change in files that are there, as unified diffs."""
    for path in planned.conflicts():
        old, new = planned.found(path).splitlines(), planned.files[path].splitlines()
        yield from difflib.unified_diff(old, new, f"{path} (yours)", f"{path} (distillkit's)", lineterm="")


def next_command(folder: Path) -> str:
    """What to run where one stands."""
    here = Path(os.path.relpath(folder.resolve()))
    return "dvc repro" if here == Path() else f"dvc repro {(here / 'dvc.yaml').as_posix()}"
