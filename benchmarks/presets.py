"""Every recipe of every preset, made small but with what decides whether it learns.

    python benchmarks/presets.py            # all of presets/
    python benchmarks/presets.py selmatch-cifar10 mtt-cifar10

Rows go to benchmarks/results/presets-cpu.json preset by preset, in the place of those of before.

Kept as they stand: the rates, momentum, the step size and its rate, decay, clipping, augmentation, normalisation, kinds
of network, and how many expert steps one student step has to cover. Made smaller: digits in three channels stand for
the source, width is divided by 8, expert epochs by 8, steps of experts and students by 5; there are 40 outer steps, and
fewer sets, runs and networks where a method takes several. Where a set has more than 100 images, a student's batch is
divided by 5 and the set so that a step shows each image as often; the rate of images is divided by 5, too, because an
image's share of a batch is five times as large.

A recipe that learns is right when its loss falls (the same draws before and after), its step size stays within a factor
of 100 of its start, and its images move. Others are right when they give finite images, and a network that is trained
on them by the preset's evaluation has a smaller loss than one that guesses.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import click
import torch
from record import rounded

from distillkit.base import params
from distillkit.base.errors import DistillkitError, DivergedError
from distillkit.base.files import pretty_json
from distillkit.base.params import section
from distillkit.base.randomness import seed_for, seeded
from distillkit.data.images import ImageSet, SyntheticSet, channel_statistics
from distillkit.data.whitening import zca
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.matching.distillation import Distillation
from distillkit.matching.method import Material
from distillkit.networks.specs import build_network
from distillkit.pipeline.recipes import read_recipe
from distillkit.sources import fetch
from distillkit.training.difficulty import SCORES
from distillkit.training.loop import Lot, constant, step_batches, train
from distillkit.training.score_file import ScoreSpec
from distillkit.training.trajectories import Dynamics, ExpertsInMemory, ExpertsSpec, record_expert

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks/results/presets-cpu.json"
FEWER = 5  # steps and batches
STEPS = 40
SOURCE = {"cifar10": (50_000, 10), "cifar100": (50_000, 100), "tiny-imagenet": (100_000, 200)}  # images, classes
CLASSES = 10


def scaled(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A preset's sections with smaller counts, as the head of this file says."""
    images, classes = SOURCE[source]
    experts = data["experts"]["recipe"]
    steps_an_epoch = math.ceil(images / experts["batch"] / FEWER)
    wide = "alexcifarnet" in str(data)  # which wants 32x32
    small = {
        **data,
        "data": {**data["data"], "source": {"kind": "digits"}, "size": [32, 32] if wide else [16, 16]},
        "experts": {
            "per_shard": 2,
            "recipe": {
                **experts,
                "network": narrow(experts["network"]),
                "epochs": max(2, math.ceil(experts["epochs"] / 8)),
                "batch": math.ceil(1347 / steps_an_epoch),
            },
        },
        "recipes": {name: scaled_recipe(recipe, classes) for name, recipe in data["recipes"].items()},
    }
    small["evaluation"] = {**data["evaluation"], "network": narrow(data["evaluation"]["network"])}
    if any("kept_apart" in recipe for recipe in data["recipes"].values()):
        small["experts"]["per_shard"] = 5
    return small


