"""What a benchmark measures: the sizes of one case, and the random data of CIFAR's shape that every side of it gets.

A *task* is one case made ready by one implementation; calling ``run`` does the work of ``Case.units`` units once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from distillkit.base.randomness import seeded
from distillkit.networks.specs import NetworkSpec
from distillkit.training.compute import Precision

CLASSES = 10


class Task(NamedTuple):
    """``run`` does a case's work once; ``warm`` does the least of it that loads and compiles what ``run`` needs."""

    run: Callable[[], None]
    warm: Callable[[], None]


class Implementation(NamedTuple):
    """One way to do a case: ``prepare`` makes it ready on a device, ``precision`` says which ceiling is its own.

    ``recomputed_steps`` is how many training steps it does for each unit beyond the work that the reference does: 1 for
    an unroll that computes every step a second time instead of keeping its graph.
    """

    prepare: Callable[..., Task]
    precision: Precision = "fp32"
    recomputed_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class Sized:
    """The network of a case, and the side of its images."""

    network: Literal["convnet", "resnet18"] = "convnet"
    width: int = 128
    depth: int = 3
    side: int = 32

    @property
    def spec(self) -> NetworkSpec:
        return NetworkSpec(self.network, "batch", self.depth, self.width)


@dataclass(frozen=True)
class ExpertsCase(Sized):
    """One epoch of an expert; a unit is an image visited."""

    images: int
    batch: int = 256

    @property
    def units(self) -> int:
        return self.images


@dataclass(frozen=True)
class DistillationCase(Sized):
    """One outer step of trajectory matching, half of the images learned; a unit is an inner step.

    ``dsa`` augments every inner batch by one drawn operation, as the published recipes do.
    """

    steps: int = 5
    batch: int = 125
    ipc: int = 50
    dsa: bool = False

    @property
    def units(self) -> int:
        return self.steps


@dataclass(frozen=True)
class EvaluationCase(Sized):
    """One epoch of a fresh network on a synthetic set, every other image learned; a unit is an image visited."""

    images: int
    batch: int = 128

    @property
    def units(self) -> int:
        return self.images


Case = ExpertsCase | DistillationCase | EvaluationCase
CASES: dict[str, type[Case]] = {
    "experts": ExpertsCase,
    "distillation": DistillationCase,
    "evaluation": EvaluationCase,
}


def random_images(count: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise: normalised images (count, 3, side, side), float32, and labels (count,) that go round the classes."""
    images = torch.randn(count, 3, side, side, generator=seeded(0))
    return images.to(device), (torch.arange(count) % CLASSES).to(device)
