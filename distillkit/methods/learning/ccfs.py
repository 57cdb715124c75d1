"""CCFS: a part of the set is learned. Then the easiest real images that networks misclassify are added in rounds.

Chen et al., "Curriculum coarse-to-fine selection for high-IPC dataset distillation", CVPR 2025.
"""

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from distillkit.base.about import About
from distillkit.base.errors import ParamsError, check_range
from distillkit.base.settings import settings
from distillkit.data.images import SyntheticSet, real_subset
from distillkit.data.rows import Images
from distillkit.data.selection import check_ipc, select_wanted
from distillkit.matching.distillation import Distillation
from distillkit.matching.method import Material
from distillkit.matching.optim import Optim
from distillkit.matching.soft_labels import with_labels
from distillkit.methods.learning.mtt import Matching, TrajectoryMatching
from distillkit.training.loop import TrainingRecipe, fit, predicted_classes

ABOUT = About(
    title="CCFS",
    summary="Curriculum coarse-to-fine selection (Chen et al., CVPR 2025). A share `distill_fraction` of the images is "
    "learned as in MTT. The others are real images, unchanged, added in `rounds`: a network is trained on the set so "
    "far, and of the images that it gets wrong and an expert gets right, the easiest are taken.",
    paper="""\
@inproceedings{chen2025ccfs,
  title     = {Curriculum Coarse-to-Fine Selection for High-{IPC} Dataset Distillation},
  author    = {Chen, Yanda and Chen, Gongwei and Zhang, Miao and Guan, Weili and Nie, Liqiang},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2025},
  note      = {arXiv:2503.18872}
}""",
    builds_on=("mtt",),
)


@settings
class CurriculumSelection:
    """``ipc`` images of every class: a share ``distill_fraction`` is learned, the others are real images.

    The first are learned as in MTT, by ``matching`` and ``learning``. The others are added in ``rounds``. In a round, a
    new network like the experts' is trained on the set by ``training``. Of the images that it misclassifies and the
    first expert classifies correctly, the easiest are added; if these are too few, the easiest others. Images from
    which learned ones started are never added. ``labels: soft`` gives all images the labels of
    :func:`~distillkit.matching.soft_labels.with_labels`.
    """

    about: ClassVar = ABOUT
    ipc: int
    distill_fraction: float
    matching: Matching
    learning: Optim
    training: TrainingRecipe
    rounds: int = 3
    labels: Literal["hard", "soft"] = "hard"

    def __post_init__(self) -> None:
        check_range("distill_fraction", self.distill_fraction, 0, 1)
        check_range("rounds", self.rounds, 1)
        if not 0 < self.learned < self.ipc:
            found = f"distill_fraction {self.distill_fraction:g} of ipc {self.ipc} is {self.learned} images"
            raise ParamsError(f"{found}; expected at least one, and one that is not learned; change one of them")
        if self.learning.student_lr_init is None or self.learning.label_lr is not None:
            raise ParamsError("learning needs student_lr_init, and has no label_lr; add the one or remove the other")

    @property
    def learned(self) -> int:
        """The number of learned images of a class."""
        return round(self.distill_fraction * self.ipc)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        real, difficulty_N = material.real, material.need_difficulty()
        check_ipc(self.ipc, real.labels, real.class_names)
        chosen = self.labelled(self.distilled(material, generator), material)
        known_N = predicted_classes(material.expert(0), self.seen(material)) == real.labels
        taken_N = torch.zeros_like(known_N)
        taken_N[chosen.source_row] = True
        for count in shares(self.ipc - self.learned, self.rounds):
            wanted_N = known_N & (self.predicted(chosen, material, generator) != real.labels)
            rows = select_wanted(real.labels, difficulty_N, real.class_names, count, wanted_N, taken_N)
            taken_N[rows] = True
            subset = self.labelled(real_subset(real, rows, material.normalisation), material)
            chosen = joined(chosen, subset)
        return chosen

    def distilled(self, material: Material, generator: Generator) -> SyntheticSet:
        """The learned part. After an interruption, it continues where it stopped."""
        method = TrajectoryMatching(self.learned, self.matching)
        run = Distillation(method, method.init(material, generator), material, self.learning, generator)
        material.compute.finish(run, "learned images")
        return replace(run.result(), student_lr=None)

    def labelled(self, images: SyntheticSet, material: Material) -> SyntheticSet:
        """The set, with soft labels for all images if ``labels`` is "soft"."""
        if self.labels == "hard":
            return images
        all_of_them = replace(images, learned=torch.ones_like(images.learned))
        return replace(with_labels(all_of_them, "learned", material), learned=images.learned)

    def predicted(self, images: SyntheticSet, material: Material, generator: Generator) -> Tensor:
        """The classes (N,) of all real images as predicted by a new network that is trained on ``images``."""
        spec, compute = material.need_experts().spec, material.compute
        images_NCHW = compute.seen(images.images, material.normalisation, images.labels.device)
        classes = len(images.class_names)
        network = fit(spec, images_NCHW, images.targets, classes, self.training, generator, compute=compute)
        return predicted_classes(network, self.seen(material))

    def seen(self, material: Material) -> Images:
        return material.compute.seen(material.real.images, material.normalisation, material.real.device)


def shares(count: int, rounds: int) -> list[int]:
    """``count`` as a sum of ``rounds`` integers that differ by at most 1, the larger first. Zeros are left out."""
    return [part for number in range(rounds) if (part := count // rounds + (number < count % rounds))]


def joined(one: SyntheticSet, other: SyntheticSet) -> SyntheticSet:
    """Both sets as one, in class order; the images of ``one`` are first in each class."""
    order = torch.cat([one.labels, other.labels]).argsort(stable=True)

    def both(first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second])[order]

    soft = None
    if one.soft_labels is not None and other.soft_labels is not None:
        soft = both(one.soft_labels, other.soft_labels)
    return replace(
        one,
        images=both(one.pixels(), other.pixels()),
        labels=both(one.labels, other.labels),
        learned=both(one.learned, other.learned),
        source_row=both(one.source_row, other.source_row),
        soft_labels=soft,
    )
