"""The words of a dataset card, safe in its Markdown: methods, networks, sources, figures, texts, columns, storage."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distillkit.base.about import About
from distillkit.base.errors import ParamsError, counted
from distillkit.data.augment import padding
from distillkit.methods import method_called
from distillkit.networks.specs import NetworkSpec
from distillkit.package.front_matter import Recipe, is_on_hub
from distillkit.process.progress import presentable
from distillkit.report.words import mean_std

NO_MARKUP = str.maketrans({"|": "/", "<": "&lt;", "`": "'"})
NAMED = 8  # configs named in a sentence or a cell
AUGMENTATIONS = {
    "none": "none",
    "simple": "a random shift, up to {pad} pixels, and a random flip of every image",
    "dsa": "differentiable siamese augmentation: one of {operations} for each batch",
    "combined": "one of {operations} for each learned image; a random shift, up to {pad} pixels, and a random flip for "
    "each real one",
}
NORMS = {
    "batch": "with batch normalisation",
    "instance": "with instance normalisation",
    "none": "without normalisation",
}
COMMENT = "  # exact: the image has 8 bits"
KEPT = {
    "float32": "learned images are float32, four bytes per value",
    "float16": "learned images are float16, rounded from float32",
    "uint8": "learned images are rounded to 8 bits and not clipped, each with its own offset min(x) and scale "
    "max(x) − min(x): q = round(255 · (x − offset) / scale)",
}


# Methods, networks and sources


def about(method: str) -> About:
    """The description of a method; if this version does not know it, a reference to recipe.json."""
    try:
        return method_called(method).about
    except ParamsError:
        return About(method.capitalize(), "See `recipe.json`.")


def title(method: str) -> str:
    return about(method).title


def network(spec: Mapping[str, Any]) -> str:
    """The evaluation network in words, with its name in papers."""
    if spec.get("factory", "").startswith("__main__:"):
        return f"{code(spec['factory'])} (of a notebook or script that is in no package: nobody else can check it)"
    if "factory" in spec:
        return f"{code(spec['factory'])} (not part of distillkit: install its code and name it with `--network`)"
    built = NetworkSpec(**spec)
    blocks = f"{counted(built.depth, 'block')} of {built.width} channels"
    return f"{built} ({blocks if built.name == 'convnet' else 'for small images'}, {NORMS[built.norm]})"


def augmentation(spec: Mapping[str, Any], side: int) -> str:
    return AUGMENTATIONS[spec["kind"]].format(operations=", ".join(spec["operations"]), pad=padding(spec["pad"], side))


def source_name(source: Mapping[str, Any]) -> str:
    """The source in words; they say whether its name is an id on the Hub."""
    if source["kind"] == "digits":
        return "scikit-learn's digits (`sklearn.datasets.load_digits`)"
    if source["kind"] == "torchvision":
        return f"torchvision's {code(source['id'])}"
    if source["kind"] == "python":
        return f"{code(source['id'])}, images given in Python"
    return f"{code(source['id'])} on the Hub" if is_on_hub(source) else f"the folder {code(source['id'])}"


# Figures


def percent(accuracy: Mapping[str, Any]) -> str:
    """Mean ± standard deviation (n)."""
    return f"{mean_std(accuracy['mean'], accuracy['std'], accuracy['runs'])} % (n = {accuracy['runs']})"


def share(recipe: Recipe) -> str:
    """The set's bytes as a share of the source's."""
    bytes_kept = recipe["storage"]["safetensors"] + recipe["storage"]["parquet"]
    return f"{100 * bytes_kept / recipe['storage']['source_train']:.1f} %"


def distance(value: float) -> str:
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.2g}"


def shortest(values: Sequence[float]) -> str:
    """A list of float32 values with the fewest digits that identify them."""
    return f"[{', '.join(str(np.float32(value)) for value in values)}]"


# Texts


def code(text: str, limit: int = 300) -> str:
    """Text from outside as code on one line, without control characters."""
    return "`" + textwrap.shorten(presentable(text).replace("`", "'").replace("|", "/"), limit, placeholder=" …") + "`"


def shown(value: Any) -> str:
    """The value of a parameter in a table."""
    return code(value, 100) if isinstance(value, str) else json.dumps(value).translate(NO_MARKUP)


def in_words(text: str) -> str:
    """The publisher's text on one line, without HTML tags or table cells."""
    return presentable(" ".join(text.split())).translate(NO_MARKUP)


