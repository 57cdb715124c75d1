"""What a pipeline will take on a CPU: an estimate of memory and disk from the numbers of params.yaml.

Within a factor of 1.5 of every peak in ``benchmarks/results/demand-cpu.json`` (0.87 to 1.30 times), each of a fresh
process on two cores with the CUDA build of torch. What ``benchmarks/demand.py`` has cases for but that file has not is
reasoned, not measured: compiled steps, bfloat16, kept graphs beyond their budget, long trajectories.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from distillkit.base.errors import ParamsError
from distillkit.base.machine import cores
from distillkit.base.params import section
from distillkit.data.networks import Network, build_network
from distillkit.data.parameters import flatten
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.matching.method import Method
from distillkit.matching.unroll import CPU_BUDGET
from distillkit.pipeline.recipes import Recipe, read_recipe
from distillkit.sources.fetch import DataSpec
from distillkit.sources.readers import DigitsSource
from distillkit.training.compute import Compute
from distillkit.training.executors import TRAINED, UNROLLED, chosen_compute, side_by_side
from distillkit.training.trajectories import ExpertsSpec

MIB = 2**20
FLOAT = 4  # bytes
BASE = (670 if torch.version.cuda else 370) * MIB  # a stage that has imported what it needs; without CUDA: a guess
LARGE = 210 * MIB  # beside, where the network is large: what counts its FLOP, and what its layers need of their own
COMPILING = 500 * MIB  # beside, where it is compiled: a guess
STEP = 2  # what a training step takes, in copies of all layers' outputs
TEST, TESTED = 4, 1000  # what testing takes, in copies of the largest layer's output, of so many images at a time
COPIES = 3  # of images as floats while they are normalised
GRAPH = 1.33  # what a step of the unroll saves, in copies of all layers' outputs
SCATTERED = 1.2  # what kept graphs take up for each of their bytes
CLASSES, SHAPE, DIGITS = 10, (3, 32, 32), (1, 8, 8)  # assumed before the images are fetched
ADJOINT = 2  # what the way back takes beside, in graphs of one step


@dataclass(frozen=True)
class Resources:
    """Bytes of memory at the peak of the largest stage, and of the expert trajectories of all ``shards`` on disk."""

    memory: int
    largest: str
    disk: int
    shards: tuple[int, ...]


@dataclass(frozen=True)
class Images:
    """What there is to train and to test on: shape of an image, number of classes and of images."""

    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int

    def floats(self, count: int) -> int:
        """Bytes of so many images as float32."""
        channels, height, width = self.shape
        return FLOAT * count * channels * height * width

    @property
    def stored(self) -> int:
        """Bytes of all of them as they are kept."""
        return self.floats(self.train + self.test) // FLOAT


@dataclass(frozen=True)
class Job:
    """Networks of one kind that are shown ``visits`` images in all, each for ``passes`` forward passes."""

    spec: Network
    images: Images
    visits: int
    passes: int = TRAINED

    @cached_property
    def compute(self) -> Compute:
        """How the stage will go about it."""
        shape, classes = self.images.shape, self.images.classes
        with weightless(self.spec, shape):
            return chosen_compute(torch.device("cpu"), shape, self.spec, classes, self.visits, self.passes)

    @property
    def workers(self) -> int:
        """As many as ``side_by_side`` starts."""
        return cores() if self.compute.run is side_by_side else 1

    @property
    def base(self) -> int:
        """Of the process with its images, before it does anything."""
        compiling = COMPILING if self.compute.compile else 0
        return BASE + self.images.stored + compiling + (0 if self.compute.run is side_by_side else LARGE)

    @cached_property
    def network(self) -> nn.Module:
        with weightless(self.spec, self.images.shape):
            return build_network(self.spec, self.images.shape, self.images.classes, seed=0)

    @property
    def theta(self) -> int:
        """Bytes of its parameters."""
        return FLOAT * len(flatten(self.network))

    @cached_property
    def outputs(self) -> list[int]:
        """Bytes of each layer's output for one image."""
        network, found = self.network.eval(), list[int]()
        for module in network.modules():
            if not list(module.children()) and not isinstance(module, nn.Identity):
                module.register_forward_hook(lambda _module, _inputs, output: found.append(output.numel() * FLOAT))
        with torch.no_grad(), weightless(self.spec, self.images.shape):
            network(torch.empty(1, *self.images.shape, device="meta"))
        return found


