"""In-place update rules of the optimisers SGD and Adam."""

import torch
from torch import Tensor

TensorList = list[Tensor] | tuple[Tensor, ...]


@torch.no_grad()
def sgd_(
    parameters: TensorList,
    gradients: TensorList,
    velocities: TensorList,
    *,
    lr: float,
    momentum: float,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> None:
    """v ← μ v + g + λ p, then p ← p − η v, in place: bit for bit the result of ``torch.optim.SGD``.

    With ``nesterov``, p ← p − η (g + λ p + μ v). torch's class is not used, because the first optimiser of a process
    makes torch import its compiler, which takes 1.7 s in every stage.
    """
    if weight_decay:
        gradients = torch._foreach_add(gradients, parameters, alpha=weight_decay)
    torch._foreach_mul_(velocities, momentum)
    torch._foreach_add_(velocities, gradients)
    steps = torch._foreach_add(gradients, velocities, alpha=momentum) if nesterov else velocities
    torch._foreach_add_(parameters, steps, alpha=-lr)


@torch.no_grad()
def adam_(
    parameters: TensorList,
    gradients: TensorList,
    means: TensorList,
    squares: TensorList,
    *,
    lr: float,
    decays: tuple[float, float],
    step: int,
    epsilon: float = 1e-8,
) -> None:
    """m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², p ← p − η m̂ / (√v̂ + ε), in place; ``step`` counts from 1."""
    first, second = decays
    for p, g, m, v in zip(parameters, gradients, means, squares, strict=True):
        m.mul_(first).add_(g, alpha=1 - first)
        v.mul_(second).addcmul_(g, g, value=1 - second)
        root = (v / (1 - second**step)).sqrt_().add_(epsilon)
        p.addcdiv_(m, root, value=-lr / (1 - first**step))
