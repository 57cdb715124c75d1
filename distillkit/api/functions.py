"""Experts, a distilled set, its accuracy: what the stages of a pipeline do, in Python."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distillkit.api.sets import Data, DistilledSet, Evaluation, as_data, as_yaml, distilled, test_images
from distillkit.api.settings import (
    Network,
    expect,
    facts_of,
    has_own_network,
    merged,
    network_of,
    recipe_for,
    tell_if_typed,
    visiting,
    whole,
)
from distillkit.base.errors import ParamsError
from distillkit.base.params import read
from distillkit.data import artifact
from distillkit.data.images import RealData
from distillkit.evaluation.evaluate import THIRDS, EvaluationRecipe
from distillkit.evaluation.metrics import classes_of, metrics_of
from distillkit.evaluation.protocol import fingerprint
from distillkit.matching.method import uses_experts
from distillkit.package.recipe_json import digest
from distillkit.pipeline.checks import check_classes, check_experts
from distillkit.pipeline.code import files_of
from distillkit.pipeline.make import NO_SCORES, Scores, make, material_for
from distillkit.pipeline.measure import measure_set
from distillkit.pipeline.recipes import Recipe
from distillkit.pipeline.train import train_experts as train
from distillkit.pipeline.unfinished import unfinished, work_folder
from distillkit.process.progress import tell
from distillkit.setup.defaults import EVALUATION, EXPERTS, EXPERTS_COUNT, Facts, values
from distillkit.training.difficulty import SCORES, scores_of
from distillkit.training.expert_files import ExpertFiles, save_experts
from distillkit.training.trajectories import (
    ExpertRecipe,
    Experts,
    ExpertsInMemory,
    ExpertsSpec,
    KindOfExperts,
    in_memory,
)

DATA = "what dk.from_torch, dk.from_arrays or dk.fetch gives"

# Experts


def train_experts(
    data: RealData,
    *,
    network: Network | None = None,
    epochs: int | None = None,
    count: int = EXPERTS_COUNT,
    seed: int = 0,
    folder: str | Path | None = None,
    **options: Any,
) -> ExpertsInMemory | ExpertFiles:
    """Networks trained on the training images, their parameters after every epoch and what they found hard.

    Args:
        data: from :func:`from_torch`, :func:`from_arrays` or :func:`fetch`.
        network: a name, a NetworkSpec, or a function (image_shape, classes) that gives an ``nn.Module``.
        epochs: 12 without one.
        count: how many experts.
        seed: the same gives the same bytes.
        folder: where unfinished work and the experts are kept; the same call takes them up again.
        **options: ``batch``, ``lr``, ``momentum``, ``weight_decay``, ``augmentation``, ``precision``.

    """
    expect(data, RealData, "data", DATA)
    with visiting(folder) as kept:
        data, seed, count = as_data(data), whole(seed, "seed"), whole(count, "count", 1)
        facts, given = facts_of(data.train), {"network": network, "epochs": epochs, **options}
        numbers = merged(values(EXPERTS, facts)["experts"]["recipe"], without_none(given), facts)
        recipe = read(numbers, ExpertRecipe, "experts")
        read({"per_shard": count, "recipe": numbers}, ExpertsSpec, "experts")
        if kept is None:
            trained = train(data, recipe, range(count), seed, None, "experts")
            return in_memory(recipe.network, trained, data.training_images)
        settings = [asdict(recipe), count, seed, data.training_images]
        path = kept_at(kept, "experts", settings)
        if not path.exists():
            with unfinished("experts", settings, files_of(Path(__file__)), kept) as work:
                trained = train(data, recipe, range(count), seed, work, "experts")
                save_experts(path, trained, recipe.network, asdict(recipe), data.training_images)
        return ExpertFiles([path])


def without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def kept_at(folder: Path, name: str, settings: Any) -> Path:
    """Where finished work is kept; a file that is there is told."""
    path = Path(f"{work_folder(name, settings, files_of(Path(__file__)), folder)}.safetensors")
    if path.exists():
        tell(f"taken up from {path}")
    return path


# Sets


def distill(
    data: RealData,
    method: Any,
    ipc: int | None = None,
    *,
    experts: Experts | None = None,
    difficulty: str | Tensor = "confidence",
    network: Network | None = None,
    seed: int = 0,
    name: str | None = None,
    folder: str | Path | None = None,
    **settings: Any,
) -> DistilledSet:
    """A small training set, by one method; what is not given has the usual numbers, and is told.

    Args:
        data: the images; test images are never looked at.
        method: a name, as recipes have it (``"mtt"``, ``"selmatch"``, ``"dm"``, ...), or an object of its class.
        ipc: images per class.
        experts: from :func:`train_experts`; trained here, where the method wants some and there are none.
        difficulty: a score by name, or a tensor (N,) of your own in which larger is harder.
        network: the kind of networks, where there are no experts.
        seed: the same gives the same bytes.
        name: what the recipe is called: ``mtt-ipc10``.
        folder: where unfinished work and the set are kept; the same call takes them up again.
        **settings: those of the method, ``optim`` included; mappings change only what they name.

    """
    expect(data, RealData, "data", DATA)
    if experts is not None:
        expect(experts, ExpertsInMemory | ExpertFiles, "experts", "what dk.train_experts gives")
    with visiting(folder) as kept:
        data, seed = as_data(data), whole(seed, "seed")
        epochs = {} if experts is None else {"epochs": experts.snapshots - 1}
        facts = facts_of(data.train, **epochs)
        if network is not None and has_own_network(method):
            settings["network"] = network
        recipe = recipe_for(method, ipc, name, facts, settings)
        tell_taken(recipe, settings)
        if experts is not None:
            check_trained_on(experts, data)
        check_classes(recipe.method, dict(zip(data.train.class_names, data.train.class_counts, strict=True)))
        if not uses_experts(recipe.method):
            spec = spec_for(network, facts) if experts is None else experts.spec
            return made(recipe, data, KindOfExperts(spec), NO_SCORES, seed, kept)
        if experts is None:
            tell(f"{recipe.name} works from experts: training {EXPERTS_COUNT}; to reuse some, give experts=")
        trained = experts or train_experts(data, network=network, seed=seed, folder=folder)
        check_experts(recipe.method, known_of(trained), len(trained))
        return made(recipe, data, trained, scores_for(trained, difficulty, len(data.train)), seed, kept)


def made(recipe: Recipe, data: Data, experts: Experts, scores: Scores, seed: int, folder: Path | None) -> DistilledSet:
    if recipe.optim is not None or uses_experts(recipe.method):
        tell_if_typed(experts.spec)
    provenance = artifact.provenance_of(recipe.name, recipe.method_name, recipe.params, seed, data)
    many = {"epochs": experts.snapshots - 1, "count": len(experts)} if len(experts) else {}
    about = {"network": asdict(experts.spec), **many}
    material = material_for(recipe, data, experts, scores)
    if folder is None:
        synthetic, history = make(recipe, material, seed, provenance)
        return distilled(synthetic, provenance=provenance, history=tuple(history), experts=about)
    ends = [experts.read(number, experts.snapshots - 1) for number in range(len(experts))]
    names, of_experts = list(data.class_names), fingerprint(*ends, *scores)
    settings = [provenance, names, asdict(experts.spec), data.training_images, of_experts]
    path = kept_at(folder, recipe.name, settings)
    history = []
    if not path.exists():
        with unfinished(recipe.name, settings, files_of(Path(__file__)), folder) as work:
            synthetic, history = make(recipe, material, seed, provenance, work, work / "models")
            artifact.save_synthetic(path, synthetic, provenance)
    found, provenance = artifact.load_synthetic(path)
    return distilled(found, provenance=provenance, history=tuple(history), experts=about)


def check_trained_on(experts: ExpertsInMemory | ExpertFiles, data: Data) -> None:
    """Raise ParamsError for experts that say that they were trained on other images than these."""
    if experts.trained_on not in ("", data.training_images):
        raise ParamsError(
            f"the experts were trained on other images: {experts.trained_on}; expected those of data.train: "
            f"{data.training_images}; train experts on this data, or give the data of the experts"
        )


def tell_taken(recipe: Recipe, given: Mapping[str, Any]) -> None:
    """Which numbers were taken that nobody gave."""
    if taken := not_given(recipe.params, {"method": None, "ipc": None, **given}):
        tell(f"{recipe.name} takes " + "; ".join(f"{key}: {as_yaml(part)}" for key, part in taken.items()))


def not_given(params: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``params`` is not among those ``given``, also inside of mappings."""
    found = {key: part for key, part in params.items() if key not in given}
    for key in params.keys() & given.keys():
        if isinstance(params[key], Mapping) and isinstance(given[key], Mapping):
            found |= {key: inner} if (inner := not_given(params[key], given[key])) else {}
    return found


