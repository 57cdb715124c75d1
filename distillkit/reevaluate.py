"""Train again on a set that is at rest, and set the result beside what it claims."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from distillkit import params
from distillkit.artifact import load_real, load_synthetic
from distillkit.device import prepare_device
from distillkit.errors import ArtifactError, ParamsError, SourceError
from distillkit.evaluate import EvaluationRecipe, evaluate
from distillkit.executors import plan_compute
from distillkit.images import ImageSet, SyntheticSet
from distillkit.manifest import open_package
from distillkit.metrics import classes_of, metrics_of
from distillkit.progress import track
from distillkit.randomness import seed_for, seeded
from distillkit.readers import FolderSource, HuggingFaceSource, TorchvisionSource
from distillkit.sources import DataSpec, fetch


def reevaluate(
    path: Path, *, recipe: str | None, test: Path | None, params_file: Path | None, runs: int | None, seed: int
) -> dict[str, Any]:
    """The accuracy found, what the package claims (None for a single artifact), and the recipe's name."""
    packaged = open_package(path) if path.is_dir() else None
    if packaged is None and recipe is not None:
        raise ParamsError(f"--recipe is {recipe!r}, but {path} is a single artifact; drop --recipe or name a folder")
    name = recipe or (packaged.default if packaged else "")
    synthetic, provenance = load_synthetic(packaged.artifact(name) if packaged else path)
    record = packaged.recipe_json(name) if packaged else None
    found = measure(
        synthetic, held_out_images(path, provenance, test), evaluation_recipe(record, params_file), runs, seed
    )
    return {"recipe": provenance.get("recipe"), "claimed": record["results"]["accuracy"] if record else None} | found


def measure(
    synthetic: SyntheticSet, test: ImageSet, evaluation: EvaluationRecipe, runs: int | None, seed: int
) -> dict[str, Any]:
    """Accuracy, in all and by class, of ``runs`` fresh networks; of as many as the recipe says when missing."""
    evaluation, device = replace(evaluation, runs=runs or evaluation.runs), prepare_device()
    compute = plan_compute(device, test.image_shape, evaluation.network, len(test.class_names), evaluation.visits)
    unranked_N, generator = torch.zeros(len(test)), seeded(seed_for(seed, "evaluate"))
    report = evaluate(synthetic.to(device), test.to(device), evaluation, unranked_N, generator, compute)
    by_class = {row["class"]: row["accuracy"] for row in classes_of(report, synthetic)}
    return {"accuracy": metrics_of(report, synthetic)["accuracy"], "class_accuracy": by_class}


def evaluation_recipe(record: Mapping[str, Any] | None, params_file: Path | None = None) -> EvaluationRecipe:
    """Of a package's recipe.json, unless a file of parameters is to count."""
    if record is not None and params_file is None:
        return params.read(record["evaluation"], EvaluationRecipe, "evaluation", Path("recipe.json"))
    file = params_file or params.FILE
    return params.section(params.load(file), "evaluation", EvaluationRecipe, file)


def held_out_images(path: Path, provenance: Mapping[str, Any], given: Path | None) -> ImageSet:
    """The test split for the set at ``path``: of a real.safetensors, or fetched anew from the recorded source.

    ``given`` may also be a folder: where the recorded source lies on this machine.
    """
    if given is not None and not given.is_dir():
        return load_real(given).test
    source = provenance.get("source")
    if not isinstance(source, Mapping) or "params" not in source:
        raise ArtifactError(f"{path} does not record its source; expected one to fetch test images from; give --test")
    spec = params.read(source["params"], DataSpec, "provenance.source.params", path)
    try:
        return fetch(located(spec, source.get("revision") or None, given), track).test
    except SourceError as error:
        raise SourceError(f"{error}; or name the source's folder here, or a real.safetensors, with --test") from None


def located(spec: DataSpec, revision: str | None, folder: Path | None) -> DataSpec:
    """The recorded source, at the recorded revision of the Hub or in ``folder``."""
    source = spec.source
    if isinstance(source, HuggingFaceSource):
        pinned = replace(source, revision=source.revision or revision)
        return replace(spec, source=pinned if folder is None else replace(source, id=str(folder), revision=None))
    if folder is None:
        return spec
    if isinstance(source, TorchvisionSource):
        return replace(spec, source=replace(source, root=str(folder)))
    if isinstance(source, FolderSource):
        return replace(spec, source=replace(source, path=str(folder)))
    raise ParamsError(f"--test is {folder}, but source {source.kind} needs no folder; drop --test")
