"""Train again on a set that is at rest, under its own evaluation recipe, and set the result beside what it claims."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from distillkit import params
from distillkit.artifact import load_real, load_synthetic
from distillkit.device import prepare_device
from distillkit.errors import ArtifactError, ParamsError
from distillkit.evaluate import EvaluationRecipe, evaluate
from distillkit.executors import plan_compute
from distillkit.images import ImageSet
from distillkit.manifest import open_package
from distillkit.metrics import classes_of, metrics_of
from distillkit.progress import track
from distillkit.randomness import seed_for, seeded
from distillkit.sources import DataSpec, fetch


def reevaluate(
    path: Path, *, recipe: str | None, real: Path | None, params_file: Path | None, runs: int | None, seed: int
) -> dict[str, Any]:
    """The accuracy found, what the package claims (None for a single artifact), and the recipe's name."""
    packaged = open_package(path) if path.is_dir() else None
    if packaged is None and recipe is not None:
        raise ParamsError(f"--recipe is {recipe!r}, but {path} is a single artifact; drop --recipe or name a folder")
    name = str(recipe or (packaged.manifest["default"] if packaged else ""))
    synthetic, provenance = load_synthetic(packaged.artifact(name) if packaged else path)
    record = packaged.recipe_json(name) if packaged else None
    evaluation = evaluation_recipe(record, params_file)
    evaluation = replace(evaluation, runs=runs or evaluation.runs)
    test = load_real(real).test if real else recorded_test_images(path, provenance)
    device = prepare_device()
    unranked_N = torch.zeros(len(test))
    generator = seeded(seed_for(seed, "evaluate"))
    compute = plan_compute(device, test.image_shape, evaluation.network, len(test.class_names), evaluation.visits)
    report = evaluate(synthetic.to(device), test.to(device), evaluation, unranked_N, generator, compute)
    found = metrics_of(report, synthetic)
    return {
        "recipe": provenance.get("recipe"),
        "accuracy": found["accuracy"],
        "class_accuracy": {row["class"]: row["accuracy"] for row in classes_of(report, synthetic)},
        "claimed": record["results"]["accuracy"] if record else None,
    }


def evaluation_recipe(record: Mapping[str, Any] | None, params_file: Path | None) -> EvaluationRecipe:
    if record is not None and params_file is None:
        return params.read(record["evaluation"], EvaluationRecipe, "evaluation", Path("recipe.json"))
    file = params_file or params.FILE
    return params.section(params.load(file), "evaluation", EvaluationRecipe, file)


def recorded_test_images(path: Path, provenance: Mapping[str, Any]) -> ImageSet:
    """The test split, fetched from the source that is recorded with the set at ``path``."""
    source = provenance.get("source")
    if not isinstance(source, Mapping) or "params" not in source:
        raise ArtifactError(f"{path} does not record its source; expected one to fetch test images from; give --real")
    spec = params.read(source["params"], DataSpec, "provenance.source.params", path)
    return fetch(spec, track).test
