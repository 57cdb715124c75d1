"""SGD on a synthetic set as one differentiable function of its images, step size and start.

Axes: P parameters of one network; N images; C, H, W channels, height, width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from distillkit import augment
from distillkit.augment import Augmentation, Draw
from distillkit.images import Iterate
from distillkit.parameters import call_with
from distillkit.training import step_batches


class InnerStep(NamedTuple):
    """Which rows one inner step sees, and how they are augmented."""

    rows: Tensor
    draw: Draw


def plan(count: int, steps: int, batch: int, augmentation: Augmentation, generator: Generator) -> list[InnerStep]:
    """All random choices of an unroll, made up front, so that it can be replayed exactly."""
    rows = step_batches(count, batch, steps, generator)
    return [InnerStep(step_rows, augment.draw(augmentation, len(step_rows), generator)) for step_rows in rows]


def unroll(network: nn.Module, theta_P: Tensor, iterate: Iterate, steps: list[InnerStep]) -> Tensor:
    """θ_{i+1} = θ_i − η ∇CE(f(θ_i; A_i(x_{b_i})), y_{b_i}), returned after the last step; differentiable throughout.

    Gradients flow to ``iterate.images_NCHW``, ``iterate.student_lr`` and, when it requires them, ``theta_P``. The graph
    of every step is kept: memory grows with ``len(steps)``.
    """
    theta_P = theta_P if theta_P.requires_grad else theta_P.detach().requires_grad_()
    for rows, draw in steps:
        logits = call_with(network, theta_P, augment.apply(iterate.images_NCHW[rows], draw))
        loss = F.cross_entropy(logits, iterate.labels_N[rows])
        (gradient_P,) = torch.autograd.grad(loss, theta_P, create_graph=True)
        theta_P = theta_P - iterate.student_lr * gradient_P
    return theta_P
