"""params.yaml of this very repository, filled in for somebody else's images."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil, log2
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distillkit import __version__
from distillkit.base import params
from distillkit.base.arguments import PARTS
from distillkit.base.errors import ParamsError
from distillkit.check.foreign.importing import quoted
from distillkit.pipeline.checks import all_recipes, check_classes, check_params, placed
from distillkit.pipeline.recipes import PackageSpec
from distillkit.setup.inspection import Inspection
from distillkit.setup.new_files import HEAD, ROOT
from distillkit.setup.workflow import replaced
from distillkit.sources.fetch import DataSpec
from distillkit.sources.readers import Source

CONDENSING = (
    "start: random",
    "matching: {inner_epochs: 20, network_lr: 0.05}  # of the networks that are matched, between updates",
    "optim: {steps: 200, image_lr: 0.3, momentum: 0.5}  # good on 8x8 digits; published for CIFAR-10: 10000 and 0.1",
)
NOT_FROM_HERE: dict[str, tuple[str, ...]] = {  # numbers that params.yaml of this repository has not
    "ccs": ("hardest_dropped: 0.1  # share of each class, as likely to be mislabelled; fit it to your data",),
    "optimised": ("sets: 20", "runs: 2", "holdout: 0.2", "training: {steps: 100, batch: 50, lr: 0.05}"),
    "dm": (
        "augmentation: {kind: none}  # published: dsa; leave out flip where left and right matter",
        "optim: {steps: 200, image_lr: 3, momentum: 0.5}  # good on 8x8 digits; published for CIFAR-10: 20000 and 1",
    ),
    "dc": CONDENSING,
    "dsa": (
        *CONDENSING[:2],
        "augmentation: {kind: dsa, operations: [crop, scale, rotate]}  # published: also color, cutout and flip",
        CONDENSING[2],
    ),
}


@dataclass(frozen=True)
class Numbers:
    """What follows from the images; the rest of params.yaml is as it is here."""

    depth: int
    batch: int
    expert_batch: int
    student_batch: int
    steps: int


def numbers_for(found: Inspection | None, size: tuple[int, int], ipcs: Sequence[int]) -> Numbers:
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


def params_text(
    source: Source, found: Inspection | None, ipcs: Sequence[int], methods: Sequence[str], package: PackageSpec
) -> str:
    """params.yaml of this repository with its comments, filled in for the images."""
    size = size_for(found)
    numbers = numbers_for(found, size, ipcs)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for old, new in {
        "depth: 2": f"depth: {numbers.depth}",
        "batch: 64": f"batch: {numbers.expert_batch}",
        "student_batch: 50": f"student_batch: {numbers.student_batch}",
        "batch: 50,": f"batch: {numbers.batch},",
        "steps: 200,": f"steps: {numbers.steps},",
    }.items():
        text = replaced(text, old, new)
    shown = [f"  source: {flow(said(source))}"]
    if found is None or not found.uniform or max(found.shapes[0][1:]) != max(size):
        shown.append(f"  size: [{size[0]}, {size[1]}]          # height, width to which every image is resized")
    sections = dict(split_sections(text))
    fraction = [line for line in sections["data"] if line.lstrip().startswith("test_fraction")]
    sections["data"] = ["data:", *shown, *fraction, ""]
    sections["recipes"] = [*recipe_lines(sections["recipes"], ipcs, methods), ""]
    sections["package"] = ["package:", f"  name: {quoted(package.name)}", f"  default: {quoted(package.default)}"]
    joined = "\n".join(line for lines in sections.values() for line in lines) + "\n"
    version = f"distillkit: {__version__}  # what made the results; after a change, stages whose code differs run again"
    return HEAD.format(version=__version__) + version + "\n" + joined


def size_for(found: Inspection | None) -> tuple[int, int]:
    """The images' own size where they have one of at most 128 pixels, else a square that a laptop can bear."""
    if found is not None and found.uniform and max(found.shapes[0][1:]) <= 128:
        return found.shapes[0][1:]
    return 32, 32


def default_recipe(ipcs: Sequence[int], methods: Sequence[str]) -> str:
    return f"{methods[-1]}-ipc{max(ipcs)}"


def said(source: Source) -> dict[str, Any]:
    """A source's kind and the settings that are not as they are anyway; torchvision's folder in any case."""
    usual = {field.name: field.default for field in fields(source)}
    return {key: value for key, value in asdict(source).items() if key in ("kind", "root") or value != usual[key]}


def flow(values: Mapping[str, Any]) -> str:
    plain = {True: "true", False: "false", None: "null"}
    texts = (f"{key}: {plain[value] if value in plain else quoted(str(value))}" for key, value in values.items())
    return "{" + ", ".join(texts) + "}"


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
    """The recipes section for every IPC and method, each with all its numbers."""
    yield from template[: template.index("recipes:") + 1]
    yield "  full: {method: full}"
    for ipc in sorted(set(ipcs)):
        yield ""
        yield f"  random-ipc{ipc}: {{method: random, ipc: {ipc}}}"
        for method in (method for method in methods if method != "random"):
            yield f"  {method}-ipc{ipc}:"
            yield f"    method: {method}"
            yield f"    ipc: {ipc}"
            for key in PARTS[method]:
                yield from part(template, key)
            yield from (f"    {line}" for line in NOT_FROM_HERE.get(method, ()))


def part(template: Sequence[str], key: str) -> Iterator[str]:
    """One entry of a recipe as it stands in the template."""
    start = next(index for index, line in enumerate(template) if line.startswith(f"    {key}: "))
    yield template[start]
    for line in template[start + 1 :]:
        if not line.startswith("      "):
            return
        yield line


def read_back(text: str, source: Source, found: Inspection | None, package: PackageSpec) -> None:
    """Read params.yaml as the stages will. Raises ParamsError when they could not, or would read something else."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / params.FILE
        try:
            file.write_text(text, encoding="utf-8")
        except UnicodeEncodeError:
            raise ParamsError("--dataset has a name that is no UTF-8; expected one; rename the folder") from None
        data = params.load(file)
    check_params(data)
    if found is not None:
        for recipe in all_recipes(data):
            with placed(recipe):
                check_classes(recipe.method, {"the smallest": found.smallest_class})
    read = params.section(data, "data", DataSpec).source, params.section(data, "package", PackageSpec)
    if read != (source, package):
        raise ParamsError(f"params.yaml would read as {read}, not as {(source, package)}; choose other names")
