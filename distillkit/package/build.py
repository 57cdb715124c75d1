"""A folder ready for the Hub: one config per packaged recipe, a card, and the checksums of every file.

``<recipe>/distilled.safetensors`` is the truth; the parquet beside it is what ``datasets.load_dataset`` reads. The same
artifacts and metrics give the same bytes.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from distillkit.base import params
from distillkit.base.errors import ArtifactError
from distillkit.base.files import pretty_json
from distillkit.data.artifact import load_synthetic
from distillkit.data.images import RealData, SyntheticSet
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.package.card import card_text
from distillkit.package.folders import CARD, MANIFEST, replacing
from distillkit.package.front_matter import licence
from distillkit.package.manifest import ARTIFACT, PARQUET, PREVIEW, RECIPE, manifest_of
from distillkit.package.recipe_json import (
    Entry,
    accuracy,
    baselines,
    checksums,
    describe,
    digest,
    source_bytes,
    source_yardstick,
    without_machine_paths,
)
from distillkit.pipeline.recipes import check_package
from distillkit.process.interruption import check
from distillkit.process.progress import tell

__all__ = ["Entry", "build"]

COMMAND = "dvc repro"
UNLICENSED = (
    "warning: the licence of the source is unknown, and {folder} says so; look it up at the source before you share "
    "the package, and set data.licence in params.yaml"
)
LARGEST_WITH_PIXELS = 12_288  # values of an image, 3 x 64 x 64; of larger ones parquet holds the preview only


Track = Callable[[Iterable[Entry], str], Iterable[Entry]]


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
    track: Track,
    command: str = COMMAND,
) -> None:
    """Write the package ``name`` to ``folder``, in place of an earlier one, and nothing when anything is wrong.

    ``entries`` are all recipes, baselines included; those that ``packaged`` names become configs. All were made from
    the source ``real``, and from the files in ``inputs``, path to MD5. ``evaluation`` is the section of params.yaml by
    which all of them were measured, ``pipeline`` what else of it decided over them, ``command`` what made them.
    """
    chosen = choose(name, entries, packaged, default)
    shared = {
        "command": command,
        "pipeline": without_machine_paths({"data": dict(real.info.params), **pipeline}),
        "evaluation": asdict(params.read(evaluation, EvaluationRecipe, "evaluation")),
        "test": {"images": len(real.test), "sha256": digest(real.test)},
    }
    for entry in entries:
        check_runs(entry, shared["evaluation"]["runs"])
    yardstick = source_yardstick(real.train)
    recipes: list[dict[str, Any]] = []
    infos: dict[str, Any] = {}
    with replacing(folder) as built:
        for entry in track(chosen, f"package {name}"):
            check()
            config = built / entry.name
            config.mkdir()
            recipe, infos[entry.name] = write_config(config, entry, real, yardstick)
            recipe |= shared | {"baselines": baselines(recipe["images"]["per_class"], entries)}
            recipe["inputs"] = {**inputs, **checksums([entry.artifact])}
            write(config / RECIPE, pretty_json(recipe))
            recipes.append(recipe)
        write(built / CARD, card_text(name, recipes, default, infos))
        write(built / MANIFEST, pretty_json(asdict(manifest_of(built, name, packaged, default))))
    if licence(asdict(real.info)) == {"license": "unknown"}:
        tell(UNLICENSED.format(folder=folder))


def check_runs(entry: Entry, runs: int) -> None:
    """Raise ArtifactError unless the recipe's metrics agree in themselves, and with the number of networks trained."""
    if (found := accuracy(entry)["runs"]) != runs:
        raise ArtifactError(
            f"metrics of recipe {entry.name!r} are of {found} networks, evaluation.runs in params.yaml is {runs}; "
            "run its evaluate stage again"
        )


def write(path: Path, text: str) -> None:
    path.write_bytes(text.encode())


def choose(name: str, entries: Sequence[Entry], packaged: Sequence[str], default: str) -> list[Entry]:
    """The packaged entries, in the order asked for. Raises ParamsError when a name is unknown, unsafe or taken."""
    by_name = {entry.name: entry for entry in entries}
    check_package(name, default, packaged, by_name)
    return [by_name[recipe] for recipe in packaged]


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
        "source_train": source_bytes(real),
    }
    return recipe, info


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
    """The set as ``datasets`` reads it: a preview of 8 bits, and the floats themselves while images are small.

    Soft labels and the steps of a schedule have columns of their own, in sets that have them.
    """
    from datasets import Array3D, ClassLabel, Dataset, Features, List, Value
    from datasets import Image as ImageFeature

    shape = tuple(synthetic.images.shape[1:])
    features: dict[str, Any] = {
        "image": ImageFeature(),
        "label": ClassLabel(names=list(synthetic.class_names)),
        "learned": Value("bool"),
        "source_row": Value("int64"),
    }
    columns: dict[str, Any] = {
        "image": [{"bytes": preview_png(image), "path": None} for image in synthetic.images],
        "label": synthetic.labels.tolist(),
        "learned": synthetic.learned.tolist(),
        "source_row": synthetic.source_row.tolist(),
    }
    if synthetic.soft_labels is not None:
        features["soft_label"], columns["soft_label"] = List(Value("float32")), synthetic.soft_labels.tolist()
    if synthetic.schedule is not None:
        features["step"], columns["step"] = Value("int64"), synthetic.schedule.step_N.tolist()
    if prod(shape) <= LARGEST_WITH_PIXELS:
        features["pixels"], columns["pixels"] = Array3D(shape, "float32"), synthetic.images.numpy()
    return Dataset.from_dict(columns, features=Features(features))


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
