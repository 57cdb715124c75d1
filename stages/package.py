"""Distilled sets and their metrics -> a Hugging Face dataset folder, ready to push."""

from dataclasses import asdict
from pathlib import Path

import click

from distillkit import params
from distillkit.evaluate import EvaluationRecipe
from distillkit.metrics import read_metrics
from distillkit.package import Entry, PackageSpec, build
from distillkit.progress import track
from distillkit.stage import run


@click.command()
@click.argument("distilled", type=Path)
@click.argument("metrics", type=Path)
@click.argument("folder", type=Path)
def package(distilled: Path, metrics: Path, folder: Path) -> None:
    data = params.load()
    spec = params.section(data, "package", PackageSpec)
    recipes = params.section(data, "recipes", dict)
    entries = [
        Entry(name, distilled / f"{name}.safetensors", read_metrics(metrics / f"{name}.json"), recipe)
        for name, recipe in recipes.items()
    ]
    build(
        folder,
        name=spec.name,
        entries=entries,
        packaged=spec.chosen(recipes),
        default=spec.default,
        evaluation=asdict(params.section(data, "evaluation", EvaluationRecipe)),
        track=track,
    )


if __name__ == "__main__":
    run(package)
