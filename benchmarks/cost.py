"""How the cost of every method grows: measured exponents beside those of the formulas that estimates are made from.

    python benchmarks/cost.py                   # some three CPU minutes, in one process with one thread
    python benchmarks/cost.py --only mtt        # one case; the others keep what the results have of them
    python benchmarks/cost.py --again           # estimates anew, beside the seconds of before

Images are random ones of 1x8x8 around a mean of their class, networks are ConvNets of depth 2. A case is a job of small
size; each of its variables takes three values, one after the other, while the others stay. An exponent is the slope of
log(CPU seconds) over log(value), by least squares; seconds are the least of all rounds. ``formula`` is the same slope
of the estimate (``distillkit/estimates``), ``ratio`` the estimate over the measured seconds at the smallest values.

Fields: cases, by name, with measured_s and estimate_s at the smallest values, ratio, and exponents: for each variable
its values, seconds, measured and formula (null where the formula counts no work).
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import torch
from record import ROOT, aligned, conditions, options, write

from distillkit.base.params import read
from distillkit.base.randomness import seeded
from distillkit.data.images import ImageSet, RealData, all_of, channel_statistics
from distillkit.data.origin import SourceInfo
from distillkit.estimates.duration import START, made_seconds, tested_seconds
from distillkit.estimates.resources import Images
from distillkit.estimates.speeds import Speeds, speeds_of
from distillkit.estimates.work import work_of
from distillkit.evaluation.evaluate import EvaluationRecipe, evaluate
from distillkit.networks.specs import NetworkSpec
from distillkit.pipeline.make import make, material_for
from distillkit.pipeline.recipes import read_recipe
from distillkit.training.executors import chosen_compute
from distillkit.training.trajectories import ExpertRecipe, ExpertsInMemory, in_memory, record_expert

RESULTS = ROOT / "benchmarks/results/cost-cpu.json"
CLASSES, SIDE = 10, 8
TRAINING = {"steps": 20, "batch": 50, "lr": 0.05}
SCAN = {"candidates": [0.2, 0.4], "holdout": 0.2, "runs": 2, "training": TRAINING}
MATCHING = {"student_steps": 5, "student_batch": 50, "expert_epochs": 1, "max_start_epoch": 1}
STUDENT = {"steps": 4, "image_lr": 1.0, "student_lr_init": 0.01, "student_lr_lr": 0.0}
PLAIN = {"steps": 4, "image_lr": 0.1}
MODEL = {
    "network": {"kind": "unet", "widths": [16, 32], "layers": 1},
    "training": {"steps": 4, "batch": 32, "lr": 1e-3},
}


@dataclass(frozen=True)
class Case:
    """Settings of a recipe, ``images`` (N) to learn from, and the ``width`` of networks.

    ``grows`` names what is varied: settings have dots where they lie deeper; the first value is that of ``settings``.
    """

    settings: Mapping[str, Any]
    grows: Mapping[str, Sequence[int]]
    images: int = 1000
    width: int = 32


MANY = (40_000, 80_000, 160_000)
FEW = (1000, 2000, 4000)
CASES: dict[str, Case] = {
    "experts": Case({"epochs": 1, "batch": 64}, {"N": FEW, "epochs": (1, 2, 4), "width": (32, 64, 128)}),
    "evaluation": Case(
        {"ipc": 20, "runs": 2, **TRAINING}, {"steps": (20, 40, 80), "batch": (50, 100, 200), "runs": (2, 4, 8)}
    ),
    "random": Case({"ipc": 10}, {"N": MANY}, images=MANY[0]),
    "confident": Case({"ipc": 10}, {"N": MANY}, images=MANY[0]),
    "ccs": Case({"ipc": 10, "hardest_dropped": 0.1}, {"N": MANY}, images=MANY[0]),
    "dual": Case({"ipc": 10}, {"N": MANY}, images=MANY[0]),
    "window": Case(
        {"ipc": 10, "window_start": SCAN}, {"window_start.runs": (2, 4, 8), "window_start.training.steps": (20, 40, 80)}
    ),
    "herding": Case({"ipc": 10}, {"N": (8000, 16_000, 32_000), "ipc": (10, 20, 40)}, images=8000),
    "k-centre": Case({"ipc": 10}, {"N": (8000, 16_000, 32_000), "ipc": (10, 20, 40)}, images=8000),
    "moderate": Case({"ipc": 10}, {"N": (8000, 16_000, 32_000)}, images=8000),
    "optimised": Case(
        {"ipc": 10, "sets": 2, "runs": 1, "holdout": 0.2, "training": TRAINING},
        {"sets": (2, 4, 8), "training.steps": (20, 40, 80)},
    ),
    "kmeans": Case(
        {"ipc": 10, "tries": 1}, {"N": (20_000, 40_000, 80_000), "ipc": (10, 20, 40), "tries": (1, 2, 4)}, images=20_000
    ),
    "average": Case({"ipc": 1}, {"N": MANY}, images=MANY[0]),
    "rded": Case({"ipc": 5, "pool": 25, "crops": 2}, {"pool": (25, 50, 100), "crops": (2, 4, 8), "ipc": (5, 10, 20)}),
    "diffusion": Case(
        {"ipc": 2, "model": MODEL, "sampling": {"steps": 4}}, {"ipc": (2, 4, 8), "model.training.steps": (4, 8, 16)}
    ),
    "dd": Case(
        {"ipc": 5, "steps": 5, "epochs": 1, "networks": 1, "real_batch": 100, "optim": PLAIN},
        {"epochs": (1, 2, 4), "networks": (1, 2, 4), "optim.steps": (4, 8, 16)},
    ),
    "dm": Case(
        {"ipc": 10, "real_batch": 50, "optim": PLAIN},
        {"ipc": (10, 20, 40), "real_batch": (50, 100, 200), "optim.steps": (4, 8, 16)},
        images=4000,
    ),
    "dc": Case(
        {"ipc": 10, "matching": {"updates": 4, "inner_epochs": 2, "real_batch": 50}, "optim": PLAIN},
        {
            "ipc": (10, 20, 40),
            "matching.real_batch": (50, 100, 200),
            "matching.inner_epochs": (2, 4, 8),
            "optim.steps": (4, 8, 16),
        },
        images=4000,
    ),
    "dsa": Case(
        {"ipc": 10, "matching": {"updates": 4, "inner_epochs": 2, "real_batch": 50}, "optim": PLAIN},
        {"optim.steps": (4, 8, 16)},
        images=4000,
    ),
    "mtt": Case(
        {"ipc": 20, "matching": MATCHING, "optim": STUDENT},
        {
            "N": FEW,
            "ipc": (20, 40, 80),
            "matching.student_steps": (5, 10, 20),
            "matching.student_batch": (50, 100, 200),
            "optim.steps": (4, 8, 16),
            "width": (32, 64, 128),
        },
    ),
    "att": Case({"ipc": 10, "matching": MATCHING, "optim": STUDENT}, {"matching.student_steps": (5, 10, 20)}),
    "selmatch": Case(
        {"ipc": 10, "window_start": 0.2, "distill_fraction": 0.8, "matching": MATCHING, "optim": STUDENT},
        {"matching.student_steps": (5, 10, 20), "optim.steps": (4, 8, 16)},
    ),
    "ccfs": Case(
        {
            "ipc": 10,
            "distill_fraction": 0.5,
            "matching": MATCHING,
            "learning": STUDENT,
            "training": TRAINING,
            "rounds": 2,
        },
        {"rounds": (2, 4, 5), "learning.steps": (4, 8, 16)},
    ),
}


def with_value(case: Case, variable: str, value: int) -> Case:
    """The case with one variable changed."""
    if variable in ("N", "width"):
        return Case(case.settings, {}, *((value, case.width) if variable == "N" else (case.images, value)))
    settings = json.loads(json.dumps(case.settings))
    place, names = settings, variable.split(".")
    for name in names[:-1]:
        place = place[name]
    place[names[-1]] = value
    return Case(settings, {}, case.images, case.width)


@cache
def source(images: int) -> RealData:
    generator, names = seeded(0), tuple(map(str, range(CLASSES)))
    means = torch.rand(CLASSES, 1, SIDE, SIDE, generator=generator)

    def split(count: int) -> ImageSet:
        labels = torch.arange(count) % CLASSES
        noise = torch.rand(count, 1, SIDE, SIDE, generator=generator)
        return ImageSet((255 * (means[labels] + noise) / 2).byte(), labels, names)

    train, test = split(images), split(500)
    return RealData(train, test, channel_statistics(train.images), SourceInfo("", "", "", ""))


def network(case: Case) -> NetworkSpec:
    return NetworkSpec("convnet", "batch", 2, case.width)


@cache
def experts_of(width: int) -> ExpertsInMemory:
    """One expert that was trained for an epoch: what it has learned changes no cost."""
    spec, real = NetworkSpec("convnet", "batch", 2, width), source(1000)
    return in_memory(spec, [record_expert(real.train, real.normalisation, ExpertRecipe(spec, 1, 64, 0.01), seeded(0))])


def job_of(name: str, case: Case) -> tuple[Callable[[], object], Callable[[Speeds], float]]:
    """What a case does, and what the estimate says of it."""
    real, spec, settings = source(case.images), network(case), dict(case.settings)
    images = Images((1, SIDE, SIDE), CLASSES, case.images, 500)
    compute = chosen_compute(torch.device("cpu"), images.shape, spec, CLASSES, 1)
    if name == "experts":
        recipe = ExpertRecipe(spec, settings["epochs"], settings["batch"], 0.01)
        work = partial(record_expert, real.train, real.normalisation, recipe, seeded(0), compute)
        return work, lambda speeds: recipe.epochs * case.images / speeds.experts
    if name == "evaluation":
        runs, ipc = settings.pop("runs"), settings.pop("ipc")
        told = {"network": {"name": "convnet", "norm": "batch", "depth": 2, "width": case.width}, "training": settings}
        tested = read({**told, "runs": runs, "curve_points": 0}, EvaluationRecipe, "evaluation")
        small = all_of(real.train.take(torch.arange(ipc * CLASSES)), real.normalisation)
        work = partial(evaluate, small, real.test, tested, torch.zeros(500), seeded(0), compute)
        return work, lambda speeds: tested_seconds(tested, images, len(small), speeds, curve=False) - START
    made = read_recipe({"recipes": {name: {"method": name, **settings}}}, name)
    score_N = torch.rand(case.images, generator=seeded(0))
    material = material_for(made, real, experts_of(case.width), (score_N, score_N))
    return partial(make, made, material, 0, {}), lambda speeds: made_seconds(work_of(made, images, spec), speeds)


@cache
def speeds(width: int) -> Speeds:
    """Those of this machine, for networks of a width."""
    told = {"name": "convnet", "norm": "batch", "depth": 2, "width": width}
    data = {
        "experts": {"per_shard": 1, "recipe": {"network": told, "epochs": 1, "batch": 64, "lr": 0.01}},
        "evaluation": {"network": told, "training": TRAINING, "runs": 2},
        "recipes": {"mtt": {"method": "mtt", "ipc": 10, "matching": MATCHING, "optim": STUDENT}},
    }
    return speeds_of(data, Images((1, SIDE, SIDE), CLASSES, 1000, 500), time.process_time)


def seconds_of(work: Callable[[], object], rounds: int) -> float:
    """The least CPU seconds of all rounds, after one that is not counted where there are several."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def slope(values: Sequence[float], seconds: Sequence[float]) -> float:
    """Of log(seconds) over log(values), by least squares."""
    x, y = ([math.log(each) for each in part] for part in (values, seconds))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((one - mean_x) * (other - mean_y) for one, other in zip(x, y, strict=True))
    return above / sum((one - mean_x) ** 2 for one in x)


