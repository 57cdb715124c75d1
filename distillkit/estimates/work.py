"""The work of making a set, in images that networks are shown: the formulas of docs/cost.md.

One image in a training step is the unit: TRAINED forward passes. Choosing rows by numbers that are there already
(random, window, ccs, ...) is no work.
"""

from math import ceil, prod
from typing import NamedTuple

import torch

from distillkit.estimates.resources import Images, scan_of, set_size
from distillkit.matching.method import Method
from distillkit.matching.replay import Replay, StepSizeScan
from distillkit.methods.generator.diffusion import Diffusion
from distillkit.methods.generator.image_generator import velocity
from distillkit.methods.generator.networks import new_denoiser
from distillkit.methods.learning.ccfs import CurriculumSelection
from distillkit.methods.learning.dc import DatasetCondensation, SiameseCondensation
from distillkit.methods.learning.dd import DatasetDistillation
from distillkit.methods.learning.dm import DistributionMatching
from distillkit.networks.specs import Network
from distillkit.pipeline.recipes import Recipe
from distillkit.selection.coresets import Herding, KCentre, Moderate
from distillkit.selection.means import Centroids, ClassMeans
from distillkit.selection.optimised import OptimisedSubset
from distillkit.selection.rded import RealisticCrops
from distillkit.training.executors import TRAINED, forward_flops
from distillkit.training.loop import TrainingRecipe

MATCHED = 3  # a gradient that is differentiated once more, in training steps
BACK = 4  # an inner step and its way back, in training steps
EMBEDDED = 2  # forward and backward pass of images alone, the network's parameters fixed; in forward passes
LLOYD = 100  # rounds of Lloyd's algorithm in one run of k-means; few for clear clusters, 300 at most
CROPPED = 1e-4  # seconds to cut out, resize and frame one crop


class Work(NamedTuple):
    """Images in training steps and in steps of an unroll; seconds of work that no network does; and steps with so few
    images that what a step takes anyhow counts, too.
    """

    trained: float = 0.0
    unrolled: float = 0.0
    seconds: float = 0.0
    steps: float = 0.0


def work_of(recipe: Recipe, images: Images, experts: Network) -> Work:
    """What a recipe's set takes, of networks like the experts'; with the scan of window starts, if there is one."""
    learns = isinstance(recipe.method, Method | CurriculumSelection)
    work = (learning_work if learns else choosing_work)(recipe, images, experts)
    if (scan := scan_of(recipe)) is None:
        return work
    tried = trained_and_tested(scan.training, set_size(recipe, images), scan.holdout * images.train)
    return work._replace(trained=work.trained + len(scan.candidates) * scan.runs * tried)


def learning_work(recipe: Recipe, images: Images, experts: Network) -> Work:
    """Outer steps of a method that learns images."""
    method, classes, count = recipe.method, images.classes, set_size(recipe, images)
    steps = recipe.optim.steps if recipe.optim else 0
    match method:
        case CurriculumSelection():
            unrolled = method.learning.steps * method.matching.visits(method.learned * classes)
            rounds = method.rounds * trained_and_tested(method.training, count, images.train)
            return Work(rounds + images.train / TRAINED, unrolled)
        case DatasetDistillation():
            runs = steps * method.networks
            share = runs * relative(method.network, experts, images)
            passes = runs * method.epochs
            return Work(share * method.real_batch, share * method.epochs * count, 0, BACK * passes * method.steps)
        case DistributionMatching():
            shown = EMBEDDED * method.ipc + min(method.real_batch, per_class(images))
            return Work(steps * relative(method.network, experts, images) * classes * shown / TRAINED)
        case DatasetCondensation() | SiameseCondensation():
            share = relative(method.matching.network, experts, images)
            return Work(steps * share * condensed(method, images), steps=steps * classes * (1 + MATCHED))
    visits = float(recipe.visits(classes))
    return Work(unrolled=visits) if getattr(method, "student", False) else Work(visits)


def choosing_work(recipe: Recipe, images: Images, experts: Network) -> Work:
    """What a method takes that learns no image."""
    method, classes, count = recipe.method, images.classes, set_size(recipe, images)
    one = TRAINED * max(1, forward_flops(experts, images.shape, classes))  # FLOP of an image in a training step
    match method:
        case OptimisedSubset(training=training, replay=replay):
            held_out = method.holdout * images.train
            tried = trained_and_tested(training, count, held_out) if training else replayed(replay, count, held_out)
            return Work(method.sets * method.runs * tried + scanned(replay, count, images))
        case Herding() | KCentre() | Moderate():
            return Work(method.experts * images.train / TRAINED)
        case RealisticCrops():
            crops = classes * min(method.pool, per_class(images)) * method.crops
            return Work(method.experts * crops / TRAINED, seconds=CROPPED * crops)
        case Centroids():
            flops = 2 * LLOYD * method.tries * images.train * method.ipc * prod(images.shape)
            return Work(flops / one + scanned(method.replay, count, images))
        case ClassMeans():
            return Work(scanned(method.replay, count, images))
        case Diffusion():
            return Work(generated(method, count, images) / one)
    return Work()


def per_class(images: Images) -> int:
    """Training images of a class, if all have as many."""
    return ceil(images.train / images.classes)


def trained_and_tested(training: TrainingRecipe, count: int, tested: float) -> float:
    """A network trained on ``count`` images, and tested."""
    return training.steps * min(training.batch, count) + tested / TRAINED


def condensed(method: DatasetCondensation | SiameseCondensation, images: Images) -> float:
    """One outer step: gradients of real images, those of learned ones and their way back, training in between."""
    matching, classes = method.matching, images.classes
    real = min(matching.real_batch, per_class(images))
    between = matching.visits(method.ipc, classes) - classes * (method.ipc + matching.real_batch)
    return classes * (MATCHED * method.ipc + real) + between


def replayed(replay: Replay | None, count: int, tested: float) -> float:
    """A network that is shown a set in a fixed order, and tested."""
    return 0.0 if replay is None else replay.epochs * count + tested / TRAINED


def scanned(replay: Replay | None, count: int, images: Images) -> float:
    """The choice of a step size."""
    if replay is None or not isinstance(scan := replay.step_size, StepSizeScan):
        return 0.0
    return len(scan.candidates) * scan.runs * replayed(replay, count, scan.holdout * images.train)


def generated(method: Diffusion, count: int, images: Images) -> float:
    """FLOP of a generator's training and of its samples; what an autoencoder takes is not counted."""
    low, high = method.sampling.guided
    twice = 0.0 if method.sampling.guidance == 1 else high - low
    sampled = method.sampling.steps * (1 + twice) * count
    training = method.model.training
    return denoiser_flops(method, images) * (TRAINED * training.steps * training.batch + sampled)


def denoiser_flops(method: Diffusion, images: Images) -> int:
    """Of a forward pass for one image. Raises ParamsError where diffusers is not installed."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        denoiser = new_denoiser(method.model, images.shape, images.classes, 0)
        one = torch.zeros(1, dtype=torch.long)
        velocity(denoiser, torch.empty(1, *method.model.noise_shape(images.shape)), one, one)
    return int(counter.get_total_flops())


def relative(network: Network | None, experts: Network, images: Images) -> float:
    """FLOP of a network of the recipe's own, in those of the experts'."""
    if network is None:
        return 1.0
    own, theirs = (forward_flops(each, images.shape, images.classes) for each in (network, experts))
    return own / max(1, theirs)
