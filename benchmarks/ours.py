"""Our side of the benchmarks: one thin adapter for each, from a case to a call of distillkit, and nothing else.

Another way to run ours is another entry of IMPLEMENTATIONS. The allocator is the worker's to set: on a CPU nothing here
touches it; on a GPU the kernels are as deterministic as in the stages.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from cases import CLASSES, DistillationCase, EvaluationCase, ExpertsCase, Implementation, Task, random_images
from torch import Tensor

from distillkit.base.device import prepare_device
from distillkit.base.randomness import seeded
from distillkit.data.augment import Augmentation
from distillkit.data.images import ImageSet, Normalisation, SyntheticSet
from distillkit.matching.distillation import Distillation, Optim
from distillkit.matching.method import Material
from distillkit.methods.learning.mtt import Matching, TrajectoryMatching
from distillkit.networks.parameters import flatten
from distillkit.networks.specs import build_network
from distillkit.training.compute import Compute, Precision
from distillkit.training.loop import TrainingRecipe, fit
from distillkit.training.trajectories import ExpertRecipe, ExpertsInMemory, record_expert

CLASS_NAMES = tuple(str(label) for label in range(CLASSES))


def real_images(count: int, side: int, device: torch.device) -> tuple[ImageSet, Normalisation]:
    """Noise as real images: already normalised, so the statistics are those of nothing to do."""
    images, labels = random_images(count, side, device)
    return ImageSet(images, labels, CLASS_NAMES), Normalisation(torch.zeros(3), torch.ones(3)).to(device)


def insist(line: str) -> None:
    """What is called compiled must be: here the eager code may not step in."""
    if line.startswith("cannot"):
        raise RuntimeError(line)


EAGER = Compute(channels_last=True)
COMPILED = Compute(channels_last=True, compile=True, say=insist)


def settle(device: torch.device) -> None:
    if device.type != "cpu":
        prepare_device()


def experts(case: ExpertsCase, device: torch.device, compute: Compute, precision: Precision = "fp32") -> Task:
    """An expert of one epoch, with the dynamics that ours records on the way."""
    settle(device)
    real, normalisation = real_images(case.images, case.side, device)
    recipe = ExpertRecipe(case.spec, epochs=1, batch=case.batch, lr=0.01, precision=precision)
    generator = seeded(0)

    def epoch() -> None:
        record_expert(real, normalisation, recipe, generator, compute=compute)

    return Task(run=epoch, warm=epoch)


def distillation(case: DistillationCase, device: torch.device, compute: Compute) -> Task:
    """One outer step of the real outer loop, half of the images learned."""
    settle(device)
    real, normalisation = real_images(case.ipc * CLASSES, case.side, device)
    start_P = flatten(build_network(case.spec, (3, case.side, case.side), CLASSES, seed=0))
    target_P = start_P + 0.01 * torch.randn(start_P.shape, generator=seeded(1))
    snapshots = ExpertsInMemory(case.spec, torch.stack([start_P, target_P])[None])
    material = Material(real, normalisation, experts=snapshots, compute=compute)
    learned = torch.arange(len(real), device=device) < len(real) // 2
    start = synthetic_set(real, normalisation, learned)

    def ready(steps: int) -> Distillation:
        matching = Matching(steps, case.batch, 1, 1, augmentation=Augmentation("dsa" if case.dsa else "none"))
        optim = Optim(steps=1, image_lr=1.0, student_lr_init=0.01, student_lr_lr=1e-3)
        return Distillation(TrajectoryMatching(case.ipc, matching), start, material, optim, seeded(2))

    whole, least = ready(case.steps), ready(1)
    return Task(run=lambda: discard(whole.advance()), warm=lambda: discard(least.advance()))


def evaluation(case: EvaluationCase, device: torch.device, compute: Compute, precision: Precision = "fp32") -> Task:
    """A fresh network trained for one epoch under 'combined' augmentation; neither side tests it."""
    settle(device)
    images, labels = random_images(case.images, case.side, device)
    learned = torch.arange(case.images, device=device) % 2 == 0
    steps = max(1, case.images // case.batch)
    recipe = TrainingRecipe(steps, case.batch, lr=0.01, augmentation=Augmentation("combined"), precision=precision)
    generator = seeded(0)

    def epoch() -> None:
        fit(case.spec, images, labels, CLASSES, recipe, generator, learned_N=learned, compute=compute)

    return Task(run=epoch, warm=epoch)


def synthetic_set(real: ImageSet, normalisation: Normalisation, learned: Tensor) -> SyntheticSet:
    rows = torch.arange(len(real), device=real.images.device)
    return SyntheticSet(real.images, real.labels, CLASS_NAMES, learned, rows, normalisation)


def discard(_: object) -> None:
    """For what a task computes and nobody reads."""


def trainings(prepare: Callable[..., Task]) -> dict[str, Implementation]:
    """The ways to run a training: eager or compiled, float32 or bfloat16."""
    ways: list[tuple[str, Compute]] = [("eager", EAGER), ("compiled", COMPILED)]
    precisions: list[Precision] = ["fp32", "bf16"]
    return {
        f"{name} {precision}": Implementation(partial(prepare, compute=compute, precision=precision), precision)
        for precision in precisions
        for name, compute in ways
    }


IMPLEMENTATIONS: dict[str, dict[str, Implementation]] = {
    "experts": trainings(experts),
    "distillation": {
        "eager, flat": Implementation(partial(distillation, compute=replace(EAGER, keep=0)), recomputed_steps=1),
        "eager, kept": Implementation(partial(distillation, compute=replace(EAGER, keep=1000))),
        "compiled": Implementation(partial(distillation, compute=COMPILED), recomputed_steps=1),
    },
    "evaluation": trainings(evaluation),
}
