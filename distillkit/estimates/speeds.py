"""Speeds of this machine: a few training steps and inner steps with a pipeline's networks, batches and sizes, on random
images.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from typing import Any, NamedTuple

import torch

from distillkit.base.device import prepare_device
from distillkit.base.machine import cores
from distillkit.base.params import section
from distillkit.base.randomness import seeded
from distillkit.data.augment import Augmentation
from distillkit.data.images import Iterate
from distillkit.estimates.resources import Images, Job, assumed
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.matching.kernels import EagerKernel
from distillkit.matching.unroll import plan, unroll
from distillkit.methods.learning.mtt import Matching
from distillkit.networks.parameters import flatten, forget_statistics
from distillkit.networks.specs import build_network
from distillkit.pipeline.recipes import read_recipe
from distillkit.training.compute import Precision
from distillkit.training.executors import TRAINED, UNROLLED, forward_flops, side_by_side
from distillkit.training.loop import Lot, constant, train
from distillkit.training.stacking import stack
from distillkit.training.trajectories import ExpertsSpec

SECONDS = 0.4  # duration of a measurement, after the first step
LARGEST = 2e10  # most FLOP of a measured step; for larger batches, a part is measured
SMALLEST = 2  # images of the smallest step
INNER = 3  # most inner steps of a measured unroll

Clock = Callable[[], float]  # the current second


class Speeds(NamedTuple):
    """In images per second: training of all experts, of all evaluation networks, of one network, unrolled training.

    ``step`` are the seconds of a training step with hardly any images.
    """

    experts: float
    evaluation: float
    training: float
    unrolled: float
    step: float = 0.0


class Shape(NamedTuple):
    """The form of a measured step: batch, networks trained as one, and workers in parallel."""

    batch: int
    networks: int = 1
    workers: int = 1
    augmentation: Augmentation = Augmentation()
    precision: Precision = "fp32"


def speeds_of(data: Mapping[str, Any], images: Images | None, clock: Clock | None = None) -> Speeds:
    """Measure the speeds in a few seconds of ``clock``. Raises ParamsError for invalid parameters.

    The usual clock on a CPU is the thread's own CPU time, so that other programs hardly change what is found.
    """
    clock = clock or (time.thread_time if prepare_device().type == "cpu" else time.perf_counter)
    images = images or assumed(data)
    spec, evaluation = section(data, "experts", ExpertsSpec), section(data, "evaluation", EvaluationRecipe)
    recipe, training = spec.recipe, evaluation.training
    experts, tested = Job(recipe.network, images, 0), Job(evaluation.network, images, 0)
    groups = tested.compute_on(prepare_device()).groups(range(evaluation.runs))
    together = Shape(recipe.batch, 1, spec.per_shard, recipe.augmentation, recipe.precision)
    stacked = Shape(training.batch, max(map(len, groups)), len(groups), training.augmentation, training.precision)
    alone, student = measured(experts, Shape(recipe.batch), clock), first_student(data, images)
    return Speeds(
        experts=measured(experts, together, clock),
        evaluation=measured(tested, stacked, clock),
        training=alone,
        unrolled=alone * TRAINED / UNROLLED if student is None else unrolled(experts, student, clock),
        step=SMALLEST / measured(experts, Shape(SMALLEST), clock),
    )


def first_student(data: Mapping[str, Any], images: Images) -> Matching | None:
    """The inner steps of the first recipe that has some, with batches no larger than its set."""
    for name in section(data, "recipes", dict[str, Any]):
        method = read_recipe(data, name).method
        if isinstance(matching := getattr(method, "matching", None), Matching):
            size = images.classes * int(getattr(method, "learned", getattr(method, "ipc", 0)))
            return replace(matching, student_batch=min(matching.student_batch, size))
    return None


def measured(job: Job, shape: Shape, clock: Clock) -> float:
    """Images per second of all workers together."""
    device = prepare_device()
    compute, classes = replace(job.compute_on(device), compile=False), job.images.classes
    most = int(LARGEST / (TRAINED * shape.networks * max(1, forward_flops(job.spec, job.images.shape, classes))))
    batch = max(2, min(shape.batch, most))
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
        return together * batch * steps_a_second(steps, device, clock)

    with one_thread_if(aside := compute.run is side_by_side):
        return sum(compute.run(work, range(min(cores(), shape.workers) if aside else 1)))


def unrolled(job: Job, matching: Matching, clock: Clock) -> float:
    """Images per second of inner steps and their way back, whose graphs are kept."""
    device, classes = prepare_device(), job.images.classes
    most = int(LARGEST / (UNROLLED * max(1, forward_flops(job.spec, job.images.shape, classes))))
    batch, count = max(2, min(matching.student_batch, most)), min(INNER, matching.student_steps)
    network = build_network(job.spec, job.images.shape, classes, 0)
    kernel, theta_P = EagerKernel(forget_statistics(network).to(device).train()), flatten(network.to(device))
    images_NCHW = torch.rand(batch, *job.images.shape, generator=seeded(0)).to(device).requires_grad_()
    iterate = Iterate(images_NCHW, torch.arange(batch, device=device) % classes, torch.tensor(0.01, device=device))
    generator = seeded(0)

    def steps() -> Iterator[None]:
        while True:
            inner = plan(batch, count, batch, matching.augmentation, generator)
            end_P = unroll(kernel, theta_P, iterate, inner, keep=count)[-1]
            torch.autograd.grad(end_P.square().sum(), images_NCHW)
            yield None

    with one_thread_if(job.compute_on(device).run is side_by_side):
        return count * batch * steps_a_second(steps(), device, clock)


@contextmanager
def one_thread_if(wanted: bool) -> Iterator[None]:
    """A block with one thread for each network, as where networks are trained side by side."""
    threads = torch.get_num_threads()
    try:
        if wanted:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def steps_a_second(steps: Any, device: torch.device, clock: Clock) -> float:
    """Steps per second of an endless training, without its first step."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock()

    next(steps)
    began = now()
    for done, _ in enumerate(steps, start=1):
        if (took := now() - began) > SECONDS:
            return done / took
    raise AssertionError("an endless training has ended")
