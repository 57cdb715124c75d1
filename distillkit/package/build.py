"""A folder ready for the Hub: one config per packaged recipe, a card, and the checksums of every file.

``distillkit.load`` reads ``<recipe>/distilled.safetensors``; ``datasets.load_dataset`` reads the parquet file beside
it. Only the parquet file has the 8-bit images, for both. The same artifacts and metrics give the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor

from distillkit.base import params
from distillkit.base.errors import ArtifactError, counted
from distillkit.base.files import pretty_json
from distillkit.data.files.artifact import load_synthetic
from distillkit.data.files.packed import ROWS, Storage
from distillkit.data.images import RealData, SyntheticSet
from distillkit.data.rows import Encoded, spans
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.rounding import levels_of, stored
from distillkit.package.card import card_text
from distillkit.package.card_words import columns_of
from distillkit.package.croissant import document
from distillkit.package.folders import CARD, CROISSANT, MANIFEST, replacing
from distillkit.package.manifest import ARTIFACT, PARQUET, PREVIEW, RECIPE, manifest_of, records_in
from distillkit.package.packing import image_file, pack
from distillkit.package.recipe_json import (
    Entry,
    accuracy,
    baselines,
    checksums,
    describe,
    digest,
    source_yardstick,
    without_machine_paths,
)
from distillkit.package.sign_offs import Filed, filed_with
from distillkit.pipeline.packaging import Publication, Rai, check_package
from distillkit.process.interruption import check
from distillkit.process.progress import tell, track
from distillkit.sources.licences import licence

__all__ = ["Entry", "build"]

UNPUBLISHED, UNSTATED = Publication(), Rai()
UNLICENSED = (
    "warning: the licence of the source is unknown, and {folder} says so; look it up at the source before you share "
    "the package, and set data.licence in params.yaml"
)
LARGEST_WITH_PIXELS = 12_288  # values of an image, 3 x 64 x 64; the parquet file has no floats of larger images


def build(
    folder: Path,
    *,
    name: str,
    entries: Sequence[Entry],
    packaged: Sequence[str],
    default: str,
    real: RealData,
    inputs: Mapping[str, str],
    evaluation: Mapping[str, Any],
    pipeline: Mapping[str, Any],
    command: str = "dvc repro",
    storage: Storage = "float32",
    publication: Publication = UNPUBLISHED,
    rai: Rai = UNSTATED,
    sign_offs: Mapping[str, str] = {},
) -> None:
    """Write the package ``name`` to ``folder`` and replace an earlier one. After an error, ``folder`` is unchanged.

    ``entries`` are all recipes, baselines included; those named in ``packaged`` become configs. ``command`` made all of
    them from the source ``real`` and the files ``inputs`` (path to MD5). ``evaluation`` is the section of params.yaml
    that they were measured by, ``pipeline`` has the other sections that they depend on. Learned images are stored as
    ``storage``; the metrics must come from networks that were trained on the stored images. ``publication`` and ``rai``
    are the publisher's statements, ``sign_offs`` maps paths of files to their SHA-256.
    """
    by_name = {entry.name: entry for entry in entries}
    check_package(name, default, packaged, by_name)
    shared = about_source(real) | {
        "command": command,
        "pipeline": without_machine_paths({"data": dict(real.info.params), **pipeline}),
        "evaluation": params.read(evaluation, EvaluationRecipe, "evaluation").plain(),
        "publication": asdict(publication),
        "rai": asdict(rai),
    }
    check_entries(entries, shared["evaluation"]["runs"], storage)
    yardstick, recipes, infos = source_yardstick(real.train), list[dict[str, Any]](), dict[str, Any]()
    with replacing(folder) as built:
        for entry in track([by_name[recipe] for recipe in packaged], f"package {name}"):
            check()
            recipe, infos[entry.name] = write_config(built / entry.name, entry, real, yardstick, storage)
            recipe |= shared | {"baselines": baselines(recipe["images"]["per_class"], entries)}
            recipe["inputs"] = {**inputs, **checksums([entry.artifact])}
            (built / entry.name / RECIPE).write_text(pretty_json(recipe), encoding="utf-8")
            recipes.append(recipe)
        write_common_files(built, name, recipes, default, infos, filed_with(built, sign_offs, packaged))
    if licence(asdict(real.info)) == {"license": "unknown"}:
        tell(UNLICENSED.format(folder=folder))


def check_entries(entries: Sequence[Entry], runs: int, storage: Storage) -> None:
    """Raise ArtifactError unless all metrics are consistent, of ``runs`` networks, trained on images as stored."""
    for entry in entries:
        claim, again = f"metrics of recipe {entry.name!r}", "run its evaluate stage again"
        if (found := accuracy(entry)["runs"]) != runs:
            measured = f"{claim} are of {counted(found, 'network')}"
            raise ArtifactError(f"{measured}, but evaluation.runs in params.yaml is {runs}; {again}")
        if (found := entry.metrics.get("storage", "float32")) != storage:
            measured = f"{claim} were measured on images stored as {found}"
            raise ArtifactError(f"{measured}, but package.storage in params.yaml is {storage}; {again}")


def write_common_files(
    built: Path,
    name: str,
    recipes: Sequence[dict[str, Any]],
    default: str,
    infos: Mapping[str, Any],
    filed: Sequence[Filed],
) -> None:
    """Write the files about all configs: the card, croissant.json and last the manifest, which lists all others."""
    (built / CARD).write_text(card_text(name, recipes, default, infos, filed), encoding="utf-8")
    columns = {recipe: list(info.features) for recipe, info in infos.items()}
    described = document(name, recipes, default, columns, records_in(built))
    (built / CROISSANT).write_text(pretty_json(described), encoding="utf-8")
    manifest = manifest_of(built, name, [recipe["name"] for recipe in recipes], default)
    (built / MANIFEST).write_text(pretty_json(asdict(manifest)), encoding="utf-8")


def about_source(real: RealData) -> dict[str, Any]:
    """The test images, how many of them are also training images, and how many training labels were changed."""
    leaked, changed = real.found.leaked, real.found.relabelled
    test = {"images": len(real.test), "sha256": digest(real.test)} | ({"in_train": leaked} if leaked else {})
    return {"test": test} | ({"label_noise": {"changed": changed, "images": len(real.train)}} if changed else {})


def write_config(
    config: Path, entry: Entry, real: RealData, yardstick: float | None, storage: Storage
) -> tuple[dict[str, Any], Any]:
    """Write the recipe's files except recipe.json; return most of its content and the ``datasets.DatasetInfo``."""
    from distillkit.report.pictures import preview_grid

    config.mkdir()
    synthetic, provenance = load_synthetic(entry.artifact)
    kept = stored(synthetic, storage)
    recipe = describe(entry, kept, provenance, real, yardstick)
    pack(config / ARTIFACT, entry.artifact, synthetic, storage, PARQUET)
    info = write_parquet(config / PARQUET, synthetic, storage, real.encoded)
    preview_grid(kept, config / PREVIEW)
    recipe["columns"] = columns_of(info.features)
    recipe["storage"] = {
        "learned": storage,
        "safetensors": (config / ARTIFACT).stat().st_size,
        "parquet": (config / PARQUET).stat().st_size,
        "source_train": real.train.images.shape.numel(),  # at one byte per value
    }
    return recipe, info


