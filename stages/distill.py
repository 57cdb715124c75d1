"""Real images, experts and difficulty -> the synthetic set of one recipe and its loss curve."""

from pathlib import Path

import click

from distillkit import artifact, params
from distillkit.checkpoint import checkpoint_path, checkpointed, resumed
from distillkit.device import prepare_device
from distillkit.distill import Distillation
from distillkit.executors import executor
from distillkit.expert_files import ExpertFiles, shard_paths
from distillkit.metrics import write_csv
from distillkit.progress import track
from distillkit.protocol import Material
from distillkit.randomness import seed_for, seeded
from distillkit.recipes import read_recipe
from distillkit.stage import run


@click.command()
@click.argument("name")
@click.argument("real", type=Path)
@click.argument("experts", type=Path)
@click.argument("difficulty", type=Path)
@click.argument("out", type=Path)
@click.argument("loss_csv", type=Path)
def distill(name: str, real: Path, experts: Path, difficulty: Path, out: Path, loss_csv: Path) -> None:
    data = params.load()
    recipe, seed = read_recipe(data, name), params.section(data, "seed", int)
    shards, device = shard_paths(data, experts), prepare_device()
    source = artifact.load_real(real)
    provenance = artifact.provenance_of(name, recipe.method_name, recipe.params, seed, source)
    source = source.to(device)
    difficulty_N, confidence_N = (
        None if score is None else score.to(device) for score in artifact.load_difficulty(difficulty, len(source.train))
    )
    experts_on_disk = ExpertFiles(shards)
    tasks = executor(device, source.train.image_shape, experts_on_disk.spec)
    material = Material(source.train, source.normalisation, difficulty_N, confidence_N, experts_on_disk, tasks)
    generator = seeded(seed_for(seed, "distill"))
    synthetic, history, checkpoint = recipe.method.init(material, generator), [], None
    if recipe.optim is not None:
        distillation = Distillation(recipe.method, synthetic, material, recipe.optim, generator)
        checkpoint = checkpoint_path(name, recipe.params, seed, [real, difficulty, *shards])
        resumed(distillation, checkpoint)
        for _ in track(checkpointed(distillation, checkpoint, provenance), f"distil {name}", distillation.steps_left):
            pass
        synthetic, history = distillation.result(), distillation.history
    artifact.save_synthetic(out, synthetic, provenance)
    write_csv(loss_csv, ["step", "loss", "student_lr"], history)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    run(distill)
