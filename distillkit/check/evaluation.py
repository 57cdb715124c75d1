"""New training on a finished set, to compare the result with the claim.

Packages come from other people. So the work that they ask for is limited.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from distillkit.base import params
from distillkit.base.errors import ArtifactError, ParamsError, counted
from distillkit.check.held_out import held_out_images
from distillkit.data.files.artifact import load_synthetic
from distillkit.data.images import ImageSet, Schedule, SyntheticSet
from distillkit.evaluation.evaluate import EvaluationRecipe, check_fit
from distillkit.evaluation.metrics import accuracy_of, classes_of
from distillkit.evaluation.others import USUAL
from distillkit.evaluation.rounding import stored
from distillkit.networks.factories import NetworkFactory, admit, factory_of
from distillkit.networks.specs import Network, build_network
from distillkit.package.manifest import Package, open_package
from distillkit.pipeline.checks import admit_all
from distillkit.pipeline.measure import measure_set
from distillkit.pipeline.packaging import storage_in
from distillkit.process.progress import tell

# Far above the papers' numbers, and still feasible: the row indices of a whole run are in memory.
LARGEST = {"runs": 1000, "steps": 10_000_000, "weights in a network": 200_000_000, "images in a run": 200_000_000}


def evaluate_again(
    path: Path,
    *,
    recipe: str | None,
    test: Path | None,
    params_file: Path | None,
    runs: int | None,
    seed: int,
    network: str | None = None,
) -> dict[str, Any]:
    """The accuracy found, the package's claim (None for an artifact), and the recipe's name.

    Raises ArtifactError for a damaged package or one that asks for too much, ParamsError for wrong options, SourceError
    when the test images are not available.
    """
    packaged, artifact = set_at(path, recipe, "--recipe")
    synthetic, provenance = load_synthetic(artifact)
    record = packaged.recipe_json(artifact.parent.name) if packaged else None
    evaluation = evaluation_recipe(record, len(synthetic), params_file)
    kept = synthetic if packaged else stored(synthetic, storage_in(params.load(params_file or params.FILE)))
    claims: Any = record["results"] if record else {}
    if network is not None and ":" not in network:
        evaluation = other_network(network, evaluation, synthetic)
        claims = claims.get("others", {}).get(network, {})
    else:
        name_network(network, evaluation, synthetic)
    tested = record["test"]["sha256"] if record else None
    images = held_out_images(artifact, synthetic, provenance, test, tested)
    found = measure(kept, images, evaluation, runs, seed)
    return {"recipe": provenance.get("recipe"), "claimed": claims.get("accuracy")} | found


def set_at(path: Path, recipe: str | None, option: str) -> tuple[Package | None, Path]:
    """The package at ``path``, if it is one, and the artifact of the recipe that ``option`` names."""
    if path.is_dir():
        package = open_package(path)
        return package, package.artifact(package.choose(recipe))
    if recipe is not None:
        raise ParamsError(f"{option} is {recipe!r}, but {path} is a single artifact; drop {option} or name a folder")
    return None, path


def measure(
    synthetic: SyntheticSet, test: ImageSet, evaluation: EvaluationRecipe, runs: int | None, seed: int
) -> dict[str, Any]:
    """Accuracy, in total and by class, of ``runs`` new networks (None: the number in the recipe).

    Raises ArtifactError when the set's schedule asks for more than LARGEST.
    """
    check_fit(test, synthetic)
    evaluation = replace(evaluation, runs=runs or evaluation.runs, curve_points=0)  # the curve is not needed here
    schedule = synthetic.schedule
    batch = counted(min(evaluation.training.batch, len(synthetic)), "image")
    work = f"{counted(evaluation.training.steps, 'update')} of {batch}"
    if schedule is not None:
        check_schedule(schedule, synthetic)
        work = f"{counted(len(schedule.lr_T), 'update')} in the set's own order"
    tell(f"training {counted(evaluation.runs, 'network')} for {work}")
    report = measure_set(synthetic, test, evaluation, torch.zeros(len(test)), seed)
    by_class = {row["class"]: row["accuracy"] for row in classes_of(report, synthetic)}
    return {"accuracy": accuracy_of(report), "class_accuracy": by_class}


# How to train


def evaluation_recipe(
    record: Mapping[str, Any] | None, images: int, params_file: Path | None = None
) -> EvaluationRecipe:
    """The evaluation recipe of a package's recipe.json, or of ``params_file`` (without a package: params.yaml).

    Raises ArtifactError when a package asks for more than LARGEST; it has so many ``images``.
    """
    if record is not None and params_file is None:
        recipe = params.read(record["evaluation"], EvaluationRecipe, "evaluation", Path("recipe.json"))
        for each in (recipe, *recipe.with_others().values()):
            batch = min(each.training.batch, images)
            check_within("recipe.json", each.network, each.training.steps, batch, each.runs)
        return recipe
    file = params_file or params.FILE
    admit_all(data := params.load(file))
    return params.section(data, "evaluation", EvaluationRecipe, file)


def other_network(name: str, evaluation: EvaluationRecipe, synthetic: SyntheticSet) -> EvaluationRecipe:
    """The evaluation with another network of distillkit's: one of the recipe's own others, or a usual one.

    Raises ParamsError for a name that is neither, and for a set that comes with a network of its own.
    """
    known = evaluation.with_others()
    if name not in known and name not in USUAL:
        expected = ", ".join(dict.fromkeys([*USUAL, *known]))
        raise ParamsError(f"--network is {name}; expected package.module:function, or one of {expected}; correct it")
    if synthetic.schedule is not None:
        found = "the set has its own order of training"
        raise ParamsError(f"--network is {name}, but {found}, made for one network; drop --network")
    return known.get(name) or evaluation.on(USUAL[name])


def name_network(network: str | None, evaluation: EvaluationRecipe, synthetic: SyntheticSet) -> None:
    """Import the user's own ``network``, an import path, if the recipe or the set's schedule needs one.

    A network that only a package names is never imported. Raises ParamsError when the package names one and the user
    does not, and when the user names one that is not needed.
    """
    specs = [evaluation.network, *([] if synthetic.schedule is None else [synthetic.schedule.network])]
    own = [spec for spec in specs if isinstance(spec, NetworkFactory)]
    if network is not None and not own:
        raise ParamsError(f"--network is {network}, but the network is {specs[-1]}, distillkit's own; drop --network")
    for spec in own:
        if network is not None:
            admit(network, spec.factory)
        factory_of(spec)


def check_within(who: str, network: Network, steps: int, batch: float, runs: int = 1) -> None:
    """Raise ArtifactError when ``who`` asks for more than LARGEST: ``steps``, each on ``batch`` images on average."""
    weights = 0 if isinstance(network, NetworkFactory) else 9 * network.depth * network.width**2  # 0: unknown
    asked = {"runs": runs, "steps": steps, "weights in a network": weights, "images in a run": round(steps * batch)}
    for what, found in asked.items():
        if found > LARGEST[what]:
            raise ArtifactError(f"{who} asks for {found:,} {what}; expected at most {LARGEST[what]:,}; do not use it")


def check_schedule(schedule: Schedule, synthetic: SyntheticSet) -> None:
    """Raise ArtifactError when the set's schedule asks for more than LARGEST, or its initial weights do not fit its
    network.
    """
    batch, starts_RP = len(synthetic) / (int(schedule.step_N.max()) + 1), schedule.starts_RP
    check_within("the set's schedule", schedule.network, len(schedule.lr_T), batch)
    if starts_RP is None:
        return
    channels, height, width = synthetic.images.shape[1:]
    with torch.device("meta"):
        network = build_network(schedule.network, (channels, height, width), len(synthetic.class_names), 0)
    if (found := starts_RP.shape[1]) != (expected := sum(part.numel() for part in network.parameters())):
        wrong = f"the set's schedule starts from {found:,} weights"
        raise ArtifactError(f"{wrong}; expected the {expected:,} of its network, {schedule.network}; do not use it")
