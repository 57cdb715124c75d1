"""One synthetic set -> the accuracy of fresh networks trained on it, their training curve, what they mistake."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from dataclasses import asdict
from pathlib import Path

import click

from distillkit.base import params
from distillkit.base.device import prepare_device
from distillkit.base.files import write_csv, write_json
from distillkit.data.files import artifact
from distillkit.data.files.real_images import load_real, real_file
from distillkit.evaluation.evaluate import EvaluationRecipe, workload
from distillkit.evaluation.metrics import CONFUSION, classes_of, confusion_of, metrics_of, others_of
from distillkit.evaluation.rounding import stored
from distillkit.pipeline.code import files_of
from distillkit.pipeline.measure import measure_others, measure_set
from distillkit.pipeline.packaging import storage_in
from distillkit.pipeline.stage import run_stage
from distillkit.pipeline.unfinished import unfinished


@click.command()
@click.argument("distilled", type=Path)
@click.argument("real", type=Path)
@click.argument("reference", type=Path)
@click.argument("metrics", type=Path)
@click.argument("classes", type=Path)
@click.argument("curve", type=Path)
@click.argument("confusion", type=Path)
def evaluate(
    distilled: Path, real: Path, reference: Path, metrics: Path, classes: Path, curve: Path, confusion: Path
) -> None:
    data, device = params.load(), prepare_device()
    recipe, seed = params.section(data, "evaluation", EvaluationRecipe), params.section(data, "seed", int)
    storage = storage_in(data)
    synthetic = stored(artifact.load_synthetic(distilled)[0], storage).to(device)
    test = load_real(real).test.to(device)
    difficulty_N, name = artifact.load_reference(reference, len(test)), distilled.stem
    settings = [recipe.plain(), seed, asdict(workload(synthetic, recipe)[0]), storage]
    inputs = [*files_of(Path(__file__)), distilled, real_file(real)]
    with unfinished(f"evaluate-{name}", settings, inputs) as folder:
        report = measure_set(synthetic, test, recipe, difficulty_N, seed, folder, name)
        others = others_of(measure_others(synthetic, test, recipe, seed, folder, name))
        found = metrics_of(report, synthetic, test, recipe.neighbours) | others
        write_json(metrics, found if storage == "float32" else {**found, "storage": storage})
        write_json(classes, classes_of(report, synthetic))
        write_csv(curve, ["step", "accuracy"], zip(report.curve_steps, report.curve_RS.mean(0).tolist(), strict=True))
        write_csv(confusion, CONFUSION, confusion_of(report, test))


if __name__ == "__main__":
    run_stage(evaluate)
