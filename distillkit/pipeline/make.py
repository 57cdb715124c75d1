"""Make the set of one recipe: the same bytes from a stage and from Python."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distillkit.base import files
from distillkit.base.device import prepare_device
from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.base.randomness import seed_for, seeded
from distillkit.data.files import artifact
from distillkit.data.files.snapshots import save_snapshots
from distillkit.data.images import RealData, SyntheticSet
from distillkit.matching.distillation import Distillation, Step
from distillkit.matching.method import Material, Selection
from distillkit.matching.pretrained import Pretrained
from distillkit.networks.factories import NetworkFactory
from distillkit.pipeline.checkpoints import checkpointed, finishing, keeping, resumed
from distillkit.pipeline.recipes import Recipe
from distillkit.pipeline.unfinished import remembering
from distillkit.process.live_curves import shown
from distillkit.process.progress import track
from distillkit.selection.imported import Imported
from distillkit.training.executors import UNROLLED, plan_compute
from distillkit.training.expert_files import ExpertFiles
from distillkit.training.trajectories import Experts

Scores = tuple[Tensor | None, Tensor | None]  # difficulty (N,), and the experts' probability (N,) of each label
NO_SCORES: Scores = None, None


def material_for(recipe: Recipe, source: RealData, experts: Experts, scores: Scores) -> Material:
    """The inputs of a recipe's method, on this machine's device, with the files that it names."""
    source = source.to(device := prepare_device())
    train, classes = source.train, len(source.train.class_names)
    difficulty_N, confidence_N = (None if score is None else score.to(device) for score in scores)
    compute = plan_compute(device, train.image_shape, experts.spec, classes, recipe.visits(classes), UNROLLED)
    material = Material(train, source.normalisation, difficulty_N, confidence_N, experts, compute)
    return with_files(recipe.method, material)


def with_files(method: Selection, material: Material) -> Material:
    """``material`` with the files that the method names, if any."""
    if isinstance(method, Imported):
        imported = artifact.load_synthetic(pinned(method.file, method.sha256, "distillkit import"))[0]
        return replace(material, imported=imported.to(material.real.images.device))
    wanted = getattr(method, "pretrained", None)
    if isinstance(wanted, Pretrained):
        return replace(material, pretrained=ExpertFiles([pinned(wanted.file, wanted.sha256, "expert training")]))
    return material


def pinned(file: str, sha256: str, made_by: str) -> Path:
    """The path of a file that a recipe names. Raises ParamsError or ArtifactError unless it exists inside the
    repository and has the SHA-256 of the recipe.
    """
    path = Path(file)
    if path.is_absolute() or Path(os.path.normpath(path)).parts[:1] == ("..",):
        raise ParamsError(
            f"file is {path}; expected a path inside this repository, so that others have it too; copy it there"
        )
    if not path.is_file():
        raise ParamsError(f"file {path} does not exist; expected what {made_by} wrote; import or pull it first")
    found = files.sha256(path)
    if found != sha256:
        raise ArtifactError(
            f"{path} is not the file that the recipe means: found SHA-256 {found}, expected {sha256}; "
            f"put that file back, or write into the recipe in params.yaml: sha256: '{found}'"
        )
    return path


def make(
    recipe: Recipe,
    material: Material,
    seed: int,
    provenance: Mapping[str, Any],
    folder: Path | None = None,
    models: Path | None = None,
    live: Path | None = None,
    snapshots: Path | None = None,
) -> tuple[SyntheticSet, list[Step]]:
    """The set and its loss curve.

    ``folder`` keeps unfinished work, ``models`` trained generators, and ``live`` the current curve; None keeps nothing.
    ``snapshots`` is the file for snapshots, if the recipe asks for some.
    """
    compute = material.compute
    if folder is not None:
        compute = remembering(compute, folder, torch.Tensor)
    if models is not None:
        compute = replace(compute, finish=finishing(models, recipe.name))
    material, generator = replace(material, compute=compute), seeded(seed_for(seed, "distill"))
    with own_network(recipe, material.experts):
        synthetic = recipe.method.init(material, generator)
        if recipe.optim is None:
            return synthetic, []
        run = Distillation(recipe.method, synthetic, material, recipe.optim, generator)  # type: ignore[arg-type]
        learn(run, recipe.name, folder, provenance, live)
    synthetic = run.result()
    if snapshots is not None and run.snapshots:
        save_snapshots(snapshots, run.snapshots, synthetic)
    return synthetic, run.history


@contextmanager
def own_network(recipe: Recipe, experts: Experts | None) -> Iterator[None]:
    """A block that converts errors of torch in a user's own network to a ParamsError of one line."""
    spec = getattr(recipe.method, "network", None) or (None if experts is None else experts.spec)
    try:
        yield
    except RuntimeError as error:
        if not isinstance(spec, NetworkFactory) or isinstance(error, torch.OutOfMemoryError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ParamsError(
            f"network {spec} does not work with method {recipe.method_name} ({reason}); expected a forward pass that "
            "ends with its last linear layer and that torch can differentiate; correct it, or use another network"
        ) from error


def learn(
    run: Distillation, name: str, folder: Path | None, provenance: Mapping[str, Any], live: Path | None = None
) -> None:
    """Run ``run`` to its end, from its checkpoint if there is one. A signal takes effect when a step is finished and
    saved.
    """
    if folder is None:
        steps = keeping(run, lambda: None)
    else:
        checkpoint = folder / "distillation.safetensors"
        resumed(run, checkpoint)
        steps = checkpointed(run, checkpoint, provenance)
    if live is not None:
        steps = shown(steps, live, tuple(run.history))
    for _ in track(steps, f"distil {name}", run.steps_left):
        pass
