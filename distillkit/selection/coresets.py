"""Real images that represent their class: herding, k-centre, moderate, and coverage-centric selection.

The first three use the experts' features of an image, see :func:`distillkit.training.features.expert_features`. The
last uses the difficulty.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Generator, Tensor

from distillkit.base.about import About
from distillkit.base.errors import check_range
from distillkit.base.randomness import draw_int
from distillkit.base.settings import settings
from distillkit.data.images import SyntheticSet, real_subset
from distillkit.data.rows import Images
from distillkit.data.selection import check_ipc, class_rows
from distillkit.matching.method import Material
from distillkit.selection.rules import cover, distance_to_median, herd, middle, stratified
from distillkit.training.features import expert_features

HERDING = About(
    title="Herding",
    summary="Of every class, `ipc` real images, unchanged, picked one by one so that the mean of what experts see in "
    "them stays near the mean over the class (herding, Welling, ICML 2009).",
    paper="""\
@inproceedings{welling2009herding,
  title     = {Herding Dynamical Weights to Learn},
  author    = {Welling, Max},
  booktitle = {International Conference on Machine Learning},
  year      = {2009}
}""",
)
K_CENTRE = About(
    title="k-centre",
    summary="Of every class, `ipc` real images, unchanged: a random one, then always the one that is farthest, in what "
    "experts see, from all picked before (greedy k-centre, Sener & Savarese, ICLR 2018).",
    paper="""\
@inproceedings{sener2018coreset,
  title     = {Active Learning for Convolutional Neural Networks: A Core-Set Approach},
  author    = {Sener, Ozan and Savarese, Silvio},
  booktitle = {International Conference on Learning Representations},
  year      = {2018},
  note      = {arXiv:1708.00489}
}""",
)
MODERATE = About(
    title="Moderate",
    summary="Real images, unchanged, of the middle ranks by distance to their class's median, in what experts see: as "
    "many are nearer as are farther (moderate coreset, Xia et al., ICLR 2023); `ipc` of every class, unless `balanced` "
    "is false.",
    paper="""\
@inproceedings{xia2023moderate,
  title     = {Moderate Coreset: A Universal Method of Data Selection for Real-world Data-efficient Deep Learning},
  author    = {Xia, Xiaobo and Liu, Jiale and Yu, Jun and Shen, Xu and Han, Bo and Liu, Tongliang},
  booktitle = {International Conference on Learning Representations},
  year      = {2023}
}""",
)
CCS = About(
    title="CCS",
    summary="Coverage-centric selection (Zheng et al., ICLR 2023). The hardest share `hardest_dropped` of the images "
    "is left out, the range of difficulty that remains is cut into `strata` of equal width, and each gives as many "
    "real images, unchanged, as far as it has them; `ipc` of every class, unless `balanced` is false.",
    paper="""\
@inproceedings{zheng2023ccs,
  title     = {Coverage-centric Coreset Selection for High Pruning Rates},
  author    = {Zheng, Haizhong and Liu, Rui and Lai, Fan and Prakash, Atul},
  booktitle = {International Conference on Learning Representations},
  year      = {2023},
  note      = {arXiv:2210.15809}
}""",
)


@settings
class Herding:
    """Of every class, ``ipc`` images, chosen one by one so that the mean of their features stays near the class mean.

    ``experts`` is the number of experts that give the features. The rule is :func:`~distillkit.selection.rules.herd`.
    """

    about: ClassVar = HERDING
    ipc: int
    experts: int = 1

    def __post_init__(self) -> None:
        check_range("experts", self.experts, 1)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        del generator
        return by_features(material, self.ipc, self.experts, lambda features_ND: herd(features_ND, self.ipc))


@settings
class KCentre:
    """Of every class, ``ipc`` images: a random one, then always the image that is farthest from all chosen ones.

    ``experts`` is the number of experts that give the features. The rule is :func:`~distillkit.selection.rules.cover`.
    """

    about: ClassVar = K_CENTRE
    ipc: int
    experts: int = 1

    def __post_init__(self) -> None:
        check_range("experts", self.experts, 1)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        def choose(features_ND: Images) -> Tensor:
            return cover(features_ND, self.ipc, draw_int(0, len(features_ND), generator))

        return by_features(material, self.ipc, self.experts, choose)


@settings
class Moderate:
    """``ipc`` images of every class: the middle ranks by distance of the features to the class's median.

    ``balanced: false`` is the published form: the images of all classes are ranked together, and the set has ``ipc``
    images per class on average. ``experts`` is the number of experts that give the features.
    """

    about: ClassVar = MODERATE
    ipc: int
    experts: int = 1
    balanced: bool = True

    def __post_init__(self) -> None:
        check_range("ipc", self.ipc, 1)
        check_range("experts", self.experts, 1)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        del generator
        real = material.real
        features = expert_features(material.need_experts(), self.experts, real, material.normalisation)
        distance_N = torch.zeros(len(real), dtype=torch.float64, device=real.labels.device)
        for label in real.labels.unique():
            own = (real.labels == label).nonzero().squeeze(1)
            distance_N[own] = distance_to_median(features(own))
        return chosen_of(material, self.ipc, self.balanced, lambda rows, count: middle(distance_N[rows], count))


@settings
class CoverageCentric:
    """``ipc`` images of every class, from all ranges of difficulty except the hardest share ``hardest_dropped``.

    ``balanced: false`` is the published form: the images of all classes are ranked together, and the set has ``ipc``
    images per class on average. The rule is :func:`~distillkit.selection.rules.stratified`.
    """

    about: ClassVar = CCS
    ipc: int
    hardest_dropped: float
    strata: int = 50
    balanced: bool = True

    def __post_init__(self) -> None:
        check_range("ipc", self.ipc, 1)
        check_range("hardest_dropped", self.hardest_dropped, 0, 0.999)
        check_range("strata", self.strata, 1)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        difficulty_N = material.need_difficulty()

        def choose(rows: Tensor, count: int) -> Tensor:
            return stratified(difficulty_N[rows], count, self.hardest_dropped, self.strata, generator)

        return chosen_of(material, self.ipc, self.balanced, choose)


def chosen_of(material: Material, ipc: int, balanced: bool, choose: Callable[[Tensor, int], Tensor]) -> SyntheticSet:
    """The images at the rows that ``choose(rows, count)`` returns, as places in ``rows``; in class order.

    ``balanced``: it is called for each class with ``count`` = ``ipc``. Otherwise it is called once, with all rows and
    ``count`` = ``ipc`` times the number of classes.
    """
    real = material.real
    if balanced:
        check_ipc(ipc, real.labels, real.class_names)
        groups, count = class_rows(real.labels, len(real.class_names)), ipc
    else:
        groups, count = [torch.arange(len(real), device=real.labels.device)], ipc * len(real.class_names)
    chosen = torch.cat([rows[choose(rows, count)] for rows in groups])
    by_class = real.labels[chosen].argsort(stable=True)
    return real_subset(real, chosen[by_class], material.normalisation)


def by_features(material: Material, ipc: int, experts: int, choose: Callable[[Images], Tensor]) -> SyntheticSet:
    """Of every class, the images that ``choose`` selects from its features (N, D); in class order."""
    real = material.real
    check_ipc(ipc, real.labels, real.class_names)
    features = expert_features(material.need_experts(), experts, real, material.normalisation)
    rows = class_rows(real.labels, len(real.class_names))
    return real_subset(real, torch.cat([own[choose(features(own))] for own in rows]), material.normalisation)