def features_of(synthetic: SyntheticSet, storage: Storage | None = None) -> Any:
    """The columns of the parquet file; only sets with soft labels or steps have columns for them.

    Learned images that are stored as uint8 have ``scale`` and ``offset``; other small learned images have ``pixels``.
    If no ``storage`` is given, all small images have ``pixels``, float32.
    """
    from datasets import Array3D, ClassLabel, Features, Image, List, Value

    shape = tuple(synthetic.images.shape[1:])
    columns = {
        "image": Image(),
        "label": ClassLabel(names=list(synthetic.class_names)),
        "learned": Value("bool"),
        "source_row": Value("int64"),
    }
    columns |= {} if synthetic.soft_labels is None else {"soft_label": List(Value("float32"))}
    columns |= {} if synthetic.schedule is None else {"step": Value("int64")}
    if storage is None or bool(synthetic.learned.any()):
        small = prod(shape) <= LARGEST_WITH_PIXELS
        scaled = {"scale": Value("float32"), "offset": Value("float32")}
        columns |= scaled if storage == "uint8" else {"pixels": Array3D(shape, storage or "float32")} if small else {}
    return Features(columns)


def plain_columns(synthetic: SyntheticSet) -> dict[str, Tensor]:
    """The values of the columns that hold no images."""
    found = {"label": synthetic.labels, "learned": synthetic.learned, "source_row": synthetic.source_row}
    found |= {} if synthetic.soft_labels is None else {"soft_label": synthetic.soft_labels}
    return found if synthetic.schedule is None else {**found, "step": synthetic.schedule.step_N}


def write_parquet(path: Path, synthetic: SyntheticSet, storage: Storage, encoded: Encoded | None) -> Any:
    """Write the dataset of :func:`as_hf` as parquet; return its ``datasets.DatasetInfo``."""
    from datasets import DatasetInfo, SplitDict, SplitInfo

    dataset = as_hf(synthetic, storage, encoded)
    with without_bars():
        dataset.to_parquet(path)
    splits = SplitDict({"train": SplitInfo("train", dataset.data.nbytes, len(dataset))})
    return DatasetInfo(
        features=dataset.features, splits=splits, download_size=path.stat().st_size, dataset_size=dataset.data.nbytes
    )


def as_hf(synthetic: SyntheticSet, storage: Storage | None = None, encoded: Encoded | None = None) -> Any:
    """The set as a ``datasets.Dataset``, with the columns of :func:`features_of`.

    ``image`` is exact if the image has 8 bits in a package of this ``storage``. It is then the source's own file, if
    ``encoded`` has one that decodes to the image. Other images are previews, clipped to [0, 1] and rounded.
    """
    from datasets import Dataset

    features = features_of(synthetic, storage)
    columns: dict[str, Any] = {name: values.tolist() for name, values in plain_columns(synthetic).items()}
    columns |= {name: [] for name in features if name not in columns}
    for rows in spans(synthetic.images, ROWS):
        shown = levels_of(synthetic, storage or "float32", rows)
        for row, levels in zip(range(rows.start, rows.stop), shown.levels_NCHW, strict=True):
            columns["image"].append({"bytes": image_file(levels, source_file(synthetic, encoded, row)), "path": None})
        if "scale" in features:
            columns["scale"] += shown.scale_N.tolist()
            columns["offset"] += shown.offset_N.tolist()
        if "pixels" in features:
            wanted = zip(synthetic.pixels(rows).numpy(), synthetic.learned[rows].tolist(), strict=True)
            kept = (image if learned or storage is None else None for image, learned in wanted)
            columns["pixels"] += [image if image is None else image.astype(storage or "float32") for image in kept]
    return Dataset.from_dict({name: columns[name] for name in features}, features=features)


def source_file(synthetic: SyntheticSet, encoded: Encoded | None, row: int) -> bytes:
    """The source's file of a real image; empty if there is none."""
    source_row = int(synthetic.source_row[row])
    return b"" if encoded is None or synthetic.learned[row] or source_row < 0 else encoded.file(source_row)


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide the progress bars of ``datasets``."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