def narrow(network: Mapping[str, Any]) -> dict[str, Any]:
    return {**network, "width": network["width"] // 8} if "width" in network else dict(network)


def scaled_recipe(recipe: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """One recipe, on ten classes."""
    small = json.loads(json.dumps(recipe))
    if "ipc" in recipe:
        small["ipc"] = min(recipe["ipc"] if recipe["ipc"] <= 10 else max(10, recipe["ipc"] // 25), 60)
    if "student_steps" in recipe.get("matching", {}):
        small["ipc"], batch = set_and_batch(recipe, classes)
        small["matching"].update(scaled_stretch(recipe["matching"]), student_batch=batch)
        small["optim"]["image_lr"] *= batch / recipe["matching"]["student_batch"]
    elif "optim" in recipe and recipe["method"] == "dm":  # where a class's images share one mean
        small["optim"]["image_lr"] *= small["ipc"] / recipe["ipc"]
    if "optim" in recipe:
        small["optim"]["steps"] = STEPS
    if "window_start" in recipe:
        small["window_start"] = min(recipe["window_start"], 1 - (small["ipc"] + 2) / 134)
    small |= {name: least for name, least in {"real_batch": 128, "sets": 4, "runs": 2}.items() if name in recipe}
    if isinstance(recipe.get("replay", {}).get("step_size"), Mapping):
        small["replay"]["step_size"]["runs"] = 2
    return small if recipe["method"] != "diffusion" else scaled_diffusion(small)


def set_and_batch(recipe: Mapping[str, Any], classes: int) -> tuple[int, int]:
    """Images a class and a student's batch: the whole set where it was the whole set, else as many visits of each."""
    images, batch = recipe["ipc"] * classes, recipe["matching"]["student_batch"]
    shrink = FEWER if images > 100 else 1
    fewer = images // shrink if batch >= images else images // (shrink * FEWER)
    return min(60, max(1, fewer // CLASSES)), batch // shrink


def scaled_stretch(matching: Mapping[str, Any]) -> dict[str, int]:
    found = {"student_steps": max(2, round(matching["student_steps"] / FEWER))}
    for name in ("min_start_epoch", "first_max_start_epoch", "max_start_epoch"):
        if name in matching:
            found[name] = math.ceil(matching[name] / 8)
    if "widen_steps" in matching:
        found["widen_steps"] = STEPS // 2
    return found


def scaled_diffusion(recipe: dict[str, Any]) -> dict[str, Any]:
    """Generators of a few channels, trained for a moment."""
    model = recipe["model"]
    for part in (model, model.get("autoencoder", {})):
        if part:
            part["training"].update(steps=STEPS, batch=32)
    network = model["network"]
    network.update(
        {"widths": [width // 8 for width in network["widths"]], "layers": 1}
        if network["kind"] == "unet"
        else {"depth": 2}
    )
    if "autoencoder" in model:
        model["autoencoder"]["widths"] = [width // 8 for width in model["autoencoder"]["widths"]]
    recipe["sampling"]["steps"] = 5
    return recipe


@cache
def coloured_digits(size: int) -> ImageSet:
    """The training digits, each in a colour of its own."""
    data = fetch.fetch(params.read({"source": {"kind": "digits"}, "size": [size, size]}, fetch.DataSpec, "data"))
    grey_N1HW, train = data.train.images, data.train
    colour_N3 = 0.4 + 0.6 * torch.rand(len(train), 3, generator=seeded(0))
    return replace(train, images=(grey_N1HW * colour_N3[:, :, None, None]).round().to(torch.uint8))


def prepared(data: Mapping[str, Any]) -> Material:
    """Images, experts and difficulty, as the stages make them."""
    spec, experts = section(data, "data", fetch.DataSpec), section(data, "experts", ExpertsSpec)
    real = coloured_digits(spec.size[0])
    whitening = zca(real.images, spec.normalisation.eps) if isinstance(spec.normalisation, fetch.ZCA) else None
    normalisation = channel_statistics(real.images)._replace(whitening=whitening)
    trained = [
        record_expert(real, normalisation, experts.recipe, seeded(seed_for(0, "expert", member)))
        for member in range(experts.per_shard)
    ]
    dynamics = Dynamics(*(torch.stack(parts) for parts in zip(*(e.dynamics for e in trained), strict=True)))
    scores = (SCORES[name](dynamics) for name in (section(data, "score", ScoreSpec).name, "confidence"))
    trajectories = torch.stack([expert.trajectory_TP for expert in trained])
    return Material(real, normalisation, *scores, ExpertsInMemory(experts.recipe.network, trajectories))


def loss_of(run: Distillation, draws: int = 6) -> float:
    """The mean loss of the same draws whenever it is asked for; the run is left as it is."""
    iterate = [run.iterate()._replace(step=0, memory={}) for _ in range(draws)]
    losses = [run.method.loss(x, run.material, seeded(seed_for(0, "draw", i))).item() for i, x in enumerate(iterate)]
    return sum(losses) / draws


def learned(data: Mapping[str, Any], name: str, material: Material) -> tuple[SyntheticSet, dict[str, Any]]:
    """The set of one recipe, and what its learning says."""
    recipe, generator = read_recipe(data, name), seeded(seed_for(0, "distill"))
    start = recipe.method.init(material, generator)
    if recipe.optim is None:
        return start, {}
    run = Distillation(recipe.method, start, material, recipe.optim, generator)
    first = loss_of(run)
    sizes = [step.student_lr for step in run]
    moved = (run.iterate().images_NCHW - run.normalised_NCHW)[run.rows].detach().flatten(1).norm(dim=1)
    found = {"loss": [first, loss_of(run)], "move": moved.square().mean().sqrt().item()}
    if run.step_sizes is not None:
        found["step_size"] = [sizes[0], min(sizes), max(sizes), run.student_lr().mean().item()]
    return run.result(), found


def trained_on(synthetic: SyntheticSet, material: Material, data: Mapping[str, Any], steps: int = STEPS) -> float:
    """The mean loss of the last ten of a few updates by the preset's evaluation, its rate divided as its batch is."""
    recipe, generator = section(data, "evaluation", EvaluationRecipe), seeded(0)
    batch = min(32, recipe.training.batch)
    network = build_network(recipe.network, material.real.image_shape, CLASSES, seed=0)
    visits = train(
        network,
        [Lot(material.normalisation.apply(synthetic.images), synthetic.targets, generator, synthetic.learned)],
        zip(step_batches(len(synthetic), batch, steps, generator)),
        lr_at=constant(recipe.training.lr * batch / recipe.training.batch),
        momentum=recipe.training.momentum,
        weight_decay=recipe.training.weight_decay,
        augmentation=recipe.training.augmentation,
    )
    losses = [visit.loss.item() for visit in visits]
    return sum(losses[-10:]) / 10


def faults(row: Mapping[str, Any]) -> list[str]:
    """What is not as it should be."""
    found = []
    if "loss" in row and not row["loss"][1] < row["loss"][0]:
        found.append(f"the loss does not fall: {row['loss'][0]:.4g}, then {row['loss'][1]:.4g}")
    if (
        "step_size" in row
        and not row["step_size"][0] / 100 < row["step_size"][1] <= row["step_size"][2] < 100 * row["step_size"][0]
    ):
        found.append(f"the step size leaves a factor of 100: {row['step_size']}")
    if "move" in row and not row["move"] > 1e-3:
        found.append(f"images do not move: {row['move']:.2g}")
    if "trained_loss" in row and not row["trained_loss"] < math.log(CLASSES):
        found.append(f"its evaluation does not learn: loss {row['trained_loss']:.3g}")
    return found


def rows_of(preset: str) -> Iterator[dict[str, Any]]:
    """One row for each recipe of a preset."""
    data = scaled(params.load(ROOT / f"presets/{preset}.yaml"), next(name for name in SOURCE if preset.endswith(name)))
    material, judged = prepared(data), False
    for name in data["recipes"]:
        started = time.process_time()
        row: dict[str, Any] = {"preset": preset, "recipe": name, "method": data["recipes"][name]["method"]}
        try:
            synthetic, found = learned(data, name, material)
            row |= found
            if not synthetic.images.isfinite().all():
                raise DivergedError("images are not finite")
            if not judged and name != "full":
                judged, row["trained_loss"] = True, trained_on(synthetic, material, data)
            row["faults"] = faults(row)
        except DistillkitError as error:
            row["faults"] = [str(error)]
        yield row | {"cpu_s": round(time.process_time() - started, 1)}


@click.command()
@click.argument("presets", nargs=-1)
def main(presets: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    every = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
    for preset in presets or every:
        rows = []
        for row in rows_of(preset):
            rows.append(rounded(row))
            click.echo(json.dumps(rows[-1]))
        before = json.loads(OUT.read_text())["rows"] if OUT.exists() else []
        kept = [row for row in before if row["preset"] != preset]
        found = sorted([*kept, *rows], key=lambda row: row["preset"])
        OUT.write_text(pretty_json({"command": "python benchmarks/presets.py", "rows": found}))


if __name__ == "__main__":
    main()
