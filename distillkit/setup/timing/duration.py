"""An estimate of the pipeline's duration on this machine, from a few measured training steps.

The steps use the pipeline's networks, batches and sizes, on random images. Other passes are estimated as in
``training/executors.py``: a training step costs three forward passes, a step of an unroll twelve.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import repeat
from typing import Any, NamedTuple

import torch

from distillkit.base.device import prepare_device
from distillkit.base.machine import cores
from distillkit.base.params import section
from distillkit.base.randomness import seeded
from distillkit.data.augment import Augmentation
from distillkit.evaluation.evaluate import CURVE_IMAGES, EvaluationRecipe
from distillkit.matching.method import Method
from distillkit.networks.specs import build_network
from distillkit.pipeline.recipes import Recipe, read_recipe
from distillkit.setup.resources import Images, Job, assumed, scan_of, set_size
from distillkit.training.compute import Precision
from distillkit.training.executors import TRAINED, UNROLLED, forward_flops, side_by_side
from distillkit.training.loop import Lot, constant, train
from distillkit.training.stacking import stack
from distillkit.training.trajectories import ExpertsSpec

START = 2.5  # seconds for the imports of a stage
DECODED = 40e6  # values of JPEGs of usual sizes that a core decodes, resizes and hashes per second
SECONDS = 0.4  # duration of a measurement, after the first step
LARGEST = 2e10  # most FLOP of a measured step; for larger batches, a part is measured


class Speeds(NamedTuple):
    """Training speeds of this machine in images per second: all experts, all evaluation networks, one student."""

    experts: float
    evaluation: float
    student: float


class Shape(NamedTuple):
    """The form of a measured step: batch, networks trained as one, and workers in parallel."""

    batch: int
    networks: int = 1
    workers: int = 1
    augmentation: Augmentation = Augmentation()
    precision: Precision = "fp32"


def speeds_of(data: Mapping[str, Any], images: Images | None) -> Speeds:
    """Measure the speeds in a few seconds. Raises ParamsError for invalid parameters."""
    images = images or assumed(data)
    spec, evaluation = section(data, "experts", ExpertsSpec), section(data, "evaluation", EvaluationRecipe)
    recipe, training = spec.recipe, evaluation.training
    experts, tested = Job(recipe.network, images, 0), Job(evaluation.network, images, 0)
    groups = tested.compute_on(prepare_device()).groups(range(evaluation.runs))
    return Speeds(
        measured(experts, Shape(recipe.batch, 1, spec.per_shard, recipe.augmentation, recipe.precision)),
        measured(
            tested,
            Shape(training.batch, max(map(len, groups)), len(groups), training.augmentation, training.precision),
        ),
        measured(experts, Shape(recipe.batch)),
    )


def measured(job: Job, shape: Shape) -> float:
    """Images per second of all workers together."""
    device = prepare_device()
    compute, classes = replace(job.compute_on(device), compile=False), job.images.classes
    most = int(LARGEST / (TRAINED * shape.networks * max(1, forward_flops(job.spec, job.images.shape, classes))))
    batch, threads = max(2, min(shape.batch, most)), torch.get_num_threads()
    images_NCHW = compute.layout(torch.rand(batch, *job.images.shape, generator=seeded(0)).to(device))
    labels_N, rows = torch.arange(batch, device=device) % classes, torch.arange(batch)

    def work(_: int) -> float:
        networks = [
            compute.place(build_network(job.spec, job.images.shape, classes, 0), device) for _ in range(shape.networks)
        ]
        joint = stack(networks)
        together = 1 if joint is None else shape.networks
        lots = [Lot(images_NCHW, labels_N, seeded(0)) for _ in range(together)]
        steps = train(
            networks[0] if joint is None else joint,
            lots,
            repeat([rows] * together),
            lr_at=constant(0.0),
            momentum=0.9,
            weight_decay=0.0,
            augmentation=shape.augmentation,
            precision=shape.precision,
            compute=compute,
        )
        return together * batch * steps_a_second(steps, device)

    aside = compute.run is side_by_side
    try:
        if aside:
            torch.set_num_threads(1)
        return sum(compute.run(work, range(min(cores(), shape.workers) if aside else 1)))
    finally:
        torch.set_num_threads(threads)


def steps_a_second(steps: Any, device: torch.device) -> float:
    """Steps per second of an endless training, without its first step."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    next(steps)
    began = now()
    for done, _ in enumerate(steps, start=1):
        if (took := now() - began) > SECONDS:
            return done / took
    raise AssertionError("an endless training has ended")


def seconds_of(data: Mapping[str, Any], images: Images | None, speeds: Speeds) -> dict[str, float]:
    """Seconds of each stage, if they run one after another. Raises ParamsError for invalid parameters."""
    images = images or assumed(data)
    spec, evaluation = section(data, "experts", ExpertsSpec), section(data, "evaluation", EvaluationRecipe)
    shards = len(section(data, "expert_shards", list[int]))
    others = evaluation.with_others().values()
    values = images.stored / max(1, images.train + images.test)
    found = {
        "fetch": START + (images.train + images.test) * values / (DECODED * cores()),
        "experts": shards * (START + spec.visits(images.train) / speeds.experts),
        "score": START,
        "reference": tested_seconds(evaluation, images, images.train, speeds, curve=False),
    }
    for name in section(data, "recipes", dict[str, Any]):
        recipe = read_recipe(data, name)
        found[f"distill {name}"] = START + distill_visits(recipe, images) / speeds.student
        count = set_size(recipe, images)
        found[f"evaluate {name}"] = tested_seconds(evaluation, images, count, speeds)
        found[f"evaluate {name}"] += sum(other_seconds(evaluation, own, images, count, speeds) for own in others)
    return found | {"report": START, "package": START}


def tested_seconds(recipe: EvaluationRecipe, images: Images, count: int, speeds: Speeds, curve: bool = True) -> float:
    """Seconds to train the networks on a set of ``count`` images and test them."""
    points = max(0, recipe.curve_points - 1) * min(images.test, CURVE_IMAGES) if curve else 0
    trained = recipe.training.steps * (min(recipe.training.batch, count) if count else recipe.training.batch)
    return START + recipe.runs * (trained + (images.test + points) / TRAINED) / speeds.evaluation


def other_seconds(main: EvaluationRecipe, other: EvaluationRecipe, images: Images, count: int, speeds: Speeds) -> float:
    """Of testing with another network, whose speed follows from that of the main one by their FLOP."""
    flops = [max(1, forward_flops(each.network, images.shape, images.classes)) for each in (main, other)]
    return (tested_seconds(other, images, count, speeds, curve=False) - START) * flops[1] / flops[0]


def distill_visits(recipe: Recipe, images: Images) -> float:
    """The work of a distillation (window scan and student), as a number of images in training steps."""
    method, scan = recipe.method, scan_of(recipe)
    passes = UNROLLED / TRAINED if isinstance(method, Method) and method.student else 1.0
    learning = passes * recipe.visits(images.classes)
    if scan is None:
        return learning
    training = scan.training.steps * min(scan.training.batch, set_size(recipe, images))
    return learning + len(scan.candidates) * scan.runs * (training + scan.holdout * images.train / TRAINED)
