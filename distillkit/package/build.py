"""A folder ready for the Hub: one config per packaged recipe, a card, and the checksums of every file.

``distillkit.load`` reads ``<recipe>/distilled.safetensors``, ``datasets.load_dataset`` the parquet beside it. Images of
8 bits are in the parquet alone, for both. The same artifacts and metrics give the same bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from math import prod
from pathlib import Path
from types import MappingProxyType
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
from distillkit.package.croissant.document import document
from distillkit.package.croissant.listing import CROISSANT
from distillkit.package.folders import CARD, MANIFEST, replacing
from distillkit.package.manifest import ARTIFACT, PARQUET, PREVIEW, RECIPE, manifest_of, records_in
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
from distillkit.package.storage.columns import columns_of
from distillkit.package.storage.packing import image_file, pack
from distillkit.pipeline.packaging import Publication, Rai, check_package
from distillkit.process.interruption import check
from distillkit.process.progress import tell, track
from distillkit.sources.licences import licence

__all__ = ["Entry", "build"]

COMMAND = "dvc repro"
UNPUBLISHED, UNSTATED = Publication(), Rai()
NO_FILES: Mapping[str, str] = MappingProxyType({})
UNLICENSED = (
    "warning: the licence of the source is unknown, and {folder} says so; look it up at the source before you share "
    "the package, and set data.licence in params.yaml"
)
LARGEST_WITH_PIXELS = 12_288  # values of an image, 3 x 64 x 64; of larger ones parquet has no floats


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
    command: str = COMMAND,
    storage: Storage = "float32",
    publication: Publication = UNPUBLISHED,
    rai: Rai = UNSTATED,
    sign_offs: Mapping[str, str] = NO_FILES,
) -> None:
    """Write the package ``name`` to ``folder``, in place of an earlier one, and nothing when anything is wrong.

    ``entries`` are all recipes, baselines included; those that ``packaged`` names become configs. All were made from
    the source ``real``, and from the files in ``inputs``, path to MD5. ``evaluation`` is the section of params.yaml by
    which all of them were measured, ``pipeline`` what else of it decided over them, ``command`` what made them.
    Learned images are kept as ``storage``, and the metrics must be of networks that were trained on what is kept.
    ``publication`` and ``rai`` are the publisher's own words, ``sign_offs`` paths of files with their SHA-256.
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
        write_whole(built, name, recipes, default, infos, filed_with(built, sign_offs, packaged))
    if licence(asdict(real.info)) == {"license": "unknown"}:
        tell(UNLICENSED.format(folder=folder))


def check_entries(entries: Sequence[Entry], runs: int, storage: Storage) -> None:
    """Raise ArtifactError unless all were measured with so many networks, trained on what is kept."""
    for entry in entries:
        check_runs(entry, runs)
        check_storage(entry, storage)


def write_whole(
    built: Path,
    name: str,
    recipes: Sequence[dict[str, Any]],
    default: str,
    infos: Mapping[str, Any],
    filed: Sequence[Filed],
) -> None:
    """The files about all configs: card, croissant.json and, as it lists all others, the manifest."""
    (built / CARD).write_text(card_text(name, recipes, default, infos, filed), encoding="utf-8")
    columns = {recipe: list(info.features) for recipe, info in infos.items()}
    described = document(name, recipes, default, columns, records_in(built))
    (built / CROISSANT).write_text(pretty_json(described), encoding="utf-8")
    manifest = manifest_of(built, name, [recipe["name"] for recipe in recipes], default)
    (built / MANIFEST).write_text(pretty_json(asdict(manifest)), encoding="utf-8")


def about_source(real: RealData) -> dict[str, Any]:
    """The test images, and the training labels that are not the source's, where there are some."""
    return {"test": {"images": len(real.test), "sha256": digest(real.test), **leak(real)}, **noise(real)}


def leak(real: RealData) -> dict[str, int]:
    """How many of the test images are training images, too; nothing where none is known to be."""
    return {"in_train": real.found.leaked} if real.found.leaked else {}


