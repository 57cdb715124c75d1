"""A distilled set and its accuracy: what the pipeline's stages do, in Python."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distillkit.api.experts import (
    DATA,
    check_difficulty,
    check_trained_on,
    kept_at,
    known_of,
    read_kept,
    scores_for,
    train_experts,
    without_none,
)
from distillkit.api.sets import Data, DistilledSet, Evaluation, as_data, as_yaml, distilled, test_images
from distillkit.api.settings import (
    Network,
    check_given,
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
from distillkit.base.params import convert, read
from distillkit.data.files import artifact
from distillkit.data.files.packed import Storage
from distillkit.data.images import RealData
from distillkit.evaluation.evaluate import THIRDS, EvaluationRecipe
from distillkit.evaluation.metrics import classes_of, metrics_of
from distillkit.evaluation.others import USUAL
from distillkit.evaluation.protocol import fingerprint
from distillkit.evaluation.rounding import stored
from distillkit.matching.method import uses_experts
from distillkit.package.recipe_json import digest
from distillkit.pipeline.checks import check_classes, check_experts, check_learns
from distillkit.pipeline.code import files_of
from distillkit.pipeline.make import NO_SCORES, Scores, make, material_for
from distillkit.pipeline.measure import measure_set
from distillkit.pipeline.recipes import Recipe
from distillkit.pipeline.unfinished import unfinished
from distillkit.process.progress import tell
from distillkit.setup.defaults import EVALUATION, EXPERTS_COUNT, Facts, values
from distillkit.training.expert_files import ExpertFiles
from distillkit.training.loop import TrainingRecipe
from distillkit.training.trajectories import ExpertRecipe, Experts, ExpertsInMemory, KindOfExperts

BY_DIFFICULTY = ("window", "ccs")  # methods that use nothing of the experts but a difficulty and their kind of network

# Distillation


def distill(
    data: RealData,
    method: Any,
    ipc: int | None = None,
    *,
    experts: ExpertsInMemory | ExpertFiles | None = None,
    difficulty: str | Tensor = "confidence",
    network: Network | None = None,
    seed: int = 0,
    name: str | None = None,
    folder: str | Path | None = None,
    **settings: Any,
) -> DistilledSet:
    """Make a small training set with a method. Prints the default numbers that it uses.

    Args:
        data: the images; test images are not used.
        method: an object of a method's class, or a name: full, random, window, confident, herding, k-centre, moderate,
            ccs, dual, optimised, kmeans, average, rded, diffusion, dd, dm, dc, dsa, mtt, att, selmatch, ccfs or
            imported.
        ipc: images per class.
        experts: from :func:`train_experts`. By default they are trained here, if the method needs them.
        difficulty: a score by name, or your own tensor (N,), in which larger means harder.
        network: the networks to use if no experts are given; by default those of :func:`train_experts`.
        seed: the same seed gives the same bytes.
        name: the recipe's name; by default such as ``mtt-ipc10``.
        folder: a folder for unfinished work and the set; the same call continues or reuses them.
        **settings: the method's settings, including ``optim``. A mapping changes only the entries that it contains.
    """
    expect(data, RealData, "data", DATA)
    if experts is not None:
        expect(experts, ExpertsInMemory | ExpertFiles, "experts", "the result of dk.train_experts")
    with visiting(folder) as kept:
        data, seed = as_data(data), whole(seed, "seed")
        epochs = {} if experts is None else {"epochs": experts.snapshots - 1}
        facts = facts_of(data.train, **epochs)
        if network is not None and has_own_network(method):
            settings["network"] = network
        recipe = recipe_for(method, ipc, name, facts, settings)
        tell_taken(recipe, settings)
        check_difficulty(difficulty)
        if experts is not None:
            check_trained_on(experts, data)
            check_same_network(network, experts, recipe, facts)
        spec = spec_for(network, facts) if experts is None else experts.spec
        check_learns(recipe.method, spec, data.train.image_shape, len(data.class_names))
        check_classes(recipe.method, dict(zip(data.train.class_names, data.train.class_counts, strict=True)))
        if (scores := scores_without_experts(recipe, spec, experts, difficulty, len(data.train))) is not None:
            return made(recipe, data, KindOfExperts(spec), scores, seed, kept)
        if experts is None:
            tell(f"{recipe.name} needs experts: training {EXPERTS_COUNT}; to use your own, give experts=")
        trained = experts or train_experts(data, network=network, seed=seed, folder=folder)
        check_experts(recipe.method, known_of(trained), len(trained))
        return made(recipe, data, trained, scores_for(trained, difficulty, len(data.train)), seed, kept)


def scores_without_experts(
    recipe: Recipe, spec: Any, experts: Experts | None, difficulty: str | Tensor, images: int
) -> Scores | None:
    """The scores for a set that depends on no expert's parameters; None if experts are needed, or given and used."""
    if not uses_experts(recipe.method):
        return NO_SCORES
    if experts is None and not isinstance(difficulty, str) and recipe.method_name in BY_DIFFICULTY:
        return scores_for(KindOfExperts(spec), difficulty, images)
    return None


