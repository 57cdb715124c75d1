"""Matching objectives: pure functions of tensors.

Axes: P parameters of one network; N, M images; F features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from distillkit.base.errors import DivergedError


def trajectory_matching_loss(student_P: Tensor, start_P: Tensor, target_P: Tensor) -> Tensor:
    """‖student − target‖² / ‖start − target‖²: 1 before the first step, 0 at the target (Cazenavette et al. 2022).

    Raises DivergedError when start and target are equal, because the quotient is then undefined.
    """
    moved = (start_P - target_P).square().sum()
    if not moved > 0:
        raise DivergedError(
            "the expert did not move between the two matched snapshots, so there is nothing to match; "
            "retrain the experts with more steps per epoch or a larger experts.lr"
        )
    return (student_P - target_P).square().sum() / moved


@torch.no_grad()
def closest_step(thetas: Sequence[Tensor], target_P: Tensor) -> int:
    """argmin_i ‖θ_i − target‖₁, the last one if several are equal (Liu et al. 2024). Each θ has shape (P,)."""
    distances = [float((theta_P - target_P).abs().sum()) for theta_P in thetas]
    return max(range(len(distances)), key=lambda i: (-distances[i], i))


def gradient_distance(found_P: Tensor, wanted_P: Tensor, shapes: Sequence[torch.Size]) -> Tensor:
    """Σ over weight tensors, Σ over their rows r, of 1 − ⟨g_r, h_r⟩ / (‖g_r‖ ‖h_r‖ + 10⁻⁶) (Zhao et al. 2021).

    g and h are ``found_P`` and ``wanted_P``. ``shapes`` are those of the network's parameter tensors, in order. A row
    has all weights of one output channel or unit. Tensors with one axis (biases, scales of normalisation layers) are
    left out.
    """
    sizes = [shape.numel() for shape in shapes]
    total = found_P.new_zeros(())
    for shape, found, wanted in zip(shapes, found_P.split(sizes), wanted_P.split(sizes), strict=True):
        if len(shape) > 1:
            g, h = found.view(shape[0], -1), wanted.view(shape[0], -1)
            total = total + (1 - (g * h).sum(1) / (g.norm(dim=1) * h.norm(dim=1) + 1e-6)).sum()
    return total


def mean_feature_distance(found_NF: Tensor, wanted_MF: Tensor) -> Tensor:
    """‖mean of found − mean of wanted‖² for the features of one class (Zhao & Bilen 2023)."""
    return (found_NF.mean(0) - wanted_MF.mean(0)).square().sum()
