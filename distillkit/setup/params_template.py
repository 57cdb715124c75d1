"""params.yaml of this repository, with numbers that fit the user's images."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from distillkit import __version__
from distillkit.base import params
from distillkit.base.errors import ParamsError, WindowError
from distillkit.base.outside import UnreadableError, read_yaml
from distillkit.foreign.importing import quoted
from distillkit.pipeline.checks import check_classes, check_params
from distillkit.pipeline.packaging import PackageSpec
from distillkit.pipeline.recipes import read_recipe
from distillkit.setup.defaults import EVALUATION, EXPERTS, RECIPES, Effort, Facts, filled, values
from distillkit.setup.new_files import HEAD, ROOT
from distillkit.sources.fetch import DataSpec
from distillkit.sources.readers import Source
from distillkit.sources.summary import Summary

STORAGE = (
    "  storage: float32  # of learned images; or float16 or uint8, and networks are evaluated on images so rounded"
)
USUAL_EFFORT = Effort()


def params_text(
    source: Source,
    found: Summary | None,
    ipcs: Sequence[int],
    methods: Sequence[str],
    package: PackageSpec,
    effort: Effort = USUAL_EFFORT,
) -> str:
    """The text of params.yaml of this repository, with its comments and with numbers that fit the images."""
    facts = replace(facts_of(found), epochs=effort.epochs, effort=effort)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    shown = [f"  source: {flow(said(source))}"]
    if size := new_size(found):
        shown.append(f"  size: [{size[0]}, {size[1]}]          # height, width to which every image is resized")
    if effort.per_class is not None:
        shown.append(f"  per_class: {effort.per_class}          # training images of each class, at most")
    sections = split_sections(text)
    fraction = [line for line in sections["data"] if line.lstrip().startswith("test_fraction")]
    sections["data"] = ["data:", *shown, *fraction, ""]
    sections["experts"] = [*filled(EXPERTS, facts).splitlines(), ""]
    sections["recipes"] = [*recipe_lines(sections["recipes"], ipcs, methods, facts), ""]
    sections["evaluation"] = [*filled(EVALUATION, facts).splitlines(), ""]
    sections["package"] = ["package:", f"  name: {quoted(package.name)}", f"  default: {quoted(package.default)}"]
    sections["package"].append(STORAGE)
    joined = "\n".join(line for lines in sections.values() for line in lines) + "\n"
    version = f"distillkit: {__version__}  # version of the results; if you change it, stages with other code run again"
    return HEAD.format(version=__version__) + version + "\n" + joined


def size_for(found: Summary | None) -> tuple[int, int]:
    """The images' own size if all have the same and at most 128 pixels, else 32x32, which a laptop can train on."""
    size = own_size(found)
    return size if size and max(size) <= 128 else (32, 32)


def new_size(found: Summary | None) -> tuple[int, int] | None:
    """The (height, width) to which images are resized; None if all have it already."""
    own, size = own_size(found), size_for(found)
    return None if own and max(own) == max(size) else size


def own_size(found: Summary | None) -> tuple[int, int] | None:
    """The (height, width) of all images, None if they differ or are not known."""
    sizes = {shape[1:] for shape in found.shapes} if found else set()
    return sizes.pop() if len(sizes) == 1 else None


def facts_of(found: Summary | None) -> Facts:
    """What the numbers depend on; ``images`` are all of which test images may be set aside."""
    if found is None:
        return Facts((32, 32), 10, 1000)
    images = sum(found.classes.values()) + (found.test if found.found.test is None else 0)
    return Facts(size_for(found), len(found.classes), images)


def largest_ipc(found: Summary, method: str) -> int:
    """The largest IPC at which ``method``, with its starting numbers, fits the smallest class; 0 if none fits."""
    facts, smallest = facts_of(found), min(found.classes.values())

    def is_too_large(ipc: int) -> bool:
        recipe = {"method": method, "ipc": ipc, **values(RECIPES.get(method, ""), facts, ipc)}
        try:
            check_classes(read_recipe({"recipes": {method: recipe}}, method).method, {"the smallest": smallest})
        except (ParamsError, WindowError):  # ParamsError: average takes one image per class
            return True
        return False

    return bisect_right(range(1, smallest + 1), False, key=is_too_large)


def default_recipe(ipcs: Sequence[int], methods: Sequence[str]) -> str:
    return f"{methods[-1]}-ipc{max(ipcs)}"


def said(source: Source) -> dict[str, Any]:
    """A source's kind and its settings that differ from the defaults; always with torchvision's folder."""
    usual = {field.name: field.default for field in fields(source)}
    return {key: value for key, value in asdict(source).items() if key in ("kind", "root") or value != usual[key]}


def flow(values: Mapping[str, Any]) -> str:
    plain = {True: "true", False: "false", None: "null"}
    texts = (f"{key}: {plain[value] if value in plain else quoted(str(value))}" for key, value in values.items())
    return "{" + ", ".join(texts) + "}"


def split_sections(text: str) -> dict[str, list[str]]:
    """The lines of the file's top-level sections by name, each with the comment before it."""
    found = re.finditer(r"(?m)^(?:#.*\n)*(\w+):.*\n(?:(?![#\w]).*\n)*", text)
    return {section[1]: section[0].splitlines() for section in found}


def recipe_lines(template: Sequence[str], ipcs: Sequence[int], methods: Sequence[str], facts: Facts) -> Iterator[str]:
    """The section ``recipes``, with every IPC and method and all numbers."""
    yield from template[: template.index("recipes:") + 1]
    yield "  full: {method: full}"
    for ipc in sorted(set(ipcs)):
        yield ""
        yield f"  random-ipc{ipc}: {{method: random, ipc: {ipc}}}"
        for method in (method for method in methods if method != "random"):
            yield f"  {method}-ipc{ipc}:"
            yield f"    method: {method}"
            yield f"    ipc: {ipc}"
            yield from (f"    {line}" for line in filled(RECIPES.get(method, ""), facts, ipc).splitlines())


def read_back(text: str, source: Source, package: PackageSpec) -> None:
    """Parse params.yaml as the stages will. Raises ParamsError if that fails or gives other values."""
    try:
        data = read_yaml(text.encode())
    except (UnicodeEncodeError, UnreadableError):
        raise ParamsError("--dataset has a name that is no UTF-8; expected one; rename the folder") from None
    check_params(data)
    read = params.section(data, "data", DataSpec).source, params.section(data, "package", PackageSpec)
    if read != (source, package):
        raise ParamsError(f"params.yaml would read as {read}, not as {(source, package)}; choose other names")
