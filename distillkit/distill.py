"""The outer loop: gradient steps on the learned images and the student's step size, whatever the method."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from distillkit.errors import DivergedError, check_positive, check_range
from distillkit.images import Iterate, SyntheticSet
from distillkit.protocol import Material, Method
from distillkit.settings import settings


@settings
class Optim:
    """The outer optimiser: SGD with momentum on images and on the logarithm of the student's step size.

    ``image_lr`` is in normalised pixels, as published. The step size is learned as its logarithm, so it stays
    above 0; a published rate r for the plain step size η corresponds to ``student_lr_lr`` = r / η² at the start.
    ``update_fraction`` below 1 changes, at each step, only that share of the learned images, those with the largest
    gradients: a reading of SelMatch found in the literature, though not in its code.
    """

    steps: int
    image_lr: float
    student_lr_init: float
    student_lr_lr: float
    momentum: float = 0.5
    update_fraction: float = 1.0

    def __post_init__(self) -> None:
        check_range("optim.steps", self.steps, 1)
        check_positive("optim.image_lr", self.image_lr)
        check_positive("optim.student_lr_init", self.student_lr_init)
        check_range("optim.student_lr_lr", self.student_lr_lr, 0)
        check_range("optim.momentum", self.momentum, 0, 0.9999)
        check_positive("optim.update_fraction", self.update_fraction)
        check_range("optim.update_fraction", self.update_fraction, 0, 1)


class Step(NamedTuple):
    """One outer step, counted from 1: its matching loss and the student's step size before the update."""

    step: int
    loss: float
    student_lr: float


class Distillation:
    """A run of the outer loop that can stop at any step and go on elsewhere: iterate over it, then take the result."""

    def __init__(self, method: Method, start: SyntheticSet, material: Material, optim: Optim, generator: Generator):
        self.method, self.start, self.material, self.optim, self.generator = method, start, material, optim, generator
        self.normalised_NCHW = start.normalisation.apply(start.images)
        self.rows = start.learned.nonzero().squeeze(1)
        self.learned_NCHW = self.normalised_NCHW[self.rows].requires_grad_()
        self.log_lr = torch.tensor(optim.student_lr_init, device=start.images.device).log().requires_grad_()
        self.optimizer = torch.optim.SGD(
            [
                {"params": [self.learned_NCHW], "lr": optim.image_lr},
                {"params": [self.log_lr], "lr": optim.student_lr_lr},
            ],
            lr=0.0,
            momentum=optim.momentum,
        )
        self.step = 0

    def __iter__(self) -> Iterator[Step]:
        while self.step < self.optim.steps:
            yield self.advance()

    def advance(self) -> Step:
        """One gradient step. Raises DivergedError, keeping the last good state, when the loss is not finite."""
        iterate = self.iterate()
        loss = self.method.loss(iterate, self.material, self.generator)
        self.optimizer.zero_grad()
        loss.backward()
        record = Step(self.step + 1, loss.item(), iterate.student_lr.item())
        self.check(record)
        with keep_small_gradients_still(self.learned_NCHW, self.optim.update_fraction):
            self.optimizer.step()
        self.step += 1
        return record

    def iterate(self) -> Iterate:
        images_NCHW = self.normalised_NCHW.index_copy(0, self.rows, self.learned_NCHW)
        return Iterate(images_NCHW, self.start.labels, self.log_lr.exp())

    def result(self) -> SyntheticSet:
        """The set as it stands: learned images back in pixel space, real ones bit for bit as they came."""
        pixels = self.start.normalisation.undo(self.learned_NCHW.detach())
        images = self.start.images.index_copy(0, self.rows, pixels)
        return replace(self.start, images=images, student_lr=self.log_lr.exp().item())

    def check(self, record: Step) -> None:
        gradients = [self.learned_NCHW.grad, self.log_lr.grad]
        if all(value.isfinite().all() for value in (torch.tensor(record.loss), *gradients) if value is not None):
            return
        raise DivergedError(
            f"distillation step {record.step}: the matching loss is {record.loss:g} and its gradient is not finite "
            f"(student step size {record.student_lr:g}, started at {self.optim.student_lr_init:g}); "
            f"lower optim.image_lr ({self.optim.image_lr:g}), optim.student_lr_lr ({self.optim.student_lr_lr:g}) "
            f"or optim.student_lr_init"
        )

    def state(self) -> dict[str, Tensor]:
        """Everything that the rest of the run depends on, as tensors."""
        return {
            "step": torch.tensor(self.step),
            "learned_images": self.learned_NCHW.detach(),
            "log_lr": self.log_lr.detach(),
            "image_momentum": self.momentum_of(self.learned_NCHW),
            "log_lr_momentum": self.momentum_of(self.log_lr),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a :meth:`state`, bit for bit as if never interrupted."""
        self.step = int(state["step"])
        with torch.no_grad():
            self.learned_NCHW.copy_(state["learned_images"])
            self.log_lr.copy_(state["log_lr"])
        if self.step:
            device = self.learned_NCHW.device
            self.optimizer.state[self.learned_NCHW]["momentum_buffer"] = state["image_momentum"].to(device)
            self.optimizer.state[self.log_lr]["momentum_buffer"] = state["log_lr_momentum"].to(device)
        self.generator.set_state(state["generator"])

    def momentum_of(self, variable: Tensor) -> Tensor:
        buffer = self.optimizer.state[variable].get("momentum_buffer")
        return torch.zeros_like(variable) if buffer is None else buffer


@contextmanager
def keep_small_gradients_still(images_NCHW: Tensor, update_fraction: float) -> Iterator[None]:
    """Around an optimiser step: all but the ``update_fraction`` of images with the largest gradients stay put."""
    if update_fraction == 1 or images_NCHW.grad is None:
        yield
        return
    moving = max(1, round(update_fraction * len(images_NCHW)))
    still = images_NCHW.grad.flatten(1).norm(dim=1).argsort(stable=True)[: len(images_NCHW) - moving]
    images_NCHW.grad[still] = 0
    before = images_NCHW.detach()[still].clone()
    yield
    with torch.no_grad():
        images_NCHW[still] = before
