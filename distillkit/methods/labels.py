"""Labels that a method learns: where they start (Guo et al. 2024)."""

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from distillkit.images import SyntheticSet
from distillkit.protocol import Material
from distillkit.training import predict

Labels = Literal["hard", "learned"]


def with_labels(start: SyntheticSet, labels: Labels, material: Material) -> SyntheticSet:
    """``start`` with soft labels for the images that are learned, where ``labels`` says so; real ones stay certain."""
    if labels == "hard":
        return start
    experts = material.need_experts()
    images_NCHW = start.normalisation.apply(start.images)
    last = experts.snapshots - 1
    logits_ENK = torch.stack([predict(material.expert(expert, last), images_NCHW) for expert in range(len(experts))])
    soft_NK = mean_of_those_right(logits_ENK, start.labels).softmax(1)
    hard_NK = F.one_hot(start.labels, len(start.class_names)).to(soft_NK)
    return replace(start, soft_labels=torch.where(start.learned[:, None], soft_NK, hard_NK))


def mean_of_those_right(logits_ENK: Tensor, labels_N: Tensor) -> Tensor:
    """Mean logits (N, K) over the experts (E) that are right about an image, over all where none is.

    The field's code divides by zero in that case.
    """
    right_EN = logits_ENK.argmax(2) == labels_N
    counted_EN = torch.where(right_EN.any(0), right_EN, torch.ones_like(right_EN)).to(logits_ENK)
    return (logits_ENK * counted_EN[..., None]).sum(0) / counted_EN.sum(0)[:, None]
