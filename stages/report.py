"""All distilled sets, metrics and curves -> previews, one table, plots and a self-contained HTML page."""

from dataclasses import asdict
from pathlib import Path

import click

from distillkit import artifact, params, report
from distillkit.evaluate import EvaluationRecipe
from distillkit.figures import preview_grid
from distillkit.metrics import read_csv, read_metrics
from distillkit.stage import run_stage


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
    sources, scans, whitened = [], {}, set()
    for name, path in files.items():
        synthetic, provenance = artifact.load_synthetic(path)
        sources.append(provenance.get("source", {}))
        if scan := synthetic.notes.get("holdout_accuracy_by_window_start"):
            scans[name] = scan
        preview_grid(synthetic, previews / f"{name}.png")
        if synthetic.normalisation.whitening is not None:
            whitened.add(name)
    report.write_report(
        out,
        rows=report.rows({name: read_metrics(metrics / f"{name}.json") for name in recipes}, recipes),
        evaluation=asdict(evaluation),
        source=sources[0],
        loss_curves={name: curve for name in recipes if (curve := read_csv(loss / f"{name}.csv", "step", "loss"))},
        training_curves={name: read_csv(training / f"{name}.csv", "step", "accuracy") for name in recipes},
        previews={name: previews / f"{name}.png" for name in recipes},
        scans=scans,
        whitened=whitened,
    )


if __name__ == "__main__":
    run_stage(write)
