"""Imports distilled sets that other code saved, as artifacts of ours: ``distillkit import``.

Such files do not say whether their images are normalised, so the user has to.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from distillkit.base import files as base_files
from distillkit.base.arguments import check_new_artifact, classes_named, is_pipeline
from distillkit.base.errors import counted
from distillkit.base.names import recipe_name
from distillkit.data.files import artifact
from distillkit.data.images import SyntheticSet
from distillkit.data.rows import pixel_range
from distillkit.evaluation.protocol import labels_words, protocol_of
from distillkit.foreign.labels import LabelsAs
from distillkit.foreign.pictures import Picked, import_pictures
from distillkit.foreign.sets import SavedAs, import_set, statistics_named
from distillkit.process.progress import tell
from distillkit.sources.licences import check_licence


def import_files(
    files: Sequence[Path],
    out: Path,
    *,
    saved_as: SavedAs,
    statistics: str | None,
    classes: str | None = None,
    labels: LabelsAs | None = None,
    index: int | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Read ``files`` as :func:`import_set` does, write the artifact ``out``, and return its description as plain data.

    ``recipe`` is the text to paste below ``recipes:`` in params.yaml. It is None if classes have different numbers of
    images, or if ``out`` is outside the working folder.
    """
    check_new_artifact("out", out, overwrite)
    synthetic = import_set(
        files,
        saved_as=saved_as,
        statistics=None if statistics is None else statistics_named(statistics),
        class_names=None if classes is None else classes_named(classes),
        labels=labels,
        index=index,
    )
    return save(out, synthetic, licence, saved_as=saved_as, statistics=statistics, labels=labels)


def import_place(
    place: str,
    out: Path,
    picked: Picked,
    *,
    statistics: str | None = None,
    classes: str | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """As :func:`import_files`, for pictures in one place: a folder, a parquet file, or a dataset on the Hub."""
    check_new_artifact("out", out, overwrite)
    synthetic = import_pictures(
        place,
        picked,
        None if statistics is None else statistics_named(statistics),
        None if classes is None else classes_named(classes),
    )
    return save(out, synthetic, licence, saved_as="pixels", statistics=statistics, labels=None)


def save(out: Path, synthetic: SyntheticSet, licence: str | None, **params: str | None) -> dict[str, Any]:
    """Write the artifact ``out`` and describe it; ``licence`` replaces the one that its dataset on the Hub names."""
    check_licence("--licence", licence)
    if licence is not None:
        synthetic = replace(synthetic, notes={"imported": {**synthetic.notes["imported"], "licence": licence}})
    provenance = {"recipe": recipe_name(out.stem), "method": "imported", "params": {"method": "imported", **params}}
    artifact.save_synthetic(out, synthetic, provenance)
    return description(out, synthetic)


def description(out: Path, synthetic: SyntheticSet) -> dict[str, Any]:
    """The content of the artifact ``out``. If it cannot have a recipe, a message says why."""
    counts = synthetic.images_per_class
    balanced = len(set(counts)) == 1
    if not balanced:
        found = f"{out} has {min(counts)} to {max(counts)} images in each of {counted(len(counts), 'class')}"
        tell(f"{found}, so it has no recipe; expected as many in each; if some classes are missing, give --classes")
    file = path_inside(out)
    if file is None:
        tell(f"{out} is outside of {Path.cwd()}; a recipe needs a path inside the repository; import it there")
    return {
        "path": str(out),
        "sha256": base_files.sha256(out),
        "images": len(synthetic),
        "image_shape": list(synthetic.images.shape[1:]),
        "classes": len(synthetic.class_names),
        "images_per_class": counts[0] if balanced else counts,
        "soft_labels": protocol_of(synthetic)["soft_labels"],
        "pixel_range": pixel_range(synthetic.images),
        "recipe": recipe_snippet(file, base_files.sha256(out), counts[0]) if balanced and file is not None else None,
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What was imported, and the next step, as lines of text."""
    shape, (low, high) = "x".join(map(str, found["image_shape"])), found["pixel_range"]
    images = f"{counted(found['images'], 'image')} of {shape} in {counted(found['classes'], 'class')}"
    soft = found["soft_labels"]
    labels = "" if soft is None else f", labels {labels_words(soft)}"
    yield f"{found['path']}: {images}, pixels {low:g} to {high:g}{labels}"
    if found["recipe"] is not None:
        yield "to measure and package it, put this below recipes: in params.yaml, and run dvc repro"
        yield str(found["recipe"]).rstrip()


def recipe_snippet(file: Path, sha256: str, ipc: int) -> str:
    """The recipe for the set in ``file``, as lines of YAML to paste below ``recipes:``."""
    lines = [f"  {quoted(recipe_name(file.stem))}:", "    method: imported", f"    ipc: {ipc}"]
    lines += [f"    file: {quoted(file.as_posix())}", f"    sha256: {quoted(sha256)}"]
    return "\n".join(lines) + "\n"


def path_inside(path: Path) -> Path | None:
    """``path`` as a recipe names it: relative to the folder of the pipeline that it is in, or else to the working
    folder; links in it are kept if possible. None if it is outside.
    """
    here = Path.cwd()
    named = here / path
    for full in (named, named.parent.resolve() / path.name):
        if ".." not in full.parts and full.is_relative_to(here):
            folders = [folder for folder in full.parents if folder.is_relative_to(here)]
            return full.relative_to(next(filter(is_pipeline, folders), here))
    return None


def quoted(text: str) -> str:
    """Text in YAML: plain if YAML reads the same text back, which it does not for 12e45 and true."""
    try:
        plain = re.fullmatch(r"[\w./-]+", text) is not None and YAML(typ="safe").load(text) == text
    except YAMLError:
        plain = False
    return text if plain else base_files.canonical_json(text)
