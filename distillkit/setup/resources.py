"""What a pipeline will take on a CPU: an estimate of memory from the numbers of params.yaml.

Images are read by rows, so none of it grows with their number but what experts record of each.
Each peak in ``benchmarks/results/demand-cpu.json`` is of a fresh process on two cores with the CUDA build of torch.
Cases of ``benchmarks/demand.py`` that are not in that file are reasoned, not measured: compiled steps, bfloat16,
kept graphs beyond their budget, long trajectories.
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
from distillkit.data.networks import Network, build_network
from distillkit.data.parameters import flatten
from distillkit.data.rows import CHUNK, IN_MEMORY, READY
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.matching.method import Method
from distillkit.matching.unroll import CPU_BUDGET
from distillkit.methods.selection.window import WindowScan
from distillkit.pipeline.recipes import Recipe, read_recipe
from distillkit.sources.fetch import DataSpec
from distillkit.sources.readers import DigitsSource
from distillkit.training.compute import Compute
from distillkit.training.difficulty import SCORES
from distillkit.training.executors import TRAINED, UNROLLED, chosen_compute, side_by_side
from distillkit.training.trajectories import DYNAMICS, ExpertsSpec

MIB = 2**20
FLOAT = 4  # bytes
BASE = (670 if torch.version.cuda else 370) * MIB  # a stage that has imported what it needs; without CUDA: a guess
LARGE = 210 * MIB  # beside, where the network is large: what counts its FLOP, and what its layers need of their own
COMPILING = 500 * MIB  # beside, where it is compiled: a guess
STEP = 2  # what a training step takes, in copies of all layers' outputs
TEST, TESTED = 4, 1000  # what testing takes, in copies of the largest layer's output, of so many images at a time
COPIES = 3  # of a block of images as floats while they are normalised
GRAPH = 1.33  # what a step of the unroll saves, in copies of all layers' outputs
SCATTERED = 1.2  # what kept graphs take up for each of their bytes
CLASSES, SHAPE, DIGITS = 10, (3, 32, 32), (1, 8, 8)  # assumed before the images are fetched
ADJOINT = 2  # what the way back takes beside, in graphs of one step
TENSORS = 13  # copies of a set that is learned, as floats: its start, what changes, gradients, the next step
LEARNED = TENSORS + 1  # and the bytes of its file
RECORDED = sum(kind.itemsize for kind in DYNAMICS.values())  # bytes of what an expert records of an image in an epoch
SCORING = 2  # what scoring takes, in copies of what one expert recorded, as floats


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

    @property
    def held(self) -> int:
        """Bytes of them that a stage holds: splits that are small; others are read by rows."""
        splits = (self.floats(count) // FLOAT for count in (self.train, self.test))
        return sum(split for split in splits if split <= IN_MEMORY)

    def seen(self, count: int, at_once: int, workers: int = 1) -> int:
        """Bytes that it takes to normalise so many: all are held while they are few, else a batch for each worker."""
        if self.floats(count) <= READY:
            return self.floats(count) + COPIES * self.floats(min(count, self.chunk))
        return COPIES * workers * self.floats(at_once)

    @property
    def chunk(self) -> int:
        """How many are tested at once, at most."""
        return max(1, min(TESTED, CHUNK * FLOAT // self.floats(1)))


@dataclass(frozen=True)
class Job:
    """Networks of one kind that are shown ``visits`` images in all, each for ``passes`` forward passes."""

    spec: Network
    images: Images
    visits: int
    passes: int = TRAINED

    @property
    def compute(self) -> Compute:
        """How the stage will go about it on a CPU."""
        return self.compute_on(torch.device("cpu"))

    def compute_on(self, device: torch.device) -> Compute:
        shape, classes = self.images.shape, self.images.classes
        with weightless(self.spec, shape):
            return chosen_compute(device, shape, self.spec, classes, self.visits, self.passes)

    @property
    def workers(self) -> int:
        """As many as ``side_by_side`` starts."""
        return cores() if self.compute.run is side_by_side else 1

    @property
    def base(self) -> int:
        """Of the process with its images, before it does anything."""
        compiling = COMPILING if self.compute.compile else 0
        return BASE + self.images.held + compiling + (0 if self.compute.run is side_by_side else LARGE)

    @property
    def theta(self) -> int:
        """Bytes of its parameters."""
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


def peaks_of(data: Mapping[str, Any], images: Images | None) -> dict[str, int]:
    """Bytes at the peak of every stage that takes much; before anybody knows the images, without counting them.

    Raises ParamsError for parameters that cannot be read.
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
    """Images of a recipe's set."""
    return images.train if recipe.method_name == "full" else images.classes * int(getattr(recipe.method, "ipc", 0))