def quoted(text: str) -> str:
    """Text from outside, safe inside a code fence."""
    return presentable(text).strip().replace("```", "'''")


def link(address: str) -> str:
    """A web address as a link, anything else as code."""
    return f"<{address}>" if re.fullmatch(r"https?://[^\s<>]+", address) else code(address)


def class_list(names: Sequence[str]) -> str:
    return ", ".join(code(name) for name in names)


def named(configs: Sequence[str]) -> str:
    """Names of configs for a sentence; of many, only the first ones."""
    more = f" and {len(configs) - NAMED:,} more" if len(configs) > NAMED + 1 else ""
    return ", ".join(f"`{name}`" for name in (configs[:NAMED] if more else configs)) + more


def names(recipes: Sequence[Recipe]) -> str:
    return named([recipe["name"] for recipe in recipes])


# Columns and storage


def is_exact(recipe: Recipe) -> bool:
    """Whether ``load_dataset`` gives exact pixels of all images; the parquet file has no floats of large images."""
    return bool(recipe["columns"].keys() & {"pixels", "scale"}) or not recipe["images"]["learned"]


def columns_of(features: Mapping[str, Any]) -> dict[str, str]:
    """The columns with more precision than ``image``, and their types."""
    return {name: str(features[name].dtype) for name in ("pixels", "scale", "offset") if name in features}


def pixel_lines(recipe: Recipe, scale: str = "scale") -> str:
    """Lines of Python that make ``pixels``, float32, after ``data = load_dataset(...).with_format("torch")``.

    ``scale`` is the name of a variable in them.
    """
    columns, images = recipe["columns"], recipe["images"]
    if "scale" in columns:
        scaled = f'{scale}, offset = (data[name][:][:, None, None, None] for name in ("scale", "offset"))'
        return f'{scaled}\npixels = data["image"][:] / 255 * {scale} + offset'
    if not images["learned"]:
        return f'pixels = data["image"][:] / 255{COMMENT}'
    if not images["real"]:
        return 'pixels = data["pixels"][:]'
    lines = (
        'learned, pixels = data["learned"][:].bool(), data["image"][:] / 255',
        'pixels[learned] = data["pixels"][:][learned]',
    )
    return "\n".join(lines)


def column_rows(recipes: Sequence[Recipe]) -> list[tuple[str, str]]:
    """Rows of the table of columns: those that hold pixels, each with a description."""
    kinds = {name: kind for recipe in recipes for name, kind in recipe["columns"].items()}
    shape = ", ".join(map(str, recipes[0]["image_shape"]))
    own = "the source's own file, with its metadata, if that is a JPEG or PNG of this size, else a PNG"
    exact = f"for a real image, its exact 8 bits: {own}"
    if "scale" in kinds:
        rows = [("image", f"{exact}; for a learned image, 8 bits: pixels are `image` / 255 · `scale` + `offset`")]
        scales = "float32; a real image has scale 1 and offset 0"
        return [*rows, ("scale", f"the factor, {scales}"), ("offset", f"the summand, {scales}")]
    if "pixels" not in kinds:
        return [("image", exact)]
    preview = "for a learned image, a preview, clipped to [0, 1] and rounded"
    kind = next(iter({recipe["storage"]["learned"] for recipe in recipes}))
    return [
        ("image", f"{exact}; {preview}"),
        ("pixels", f"a learned image, {kind} of shape ({shape}), not clipped; empty (NaN in torch) for a real image"),
    ]


def storage_words(recipes: Sequence[Recipe]) -> str:
    """How the images are stored."""
    real, learned = (any(recipe["images"][kind] for recipe in recipes) for kind in ("real", "learned"))
    kinds = sorted({recipe["storage"]["learned"] for recipe in recipes})
    parts = ["Real images have 8 bits, equal those of the source, and are only in the parquet file"] if real else []
    parts += [KEPT[kind] for kind in kinds] if learned else []
    words = "; ".join(parts)
    return f"{words[0].upper()}{words[1:]}. The accuracies were measured on exactly these stored images."
