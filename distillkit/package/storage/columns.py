"""The card's description of the columns of a parquet file, and of how to get pixels from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from distillkit.package.front_matter import Recipe

COMMENT = "  # exact: the image has 8 bits"
KEPT = {
    "float32": "learned images are float32, four bytes per value",
    "float16": "learned images are float16, rounded from float32",
    "uint8": "learned images are rounded to 8 bits and not clipped, each with its own offset min(x) and scale "
    "max(x) − min(x): q = round(255 · (x − offset) / scale)",
}


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
