"""The record of an expert's predictions in training. Axes: L epochs; N images; K classes."""

from typing import NamedTuple

import torch
from torch import Tensor


class Dynamics(NamedTuple):
    """Numbers for every training image in every epoch, from the forward pass of its update.

    All are (..., L, N), float16 except ``correct``, which is bool. ``probability`` is that of the label. ``margin`` is
    the label's logit minus the largest other (Pleiss et al. 2020). ``error_norm`` is ‖softmax − one-hot‖₂ (EL2N, Paul
    et al. 2021). ``probability_margin`` is the label's probability minus the largest other (Zheng et al. 2023).
    ``movement`` is the change of all probabilities p since the epoch before, Σ_k |p_k log(p_k / p'_k)| (Zhang et al.
    2024). It is 0 in the first epoch, and always 0 if there are more than MOVING probabilities.
    """

    correct: Tensor
    probability: Tensor
    margin: Tensor
    error_norm: Tensor
    probability_margin: Tensor
    movement: Tensor


MOVING = 2**26  # most probabilities, N · K, that are kept from one epoch to the next: 128 MiB in float16
DYNAMICS = dict.fromkeys(Dynamics._fields, torch.half) | {"correct": torch.bool}


def log_probabilities(logits_NK: Tensor) -> Tensor:
    """log(softmax + 1e-8), (N, K) float32. The constant keeps it finite, as in the published code of TDDS."""
    return (logits_NK.float().softmax(1) + 1e-8).log()


def dynamics_of(logits_NK: Tensor, labels_N: Tensor, before_NK: Tensor | None = None) -> Dynamics:
    """The record of one batch, each (N,). ``before_NK``: the :func:`log_probabilities` of the epoch before, or None."""
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
    """Σ_k |p_k (log p_k − log p'_k)|, (N,), where ``before_NK`` is log p'."""
    return (logits_NK.float().softmax(1) * (log_probabilities(logits_NK) - before_NK.to(logits_NK.device))).abs().sum(1)
