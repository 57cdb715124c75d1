"""Distilled sets, their source and their metrics -> a Hugging Face dataset folder, ready to push."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from pathlib import Path

import click

from distillkit.audit.result import read_audits
from distillkit.base import params
from distillkit.base.device import prepare_device
from distillkit.base.files import remove_leftovers
from distillkit.data.files.real_images import load_real, real_file
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.metrics import read_metrics
from distillkit.package.build import Entry, build
from distillkit.package.recipe_json import checksums
from distillkit.pipeline.packaging import PackageSpec
from distillkit.pipeline.stage import run_stage
from distillkit.training.expert_files import shard_paths

PIPELINE = {"seed": int, "expert_shards": list[int], "experts": dict, "score": dict}  # beside the data and the recipe


@click.command()
@click.argument("real", type=Path)
@click.argument("experts", type=Path)
@click.argument("difficulty", type=Path)
@click.argument("distilled", type=Path)
@click.argument("metrics", type=Path)
@click.argument("folder", type=Path)
def package(real: Path, experts: Path, difficulty: Path, distilled: Path, metrics: Path, folder: Path) -> None:
    data = params.load()
    spec = params.section(data, "package", PackageSpec)
    recipes = params.entries(data, "recipes")
    audits = read_audits(metrics, recipes)
    entries = [
        Entry(name, distilled / f"{name}.safetensors", read_metrics(metrics / f"{name}.json"), recipe, audits.get(name))
        for name, recipe in recipes.items()
    ]
    remove_leftovers(folder)
    build(
        folder,
        name=spec.name,
        entries=entries,
        packaged=spec.chosen(recipes),
        default=spec.default,
        storage=spec.storage,
        real=load_real(real).to(prepare_device()),
        inputs=checksums([real_file(real), *shard_paths(data, experts), difficulty]),
        evaluation=params.section(data, "evaluation", EvaluationRecipe).plain(),
        pipeline={name: params.section(data, name, kind) for name, kind in PIPELINE.items()},
        publication=spec.publication,
        rai=spec.rai,
        sign_offs=spec.sign_offs,
    )


if __name__ == "__main__":
    run_stage(package)
