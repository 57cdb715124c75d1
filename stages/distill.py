"""Real images, experts and difficulty -> the synthetic set of one recipe and its loss curve."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch

from distillkit.base import files, params
from distillkit.base.device import prepare_device
from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.base.files import write_csv
from distillkit.base.randomness import seed_for, seeded
from distillkit.data import artifact
from distillkit.data.images import RealData
from distillkit.matching.distillation import Distillation, loss_table
from distillkit.matching.method import Material, Selection, uses_experts
from distillkit.matching.pretrained import Pretrained
from distillkit.methods.selection.imported import Imported
from distillkit.pipeline import checks
from distillkit.pipeline.checkpoints import checkpointed, finishing, resumed
from distillkit.pipeline.code import files_of
from distillkit.pipeline.recipes import Recipe, read_recipe
from distillkit.pipeline.stage import run_stage
from distillkit.pipeline.unfinished import model_folder, remembering, unfinished
from distillkit.process.live_curves import LIVE, clear, shown
from distillkit.process.progress import track
from distillkit.training.executors import UNROLLED, plan_compute
from distillkit.training.expert_files import ExpertFiles, shard_paths
from distillkit.training.trajectories import Experts, KindOfExperts


def read_material(recipe: Recipe, source: RealData, experts: Experts, difficulty: Path | None) -> Material:
    device = prepare_device()
    source = source.to(device)
    train, classes = source.train, len(source.train.class_names)
    scores = (None, None) if difficulty is None else artifact.load_difficulty(difficulty, len(train))
    difficulty_N, confidence_N = (None if score is None else score.to(device) for score in scores)
    compute = plan_compute(device, train.image_shape, experts.spec, classes, recipe.visits(classes), UNROLLED)
    return Material(train, source.normalisation, difficulty_N, confidence_N, experts, compute)


def pinned(file: str, sha256: str, made_by: str) -> Path:
    """A file that a recipe names, if it is the one that the recipe means."""
    path = Path(file)
    if path.is_absolute() or Path(os.path.normpath(path)).parts[:1] == ("..",):
        raise ParamsError(f"file is {path}; expected a path inside this repository, where others find it too; copy it")
    if not path.is_file():
        raise ParamsError(f"file {path} does not exist; expected what {made_by} wrote; import or pull it first")
    found = files.sha256(path)
    if found != sha256:
        raise ArtifactError(
            f"{path} is not the file that the recipe means: found SHA-256 {found}, expected {sha256}; "
            f"put that file back, or write into the recipe in params.yaml: sha256: '{found}'"
        )
    return path


def read_for(method: Selection, material: Material) -> Material:
    """The same with the files that the recipe names, for methods that want some."""
    if isinstance(method, Imported):
        imported = artifact.load_synthetic(pinned(method.file, method.sha256, "distillkit import"))[0]
        return replace(material, imported=imported.to(material.real.images.device))
    wanted = getattr(method, "pretrained", None)
    if isinstance(wanted, Pretrained):
        return replace(material, pretrained=ExpertFiles([pinned(wanted.file, wanted.sha256, "an experts stage")]))
    return material


def learn(run: Distillation, name: str, checkpoint: Path, provenance: Mapping[str, Any]) -> None:
    """Take ``run`` to its end, from its checkpoint if there is one; a signal waits until a step is done and kept."""
    resumed(run, checkpoint)
    steps = shown(checkpointed(run, checkpoint, provenance), LIVE / name, tuple(run.history))
    for _ in track(steps, f"distil {name}", run.steps_left):
        pass


@click.command()
@click.argument("name")
@click.argument("real", type=Path)
@click.argument("experts", type=Path)
@click.argument("difficulty", type=Path)
@click.argument("out", type=Path)
@click.argument("loss_csv", type=Path)
def distill(name: str, real: Path, experts: Path, difficulty: Path, out: Path, loss_csv: Path) -> None:
    data = params.load()
    recipe, seed, shards = read_recipe(data, name), params.section(data, "seed", int), shard_paths(data, experts)
    source, generator = artifact.load_real(real), seeded(seed_for(seed, "distill"))
    checks.check_images(data, source.train)
    provenance = artifact.provenance_of(name, recipe.method_name, recipe.params, seed, source)
    trained: Experts = ExpertFiles(shards)
    used = [difficulty, *shards]
    if not uses_experts(recipe.method):  # then nothing of them is at hand, but what kind of networks they are
        trained, used = KindOfExperts(trained.spec), []
    material = read_for(recipe.method, read_material(recipe, source, trained, used[0] if used else None))

    settings = [recipe.params, seed, asdict(trained.spec)]
    with unfinished(f"distill-{name}", settings, [*files_of(Path(__file__)), real, *used]) as folder:
        compute = remembering(material.compute, folder, torch.Tensor)
        compute = replace(compute, finish=finishing(model_folder(recipe.params, seed, real), name))
        material = replace(material, compute=compute)
        synthetic, history = recipe.method.init(material, generator), []
        if recipe.optim is not None:
            distillation = Distillation(recipe.method, synthetic, material, recipe.optim, generator)
            learn(distillation, name, folder / "distillation.safetensors", provenance)
            synthetic, history = distillation.result(), distillation.history
        artifact.save_synthetic(out, synthetic, provenance)
        write_csv(loss_csv, *loss_table(history))
    clear(LIVE / name)


if __name__ == "__main__":
    run_stage(distill)
