"""One synthetic set -> the accuracy of fresh networks trained on it, and their training curve."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from dataclasses import asdict
from pathlib import Path

import click

from distillkit.base import params
from distillkit.base.device import prepare_device
from distillkit.base.files import write_csv, write_json
from distillkit.base.randomness import seed_for, seeded
from distillkit.data import artifact
from distillkit.evaluation.evaluate import EvaluationRecipe, Runs, updates_of, workload
from distillkit.evaluation.evaluate import evaluate as evaluate_set
from distillkit.evaluation.metrics import classes_of, metrics_of
from distillkit.pipeline.code import files_of
from distillkit.pipeline.stage import run_stage
from distillkit.pipeline.unfinished import remembering, unfinished
from distillkit.process.progress import counting
from distillkit.training.executors import plan_compute


@click.command()
@click.argument("distilled", type=Path)
@click.argument("real", type=Path)
@click.argument("reference", type=Path)
@click.argument("metrics", type=Path)
@click.argument("classes", type=Path)
@click.argument("curve", type=Path)
def evaluate(distilled: Path, real: Path, reference: Path, metrics: Path, classes: Path, curve: Path) -> None:
    data, device = params.load(), prepare_device()
    recipe = params.section(data, "evaluation", EvaluationRecipe)
    seed = params.section(data, "seed", int)
    generator = seeded(seed_for(seed, "evaluate"))
    synthetic, test = artifact.load_synthetic(distilled)[0].to(device), artifact.load_real(real).test.to(device)
    test_difficulty_N = artifact.load_reference(reference, len(test))
    spec, visits = workload(synthetic, recipe)
    compute = plan_compute(device, test.image_shape, spec, len(test.class_names), visits)
    name, updates = distilled.stem, updates_of(synthetic, recipe)
    with (
        unfinished(f"evaluate-{name}", [asdict(recipe), seed], [*files_of(Path(__file__)), distilled, real]) as folder,
        counting(f"updates of the networks on {name}", recipe.runs * updates) as count,
    ):
        compute = remembering(compute, folder, Runs, count, lambda group: updates * len(group))
        report = evaluate_set(synthetic, test, recipe, test_difficulty_N, generator, compute)
        write_json(metrics, metrics_of(report, synthetic, test, recipe.neighbours))
        write_json(classes, classes_of(report, synthetic))
        write_csv(curve, ["step", "accuracy"], zip(report.curve_steps, report.curve_RS.mean(0).tolist(), strict=True))


if __name__ == "__main__":
    run_stage(evaluate)
