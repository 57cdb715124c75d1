"""Matching objectives: pure functions of tensors. Axes: P parameters of one network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from distillkit.errors import DivergedError


def trajectory_matching_loss(student_P: Tensor, start_P: Tensor, target_P: Tensor) -> Tensor:
    """‖student − target‖² / ‖start − target‖²: 1 before the first step, 0 at the expert (Cazenavette et al. 2022).

    Raises DivergedError when the expert did not move between start and target: the quotient has no meaning there.
    """
    moved = (start_P - target_P).square().sum()
    if not moved > 0:
        raise DivergedError(
            "the expert did not move between the two matched snapshots, so there is nothing to match; "
            "retrain the experts with more steps an epoch or a larger experts.lr"
        )
    return (student_P - target_P).square().sum() / moved


@torch.no_grad()
def closest_step(thetas: Sequence[Tensor], target_P: Tensor) -> int:
    """argmin_i ‖θ_i − target‖₁, the last of equals (Liu et al. 2024); each θ has shape (P,)."""
    distances = [float((theta_P - target_P).abs().sum()) for theta_P in thetas]
    return max(range(len(distances)), key=lambda i: (-distances[i], i))
