"""Networks trained on all real images -> the difficulty of every test image, for reporting only."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from dataclasses import replace
from pathlib import Path

import click
import torch

from distillkit.base import params
from distillkit.base.device import prepare_device
from distillkit.base.randomness import seed_for, seeded
from distillkit.data.files import artifact
from distillkit.data.files.real_images import load_real, real_file
from distillkit.data.images import all_of
from distillkit.evaluation.evaluate import EvaluationRecipe, reference_difficulty
from distillkit.pipeline import checks
from distillkit.pipeline.code import files_of
from distillkit.pipeline.stage import run_stage
from distillkit.pipeline.unfinished import remembering, unfinished
from distillkit.process.progress import counting
from distillkit.training.executors import plan_compute


@click.command()
@click.argument("real", type=Path)
@click.argument("out", type=Path)
def reference(real: Path, out: Path) -> None:
    data = params.load()
    recipe = replace(params.section(data, "evaluation", EvaluationRecipe), others=())
    seed = params.section(data, "seed", int)
    generator = seeded(seed_for(seed, "reference"))
    device = prepare_device()
    source = load_real(real).to(device)
    checks.check_images(data, source.train)
    everything = all_of(source.train, source.normalisation)
    compute = plan_compute(
        device, source.train.image_shape, recipe.network, len(source.train.class_names), recipe.visits
    )
    updates = recipe.training.steps
    with (
        unfinished("reference", [recipe.plain(), seed], [*files_of(Path(__file__)), real_file(real)]) as folder,
        counting("updates of the reference networks", recipe.runs * updates) as count,
    ):
        compute = remembering(compute, folder, torch.Tensor, count, lambda group: updates * len(group))
        difficulty_N = reference_difficulty(everything, source.test, recipe, generator, compute)
        artifact.save_reference(out, difficulty_N, {"evaluation": recipe.plain()})


if __name__ == "__main__":
    run_stage(reference)
