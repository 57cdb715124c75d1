"""The content of a file or a packaged folder, as plain data and as lines of text."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from distillkit.base.arguments import check_artifact
from distillkit.base.errors import counted
from distillkit.data.files.artifact import load_synthetic
from distillkit.data.files.container import Opened
from distillkit.data.files.real_images import REAL, real_file
from distillkit.data.rows import pixel_range
from distillkit.evaluation.protocol import labels_words, protocol_of, schedule_words
from distillkit.sources import summary

SHOWN = 30  # most recipes in the text


def describe(path: Path) -> dict[str, Any]:
    """Describe an artifact of any kind or a package. Raises ArtifactError when it is neither, or damaged."""
    check_artifact(path)
    if path.is_dir() and not (path / REAL).is_file():
        return describe_package(path)
    path = real_file(path)
    opened = Opened(path)
    tensors = {name: opened.file.get_slice(name) for name in opened.file.keys()}  # noqa: SIM118
    described = {
        "path": str(path),
        "kind": opened.header["kind"],
        "bytes": path.stat().st_size,
        "tensors": {name: {"shape": part.get_shape(), "dtype": part.get_dtype()} for name, part in tensors.items()},
        "header": {key: value for key, value in opened.header.items() if key != "kind"},
    }
    if opened.header["kind"] == "real":
        return described | {"summary": asdict(summary.read_summary(opened))}
    return described | describe_synthetic(path) if opened.header["kind"] == "synthetic" else described


def describe_synthetic(path: Path) -> dict[str, Any]:
    synthetic, provenance = load_synthetic(path)
    learned, counts = int(synthetic.learned.sum()), synthetic.images_per_class
    return {
        "recipe": provenance.get("recipe"),
        "method": provenance.get("method"),
        "images": {"total": len(synthetic), "learned": learned, "real": len(synthetic) - learned},
        "image_shape": list(synthetic.images.shape[1:]),
        "classes": len(synthetic.class_names),
        "normalisation": "channel" if synthetic.normalisation.whitening is None else "zca",
        "images_per_class": counts[0] if len(set(counts)) == 1 else counts,
        **protocol_of(synthetic, provenance.get("params")),
        "pixel_range": pixel_range(synthetic.images),
    }


def describe_package(folder: Path) -> dict[str, Any]:
    from distillkit.check import sign_off
    from distillkit.package.manifest import open_package
    from distillkit.package.sign_offs import filed_in

    package = open_package(folder)
    recipes = {name: describe_synthetic(package.artifact(name)) for name in package.recipes}
    for name, described in recipes.items():
        described["accuracy"] = package.recipe_json(name)["results"]["accuracy"]
    return {
        "path": str(folder),
        "kind": "package",
        "name": package.name,
        "default": package.manifest.default,
        "files": len(package.files),
        "bytes": sum(package.manifest.files[name].size for name in package.files),
        "absent": [name for name in package.manifest.recipes if name not in package.recipes],
        "recipes": recipes,
        "sign_offs": [sign_off.describe(package, filed) for filed in filed_in(folder)],
    }


def lines(description: Mapping[str, Any]) -> Iterator[str]:
    """The description as lines of text."""
    yield f"{description['path']}: {description['kind']}, {description['bytes']:,} bytes"
    if description["kind"] == "package":
        from distillkit.check import sign_off
        from distillkit.package.card_words import percent

        files = counted(description["files"], "file")
        yield f"{files}, all as the manifest says; default recipe {description['default']}"
        if description["absent"]:
            absent = description["absent"]
            rest = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
            yield f"in the package, but not in this folder: {', '.join(absent[:SHOWN])}{rest}"
        for name, recipe in islice(description["recipes"].items(), SHOWN):
            accuracy = recipe["accuracy"]
            yield f"  {name}: {synthetic_line(recipe)}, accuracy {percent(accuracy)}"
        if (more := len(description["recipes"]) - SHOWN) > 0:
            yield f"  and {counted(more, 'recipe')} more; --json shows all"
        yield from map(sign_off.line, description.get("sign_offs", []))
        return
    if description["kind"] == "synthetic":
        low, high = description["pixel_range"]
        yield f"recipe {description['recipe']}, {synthetic_line(description)}, pixels {low:g} to {high:g}"
    if description["kind"] == "real":
        yield from summary.lines(summary.from_dict(description["summary"]))
    for name, tensor in description["tensors"].items():
        yield f"  {name}: {tensor['dtype']} {tuple(tensor['shape'])}"
    for key, value in description["header"].items():
        yield f"  {key}: {shorten(value)}"


def synthetic_line(recipe: Mapping[str, Any]) -> str:
    images, shape = recipe["images"], "x".join(str(side) for side in recipe["image_shape"])
    many, classes = counted(images["total"], "image"), counted(recipe["classes"], "class")
    parts = f"{images['learned']} learned, {images['real']} real"
    return f"method {recipe['method']}, {many} of {shape} in {classes} ({parts}){regime_words(recipe)}"


def regime_words(recipe: Mapping[str, Any]) -> str:
    """Unusual properties of a set: ZCA whitening, soft labels, a schedule."""
    soft, schedule = recipe["soft_labels"], recipe["schedule"]
    labels = ", to be ZCA-whitened" if recipe["normalisation"] == "zca" else ""
    labels += "" if soft is None else f", labels {labels_words(soft)}"
    return labels if schedule is None else f"{labels}, trained on in its own order: {schedule_words(schedule)}"


def shorten(value: Any, limit: int = 160) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