@contextmanager
def weightless(spec: Network, shape: tuple[int, int, int]) -> Iterator[None]:
    """A block that builds and runs networks without their numbers, so that none is too large to be looked at.

    Raises ParamsError for sizes that no tensor can have.
    """
    try:
        with torch.device("meta"):
            yield
    except (RuntimeError, OverflowError, TypeError) as error:
        found = f"network {spec} for images of {shape[1]}x{shape[2]} cannot be built"
        reason = " ".join(str(error).split())[:80]
        raise ParamsError(f"params.yaml: {found} ({reason}); lower its width or data.size") from None


def resources_of(data: Mapping[str, Any], images: Images | None) -> Resources:
    """The estimate. Raises ParamsError for parameters that cannot be read."""
    expected = assumed(data)
    peaks = peaks_of(data, images)
    largest = max(peaks, key=lambda name: peaks[name])
    spec, shards = section(data, "experts", ExpertsSpec), section(data, "expert_shards", list[int])
    disk = len(shards) * spec.per_shard * trajectory(spec, Job(spec.recipe.network, images or expected, 0))
    return Resources(peaks[largest], largest, disk, tuple(shards))


def peaks_of(data: Mapping[str, Any], images: Images | None) -> dict[str, int]:
    """Bytes at the peak of every stage that trains; before the images are fetched, without counting them."""
    images = images or assumed(data)
    spec, evaluation = section(data, "experts", ExpertsSpec), section(data, "evaluation", EvaluationRecipe)
    test = testing_peak(Job(evaluation.network, images, evaluation.visits), evaluation)
    reference = test + COPIES * images.floats(images.train)
    peaks = {"experts": experts_peak(spec, images), "reference": reference, "evaluate": test}
    for name in section(data, "recipes", dict[str, Any]):
        recipe = read_recipe(dict(data), name)
        if isinstance(recipe.method, Method):
            job = Job(spec.recipe.network, images, recipe.visits(images.classes), UNROLLED)
            peaks[f"distill {name}"] = distill_peak(recipe, job)
        if recipe.method_name == "full":
            peaks["evaluate full"] = reference
    return peaks


def trajectory(spec: ExpertsSpec, job: Job) -> int:
    """Bytes of one expert."""
    return (spec.recipe.epochs + 1) * job.theta


def experts_peak(spec: ExpertsSpec, images: Images) -> int:
    """Each worker normalises the images for itself; trajectories are held as they come, and joined at the end."""
    job = Job(spec.recipe.network, images, spec.visits(images.train))
    step = STEP * min(spec.recipe.batch, images.train or spec.recipe.batch) * sum(job.outputs)
    training = job.workers * (COPIES * images.floats(images.train) + step + trajectory(spec, job))
    return job.base + training + 2 * spec.per_shard * trajectory(spec, job)


def testing_peak(job: Job, recipe: EvaluationRecipe) -> int:
    """Networks trained on a small set, as many as are at work at once, and all test images."""
    tested = min(TESTED, job.images.test or TESTED)
    at_work = STEP * recipe.training.batch * sum(job.outputs) + TEST * tested * max(job.outputs)
    networks = min(recipe.runs, job.workers * job.compute.stack)
    return job.base + networks * (at_work + STEP * job.theta) + COPIES * job.images.floats(job.images.test)


def distill_peak(recipe: Recipe, job: Job) -> int:
    """The kept graphs of the unroll, or of one step where it is compiled; and its parameter vectors."""
    matching = getattr(recipe.method, "matching", None)
    largest = getattr(recipe.method, "real_batch", 256)
    steps, batch = getattr(matching, "student_steps", 1), getattr(matching, "student_batch", largest)
    graph = round(GRAPH * batch * sum(job.outputs)) + job.theta
    kept = (
        0 if job.compute.compile else min(steps, CPU_BUDGET // graph if job.compute.keep is None else job.compute.keep)
    )
    replayed = graph if kept < steps else 0
    return job.base + round(SCATTERED * kept * graph) + ADJOINT * graph + replayed + 2 * steps * job.theta


def assumed(data: Mapping[str, Any]) -> Images:
    """The images as far as params.yaml says what they are."""
    shape = shape_in(data)
    return Images(shape, CLASSES, 1347, 450) if shape == DIGITS else Images(shape, CLASSES, 0, 0)


def shape_in(data: Mapping[str, Any]) -> tuple[int, int, int]:
    """The image shape as far as params.yaml says it. Raises ParamsError as the stage fetch does."""
    spec = section(data, "data", DataSpec)
    channels, height, width = DIGITS if isinstance(spec.source, DigitsSource) else SHAPE
    return (channels, *spec.size) if spec.size else (channels, height, width)
