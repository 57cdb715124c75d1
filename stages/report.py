"""All distilled sets, metrics and curves -> previews, one table, plots and a self-contained HTML page."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from pathlib import Path

import click

from distillkit.audit.result import read_audits
from distillkit.base import params
from distillkit.base.files import read_csv
from distillkit.data.files import artifact, container
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.metrics import read_metrics
from distillkit.pipeline.stage import run_stage
from distillkit.report import page, results
from distillkit.report.pictures import preview_grid


@click.command()
@click.argument("distilled", type=Path)
@click.argument("loss", type=Path)
@click.argument("training", type=Path)
@click.argument("metrics", type=Path)
@click.argument("previews", type=Path)
@click.argument("out", type=Path)
def write(distilled: Path, loss: Path, training: Path, metrics: Path, previews: Path, out: Path) -> None:
    data = params.load()
    recipes = params.entries(data, "recipes")
    evaluation = params.section(data, "evaluation", EvaluationRecipe)
    files = {name: distilled / f"{name}.safetensors" for name in recipes}
    headers = {name: container.Opened(path, "synthetic").header for name, path in files.items()}
    rows = results.rows({name: read_metrics(metrics / f"{name}.json") for name in recipes}, recipes)
    losses = {name: curve for name in recipes if (curve := read_csv(loss / f"{name}.csv", "step", "loss"))}
    trainings = {name: read_csv(training / f"{name}.csv", "step", "accuracy") for name in recipes}
    scans = {
        name: scan
        for name, header in headers.items()
        if (scan := header["notes"].get("holdout_accuracy_by_window_start"))
    }
    page.scan_table(rows, scans)
    whitened = {name for name, path in files.items() if artifact.load_synthetic(path)[0].normalisation.whitening}
    for name, path in files.items():  # read again: all were checked before anything is written, one at a time
        preview_grid(artifact.load_synthetic(path)[0], previews / f"{name}.png")
    page.write_report(
        out,
        rows=rows,
        evaluation=evaluation.plain(),
        source=next(iter(headers.values()))["provenance"]["source"],
        loss_curves=losses,
        training_curves=trainings,
        previews={name: previews / f"{name}.png" for name in recipes},
        scans=scans,
        whitened=whitened,
        audits=read_audits(metrics, recipes),
    )


if __name__ == "__main__":
    run_stage(write)