def noise(real: RealData) -> dict[str, Any]:
    """How many training labels are not the source's, of how many; nothing where all are."""
    changed = real.found.relabelled
    return {"label_noise": {"changed": changed, "images": len(real.train)}} if changed else {}


def check_runs(entry: Entry, runs: int) -> None:
    """Raise ArtifactError unless the recipe's metrics agree in themselves, and with the number of networks trained."""
    if (found := accuracy(entry)["runs"]) != runs:
        claim = f"metrics of recipe {entry.name!r} are of {counted(found, 'network')}"
        raise ArtifactError(f"{claim}, evaluation.runs in params.yaml is {runs}; run its evaluate stage again")


def check_storage(entry: Entry, storage: Storage) -> None:
    """Raise ArtifactError unless the metrics were measured on images as the package will keep them."""
    if (found := entry.metrics.get("storage", "float32")) != storage:
        claim = f"metrics of recipe {entry.name!r} were measured on images kept as {found}"
        raise ArtifactError(f"{claim}, package.storage in params.yaml is {storage}; run its evaluate stage again")


def write_config(
    config: Path, entry: Entry, real: RealData, yardstick: float | None, storage: Storage
) -> tuple[dict[str, Any], Any]:
    """The recipe's files but recipe.json; returns most of what that one says, and the ``datasets.DatasetInfo``."""
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
        "source_train": real.train.images.shape.numel(),  # at one byte a value
    }
    return recipe, info


def features_of(synthetic: SyntheticSet, storage: Storage | None = None) -> Any:
    """The columns of the parquet: soft labels and steps in sets with them, and what ``image`` does not show.

    That is ``scale`` and ``offset`` where learned images are kept as uint8, else ``pixels`` of small learned images.
    Where no ``storage`` is given, all small images have ``pixels``, float32.
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
    """What the columns other than images hold."""
    found = {"label": synthetic.labels, "learned": synthetic.learned, "source_row": synthetic.source_row}
    found |= {} if synthetic.soft_labels is None else {"soft_label": synthetic.soft_labels}
    return found if synthetic.schedule is None else {**found, "step": synthetic.schedule.step_N}


def write_parquet(path: Path, synthetic: SyntheticSet, storage: Storage, encoded: Encoded | None) -> Any:
    """The ``datasets.DatasetInfo`` of the set's parquet, see :func:`as_hf`."""
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

    ``image`` is exact where the image has 8 bits in a package of this ``storage``, and there the source's own file, if
    that is among the ``encoded`` and decodes to the image; else it is a preview, clipped to [0, 1] and rounded.
    """
    from datasets import Dataset

    features = features_of(synthetic, storage)
    columns: dict[str, Any] = {name: values.tolist() for name, values in plain_columns(synthetic).items()}
    columns |= {name: [] for name in features if name not in columns}
    files = {} if encoded is None else source_files(synthetic, encoded)
    for rows in spans(synthetic.images, ROWS):
        shown = levels_of(synthetic, storage or "float32", rows)
        for row, levels in zip(range(rows.start, rows.stop), shown.levels_NCHW, strict=True):
            columns["image"].append({"bytes": image_file(levels, files.get(row, bytes)()), "path": None})
        if "scale" in features:
            columns["scale"] += shown.scale_N.tolist()
            columns["offset"] += shown.offset_N.tolist()
        if "pixels" in features:
            wanted = zip(synthetic.pixels(rows).numpy(), synthetic.learned[rows].tolist(), strict=True)
            kept = (image if learned or storage is None else None for image, learned in wanted)
            columns["pixels"] += [image if image is None else image.astype(storage or "float32") for image in kept]
    return Dataset.from_dict({name: columns[name] for name in features}, features=features)


def source_files(synthetic: SyntheticSet, encoded: Encoded) -> dict[int, Callable[[], bytes]]:
    """What reads the source's file of each real image."""
    real = (~synthetic.learned & (synthetic.source_row >= 0)).nonzero().squeeze(1)
    return {row: partial(encoded.file, int(synthetic.source_row[row])) for row in real.tolist()}


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide the progress bars of ``datasets``; ours say enough."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
