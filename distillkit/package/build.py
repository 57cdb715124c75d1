"""A folder ready for the Hub: one config per packaged recipe, a card, and the checksums of every file.

``<recipe>/distilled.safetensors`` is the truth; the parquet beside it is what ``datasets.load_dataset`` reads. The same
artifacts and metrics give the same bytes.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from distillkit.base import params
from distillkit.base.errors import ArtifactError, counted
from distillkit.base.files import pretty_json
from distillkit.data.files.artifact import load_synthetic
from distillkit.data.images import RealData, SyntheticSet
from distillkit.evaluation.evaluate import EvaluationRecipe
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
from distillkit.package.sign_offs import filed_with
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
LARGEST_WITH_PIXELS = 12_288  # values of an image, 3 x 64 x 64; of larger ones parquet holds the preview only


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
    publication: Publication = UNPUBLISHED,
    rai: Rai = UNSTATED,
    sign_offs: Mapping[str, str] = NO_FILES,
) -> None:
    """Write the package ``name`` to ``folder``, in place of an earlier one, and nothing when anything is wrong.

    ``entries`` are all recipes, baselines included; those that ``packaged`` names become configs. All were made from
    the source ``real``, and from the files in ``inputs``, path to MD5. ``evaluation`` is the section of params.yaml by
    which all of them were measured, ``pipeline`` what else of it decided over them, ``command`` what made them.
    ``publication`` and ``rai`` are the publisher's own words, ``sign_offs`` paths of files with
    their SHA-256.
    """
    by_name = {entry.name: entry for entry in entries}
    check_package(name, default, packaged, by_name)
    shared = {
        "command": command,
        "pipeline": without_machine_paths({"data": dict(real.info.params), **pipeline}),
        "evaluation": params.read(evaluation, EvaluationRecipe, "evaluation").plain(),
        "test": {"images": len(real.test), "sha256": digest(real.test), **leak(real)},
        **noise(real),
        "publication": asdict(publication),
        "rai": asdict(rai),
    }
    for entry in entries:
        check_runs(entry, shared["evaluation"]["runs"])
    yardstick = source_yardstick(real.train)
    recipes: list[dict[str, Any]] = []
    infos: dict[str, Any] = {}
    with replacing(folder) as built:
        for entry in track([by_name[recipe] for recipe in packaged], f"package {name}"):
            check()
            config = built / entry.name
            config.mkdir()
            recipe, infos[entry.name] = write_config(config, entry, real, yardstick)
            recipe |= shared | {"baselines": baselines(recipe["images"]["per_class"], entries)}
            recipe["inputs"] = {**inputs, **checksums([entry.artifact])}
            (config / RECIPE).write_text(pretty_json(recipe), encoding="utf-8")
            recipes.append(recipe)
        filed = filed_with(built, sign_offs, packaged)
        (built / CARD).write_text(card_text(name, recipes, default, infos, filed), encoding="utf-8")
        columns = {recipe: list(info.features) for recipe, info in infos.items()}
        described = document(name, recipes, default, columns, records_in(built))
        (built / CROISSANT).write_text(pretty_json(described), encoding="utf-8")
        manifest = manifest_of(built, name, packaged, default)
        (built / MANIFEST).write_text(pretty_json(asdict(manifest)), encoding="utf-8")
    if licence(asdict(real.info)) == {"license": "unknown"}:
        tell(UNLICENSED.format(folder=folder))


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


def write_config(config: Path, entry: Entry, real: RealData, yardstick: float | None) -> tuple[dict[str, Any], Any]:
    """The recipe's files but recipe.json; returns most of what that one says, and the ``datasets.DatasetInfo``."""
    from distillkit.report.pictures import preview_grid

    synthetic, provenance = load_synthetic(entry.artifact)
    recipe = describe(entry, synthetic, provenance, real, yardstick)
    shutil.copyfile(entry.artifact, config / ARTIFACT)
    info = write_parquet(config / PARQUET, synthetic)
    preview_grid(synthetic, config / PREVIEW)
    recipe["storage"] = {
        "safetensors": (config / ARTIFACT).stat().st_size,
        "parquet": (config / PARQUET).stat().st_size,
        "source_train": real.train.images.shape.numel(),  # at one byte a value
    }
    return recipe, info


def features_of(synthetic: SyntheticSet) -> Any:
    """The columns of the parquet: floats themselves while images are small, soft labels and steps in sets with them."""
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
    columns |= {"pixels": Array3D(shape, "float32")} if prod(shape) <= LARGEST_WITH_PIXELS else {}
    return Features(columns)


def plain_columns(synthetic: SyntheticSet) -> dict[str, Tensor]:
    """What the columns other than images hold."""
    found = {"label": synthetic.labels, "learned": synthetic.learned, "source_row": synthetic.source_row}
    found |= {} if synthetic.soft_labels is None else {"soft_label": synthetic.soft_labels}
    return found if synthetic.schedule is None else {**found, "step": synthetic.schedule.step_N}


def write_parquet(path: Path, synthetic: SyntheticSet) -> Any:
    """The ``datasets.DatasetInfo`` of the set's parquet, see :func:`as_hf`."""
    from datasets import DatasetInfo, SplitDict, SplitInfo

    dataset = as_hf(synthetic)
    with without_bars():
        dataset.to_parquet(path)
    splits = SplitDict({"train": SplitInfo("train", dataset.data.nbytes, len(dataset))})
    return DatasetInfo(
        features=dataset.features, splits=splits, download_size=path.stat().st_size, dataset_size=dataset.data.nbytes
    )


def as_hf(synthetic: SyntheticSet) -> Any:
    """The set as a ``datasets.Dataset``, with a preview of 8 bits."""
    from datasets import Dataset

    features = features_of(synthetic)
    columns: dict[str, Any] = {name: values.tolist() for name, values in plain_columns(synthetic).items()}
    columns["image"] = [{"bytes": preview_png(image), "path": None} for image in synthetic.pixels()]
    if "pixels" in features:
        columns["pixels"] = synthetic.pixels().numpy()
    return Dataset.from_dict({name: columns[name] for name in features}, features=features)


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


def preview_png(image_CHW: Tensor) -> bytes:
    """An image in pixel space as PNG: clipped to [0, 1] and rounded to 8 bits."""
    levels_CHW = (image_CHW.clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = levels_CHW[0] if len(levels_CHW) == 1 else levels_CHW.permute(1, 2, 0).contiguous()
    file = BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG")
    return file.getvalue()
