"""The outer optimiser: the update of everything that a method learns.

Axes: N images; C, H, W channels, height, width.
"""

from types import EllipsisType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from distillkit.base.errors import ParamsError, check_positive, check_range, shown
from distillkit.base.settings import settings
from distillkit.training.update_rules import adam_, sgd_

Rows = Tensor | EllipsisType

ADAM_DECAYS = (0.5, 0.999)  # those of Wang et al. 2018


@settings
class Optim:
    """The outer optimiser, for images and everything else that a method learns.

    ``image_lr`` applies to normalised pixels, as in publications. ``student_lr_lr`` applies to the student's step sizes
    relative to their start, see :class:`StepSizes`; a published rate r for a plain step size that starts at η₀ is
    ``student_lr_lr`` = r / η₀². ``label_lr`` applies to the logits of soft labels; without it, labels do not change.
    ``rule: adam`` ignores momentum. All rates are multiplied by ``decay`` every ``decay_every`` steps. A step whose
    loss is above ``skip_above`` changes nothing.

    With ``update_fraction`` below 1, each step changes only that share of the learned images, those with the largest
    gradients. This interpretation of SelMatch is found in the literature, but not in its code.

    ``max_move`` limits how far a step moves the images: the root mean square, over the images that move, of each
    image's distance in normalised pixels. The whole step is shortened to this limit. Gradients of long unrolls
    sometimes explode, and one such step can destroy the result of all others; the published methods do not clip.

    With ``image_average`` d the result is not the last images x but their moving average a, which starts at the initial
    images: a ← d a + (1 − d) x after each step (FTD, Du et al. 2023, and ATT). Labels and step sizes are not averaged.

    ``snapshots`` is the number of intermediate states, evenly spaced, that are saved for ``distillkit look``. They do
    not change the result.
    """

    steps: int
    image_lr: float
    student_lr_init: float | None = None
    student_lr_lr: float = 0.0
    momentum: float = 0.5
    update_fraction: float = 1.0
    max_move: float | None = None
    label_lr: float | None = None
    label_momentum: float = 0.9
    rule: Literal["sgd", "adam"] = "sgd"
    decay: float = 1.0
    decay_every: int | None = None
    skip_above: float | None = None
    image_average: float | None = None
    snapshots: int = 0

    def __post_init__(self) -> None:
        check_range("optim.steps", self.steps, 1)
        for name in ("image_lr", "student_lr_init", "update_fraction", "max_move", "label_lr", "decay", "skip_above"):
            check_positive(f"optim.{name}", getattr(self, name))
        check_range("optim.student_lr_lr", self.student_lr_lr, 0)
        check_range("optim.momentum", self.momentum, 0, 0.9999)
        check_range("optim.label_momentum", self.label_momentum, 0, 0.9999)
        check_range("optim.update_fraction", self.update_fraction, 0, 1)
        check_range("optim.decay", self.decay, 0, 1)
        check_range("optim.image_average", self.image_average, 0, 0.99999)
        check_range("optim.decay_every", self.decay_every, 1)
        check_range("optim.snapshots", self.snapshots, 0, 1000)
        if self.decay < 1 and self.decay_every is None:
            raise ParamsError(f"optim.decay is {self.decay:g}, but decay_every is missing; add it, or remove decay")
        if self.decay == 1 and self.decay_every is not None:
            found = f"optim.decay_every is {shown(self.decay_every)}, but decay is 1"
            raise ParamsError(f"{found}; expected it below 1; add decay, or remove decay_every")

    @property
    def snapshot_steps(self) -> set[int]:
        """The steps after which a snapshot is taken; never the last step, because the set itself shows that state."""
        parts = self.snapshots + 1
        return {step for k in range(1, parts) if 0 < (step := round(k * self.steps / parts)) < self.steps}

    def rate(self, lr: float, step: int) -> float:
        """``lr`` after ``step`` steps."""
        return lr if self.decay_every is None else lr * self.decay ** (step // self.decay_every)


class Moved(NamedTuple):
    """A value and its optimiser moments after one step."""

    value: Tensor
    first: Tensor
    second: Tensor


class Learned:
    """A learned tensor and its optimiser moments.

    With ``least_share``, a positive value stays positive: one step reduces it to no less than that share.
    """

    def __init__(self, value: Tensor, lr: float, momentum: float, least_share: float | None = None):
        self.value, self.lr, self.momentum = value.detach().clone().requires_grad_(), lr, momentum
        self.moments = [torch.zeros_like(self.value), torch.zeros_like(self.value)]
        self.least_share = least_share

    @torch.no_grad()
    def step(self, gradient: Tensor, optim: Optim, done: int, rows: Rows = ...) -> Moved:
        """The value and moments of ``rows`` after step ``done`` (from 0) against the gradient. Changes nothing."""
        value, gradient, first, second = (x[rows].clone() for x in (self.value, gradient, *self.moments))
        lr = optim.rate(self.lr, done)
        if optim.rule == "adam":
            adam_([value], [gradient], [first], [second], lr=lr, decays=ADAM_DECAYS, step=done + 1)
        else:
            sgd_([value], [gradient], [first], lr=lr, momentum=self.momentum)
        return Moved(value, first, second)

    @torch.no_grad()
    def take_(self, moved: Moved, share: Tensor, optim: Optim, rows: Rows = ...) -> None:
        """Apply ``share`` of a step. SGD's velocity is scaled too, so that a clipped step does not affect later
        steps.
        """
        before = self.value[rows].clone()
        value = before.lerp(moved.value, share)
        if self.least_share is not None:
            value = torch.maximum(value, self.least_share * before)
        self.value[rows], self.moments[1][rows] = value, moved.second
        self.moments[0][rows] = moved.first * share if optim.rule == "sgd" else moved.first


class StepSizes:
    """The student's step sizes η, one for all steps or one per step, learned as u relative to their start η₀.

    SGD: η = η₀ u. This is plain SGD on η, as published for MTT, with rate η₀² ``student_lr_lr``; but no step reduces η
    to less than half, so it stays above 0. (The logarithm of η would also do that, but its rate for η grows as (η/η₀)²,
    and η collapses where its best value is far above η₀.)

    Adam: η = η₀ exp(u). DD uses Adam on the inverse softplus of η, which is close to the logarithm for small η.
    """

    def __init__(self, start: Tensor, optim: Optim):
        self.start, self.exponential = start, optim.rule == "adam"
        u, least = (torch.zeros_like(start), None) if self.exponential else (torch.ones_like(start), 0.5)
        self.learned = Learned(u, optim.student_lr_lr, optim.momentum, least)

    def values(self) -> Tensor:
        """η, differentiable in u."""
        u = self.learned.value
        return self.start * (u.exp() if self.exponential else u)


def clip_share(before_NCHW: Tensor, after_NCHW: Tensor, max_move: float | None) -> Tensor:
    """min(1, ``max_move`` / m), where m is the root mean square over images of ‖after − before‖."""
    if max_move is None:
        return torch.ones((), device=before_NCHW.device)
    move = (after_NCHW - before_NCHW).flatten(1).square().sum(1).mean().sqrt()
    return torch.where(move > max_move, max_move / move, torch.ones_like(move))


def largest_gradients(gradient_NCHW: Tensor, update_fraction: float) -> Tensor:
    """The rows of the share ``update_fraction`` of images with the largest gradient norms, at least one; in order."""
    norm_N = gradient_NCHW.flatten(1).norm(dim=1)
    moving = max(1, round(update_fraction * len(norm_N)))
    rows: Tensor = norm_N.argsort(descending=True, stable=True)[:moving].sort().values
    return rows
