"""Check what a package claims: its bytes, that its parts agree, and its accuracy, by training on it again."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distillkit.artifact import load_synthetic
from distillkit.card import percent
from distillkit.errors import ArtifactError
from distillkit.images import SyntheticSet
from distillkit.manifest import CARD, MANIFEST, PARQUET, RECIPE, Package
from distillkit.recipe_file import digest
from distillkit.reevaluate import evaluation_recipe, held_out_images, measure

CONFIDENCE = 0.99
FLOOR = 0.01  # two machines round differently, which is another seed at worst; of a claim without deviation
LONE_FLOOR = 0.03  # when the claim is of a single network, which has no deviation


@dataclass(frozen=True)
class Verdict:
    """Both accuracies (``mean``, ``std``, ``runs``) and how far apart they may be; ``files`` were checked.

    ``same_test_images`` is None where the package does not say what it was tested on.
    """

    package: str
    recipe: str
    files: int
    claimed: Mapping[str, Any]
    found: Mapping[str, Any]
    tolerance: float
    same_test_images: bool | None

    @property
    def difference(self) -> float:
        return float(self.found["mean"] - self.claimed["mean"])

    @property
    def matches(self) -> bool:
        return abs(self.difference) <= self.tolerance


def verify(package: Package, recipe: str | None, *, test: Path | None, runs: int | None, seed: int) -> Verdict:
    """Retrain on one recipe of an opened package (its hashes are checked) under its own evaluation recipe.

    Raises ArtifactError when its parts contradict each other, and SourceError when the test images cannot be had.
    """
    name = recipe or package.default
    synthetic, provenance = load_synthetic(package.artifact(name))
    record = package.recipe_json(name)
    check_parts(package, name, synthetic, provenance, record)
    images, recorded = held_out_images(package.artifact(name), provenance, test), record.get("test") or {}
    if recorded and (len(images) != recorded["images"] or images.class_names != synthetic.class_names):
        raise ArtifactError(
            f"there are {len(images)} test images in {len(images.class_names)} classes; expected the "
            f"{recorded['images']} in {len(synthetic.class_names)} that {name!r} was measured on; check --test"
        )
    found = measure(synthetic, images, evaluation_recipe(record), runs, seed)["accuracy"]
    claimed = record["results"]["accuracy"]
    return Verdict(
        package=package.name,
        recipe=name,
        files=len(package.files),
        claimed=claimed,
        found=found,
        tolerance=tolerance(claimed, found["runs"], len(images)),
        same_test_images=digest(images) == recorded["sha256"] if recorded else None,
    )


def tolerance(claimed: Mapping[str, Any], runs: int, test_images: int) -> float:
    """How far the mean of ``runs`` new networks may lie from the claimed mean, as a share of 1.

    t · s · sqrt(1/n + 1/m), with the claimed deviation s of n networks, m new ones and Student's t of n - 1 degrees at
    99 %; at least one point (three for a claim of one network), and never less than two test images.
    """
    from scipy.stats import t

    resolution = 2 / test_images
    if claimed["runs"] < 2:
        return max(LONE_FLOOR, resolution)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, claimed["runs"] - 1))
    spread = quantile * float(claimed["std"]) * sqrt(1 / claimed["runs"] + 1 / runs)
    return round(max(spread, FLOOR, resolution), 6)


def check_parts(
    package: Package, name: str, synthetic: SyntheticSet, provenance: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Raise ArtifactError unless artifact, parquet, recipe.json and card say the same."""
    learned = int(synthetic.learned.sum())
    described = {
        "name": (record.get("name"), name),
        "method": (record.get("method"), provenance.get("method")),
        "params": (record.get("params"), provenance.get("params")),
        "class_names": (record.get("class_names"), list(synthetic.class_names)),
        "images.total": (record["images"]["total"], len(synthetic)),
        "images.learned": (record["images"]["learned"], learned),
    }
    for key, (found, expected) in described.items():
        if found != expected:
            shown = [json.dumps(value, default=str)[:80] for value in (found, expected)]
            raise contradiction(package, f"{name}/{RECIPE} has {key} {shown[0]}, the artifact {shown[1]}")
    if percent(record["results"]["accuracy"]) not in (package.folder / CARD).read_text(encoding="utf-8"):
        claim = percent(record["results"]["accuracy"])
        raise contradiction(package, f"{name}/{RECIPE} claims {claim}, the card ({CARD}) does not")
    if column := differing_column(package.file(name, PARQUET), synthetic):
        raise contradiction(package, f"{name}/{PARQUET} has other values of {column!r} than the artifact")


def contradiction(package: Package, found: str) -> ArtifactError:
    return ArtifactError(f"{package.folder} contradicts itself: {found}; expected the same; do not use it")


def differing_column(path: Path, synthetic: SyntheticSet) -> str | None:
    """The first column of the parquet that is not what the artifact has; None when all are."""
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); expected parquet; do not use it") from None
    if table.num_rows != len(synthetic):
        return "rows"
    for column in ("label", "learned", "source_row"):
        expected = synthetic.labels if column == "label" else getattr(synthetic, column)
        if column not in table.column_names or table[column].to_pylist() != expected.tolist():
            return column
    if "pixels" in table.column_names and not np.array_equal(floats(table["pixels"]), synthetic.images.flatten()):
        return "pixels"
    return None if previews_agree(table["image"].to_pylist(), synthetic.images) else "image"


def floats(column: Any) -> np.ndarray:
    """All values of a column of nested lists, in order."""
    values = column.combine_chunks()
    values = getattr(values, "storage", values)
    while hasattr(values, "flatten") and hasattr(values.type, "value_type"):
        values = values.flatten()
    return np.asarray(values, dtype=np.float32)


def previews_agree(previews: list[Any], images_NCHW: Tensor) -> bool:
    """Whether every preview, decoded, is its image clipped to [0, 1] and rounded to 8 bits."""
    for preview, image_CHW in zip(previews, images_NCHW, strict=True):
        decoded = torch.from_numpy(np.array(Image.open(BytesIO(preview["bytes"]))))
        levels = (image_CHW.clamp(0, 1) * 255).round().to(torch.uint8)
        if not torch.equal(decoded[None] if decoded.ndim == 2 else decoded.permute(2, 0, 1), levels):
            return False
    return True


def lines(verdict: Verdict) -> Iterator[str]:
    """The verdict for people."""
    yield f"{verdict.package}: {verdict.files} files, all as {MANIFEST} says; {verdict.recipe} agrees in all its parts"
    yield f"  claimed  {percent(verdict.claimed)}"
    yield f"  found    {percent(verdict.found)}"
    allowed = f"{100 * verdict.tolerance:.2f} allowed by the claim's deviation and n"
    yield f"  apart    {100 * verdict.difference:+.2f} points; {allowed}"
    if verdict.same_test_images is False:
        yield "  note     the test images are not bit for bit those of the claim (another decoder, or another revision)"
    yield "match" if verdict.matches else "MISMATCH: the claim does not hold here"


def as_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "match": verdict.matches,
        "package": verdict.package,
        "recipe": verdict.recipe,
        "files": verdict.files,
        "claimed": dict(verdict.claimed),
        "found": dict(verdict.found),
        "difference": round(verdict.difference, 6),
        "tolerance": verdict.tolerance,
        "same_test_images": verdict.same_test_images,
    }
