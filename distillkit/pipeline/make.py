"""The set of one recipe: the same bytes from a stage and from Python."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distillkit.base.device import prepare_device
from distillkit.base.randomness import seed_for, seeded
from distillkit.data.images import RealData, SyntheticSet
from distillkit.matching.distillation import Distillation, Step
from distillkit.matching.method import Material
from distillkit.pipeline.checkpoints import checkpointed, finishing, keeping, resumed
from distillkit.pipeline.recipes import Recipe
from distillkit.pipeline.unfinished import remembering
from distillkit.process.live_curves import shown
from distillkit.process.progress import track
from distillkit.training.executors import UNROLLED, plan_compute
from distillkit.training.trajectories import Experts

Scores = tuple[Tensor | None, Tensor | None]  # difficulty (N,), and the probability (N,) that experts gave each label
NO_SCORES: Scores = None, None


def material_for(recipe: Recipe, source: RealData, experts: Experts, scores: Scores) -> Material:
    """What a recipe's method works from, on this machine's device."""
    source = source.to(device := prepare_device())
    train, classes = source.train, len(source.train.class_names)
    difficulty_N, confidence_N = (None if score is None else score.to(device) for score in scores)
    compute = plan_compute(device, train.image_shape, experts.spec, classes, recipe.visits(classes), UNROLLED)
    return Material(train, source.normalisation, difficulty_N, confidence_N, experts, compute)


def make(
    recipe: Recipe,
    material: Material,
    seed: int,
    provenance: Mapping[str, Any],
    folder: Path | None = None,
    models: Path | None = None,
    live: Path | None = None,
) -> tuple[SyntheticSet, list[Step]]:
    """The set and its loss curve. Unfinished work is kept in ``folder`` and trained generators in ``models``, where
    there are such; the curve so far in ``live``.
    """
    compute = material.compute
    if folder is not None:
        compute = remembering(compute, folder, torch.Tensor)
    if models is not None:
        compute = replace(compute, finish=finishing(models, recipe.name))
    material, generator = replace(material, compute=compute), seeded(seed_for(seed, "distill"))
    synthetic = recipe.method.init(material, generator)
    if recipe.optim is None:
        return synthetic, []
    run = Distillation(recipe.method, synthetic, material, recipe.optim, generator)  # type: ignore[arg-type]
    learn(run, recipe.name, folder, provenance, live)
    return run.result(), run.history


def learn(
    run: Distillation, name: str, folder: Path | None, provenance: Mapping[str, Any], live: Path | None = None
) -> None:
    """Take ``run`` to its end, from its checkpoint if there is one; a signal waits until a step is done and kept."""
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
