"""Shadow sets: sets that the pipeline makes from random halves of the source.

Nothing of one half reaches the set of another: statistics, experts, difficulty and generators are made again.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from distillkit.audit.records import Observed, confidences, observe
from distillkit.base.device import prepare_device
from distillkit.base.params import section, shards_of
from distillkit.base.randomness import draw_int, seed_for, seeded
from distillkit.data.files.container import save_state
from distillkit.data.images import ImageSet, RealData, SyntheticSet, channel_statistics
from distillkit.data.selection import class_rows
from distillkit.data.whitening import zca
from distillkit.evaluation.evaluate import EvaluationRecipe, workload
from distillkit.matching.method import uses_experts
from distillkit.pipeline.checks import check_halves
from distillkit.pipeline.make import NO_SCORES, Scores, make, material_for
from distillkit.pipeline.recipes import Recipe, check_makes_shadows, read_recipe
from distillkit.pipeline.train import train_experts
from distillkit.pipeline.unfinished import named_tensors, recalled
from distillkit.process.interruption import check
from distillkit.process.progress import track
from distillkit.training.difficulty import first_epochs, score_called, scores_of
from distillkit.training.executors import plan_compute
from distillkit.training.expert_files import ExpertFiles, save_experts
from distillkit.training.score_file import ScoreSpec, read_score_file
from distillkit.training.trajectories import Experts, ExpertsSpec, KindOfExperts

NETWORKS = 2  # trained on every shadow set


@dataclass(frozen=True)
class Pipeline:
    """All parameters that a set depends on, and how networks are trained on it."""

    recipe: Recipe
    seed: int
    shards: Sequence[int]
    experts: ExpertsSpec
    score: ScoreSpec
    evaluation: EvaluationRecipe


def read_pipeline(data: Mapping[str, Any], name: str) -> Pipeline:
    """The pipeline of recipe ``name``. Raises ParamsError if its set cannot be made from half of the images."""
    recipe = read_recipe(data, name)
    check_makes_shadows(recipe)
    evaluation = section(data, "evaluation", EvaluationRecipe)
    return Pipeline(
        recipe,
        section(data, "seed", int),
        shards_of(data),
        section(data, "experts", ExpertsSpec),
        section(data, "score", ScoreSpec),
        replace(evaluation, runs=NETWORKS, curve_points=0),
    )


def shadow_sets(pipeline: Pipeline, source: RealData, count: int, folder: Path) -> list[Observed]:
    """What ``count`` shadow sets show about every training image; finished ones are kept in ``folder``."""
    train = source.train
    check_halves(pipeline.recipe.method, dict(zip(train.class_names, train.class_counts, strict=True)))
    source = source.to(prepare_device())
    found = []
    for number in track(range(count), f"shadow sets of {pipeline.recipe.name}", count):
        path, work = folder / f"shadow-{number}.safetensors", folder / f"shadow-{number}"
        observed: Observed | None = recalled(path, Observed)
        if observed is None:
            observed = one_shadow(pipeline, source, seed_for(pipeline.seed, "shadow", number), work)
            save_state(path, dict(named_tensors(observed)))
            shutil.rmtree(work, ignore_errors=True)
        found.append(observed)
        check()
    return found


def one_shadow(pipeline: Pipeline, source: RealData, seed: int, folder: Path) -> Observed:
    """Make a set from a random half of the training images, and observe all of them with it."""
    generator = seeded(seed)
    rows = half_of(source.train.labels, len(source.train.class_names), generator)
    synthetic = make_from(pipeline, source, rows, seed, folder)
    return seen_by(synthetic, source.train, rows, pipeline.evaluation, generator)


def seen_by(
    synthetic: SyntheticSet, records: ImageSet, rows: Tensor, evaluation: EvaluationRecipe, generator: Generator
) -> Observed:
    """What a set that was made from the records at ``rows``, and networks trained on it, show about all records."""
    device, (spec, visits) = records.device, workload(synthetic, evaluation)
    synthetic = synthetic.to(device)
    compute = plan_compute(device, records.image_shape, spec, len(records.class_names), visits)
    confidence_N = confidences(synthetic, records, evaluation, generator, compute)
    member_N = torch.zeros(len(records), dtype=torch.bool, device=device)
    member_N[rows] = True
    own = synthetic.source_row
    source_row = torch.where(own >= 0, rows.to(own.device)[own.clamp(min=0)], own)
    return observe(synthetic, records, member_N, source_row, confidence_N)


def half_of(labels_N: Tensor, classes: int, generator: Generator) -> Tensor:
    """The rows of a random half of every class, in order; if the number is odd, it is rounded up or down at random."""
    chosen = []
    for rows in class_rows(labels_N, classes):
        order = torch.randperm(len(rows), generator=generator).to(rows.device)
        chosen.append(rows[order[: (len(rows) + draw_int(0, 2, generator)) // 2]])
    return torch.cat(chosen).sort().values


def restricted(source: RealData, rows: Tensor) -> RealData:
    """The source with only these training images, and with their statistics."""
    train, own = source.train.take(rows), source.normalisation
    images, params = train.to(torch.device("cpu")).images, source.info.params.get("normalisation", {})
    whitening = None if own.whitening is None else zca(images, params.get("eps", 0.1))
    statistics = channel_statistics(images)._replace(whitening=whitening)
    return replace(source, train=train, normalisation=statistics.to(train.device))


def make_from(pipeline: Pipeline, source: RealData, rows: Tensor, seed: int, folder: Path) -> SyntheticSet:
    """The recipe's set from these rows, as the stages make it; experts and difficulty first if the method uses them."""
    half = restricted(source, rows)
    trained: Experts = KindOfExperts(pipeline.experts.recipe.network)
    scores = NO_SCORES
    if uses_experts(pipeline.recipe.method):
        files = ExpertFiles([experts_of(pipeline, shard, half, seed, folder) for shard in pipeline.shards])
        trained, scores = files, scores_for(pipeline.score, files, len(source.train), rows)
    material = material_for(pipeline.recipe, half, trained, scores)
    return make(pipeline.recipe, material, seed, {}, folder / "set", folder / "models")[0]


def experts_of(pipeline: Pipeline, shard: int, half: RealData, seed: int, folder: Path) -> Path:
    """The file of one shard of experts; they are trained if it does not exist."""
    spec, path = pipeline.experts, folder / f"shard-{shard}.safetensors"
    members = range(shard * spec.per_shard, (shard + 1) * spec.per_shard)
    if not path.exists():
        experts = train_experts(half, spec.recipe, members, seed, folder / "experts", f"experts, shard {shard}")
        save_experts(path, experts, spec.recipe.network, {})
    return path


def scores_for(spec: ScoreSpec, experts: ExpertFiles, images: int, rows: Tensor) -> Scores:
    """Difficulty and confidence of the images at ``rows``; a score file has one for each of ``images``."""
    found = scores_of((first_epochs(dynamics, spec.epochs) for dynamics in experts.dynamics()), spec.run)
    chosen = read_score_file(spec, images)[rows.cpu()] if spec.name == "file" else score_called(spec.name, found)
    return chosen, 1 - found["confidence"]
