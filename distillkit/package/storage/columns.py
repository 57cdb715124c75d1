"""What the card says of the columns of a parquet and of how pixels are had from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from distillkit.package.front_matter import Recipe

COMMENT = "  # exact: the image has 8 bits"
KEPT = {
    "float32": "learned images are float32, which takes four times the bytes",
    "float16": "learned images are float16, rounded from float32",
    "uint8": "learned images are rounded to 8 bits and not clipped, each with an offset min(x) and a scale "
    "max(x) − min(x) of its own: q = round(255 · (x − offset) / scale)",
}


def is_exact(recipe: Recipe) -> bool:
    """Whether ``load_dataset`` gives all pixels of the recipe's images: large floats are not in the parquet."""
    return bool(recipe["columns"].keys() & {"pixels", "scale"}) or not recipe["images"]["learned"]


def columns_of(features: Mapping[str, Any]) -> dict[str, str]:
    """The columns that say more than ``image`` does, and their types."""
    return {name: str(features[name].dtype) for name in ("pixels", "scale", "offset") if name in features}


def pixel_lines(recipe: Recipe, scale: str = "scale") -> str:
    """Lines of Python after ``data = load_dataset(...).with_format("torch")`` that make ``pixels``, float32.

    ``scale`` is the name of a variable that they may use.
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
    """Rows of the table of columns: those that hold pixels, with what they are."""
    kinds = {name: kind for recipe in recipes for name, kind in recipe["columns"].items()}
    shape = ", ".join(map(str, recipes[0]["image_shape"]))
    own = "the source's own file, with its metadata, where that is a JPEG or PNG of this size"
    exact = f"a real image itself, of 8 bits: {own}; else a PNG"
    if "scale" in kinds:
        rows = [("image", f"{exact}; of a learned image its 8 bits: pixels are `image` / 255 · `scale` + `offset`")]
        scales = "float32; a real image has scale 1 and offset 0"
        return [*rows, ("scale", f"what to multiply with, {scales}"), ("offset", f"what to add, {scales}")]
    if "pixels" not in kinds:
        return [("image", exact)]
    preview = "of a learned image a preview, clipped to [0, 1] and rounded"
    kind = next(iter({recipe["storage"]["learned"] for recipe in recipes}))
    return [
        ("image", f"{exact}; {preview}"),
        ("pixels", f"a learned image, {kind} of shape ({shape}), not clipped; empty (nan in torch) for a real image"),
    ]


def storage_words(recipes: Sequence[Recipe]) -> str:
    """How the images are kept, and what the accuracies were measured on."""
    real, learned = (any(recipe["images"][kind] for recipe in recipes) for kind in ("real", "learned"))
    kinds = sorted({recipe["storage"]["learned"] for recipe in recipes})
    told = ["Real images have 8 bits, bit for bit the source's, and are stored only in the parquet"] if real else []
    told += [KEPT[kind] for kind in kinds] if learned else []
    words = "; ".join(told)
    return f"{words[0].upper()}{words[1:]}. The accuracies were measured on exactly these stored images."


WORDS: tuple[Any, ...] = (column_rows, is_exact, pixel_lines, storage_words)
