"""What experts record about every training image in every epoch. Axes: L epochs; N images; K classes."""

from typing import NamedTuple

import torch
from torch import Tensor


class Dynamics(NamedTuple):
    """What the network computed for every training image in every epoch, in the forward pass of its update.

    All (..., L, N): ``correct`` bool; ``probability`` of the label; ``margin`` of the label's logit over the best other
    (Pleiss et al. 2020); ``error_norm`` ‖softmax − one-hot‖₂ (EL2N, Paul et al. 2021); ``probability_margin`` of the
    label's probability over the best other (Zheng et al. 2023); ``movement`` of all probabilities p since the last
    epoch, Σ_k |p_k log(p_k / p'_k)| (Zhang et al. 2024), 0 in the first epoch and where there are more than MOVING
    probabilities. float16 but for ``correct``.
    """

    correct: Tensor
    probability: Tensor
    margin: Tensor
    error_norm: Tensor
    probability_margin: Tensor
    movement: Tensor


MOVING = 2**26  # probabilities of an epoch, N · K, that are kept for the next: 128 MiB
DYNAMICS = dict.fromkeys(Dynamics._fields, torch.half) | {"correct": torch.bool}


def log_probabilities(logits_NK: Tensor) -> Tensor:
    """log(softmax + 1e-8), (N, K) float32: the constant keeps it finite, as in the release of TDDS."""
    return (logits_NK.float().softmax(1) + 1e-8).log()


def dynamics_of(logits_NK: Tensor, labels_N: Tensor, before_NK: Tensor | None = None) -> Dynamics:
    """One visit's record, each (N,); ``before_NK`` are the :func:`log_probabilities` of the epoch before."""
    probability_NK = logits_NK.float().softmax(1)
    label_N1 = labels_N[:, None]
    label_logit_N, probability_N = (of_NK.gather(1, label_N1).squeeze(1) for of_NK in (logits_NK, probability_NK))
    other_N = logits_NK.scatter(1, label_N1, float("-inf")).amax(1)
    error_NK = probability_NK.scatter_add(1, label_N1, -torch.ones_like(probability_NK[:, :1]))
    return Dynamics(
        correct=label_logit_N > other_N,
        probability=probability_N.half(),
        margin=(label_logit_N - other_N).half(),
        error_norm=error_NK.norm(dim=1).half(),
        probability_margin=(probability_N - probability_NK.scatter(1, label_N1, 0.0).amax(1)).half(),
        movement=(torch.zeros_like(probability_N) if before_NK is None else moved(logits_NK, before_NK)).half(),
    )


def moved(logits_NK: Tensor, before_NK: Tensor) -> Tensor:
    """Σ_k |p_k (log p_k − log p'_k)|, (N,)."""
    return (logits_NK.float().softmax(1) * (log_probabilities(logits_NK) - before_NK.to(logits_NK.device))).abs().sum(1)
