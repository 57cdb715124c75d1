"""Real images chosen to stand for their class: herding, k-centre, moderate, and coverage-centric selection.

The first three work on what experts see in an image, see :func:`distillkit.features.expert_features`; the last on the
difficulty.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from distillkit.coresets import cover, herd, moderate, stratified
from distillkit.errors import check_range
from distillkit.features import expert_features
from distillkit.images import SyntheticSet, real_subset
from distillkit.protocol import Material
from distillkit.randomness import draw_int
from distillkit.selection import check_ipc, class_rows
from distillkit.settings import settings


@settings
class Herding:
    """Of every class ``ipc`` images, picked one by one so that the mean of their features stays near the class's."""

    ipc: int
    experts: int = 1

    def __post_init__(self) -> None:
        check_range("experts", self.experts, 1)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        del generator
        return by_features(material, self.ipc, self.experts, lambda features_ND: herd(features_ND, self.ipc))


@settings
class KCentre:
    """Of every class ``ipc`` images that leave none far away: a random one, then always the farthest from all."""

    ipc: int
    experts: int = 1

    def __post_init__(self) -> None:
        check_range("experts", self.experts, 1)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        def choose(features_ND: Tensor) -> Tensor:
            return cover(features_ND, self.ipc, draw_int(0, len(features_ND), generator))

        return by_features(material, self.ipc, self.experts, choose)


@settings
class Moderate:
    """Of every class the ``ipc`` images whose distance to the class's mean is nearest to the median distance."""

    ipc: int
    experts: int = 1

    def __post_init__(self) -> None:
        check_range("experts", self.experts, 1)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        del generator
        return by_features(material, self.ipc, self.experts, lambda features_ND: moderate(features_ND, self.ipc))


@settings
class CoverageCentric:
    """``ipc`` images of every class from all ranges of difficulty, but for the hardest share ``hardest_dropped``.

    ``balanced: false`` is as published: all classes together share ``ipc`` times their number.
    """

    ipc: int
    hardest_dropped: float
    strata: int = 50
    balanced: bool = True

    def __post_init__(self) -> None:
        check_range("ipc", self.ipc, 1)
        check_range("hardest_dropped", self.hardest_dropped, 0, 0.999)
        check_range("strata", self.strata, 1)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        real, difficulty_N = material.real, material.need_difficulty()
        if self.balanced:
            check_ipc(self.ipc, real.labels, real.class_names)
            groups, count = class_rows(real.labels, len(real.class_names)), self.ipc
        else:
            everything = torch.arange(len(real), device=real.labels.device)
            groups, count = [everything], self.ipc * len(real.class_names)
        chosen = torch.cat(
            [
                rows[stratified(difficulty_N[rows], count, self.hardest_dropped, self.strata, generator)]
                for rows in groups
            ]
        )
        by_class = real.labels[chosen].argsort(stable=True)
        return real_subset(real, chosen[by_class], material.normalisation)


def by_features(material: Material, ipc: int, experts: int, choose: Callable[[Tensor], Tensor]) -> SyntheticSet:
    """Of every class what ``choose`` takes of its features (N, D); class by class."""
    real = material.real
    check_ipc(ipc, real.labels, real.class_names)
    features = expert_features(material.need_experts(), experts, real, material.normalisation)
    rows = class_rows(real.labels, len(real.class_names))
    return real_subset(real, torch.cat([own[choose(features(own))] for own in rows]), material.normalisation)
