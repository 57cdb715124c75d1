"""One synthetic set -> the accuracy of fresh networks trained on it, and their training curve."""

from distillkit.process.interruption import listen

if __name__ == "__main__":
    listen()  # before the imports that take their time

from dataclasses import asdict
from pathlib import Path

import click

from distillkit.base import params
from distillkit.base.device import prepare_device
from distillkit.base.files import write_csv, write_json
from distillkit.data import artifact
from distillkit.evaluation.evaluate import EvaluationRecipe, neighbour_accuracy, start_accuracy
from distillkit.evaluation.metrics import attack_metrics, classes_of, metrics_of, neighbour_metrics, start_metrics
from distillkit.pipeline.measure import measure_set
from distillkit.pipeline.stage import run_stage
from distillkit.pipeline.unfinished import code, unfinished

ROOMS = (
    "base",
    "data",
    "training",
    "evaluation",
    "pipeline",
)  # as in dvc.yaml; after an edit of them unfinished work begins anew


@click.command()
@click.argument("distilled", type=Path)
@click.argument("real", type=Path)
@click.argument("reference", type=Path)
@click.argument("metrics", type=Path)
@click.argument("classes", type=Path)
@click.argument("curve", type=Path)
def evaluate(distilled: Path, real: Path, reference: Path, metrics: Path, classes: Path, curve: Path) -> None:
    data, device = params.load(), prepare_device()
    recipe, seed = params.section(data, "evaluation", EvaluationRecipe), params.section(data, "seed", int)
    synthetic, test = artifact.load_synthetic(distilled)[0].to(device), artifact.load_real(real).test.to(device)
    difficulty_N, name = artifact.load_reference(reference, len(test)), distilled.stem
    with unfinished(
        f"evaluate-{name}", [asdict(recipe), seed], [Path(__file__), *code(ROOMS), distilled, real]
    ) as folder:
        report = measure_set(synthetic, test, recipe, difficulty_N, seed, folder, name)
        nearest = neighbour_metrics(neighbour_accuracy(synthetic, test, recipe.neighbours), recipe.neighbours)
        attacked = attack_metrics(report, synthetic, test.labels)
        before = start_metrics(start_accuracy(synthetic, test))
        numbers, by_class = metrics_of(report, synthetic) | nearest | attacked | before, classes_of(report, synthetic)
        steps = list(zip(report.curve_steps, report.curve_RS.mean(0).tolist(), strict=True))
        write_json(metrics, numbers)
        write_json(classes, by_class)
        write_csv(curve, ["step", "accuracy"], steps)


if __name__ == "__main__":
    run_stage(evaluate)