def made(recipe: Recipe, data: Data, experts: Experts, scores: Scores, seed: int, folder: Path | None) -> DistilledSet:
    if recipe.optim is not None or uses_experts(recipe.method):
        tell_if_typed(experts.spec)
    provenance = artifact.provenance_of(recipe.name, recipe.method_name, recipe.params, seed, data)
    many = {"epochs": experts.snapshots - 1, "count": len(experts)} if len(experts) else {}
    about = {"network": asdict(experts.spec), **many}
    material = material_for(recipe, data, experts, scores)
    if folder is None:
        synthetic, history = make(recipe, material, seed, provenance)
        more = {"provenance": provenance, "experts": about, "source": data.train_digest}
        return distilled(synthetic, history=tuple(history), **more)
    ends = [experts.read(number, experts.snapshots - 1) for number in range(len(experts))]
    names, of_experts = list(data.class_names), fingerprint(*ends, *scores)
    settings = [provenance, names, asdict(experts.spec), data.training_images, of_experts]
    path = kept_at(folder, recipe.name, settings, code := files_of(Path(__file__)))
    history = []
    if not path.exists():
        with unfinished(recipe.name, settings, code, folder) as work:
            synthetic, history = make(recipe, material, seed, provenance, work, work / "models")
            artifact.save_synthetic(path, synthetic, provenance)
    found, provenance = read_kept(artifact.load_synthetic, path)
    return distilled(found, provenance=provenance, history=tuple(history), experts=about, source=data.train_digest)


def tell_taken(recipe: Recipe, given: Mapping[str, Any]) -> None:
    """Print the default numbers of the recipe that the user did not give."""
    if taken := not_given(recipe.params, {"method": None, "ipc": None, **given}):
        tell(f"{recipe.name} takes " + "; ".join(f"{key}: {as_yaml(part)}" for key, part in taken.items()))


def not_given(params: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of ``params`` that are not in ``given``, also inside mappings."""
    found = {key: part for key, part in params.items() if key not in given}
    for key in params.keys() & given.keys():
        if isinstance(params[key], Mapping) and isinstance(given[key], Mapping):
            found |= {key: inner} if (inner := not_given(params[key], given[key])) else {}
    return found


def spec_for(network: Network | None, facts: Facts) -> Any:
    """The network of experts that :func:`train_experts` would train."""
    numbers = {"network": network_of(network or "convnet", facts), "epochs": 1, "batch": 2, "lr": 1.0}
    return read(numbers, ExpertRecipe, "experts").network


def check_same_network(network: Network | None, experts: Experts, recipe: Recipe, facts: Facts) -> None:
    """Raise ParamsError if ``network`` differs from the experts', unless the method has a network setting of its
    own.
    """
    if network is None or has_own_network(recipe.method):
        return
    if (asked := spec_for(network, facts)) != experts.spec:
        raise ParamsError(
            f"network is {asked}, but the experts have network {experts.spec}; expected the same; "
            f"leave network= out, or train experts with network {asked}"
        )


# Evaluation


def evaluate(
    small: DistilledSet,
    test: Any,
    *,
    network: Network | None = None,
    runs: int | None = None,
    seed: int = 0,
    storage: Storage = "float32",
    **training: Any,
) -> Evaluation:
    """Train new networks on the set and measure their accuracy on test images: mean, std, n, and by class.

    Args:
        small: the set.
        test: ``data.test``; or a map-style Dataset of (image, label) or a tuple (images, labels), as for
            :func:`from_torch` and :func:`from_arrays`, with the set's classes and image size.
        network: a name, a NetworkSpec, or a function (image_shape, classes) that returns an ``nn.Module``. Default: a
            ConvNet of width 32 with batch normalisation, whose depth fits the images. alexnet, resnet18, vgg11, vit
            and mlp have the learning rate of ``evaluation.others``, unless ``lr`` is given.
        runs: the number of networks; default 5.
        seed: the same seed gives the same accuracies, and the same initial weights for every set.
        storage: how a package will store learned images: float32, float16, or uint8 with a scale and an offset per
            image. Networks are trained on images rounded in this way; :func:`save_package` needs the same value.
        **training: ``steps``, ``batch``, ``lr``, ``momentum``, ``weight_decay``, ``augmentation``, ``precision``,
            ``final_lr_fraction``, ``nesterov``.
    """
    expect(small, DistilledSet, "small", "a set from dk.distill or dk.load")
    with visiting():
        check_given(training, [part.name for part in fields(TrainingRecipe)], ("network", "runs", "seed", "storage"))
        kept = stored(small, convert(storage, Storage, "storage"))
        seed, images = whole(seed, "seed"), test_images(test, small)
        if isinstance(network, str) and network in USUAL:
            training = {"lr": USUAL[network].lr, **training}
        facts, given = facts_of(images), without_none({"network": network, "runs": runs})
        numbers = merged(values(EVALUATION, facts)["evaluation"], given | {"training": training}, facts)
        recipe = read(numbers, EvaluationRecipe, "evaluation")
        report = measure_set(kept, images, recipe, torch.zeros(len(images)), seed)
        every = metrics_of(report, kept, images, recipe.neighbours)
        figures = {key: part for key, part in every.items() if key not in THIRDS}
        figures |= {} if storage == "float32" else {"storage": storage}
    found, by_class = figures["accuracy"], {row["class"]: row["accuracy"] for row in classes_of(report, small)}
    each, of, tested_on = tuple(report.accuracy_R.tolist()), small.fingerprint, digest(images)
    if tested_on == small.source:
        tell(
            "warning: the test images are the training images that the set was made from, so the accuracy says nothing "
            "about new images; give data.test"
        )
    return Evaluation(found["mean"], found["std"], each, by_class, recipe, figures, of, tested_on, len(images))
