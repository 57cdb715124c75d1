"""The check of the whole params.yaml: each section, and whether the sections fit together, before anything is trained.

Every stage runs it first, so that the last stage cannot fail on a parameter. These checks change no result: a stage
depends on the sections that it uses, not on this check.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from distillkit.base import files, params
from distillkit.base.errors import DistillkitError, ParamsError, check_range
from distillkit.base.params import section
from distillkit.data.files import artifact
from distillkit.data.images import ImageSet
from distillkit.data.selection import WindowUnit, check_counts, first_rank, held_out
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.matching.method import Method, Selection
from distillkit.matching.pretrained import check_norm
from distillkit.methods import METHODS
from distillkit.methods.generator.diffusion import Diffusion
from distillkit.methods.learning.dd import DatasetDistillation
from distillkit.methods.learning.dm import DistributionMatching
from distillkit.methods.learning.mtt import Matching
from distillkit.networks.factories import NetworkFactory, admit, check_takes, factory_of
from distillkit.networks.specs import Network, build_network, check_learnable
from distillkit.pipeline.packaging import PackageSpec, check_package
from distillkit.pipeline.recipes import AuditSpec, Recipe, check_makes_shadows, read_recipe
from distillkit.selection.imported import Imported
from distillkit.selection.rded import RealisticCrops
from distillkit.selection.window import WindowScan
from distillkit.sources.fetch import DataSpec
from distillkit.training.expert_files import shard_paths
from distillkit.training.features import check_count
from distillkit.training.score_file import ScoreSpec
from distillkit.training.trajectories import ExpertsSpec

TWICE = {kind for kind in METHODS.values() if hasattr(kind, "loss")} - {
    DistributionMatching
}  # methods that differentiate twice
SECTIONS: dict[str, Any] = {
    "seed": int,
    "data": DataSpec,
    "experts": ExpertsSpec,
    "score": ScoreSpec,
    "evaluation": EvaluationRecipe,
    "audit": AuditSpec,
    "package": PackageSpec,
}


def check_params(data: Mapping[str, Any]) -> None:
    """Raise ParamsError when a section cannot be read, or sections do not fit together.

    The user's own networks are imported here: params.yaml is the user's own file.
    """
    admit_all(data)
    found = {name: section(data, name, kind) for name, kind in SECTIONS.items() if name in data}
    shards = len(shard_paths(data, Path())) if "expert_shards" in data else None
    recipes = all_recipes(data)
    experts: ExpertsSpec | None = found.get("experts")
    if experts is not None:
        if "score" in found:
            found["score"].check_against(experts.recipe.epochs)
        for recipe in recipes:
            with placed(recipe):
                check_experts(recipe.method, experts, None if shards is None else shards * experts.per_shard)
    if "audit" in found and recipes:
        with placed("audit"):
            check_audit(found["audit"], recipes)
    if "package" in found and recipes:
        spec: PackageSpec = found["package"]
        with placed("package"):
            check_package(spec.name, spec.default, spec.chosen(data["recipes"]), data["recipes"])


def check_audit(spec: AuditSpec, recipes: Sequence[Recipe]) -> None:
    """Raise ParamsError when a recipe to audit does not exist or cannot be audited."""
    spec.check_known([recipe.name for recipe in recipes])
    for recipe in recipes:
        if spec.shadows and recipe.name in spec.recipes:
            check_makes_shadows(recipe)


def admit_all(value: Any) -> None:
    """Import the network factories that the user's parameters name, and check that they take a shape and classes."""
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        if key == "network" and isinstance(part, Mapping) and isinstance(part.get("factory"), str):
            spec = NetworkFactory(part["factory"])
            admit(spec.factory)
            check_takes(spec, factory_of(spec))
        admit_all(part)


def check_images(data: Mapping[str, Any], train: ImageSet) -> None:
    """Raise a DistillkitError when a recipe or a network does not fit the training images."""
    check_facts(data, train.image_shape, dict(zip(train.class_names, train.class_counts, strict=True)))


def check_facts(
    data: Mapping[str, Any], shape: tuple[int, int, int], counts: Mapping[str, int], folder: Path = Path()
) -> None:
    """:func:`check_images`, given the images' (C, H, W) and the image count of each class. Paths in recipes are
    relative to ``folder``.
    """
    audit = section(data, "audit", AuditSpec) if "audit" in data else AuditSpec()
    experts = section(data, "experts", ExpertsSpec).recipe.network if "experts" in data else None
    if experts is not None:
        check_network("experts", experts, shape, len(counts))
    for recipe in all_recipes(data):
        with placed(recipe):
            check_classes(recipe.method, counts)
            check_learns(recipe.method, experts, shape, len(counts))
            if audit.shadows and recipe.name in audit.recipes:
                check_halves(recipe.method, counts)
            if isinstance(recipe.method, Imported):
                check_imported(recipe.method, folder / recipe.method.file, shape, tuple(counts))
    if "evaluation" in data:
        evaluation = section(data, "evaluation", EvaluationRecipe)
        for recipe_of in (evaluation, *evaluation.with_others().values()):
            check_network("evaluation", recipe_of.network, shape, len(counts))


