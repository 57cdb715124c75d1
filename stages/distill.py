"""Real images, experts and difficulty -> the synthetic set of one recipe and its loss curve."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from dataclasses import asdict
from pathlib import Path

import click

from distillkit.base import params
from distillkit.base.files import write_csv
from distillkit.data.files import artifact
from distillkit.data.files.real_images import load_real, real_file
from distillkit.data.files.snapshots import snapshot_file
from distillkit.matching.distillation import loss_table
from distillkit.matching.method import uses_experts
from distillkit.pipeline import checks
from distillkit.pipeline.code import files_of
from distillkit.pipeline.make import NO_SCORES, make, material_for
from distillkit.pipeline.recipes import read_recipe
from distillkit.pipeline.stage import run_stage
from distillkit.pipeline.unfinished import model_folder, unfinished
from distillkit.process.live_curves import LIVE, clear
from distillkit.training.expert_files import ExpertFiles, shard_paths
from distillkit.training.trajectories import Experts, KindOfExperts


@click.command()
@click.argument("name")
@click.argument("real", type=Path)
@click.argument("experts", type=Path)
@click.argument("difficulty", type=Path)
@click.argument("out", type=Path)
@click.argument("loss_csv", type=Path)
def distill(name: str, real: Path, experts: Path, difficulty: Path, out: Path, loss_csv: Path) -> None:
    data = params.load()
    recipe, shards = read_recipe(data, name), shard_paths(data, experts)
    seed = params.section(data, "seed", int) if recipe.seed is None else recipe.seed
    source = load_real(real)
    checks.check_images(data, source.train)
    provenance = artifact.provenance_of(name, recipe.method_name, recipe.params, seed, source)
    trained: Experts = ExpertFiles(shards)
    if uses_experts(recipe.method):
        used, scores = [difficulty, *shards], artifact.load_difficulty(difficulty, len(source.train))
    else:  # then nothing of them is at hand, but what kind of networks they are
        trained, used, scores = KindOfExperts(trained.spec), [], NO_SCORES
    material = material_for(recipe, source, trained, scores)

    settings = [recipe.params, seed, asdict(trained.spec)]
    with unfinished(f"distill-{name}", settings, [*files_of(Path(__file__)), real_file(real), *used]) as folder:
        models = model_folder(recipe.params, seed, real_file(real)) if "model" in recipe.params else folder
        synthetic, history = make(recipe, material, seed, provenance, folder, models, LIVE / name, snapshot_file(out))
        artifact.save_synthetic(out, synthetic, provenance)
        write_csv(loss_csv, *loss_table(history))
    clear(LIVE / name)


if __name__ == "__main__":
    run_stage(distill)
