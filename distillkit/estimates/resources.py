"""An estimate of the pipeline's memory on a CPU, from the numbers in params.yaml.

Images are read by rows, so only the experts' records grow with the number of images.

The peaks in ``benchmarks/results/demand-cpu.json`` are from new processes on two cores with the CUDA build of torch.
Cases of ``benchmarks/demand.py`` that are not in that file are estimated, not measured: compiled steps, bfloat16, kept
graphs beyond their budget, long trajectories.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from distillkit.base.errors import ParamsError
from distillkit.base.machine import cores
from distillkit.base.params import section
from distillkit.data.rows import CHUNK, IN_MEMORY, READY
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.matching.method import Method
from distillkit.matching.unroll import CPU_BUDGET
from distillkit.networks.parameters import flatten
from distillkit.networks.specs import Network, build_network
from distillkit.pipeline.recipes import Recipe, read_recipe
from distillkit.selection.window import WindowScan
from distillkit.sources.fetch import DataSpec
from distillkit.sources.readers import DigitsSource
from distillkit.training.compute import Compute
from distillkit.training.difficulty import SCORES
from distillkit.training.dynamics import DYNAMICS, MOVING
from distillkit.training.executors import TRAINED, UNROLLED, chosen_compute, side_by_side
from distillkit.training.trajectories import ExpertsSpec

MIB = 2**20
FLOAT, HALF = 4, 2  # bytes
BASE = (670 if torch.version.cuda else 370) * MIB  # a stage after its imports; without CUDA: a guess
LARGE = 210 * MIB  # in addition for a large network: counting its FLOP, and workspace of its layers
COMPILING = 500 * MIB  # in addition with compilation: a guess
STEP = 2  # memory of a training step, in copies of all layers' outputs
TRAINING = 4  # memory of a network that is trained, in copies of its parameters: gradient, momentum, update
TEST, TESTED = 4, 1000  # memory of testing, in copies of the largest layer's output, for this many images at a time
COPIES = 3  # of a block of images as floats while they are normalised
GRAPH = 1.33  # memory that a step of the unroll saves, in copies of all layers' outputs
SCATTERED = 1.2  # bytes allocated per byte of kept graphs
CLASSES, SHAPE, DIGITS = 10, (3, 32, 32), (1, 8, 8)  # assumed before the images are fetched
ADJOINT = 2  # additional memory of the backward pass, in graphs of one step
TENSORS = 13  # copies of a learned set, as floats: start, current values, gradients, next step, checkpoint
LEARNED = TENSORS + 1  # and the bytes of its file
RECORDED = sum(kind.itemsize for kind in DYNAMICS.values())  # bytes that an expert records per image and epoch
SCORING = 2  # memory of scoring, in copies of one expert's records as floats


@dataclass(frozen=True)
class Images:
    """The images: shape, number of classes, of training and of test images."""

    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int

    def floats(self, count: int) -> int:
        """Bytes of ``count`` images as float32."""
        channels, height, width = self.shape
        return FLOAT * count * channels * height * width

    @property
    def stored(self) -> int:
        """Bytes of all images as stored (uint8)."""
        return self.floats(self.train + self.test) // FLOAT

    @property
    def held(self) -> int:
        """Bytes of images in a stage's memory: small splits are in memory, large ones are read by rows."""
        splits = (self.floats(count) // FLOAT for count in (self.train, self.test))
        return sum(split for split in splits if split <= IN_MEMORY)

    def seen(self, count: int, at_once: int, workers: int = 1) -> int:
        """Bytes to normalise ``count`` images: few images all at once, many in one batch per worker."""
        if self.floats(count) <= READY:
            return self.floats(count) + COPIES * self.floats(min(count, self.chunk))
        return COPIES * workers * self.floats(at_once)

    @property
    def chunk(self) -> int:
        """The largest number of images that are tested at once."""
        return max(1, min(TESTED, CHUNK * FLOAT // self.floats(1)))


@dataclass(frozen=True)
class Job:
    """Networks of one kind that get ``visits`` images in all, each at the cost of ``passes`` forward passes."""

    spec: Network
    images: Images
    visits: int
    passes: int = TRAINED

    @property
    def compute(self) -> Compute:
        """How the stage will run this on a CPU."""
        return self.compute_on(torch.device("cpu"))

    def compute_on(self, device: torch.device) -> Compute:
        shape, classes = self.images.shape, self.images.classes
        with weightless(self.spec, shape):
            return chosen_compute(device, shape, self.spec, classes, self.visits, self.passes)

    @property
    def workers(self) -> int:
        """The number of workers that ``side_by_side`` starts."""
        return cores() if self.compute.run is side_by_side else 1

    @property
    def base(self) -> int:
        """Bytes of the process with its images, before the work."""
        compiling = COMPILING if self.compute.compile else 0
        return BASE + self.images.held + compiling + (0 if self.compute.run is side_by_side else LARGE)

    @property
    def theta(self) -> int:
        """Bytes of the parameters of one network."""
        return layers(self.spec, self.images.shape, self.images.classes)[0]

    @property
    def outputs(self) -> list[int]:
        """Bytes of each layer's output for one image."""
        return layers(self.spec, self.images.shape, self.images.classes)[1]


@cache
def layers(spec: Network, shape: tuple[int, int, int], classes: int) -> tuple[int, list[int]]:
    """Bytes of all parameters, and of each layer's output for one image."""
    found = list[int]()
    with torch.no_grad(), weightless(spec, shape):
        network = build_network(spec, shape, classes, seed=0).eval()
        for module in network.modules():
            if not list(module.children()) and not isinstance(module, nn.Identity):
                module.register_forward_hook(lambda _module, _inputs, output: found.append(output.numel() * FLOAT))
        network(torch.empty(1, *shape, device="meta"))
    return FLOAT * len(flatten(network)), found


@contextmanager
def weightless(spec: Network, shape: tuple[int, int, int]) -> Iterator[None]:
    """A block that builds and runs networks on the meta device, so that no network is too large.

    Raises ParamsError for sizes that no tensor can have.
    """
    try:
        with torch.device("meta"):
            yield
    except (RuntimeError, OverflowError, TypeError) as error:
        found = f"network {spec} for images of {shape[1]}x{shape[2]} cannot be built"
        reason = " ".join(str(error).split())[:80]
        raise ParamsError(f"params.yaml: {found} ({reason}); lower its width or data.size") from None


def peaks_of(data: Mapping[str, Any], images: Images | None) -> dict[str, int]:
    """Bytes at the peak of each demanding stage. Without ``images``, their shape is assumed and their number not
    counted.

    Raises ParamsError for invalid parameters.
    """
    images = images or assumed(data)
    spec, evaluation = section(data, "experts", ExpertsSpec), section(data, "evaluation", EvaluationRecipe)
    recipes = [read_recipe(data, name) for name in section(data, "recipes", dict[str, Any])]
    tested = Job(evaluation.network, images, evaluation.visits)
    largest = max((set_size(recipe, images) for recipe in recipes if recipe.method_name != "full"), default=0)
    whole = testing_peak(tested, evaluation, images.train, real_set(images, images.train))
    peaks = {
        "experts": experts_peak(spec, images),
        "score": score_peak(spec, images, len(section(data, "expert_shards", list[int]))),
        "reference": whole,
        "evaluate": testing_peak(tested, evaluation, largest, images.floats(largest)),
    }
    for recipe in recipes:
        if isinstance(recipe.method, Method):
            job = Job(spec.recipe.network, images, recipe.visits(images.classes), UNROLLED)
            peaks[f"distill {recipe.name}"] = distill_peak(recipe, job)
        if recipe.method_name == "full":
            peaks["evaluate full"] = whole
    return peaks


def set_size(recipe: Recipe, images: Images) -> int:
    """The number of images of a recipe's set."""
    return images.train if recipe.method_name == "full" else images.classes * int(getattr(recipe.method, "ipc", 0))


def real_set(images: Images, count: int) -> int:
    """Bytes of ``count`` unchanged images in addition to the source: small sets are floats in memory, large ones are
    read by rows.
    """
    return images.floats(count) if images.floats(count) // FLOAT <= IN_MEMORY else 0


def trajectory(spec: ExpertsSpec, job: Job) -> int:
    """Bytes of one expert's trajectory."""
    return (spec.recipe.epochs + 1) * job.theta


def recorded(spec: ExpertsSpec, images: Images) -> int:
    """Bytes of one expert's records about the images."""
    return RECORDED * spec.recipe.epochs * images.train


def experts_peak(spec: ExpertsSpec, images: Images) -> int:
    """Peak of the experts stage: each worker normalises the images; finished experts are in memory and joined at the
    end.
    """
    job = Job(spec.recipe.network, images, spec.visits(images.train))
    batch = min(spec.recipe.batch, images.train or spec.recipe.batch)
    step = STEP * batch * sum(job.outputs) + TRAINING * job.theta + images.seen(images.train, batch)
    probabilities = images.train * images.classes  # of this epoch and the one before
    step += 2 * HALF * probabilities if probabilities <= MOVING else 0
    expert = trajectory(spec, job) + recorded(spec, images)
    return job.base + min(job.workers, spec.per_shard) * step + 2 * spec.per_shard * expert


def score_peak(spec: ExpertsSpec, images: Images, shards: int) -> int:
    """Peak of the score stage: the records of one expert at a time, and all scores of all experts."""
    one = recorded(spec, images) + SCORING * FLOAT * spec.recipe.epochs * images.train
    return BASE + images.held + one + FLOAT * images.train * len(SCORES) * spec.per_shard * shards


def testing_peak(job: Job, recipe: EvaluationRecipe, count: int, held: int) -> int:
    """Peak of training networks on ``count`` images, which take ``held`` bytes, and of testing them."""
    images, batch = job.images, recipe.training.batch
    tested = min(images.chunk, images.test or TESTED)
    at_work = STEP * batch * sum(job.outputs) + TEST * tested * max(job.outputs)
    networks = min(recipe.runs, job.workers * job.compute.stack)
    seen = images.seen(images.test, images.chunk, job.workers) + images.seen(count, batch, networks)
    return job.base + networks * (at_work + TRAINING * job.theta) + seen + held


def distill_peak(recipe: Recipe, job: Job) -> int:
    """Peak of a distillation: the kept graphs of the unroll, or one step's if compiled; its parameter vectors; the
    images.
    """
    matching, images = getattr(recipe.method, "matching", None), job.images
    largest = getattr(recipe.method, "real_batch", 256)
    steps, batch = getattr(matching, "student_steps", 1), getattr(matching, "student_batch", largest)
    graph = round(GRAPH * batch * sum(job.outputs)) + job.theta
    kept = (
        0 if job.compute.compile else min(steps, CPU_BUDGET // graph if job.compute.keep is None else job.compute.keep)
    )
    replayed = graph if kept < steps else 0
    unrolled = round(SCATTERED * kept * graph) + ADJOINT * graph + replayed + 2 * steps * job.theta
    return job.base + unrolled + LEARNED * images.floats(set_size(recipe, images)) + scan_peak(recipe, images)


def scan_of(recipe: Recipe) -> WindowScan | None:
    """The recipe's scan of window starts, if it has one."""
    found = getattr(recipe.method, "window_start", None)
    return found if isinstance(found, WindowScan) else None


def scan_peak(recipe: Recipe, images: Images) -> int:
    """Bytes of the images that a scan holds out."""
    scan = scan_of(recipe)
    return 0 if scan is None else images.seen(round(scan.holdout * images.train), images.chunk)


def assumed(data: Mapping[str, Any]) -> Images:
    """The images as far as params.yaml describes them. Raises ParamsError for an invalid section ``data``."""
    spec = section(data, "data", DataSpec)
    channels, height, width = DIGITS if isinstance(spec.source, DigitsSource) else SHAPE
    shape = (channels, *(spec.size or (height, width)))
    return Images(shape, CLASSES, *((1347, 450) if shape == DIGITS else (0, 0)))
