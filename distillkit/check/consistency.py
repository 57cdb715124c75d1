"""Whether the parts of a package agree: artifact, parquet, recipe.json and card. Nothing is trained.

The card is not rendered again for the comparison: its front matter depends on the releases of ``datasets`` and
``huggingface_hub``, and a new release must not make a correct package look wrong.
"""

import json
import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from distillkit.base.errors import ArtifactError, counted
from distillkit.data.files.container import Opened
from distillkit.data.files.packed import ELSEWHERE, ENCODED, ROWS, Storage, decoded
from distillkit.data.images import SyntheticSet
from distillkit.package.build import features_of, plain_columns
from distillkit.package.card_words import percent
from distillkit.package.folders import CARD
from distillkit.package.manifest import PARQUET, RECIPE, Package, printable
from distillkit.package.recipe_json import contradiction_in, stated

# in the format of distillkit.package.card_words.percent
FIGURE = re.compile(r"(?<![\d.,])[\d.,]+(?: ± [\d.,]+)? % \(n = [\d.,]+\)")
HEADLINE = re.compile(r"\*\*([^*\n]*% \(n =[^*\n]*)\*\*")


def check_parts(
    package: Package, name: str, synthetic: SyntheticSet, provenance: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Raise ArtifactError unless artifact, parquet, recipe.json and card agree about recipe ``name``."""
    own = by_path(stated(name, synthetic, provenance))
    said = by_path(record)
    for key, expected in own.items():
        if (found := said.get(key)) != expected:
            shown = [json.dumps(value, default=str)[:80] for value in (found, expected)]
            raise contradiction(package, f"{name}/{RECIPE} has {key} {shown[0]}, but the artifact has {shown[1]}")
    check_accuracy(package, name, record)
    check_baselines(package, name, record)
    check_card(package, name, record)
    if column := differing_column(package, name, synthetic):
        raise contradiction(package, f"{name}/{PARQUET} has other values of {column!r} than the artifact")


def by_path(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with its image counts as separate keys, because it has more of them than the artifact."""
    return {**record, **{f"images.{key}": value for key, value in record["images"].items()}, "images": None}


def contradiction(package: Package, found: str) -> ArtifactError:
    return ArtifactError(f"{package.folder} contradicts itself: {found}; expected the same; do not use it")


# The claim


def check_accuracy(package: Package, name: str, record: Mapping[str, Any]) -> None:
    """Raise ArtifactError unless the claim lists each network's accuracy and agrees with it: mean, std and number."""
    accuracy = record["results"]["accuracy"]
    if (trained := record["evaluation"].get("runs")) != (runs := accuracy["runs"]):
        shown = json.dumps(trained)[:80]
        raise contradiction(
            package, f"{name}/{RECIPE} claims {counted(runs, 'network')}, but its evaluation recipe trains {shown}"
        )
    if found := contradiction_in(accuracy):
        raise contradiction(package, f"{name}/{RECIPE}: {printable(found)}")


def check_baselines(package: Package, name: str, record: Mapping[str, Any]) -> None:
    """Raise ArtifactError if a baseline that is a recipe of this package has another accuracy than that recipe."""
    for which, baseline in (record.get("baselines") or {}).items():
        if baseline is None or baseline["recipe"] not in package.recipes:
            continue
        if package.recipe_json(baseline["recipe"])["results"]["accuracy"] != baseline["accuracy"]:
            other = f"{baseline['recipe']}/{RECIPE}"
            found = f"{name}/{RECIPE} has another accuracy of baseline '{printable(which)}' than {other}"
            raise contradiction(package, found)


# The card


def check_card(package: Package, name: str, record: Mapping[str, Any]) -> None:
    """Raise ArtifactError unless the card claims the same accuracy as recipe.json.

    It is checked in the recipe's row of the results; in the bold text, for the default recipe; and, if all recipes are
    present, in all accuracies with an n.
    """
    try:
        card = (package.folder / CARD).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ArtifactError(f"{package.folder / CARD} is no UTF-8; expected a card; do not use it") from None
    claim = percent(record["results"]["accuracy"])
    other = f"{name}/{RECIPE} claims {claim}, but the card ({CARD}) does not claim it"
    rows = [line for line in card.splitlines() if line.startswith(f"| `{name}` |") and "% (n =" in line]
    claims = [[cell.strip() for cell in row.split("|") if "% (n =" in cell] for row in rows]
    if not rows or any(cells != [claim] for cells in claims):
        raise contradiction(package, f"{other} in its results")
    if name == package.manifest.default:
        bold = HEADLINE.findall(card)
        if not bold or any(text != claim for text in bold):
            raise contradiction(package, f"{other} in bold")
    if set(package.recipes) == set(package.manifest.recipes):
        records = [package.recipe_json(recipe) for recipe in package.recipes]
        baselines = [found for each in records for found in (each.get("baselines") or {}).values() if found]
        known = {percent(each["results"]["accuracy"]) for each in records} | {percent(b["accuracy"]) for b in baselines}
        if unknown := [text for text in FIGURE.findall(card) if text not in known]:
            raise contradiction(package, f"the card ({CARD}) claims {unknown[0]}, but no {RECIPE} does")


# The parquet


def differing_column(package: Package, name: str, synthetic: SyntheticSet) -> str | None:
    """The first column of the parquet that differs from the artifact, or None.

    The metadata is checked before the data, because a small file can expand to very many rows. Raises ArtifactError
    when the file cannot be read.
    """
    from pyarrow.parquet import ParquetFile

    path, kept = package.file(name, PARQUET), kept_of(package.artifact(name))
    try:
        with ParquetFile(path) as file:
            return differing_form(file, synthetic, kept) or differing_values(file, synthetic, kept)
    except Exception as error:  # decoders raise errors of many types
        found = printable(" ".join(str(error).split()))
        raise ArtifactError(f"{path} cannot be read ({found}); expected parquet; do not use it") from None


class Kept(NamedTuple):
    """How images of a package are kept: as which type; None where all are in the artifact. And their scales."""

    storage: Storage | None
    scales: Mapping[str, Tensor]

    def has_pixels(self, learned_N: Tensor) -> Tensor:
        """The images (N,) whose floats the parquet repeats."""
        return torch.ones_like(learned_N) if self.storage is None else learned_N


def kept_of(artifact: Path) -> Kept:
    """What the artifact says of it. One without images elsewhere has float32 only, as all of earlier versions have."""
    opened = Opened(artifact, "synthetic")
    scales = {name: opened.tensor(name, [None]) for name in ("scale", "offset") if opened.has(name)}
    return Kept(opened.header.get(ELSEWHERE, {}).get("storage"), scales)


def differing_form(file: Any, synthetic: SyntheticSet, kept: Kept) -> str | None:
    """By metadata alone: the first column that has another name, type or number of values; "rows" for their number."""
    classes = synthetic.class_names
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    if not file.metadata.num_rows == sum(group.num_rows for group in groups) == len(synthetic):
        return "rows"
    expected, found = column_types(features_of(synthetic, kept.storage).arrow_schema), column_types(file.schema_arrow)
    if len(file.schema_arrow) != len(found) or found.keys() != expected.keys():
        return min(found.keys() ^ expected.keys(), default="columns")
    if others := [column for column, kind in expected.items() if found[column] != kind]:
        return others[0]
    values, has_pixels, start = prod(synthetic.images.shape[1:]), kept.has_pixels(synthetic.learned), 0
    for group in groups:
        full = int(has_pixels[start : start + group.num_rows].sum())
        start += group.num_rows
        counts = {"pixels": full * values + group.num_rows - full, "soft_label": group.num_rows * len(classes)}
        for chunk in (group.column(index) for index in range(group.num_columns)):
            column = chunk.path_in_schema.split(".")[0]
            if chunk.num_values != counts.get(column, group.num_rows):
                return str(column)
            if column == "image" and chunk.total_uncompressed_size > group.num_rows * (2 * values + ENCODED) + ENCODED:
                return str(column)
    return None


def column_types(schema: Any) -> dict[str, Any]:
    """The Arrow type of each column, without the extension types of ``datasets``."""
    return {field.name: getattr(field.type, "storage_type", field.type) for field in schema}


def differing_values(file: Any, synthetic: SyntheticSet, kept: Kept) -> str | None:
    """By the data, a few rows at a time: the first column that has other values."""
    start = 0
    for batch in file.iter_batches(batch_size=ROWS):
        rows = slice(start, start + batch.num_rows)
        for column, expected in {**plain_columns(synthetic), **kept.scales}.items():
            if batch.column(column).to_pylist() != expected[rows].tolist():
                return column
        learned, images_NCHW = synthetic.learned[rows], synthetic.pixels(rows)
        if "pixels" in batch.schema.names and not is_array(
            batch.column("pixels"), images_NCHW, kept.has_pixels(learned)
        ):
            return "pixels"
        previews = batch.column("image").to_pylist()
        shown = range(0) if kept.storage == "uint8" else range(batch.num_rows)  # load has checked those of 8 bits
        if not all(
            is_preview(previews[row], images_NCHW[row]) for row in shown if kept.storage is None or learned[row]
        ):
            return "image"
        start = rows.stop
    return None if start == len(synthetic) else "rows"


def is_array(lists: Any, images_NCHW: Tensor, has_pixels: Tensor) -> bool:
    """Whether nested lists have the shape and the values of the images that are in them, and nothing of others."""
    values = getattr(lists, "storage", lists)
    if values.is_valid().to_pylist() != has_pixels.tolist():
        return False
    values, images_NCHW = values.drop_null(), images_NCHW[has_pixels]
    for size in images_NCHW.shape[1:]:
        if values.null_count or values.value_lengths().unique().to_pylist() != [size]:
            return False
        values = values.flatten()
    return np.array_equal(np.asarray(values, dtype=np.float32), images_NCHW.flatten().numpy())


def is_preview(preview: Any, image_CHW: Tensor) -> bool:
    """Whether a PNG, decoded, is the image clipped to [0, 1] and rounded to 8 bits."""
    levels_CHW = (image_CHW.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    found = decoded(preview and preview.get("bytes"), levels_CHW.shape, ("PNG",))
    return found is not None and np.array_equal(found, levels_CHW)
