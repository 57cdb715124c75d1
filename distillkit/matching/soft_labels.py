"""Soft labels: their initial values and whether they are learned (Guo et al. 2024)."""

from dataclasses import replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from distillkit.base.about import Means, Option
from distillkit.data.images import SyntheticSet
from distillkit.matching.method import Material
from distillkit.training.loop import predict

DATM = """\
@inproceedings{guo2024datm,
  title     = {Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching},
  author    = {Guo, Ziyao and Wang, Kai and Cazenavette, George and Li, Hui and Zhang, Kaipeng and You, Yang},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  note      = {arXiv:2310.05773}
}"""

LEARNED = Option(
    DATM,
    "Its labels are soft (`labels: learned`): those of learned images start from the mean logits of the experts that "
    "are right about the image, and change with the image at the rate `optim.label_lr`, where there is one, as in DATM "
    "(Guo et al., 2024).",
)

Labels = Annotated[Literal["hard", "learned"], Means("learned", LEARNED)]


def with_labels(start: SyntheticSet, labels: Labels, material: Material) -> SyntheticSet:
    """``start`` with soft labels for the learned images if ``labels`` is "learned"; real images get one-hot labels."""
    if labels == "hard":
        return start
    experts = material.need_experts()
    images_NCHW = start.normalisation.apply(start.pixels())
    logits_ENK = torch.stack([predict(material.expert(expert), images_NCHW) for expert in range(len(experts))])
    soft_NK = mean_of_those_right(logits_ENK, start.labels).softmax(1)
    hard_NK = F.one_hot(start.labels, len(start.class_names)).to(soft_NK)
    return replace(start, soft_labels=torch.where(start.learned[:, None], soft_NK, hard_NK))


def mean_of_those_right(logits_ENK: Tensor, labels_N: Tensor) -> Tensor:
    """Mean logits (N, K) over the experts (E) that classify the image right, or over all if none does.

    The published code divides by zero if none does.
    """
    right_EN = logits_ENK.argmax(2) == labels_N
    counted_EN = torch.where(right_EN.any(0), right_EN, torch.ones_like(right_EN)).to(logits_ENK)
    return (logits_ENK * counted_EN[..., None]).sum(0) / counted_EN.sum(0)[:, None]
