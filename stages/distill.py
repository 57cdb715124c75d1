"""Real images, experts and difficulty -> the synthetic set of one recipe and its loss curve."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

import os
from dataclasses import asdict, replace
from pathlib import Path

import click

from distillkit.base import files, params
from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.base.files import write_csv
from distillkit.data.files import artifact
from distillkit.data.files.real_images import load_real, real_file
from distillkit.matching.distillation import loss_table
from distillkit.matching.method import Material, Selection, uses_experts
from distillkit.matching.pretrained import Pretrained
from distillkit.methods.selection.imported import Imported
from distillkit.pipeline import checks
from distillkit.pipeline.code import files_of
from distillkit.pipeline.make import NO_SCORES, make, material_for
from distillkit.pipeline.recipes import read_recipe
from distillkit.pipeline.stage import run_stage
from distillkit.pipeline.unfinished import model_folder, unfinished
from distillkit.process.live_curves import LIVE, clear
from distillkit.training.expert_files import ExpertFiles, shard_paths
from distillkit.training.trajectories import Experts, KindOfExperts


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
        return replace(material, imported=imported.to(material.real.device))
    wanted = getattr(method, "pretrained", None)
    if isinstance(wanted, Pretrained):
        return replace(material, pretrained=ExpertFiles([pinned(wanted.file, wanted.sha256, "an experts stage")]))
    return material


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
    source = load_real(real)
    checks.check_images(data, source.train)
    provenance = artifact.provenance_of(name, recipe.method_name, recipe.params, seed, source)
    trained: Experts = ExpertFiles(shards)
    if uses_experts(recipe.method):
        used, scores = [difficulty, *shards], artifact.load_difficulty(difficulty, len(source.train))
    else:  # then nothing of them is at hand, but what kind of networks they are
        trained, used, scores = KindOfExperts(trained.spec), [], NO_SCORES
    material = read_for(recipe.method, material_for(recipe, source, trained, scores))

    settings = [recipe.params, seed, asdict(trained.spec)]
    with unfinished(f"distill-{name}", settings, [*files_of(Path(__file__)), real_file(real), *used]) as folder:
        models = model_folder(recipe.params, seed, real_file(real))
        synthetic, history = make(recipe, material, seed, provenance, folder, models, LIVE / name)
        artifact.save_synthetic(out, synthetic, provenance)
        write_csv(loss_csv, *loss_table(history))
    clear(LIVE / name)


if __name__ == "__main__":
    run_stage(distill)