def all_recipes(data: Mapping[str, Any]) -> list[Recipe]:
    names = params.entries(data, "recipes") if "recipes" in data else ()
    return [read_recipe(data, name) for name in names]


@contextmanager
def placed(where: Recipe | str) -> Iterator[None]:
    """A block whose error messages begin with the recipe or section that they are about."""
    try:
        yield
    except DistillkitError as error:
        name = f"recipes.{where.name}" if isinstance(where, Recipe) else where
        raise type(error)(f"{params.FILE}: {name}: {error}") from None


def check_experts(method: Selection, spec: ExpertsSpec, trained: int | None) -> None:
    """Raise ParamsError when a method needs other experts than ``spec``, or more than ``trained`` (None: unknown)."""
    if isinstance(matching := getattr(method, "matching", None), Matching):
        matching.check_against(spec.recipe.epochs + 1)
    if trained is not None:
        check_count(getattr(method, "experts", 1), trained)
    if isinstance(method, DatasetDistillation) and method.pretrained is None:
        if method.initialisation.endswith("pretrained"):
            check_norm(spec.recipe.network, "the experts are")
        if method.initialisation == "random-pretrained" and trained is not None:
            check_range("kept_apart", method.kept_apart, 1, trained - 1)


def check_learns(method: Selection, experts: Network | None, shape: tuple[int, int, int], classes: int) -> None:
    """Raise ParamsError when a method cannot learn images through its networks (its own, or the experts')."""
    spec = getattr(method, "network", None) or experts
    if isinstance(method, Method) and spec is not None:
        check_learnable(spec, shape, classes, twice=type(method) in TWICE)


def check_classes(method: Selection, counts: Mapping[str, int]) -> None:
    """Raise WindowError when a method needs more real images than a class has, or its window ends after the class.

    Raises ParamsError when it attacks a class that does not exist.
    """
    if (attack := getattr(method, "attack", None)) is not None:
        attack.numbers(tuple(counts))
    if isinstance(method, RealisticCrops):
        method.check_counts(counts)
    if (ipc := real_per_class(method)) is None:
        return
    check_counts(ipc, counts)
    start: float | WindowScan | None = getattr(method, "window_start", None)
    unit: WindowUnit = getattr(method, "window_unit", "class")
    if isinstance(start, WindowScan):
        start.fitting(ipc, min(images - held_out(images, start.holdout) for images in counts.values()))
    elif start is not None:
        for name, images in counts.items():
            first_rank(name, images, ipc, start, unit)
    for part in (method, getattr(getattr(method, "replay", None), "step_size", None)):
        if (holdout := getattr(part, "holdout", None)) is not None:
            check_counts(ipc, {name: images - held_out(images, holdout) for name, images in counts.items()})


def check_halves(method: Selection, counts: Mapping[str, int]) -> None:
    """Raise ParamsError when no set can be made from half of the images, which an audit does."""
    try:
        check_classes(method, {name: images // 2 for name, images in counts.items()})
    except DistillkitError as error:
        raise ParamsError(f"an audit makes sets from half of the images of each class: {error}") from None


def real_per_class(method: Selection) -> int | None:
    """The number of real images per class that a method needs; None if it needs none or has no fixed number."""
    others = isinstance(method, Diffusion | Imported) or getattr(method, "start", None) == "noise"
    return None if others or not getattr(method, "balanced", True) else getattr(method, "ipc", None)


def check_imported(method: Imported, file: Path, shape: tuple[int, int, int], class_names: tuple[str, ...]) -> None:
    """Raise ParamsError when the imported set does not fit the images. A missing or different file is not checked
    here.
    """
    if file.is_file() and files.sha256(file) == method.sha256:
        method.check_against(artifact.load_synthetic(file)[0], shape, class_names)


def check_network(where: str, spec: Network, shape: tuple[int, int, int], classes: int) -> None:
    """Raise ParamsError when the network cannot be built for the images."""
    own = isinstance(spec, NetworkFactory)  # built with real tensors
    with placed(where), nullcontext() if own else torch.device("meta"):
        build_network(spec, shape, classes, seed=0)
