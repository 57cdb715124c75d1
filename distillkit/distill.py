"""The outer loop: gradient steps on the learned images and the student's step size, whatever the method."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from distillkit.errors import DivergedError, check_positive, check_range
from distillkit.images import Iterate, SyntheticSet
from distillkit.protocol import Material, Method
from distillkit.settings import settings
from distillkit.training import sgd_


@settings
class Optim:
    """The outer optimiser: SGD with momentum on images and on the logarithm of the student's step size.

    ``image_lr`` is in normalised pixels, as published. The step size is learned as its logarithm, so it stays
    above 0; a published rate r for the plain step size η corresponds to ``student_lr_lr`` = r / η² at the start.
    ``update_fraction`` below 1 changes, at each step, only that share of the learned images, those with the largest
    gradients: a reading of SelMatch found in the literature, though not in its code. ``max_move`` clips: gradients of
    long unrolls explode now and then, and one such step can undo all others; the published methods do not clip.
    """

    steps: int
    image_lr: float
    student_lr_init: float
    student_lr_lr: float
    momentum: float = 0.5
    update_fraction: float = 1.0
    max_move: float | None = None

    def __post_init__(self) -> None:
        check_range("optim.steps", self.steps, 1)
        check_positive("optim.image_lr", self.image_lr)
        check_positive("optim.student_lr_init", self.student_lr_init)
        check_range("optim.student_lr_lr", self.student_lr_lr, 0)
        check_range("optim.momentum", self.momentum, 0, 0.9999)
        check_positive("optim.update_fraction", self.update_fraction)
        check_range("optim.update_fraction", self.update_fraction, 0, 1)
        if self.max_move is not None:
            check_positive("optim.max_move", self.max_move)


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
        self.image_velocity_NCHW = torch.zeros_like(self.learned_NCHW)
        self.log_lr_velocity = torch.zeros_like(self.log_lr)
        self.history: list[Step] = []

    def __iter__(self) -> Iterator[Step]:
        while len(self.history) < self.optim.steps:
            yield self.advance()

    def advance(self) -> Step:
        """One gradient step. Raises DivergedError, keeping the last good state, when the loss is not finite."""
        iterate = self.iterate()
        loss = self.method.loss(iterate, self.material, self.generator)
        image_gradient_NCHW, log_lr_gradient = torch.autograd.grad(loss, [self.learned_NCHW, self.log_lr])
        record = Step(len(self.history) + 1, loss.item(), iterate.student_lr.item())
        self.check(record, image_gradient_NCHW, log_lr_gradient)
        optim = self.optim
        scale = clip_factor(image_gradient_NCHW, optim)
        image_gradient_NCHW, log_lr_gradient = image_gradient_NCHW * scale, log_lr_gradient * scale
        moving = largest_gradients(image_gradient_NCHW, optim.update_fraction)
        sgd_rows_(self.learned_NCHW, image_gradient_NCHW, self.image_velocity_NCHW, moving, optim)
        sgd_([self.log_lr], [log_lr_gradient], [self.log_lr_velocity], lr=optim.student_lr_lr, momentum=optim.momentum)
        self.history.append(record)
        return record

    @property
    def steps_left(self) -> int:
        return self.optim.steps - len(self.history)

    def iterate(self) -> Iterate:
        images_NCHW = self.normalised_NCHW.index_copy(0, self.rows, self.learned_NCHW)
        return Iterate(images_NCHW, self.start.labels, self.log_lr.exp(), self.start.learned)

    def result(self) -> SyntheticSet:
        """The set as it stands: learned images back in pixel space, real ones bit for bit as they came."""
        pixels = self.start.normalisation.undo(self.learned_NCHW.detach())
        images = self.start.images.index_copy(0, self.rows, pixels)
        return replace(self.start, images=images, student_lr=self.log_lr.exp().item())

    def check(self, record: Step, *gradients: Tensor) -> None:
        if all(value.isfinite().all() for value in (torch.tensor(record.loss), *gradients)):
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
            "history": torch.tensor(self.history, dtype=torch.float64).view(-1, 3),
            "learned_images": self.learned_NCHW.detach(),
            "log_lr": self.log_lr.detach(),
            "image_velocity": self.image_velocity_NCHW,
            "log_lr_velocity": self.log_lr_velocity,
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a :meth:`state`, bit for bit as if never interrupted."""
        self.history = [Step(int(step), loss, lr) for step, loss, lr in state["history"].tolist()]
        with torch.no_grad():
            self.learned_NCHW.copy_(state["learned_images"])
            self.log_lr.copy_(state["log_lr"])
            self.image_velocity_NCHW.copy_(state["image_velocity"])
            self.log_lr_velocity.copy_(state["log_lr_velocity"])
        self.generator.set_state(state["generator"])


def clip_factor(gradient_NCHW: Tensor, optim: Optim) -> Tensor:
    """What to scale gradients by, so that the root mean square of η ‖∇x‖ over images is at most ``optim.max_move``."""
    move = optim.image_lr * gradient_NCHW.flatten(1).square().sum(1).mean().sqrt()
    limit = move if optim.max_move is None else move.clamp(max=optim.max_move)
    return torch.where(move > 0, limit / move, torch.ones_like(move))


def largest_gradients(gradient_NCHW: Tensor, update_fraction: float) -> Tensor:
    """Rows of the images that move at this step: the share with the largest gradient norms, at least one."""
    norm_N = gradient_NCHW.flatten(1).norm(dim=1)
    moving = max(1, round(update_fraction * len(norm_N)))
    rows: Tensor = norm_N.argsort(descending=True, stable=True)[:moving].sort().values
    return rows


def sgd_rows_(images_NCHW: Tensor, gradient_NCHW: Tensor, velocity_NCHW: Tensor, moving: Tensor, optim: Optim) -> None:
    """One step of SGD on the images that move; the others keep their pixels and their velocity."""
    with torch.no_grad():
        rows, velocity = images_NCHW[moving], velocity_NCHW[moving]
        sgd_([rows], [gradient_NCHW[moving]], [velocity], lr=optim.image_lr, momentum=optim.momentum)
        images_NCHW[moving], velocity_NCHW[moving] = rows, velocity