def spec_for(network: Network | None, facts: Facts) -> Any:
    """The networks that experts would be."""
    numbers = {"network": network_of(network or "convnet", facts), "epochs": 1, "batch": 2, "lr": 1.0}
    return read(numbers, ExpertRecipe, "experts").network


def known_of(experts: Experts) -> ExpertsSpec:
    """What the pipeline's checks want to know of experts."""
    return ExpertsSpec(len(experts), ExpertRecipe(experts.spec, max(1, experts.snapshots - 1), batch=2, lr=1.0))


def scores_for(experts: Experts, difficulty: str | Tensor, images: int) -> Scores:
    """Difficulty and confidence (N,) of every training image, of what experts recorded or as given."""
    if isinstance(difficulty, str) and difficulty not in SCORES:
        raise ParamsError(f"difficulty is {difficulty!r}; expected one of {', '.join(SCORES)}, or a tensor (N,)")
    found = scores_of(experts.dynamics()) if isinstance(experts, ExpertsInMemory | ExpertFiles) else {}
    given = torch.empty(0) if isinstance(difficulty, str) else torch.as_tensor(difficulty, dtype=torch.float32)
    chosen = found.get(difficulty) if isinstance(difficulty, str) else given
    if chosen is not None and chosen.shape != (images,) and isinstance(difficulty, str):
        raise ParamsError(
            f"the experts were trained on other images: {len(chosen):,}; expected the {images:,} of data.train; train "
            "experts on this data, or give the data of the experts"
        )
    if chosen is not None and chosen.shape != (images,):
        raise ParamsError(
            f"difficulty is of shape {tuple(chosen.shape)}; expected one number for each of the {images} training "
            "images; give a tensor of that length"
        )
    return chosen, 1 - found["confidence"] if found else None


