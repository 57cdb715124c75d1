"""`distillkit generator` and `distillkit sample`: a recipe's generator as a folder, and sets of any size from it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distillkit.base import params
from distillkit.base.arguments import check_new_artifact, check_new_folder
from distillkit.base.device import prepare_device
from distillkit.base.errors import ParamsError, counted
from distillkit.base.randomness import draw_seed, seed_for, seeded
from distillkit.data.files import artifact
from distillkit.data.files.real_images import load_real, real_file
from distillkit.data.images import made_set
from distillkit.generators.folder import DESCRIPTION, SavedGenerator, load_generator, save_generator
from distillkit.matching.method import Material
from distillkit.methods.generator.diffusion import Diffusion
from distillkit.pipeline.checkpoints import finishing
from distillkit.pipeline.recipes import read_recipe
from distillkit.pipeline.unfinished import model_folder
from distillkit.process.progress import tell
from distillkit.training.compute import Compute
from distillkit.training.executors import plan_compute
from distillkit.training.trajectories import ExpertsSpec


def build(name: str, folder: Path, real: Path) -> dict[str, Any]:
    """Write the generator of the recipe ``name``, trained unless a stage or an earlier call has done so."""
    data = params.load()
    recipe, seed = read_recipe(data, name), params.section(data, "seed", int)
    if not isinstance(recipe.method, Diffusion):
        raise ParamsError(f"recipe {name} has method {recipe.method_name}; expected diffusion; name another recipe")
    check_new_folder(folder)
    source, experts = load_real(real), params.section(data, "experts", ExpertsSpec)
    device, train = prepare_device(), source.train
    classes = len(train.class_names)
    compute = plan_compute(device, train.image_shape, experts.recipe.network, classes, recipe.visits(classes))
    compute = replace(compute, finish=finishing(model_folder(recipe.params, seed, real_file(real)), name))
    material = Material(train.to(device), source.normalisation.to(device), compute=compute)
    trained = recipe.method.trained(material, seed_of(seed))
    provenance = artifact.provenance_of(name, recipe.method_name, recipe.params, seed, source)
    save_generator(folder, SavedGenerator(trained, train.class_names, source.normalisation, provenance))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"path": str(folder), "recipe": name, "classes": classes, "bytes": size}


def seed_of(seed: int) -> int:
    """What the stage draws first."""
    return draw_seed(seeded(seed_for(seed, "distill")))


def draw(
    folder: Path, out: Path, per_class: int, sampling: Mapping[str, Any], seed: int | None, overwrite: bool = False
) -> dict[str, Any]:
    """Write a set of ``per_class`` images a class; ``sampling`` replaces the recipe's, ``seed`` its seed, where given.

    With as many images as the recipe has, and nothing replaced, it is the recipe's set, within rounding.
    """
    check_new_artifact("--out", out, overwrite)
    device = prepare_device()
    saved = load_generator(folder, device)
    own = saved.provenance["params"]
    given = {**own, "ipc": per_class, "sampling": {**own.get("sampling", {}), **sampling}}
    rest = {key: value for key, value in given.items() if key != "method"}
    method = params.read(rest, Diffusion, "params", folder / DESCRIPTION)
    seed = params.read(saved.provenance["seed"], int, "seed", folder / DESCRIPTION) if seed is None else seed
    pixels = method.images(saved.generator, seed_of(seed), Compute(channels_last=True, say=tell))
    synthetic = made_set(pixels, saved.class_names, saved.normalisation)
    artifact.save_synthetic(out, synthetic, {**saved.provenance, "params": given, "seed": seed})
    return {"path": str(out), "images": len(synthetic), "classes": len(saved.class_names), "seed": seed}


def built_lines(built: Mapping[str, Any]) -> Iterator[str]:
    """For people."""
    classes = counted(built["classes"], "class")
    yield f"{built['path']}: the generator of {built['recipe']}, {classes}, {built['bytes']:,} bytes"
    yield f"next: distillkit sample {built['path']} --per-class 100 --out set.safetensors"


def drawn_lines(drawn: Mapping[str, Any]) -> Iterator[str]:
    """For people."""
    images = f"{counted(drawn['images'], 'image')} of {counted(drawn['classes'], 'class')}"
    yield f"{drawn['path']}: {images}, seed {drawn['seed']}"