def real_set(images: Images, count: int) -> int:
    """Bytes that so many unchanged images take beside the source: small sets as floats, others are read by rows."""
    return images.floats(count) if images.floats(count) // FLOAT <= IN_MEMORY else 0


def trajectory(spec: ExpertsSpec, job: Job) -> int:
    """Bytes of one expert's parameters."""
    return (spec.recipe.epochs + 1) * job.theta


def recorded(spec: ExpertsSpec, images: Images) -> int:
    """Bytes of what one expert records of the images."""
    return RECORDED * spec.recipe.epochs * images.train


def experts_peak(spec: ExpertsSpec, images: Images) -> int:
    """Each worker normalises the images for itself; what experts record is held as it comes, and joined at the end."""
    job = Job(spec.recipe.network, images, spec.visits(images.train))
    batch = min(spec.recipe.batch, images.train or spec.recipe.batch)
    step = STEP * batch * sum(job.outputs) + images.seen(images.train, batch)
    expert = trajectory(spec, job) + recorded(spec, images)
    return job.base + min(job.workers, spec.per_shard) * step + 2 * spec.per_shard * expert


def score_peak(spec: ExpertsSpec, images: Images, shards: int) -> int:
    """What one expert after the other recorded, and all scores of each."""
    one = recorded(spec, images) + SCORING * FLOAT * spec.recipe.epochs * images.train
    return BASE + images.held + one + FLOAT * images.train * len(SCORES) * spec.per_shard * shards


def testing_peak(job: Job, recipe: EvaluationRecipe, count: int, held: int) -> int:
    """Networks trained on so many images, of which so many bytes are held, and the test images."""
    images, batch = job.images, recipe.training.batch
    tested = min(images.chunk, images.test or TESTED)
    at_work = STEP * batch * sum(job.outputs) + TEST * tested * max(job.outputs)
    networks = min(recipe.runs, job.workers * job.compute.stack)
    seen = images.seen(images.test, images.chunk, job.workers) + images.seen(count, batch, networks)
    return job.base + networks * (at_work + STEP * job.theta) + seen + held


def distill_peak(recipe: Recipe, job: Job) -> int:
    """The kept graphs of the unroll, or of one step where it is compiled; its parameter vectors; and the images."""
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
    """The scan of window starts that comes before a set is made, if there is one."""
    found = getattr(recipe.method, "window_start", None)
    return found if isinstance(found, WindowScan) else None


def scan_peak(recipe: Recipe, images: Images) -> int:
    """The images that a scan holds out."""
    scan = scan_of(recipe)
    return 0 if scan is None else images.seen(round(scan.holdout * images.train), images.chunk)


def assumed(data: Mapping[str, Any]) -> Images:
    """The images as far as params.yaml says what they are."""
    shape = shape_in(data)
    return Images(shape, CLASSES, 1347, 450) if shape == DIGITS else Images(shape, CLASSES, 0, 0)


def shape_in(data: Mapping[str, Any]) -> tuple[int, int, int]:
    """The image shape as far as params.yaml says it. Raises ParamsError as the stage fetch does."""
    spec = section(data, "data", DataSpec)
    channels, height, width = DIGITS if isinstance(spec.source, DigitsSource) else SHAPE
    return (channels, *spec.size) if spec.size else (channels, height, width)