# What they are worth


def evaluate(
    small: DistilledSet,
    test: Any,
    *,
    network: Network | None = None,
    runs: int | None = None,
    seed: int = 0,
    **training: Any,
) -> Evaluation:
    """Accuracy on test images of fresh networks that are trained on the set: mean, std, n, and by class.

    Args:
        small: the set.
        test: ``data.test``; or a map-style Dataset of (image, label), or a tuple (images, labels), as for
            :func:`from_torch` and :func:`from_arrays`, of the set's classes and image size.
        network: a name, a NetworkSpec, or a function (image_shape, classes) that gives an ``nn.Module``.
        runs: how many networks; 5 without it.
        seed: the same gives the same figures, and the same initial weights for every set.
        **training: ``steps``, ``batch``, ``lr``, ``momentum``, ``weight_decay``, ``augmentation``, ``precision``.

    """
    expect(small, DistilledSet, "small", "a set from dk.distill or dk.load")
    with visiting():
        seed, images = whole(seed, "seed"), test_images(test, small)
        facts, given = facts_of(images), without_none({"network": network, "runs": runs})
        numbers = merged(values(EVALUATION, facts)["evaluation"], given | {"training": training}, facts)
        recipe = read(numbers, EvaluationRecipe, "evaluation")
        report = measure_set(small, images, recipe, torch.zeros(len(images)), seed)
        every = metrics_of(report, small, images, recipe.neighbours)
        figures = {key: part for key, part in every.items() if key not in THIRDS}
    found, by_class = figures["accuracy"], {row["class"]: row["accuracy"] for row in classes_of(report, small)}
    each, of = tuple(report.accuracy_R.tolist()), small.fingerprint
    return Evaluation(found["mean"], found["std"], each, by_class, recipe, figures, of, digest(images))