def measured(name: str, case: Case, rounds: int, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """A case at its smallest values, then every variable; with the seconds of ``before`` where they are known."""
    work, estimate = job_of(name, case)
    least = seconds_of(work, rounds + 1) if before is None else before["measured_s"]
    said = estimate(speeds(case.width))
    found: dict[str, Any] = {"measured_s": least, "estimate_s": said, "ratio": said / least, "exponents": {}}
    for variable, values in case.grows.items():
        cases = [with_value(case, variable, value) for value in values[1:]]
        jobs = [(grown, *job_of(name, grown)) for grown in cases]
        if before is None:
            took = [least, *(seconds_of(work, rounds) for _, work, _ in jobs)]
        else:
            took = before["exponents"][variable]["seconds"]
        told = [said, *(estimate(speeds(grown.width)) for grown, _, estimate in jobs)]
        found["exponents"][variable] = {
            "values": list(values),
            "seconds": took,
            "measured": slope(values, took),
            "formula": slope(values, told) if min(told) > 0 else None,
        }
    return found


def table(cases: Mapping[str, Any]) -> str:
    rows = [["case", "variable", "exponent, formula", "measured", "estimate / measured"]]
    for name, found in cases.items():
        for variable, each in found["exponents"].items():
            formula = "" if each["formula"] is None else f"{each['formula']:.2f}"
            rows.append([name, variable, formula, f"{each['measured']:.2f}", f"{found['ratio']:.2f}"])
    return aligned(rows)


@click.command()
@options(rounds=3)
@click.option("--only", "names", type=click.Choice(list(CASES)), multiple=True, help="Only this; may be repeated.")
@click.option("--again", is_flag=True, help="Measure nothing again, only estimate.")
def main(quick: bool, rounds: int, out: Path | None, names: Sequence[str], again: bool) -> None:
    """Measure, fit, and write what was found."""
    os.environ["SLURM_CPUS_PER_TASK"] = "1"  # no networks side by side
    torch.set_num_threads(1)
    known = {} if quick or not RESULTS.is_file() else json.loads(RESULTS.read_text())
    cases, kept = known.get("cases", {}), {"command": known["command"]} if known and (names or again) else {}
    for name in names or (["random"] if quick else CASES):
        cases[name] = measured(name, CASES[name], 1 if quick else rounds, cases[name] if again else None)
        click.echo(f"{name}: {json.dumps(cases[name])}", err=True)
        ordered = {each: cases[each] for each in CASES if each in cases}
        write({**conditions("cost"), **kept, "cases": ordered}, out, quick)
    click.echo(table(cases))


if __name__ == "__main__":
    main()
