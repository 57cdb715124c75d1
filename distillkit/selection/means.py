"""Averages of real images of a class: baselines of dataset distillation (Wang et al. 2018).

They are not real images: ``learned`` is true and ``source_row`` is −1.
"""

from typing import ClassVar

import torch
from torch import Generator

from distillkit.base.about import About
from distillkit.base.errors import ParamsError, check_range
from distillkit.base.randomness import draw_seed
from distillkit.base.settings import settings
from distillkit.data.images import SyntheticSet, made_set
from distillkit.data.rows import Chosen
from distillkit.data.selection import check_ipc, class_rows
from distillkit.matching.method import Material
from distillkit.matching.replay import Replay, made
from distillkit.selection.rules import cluster_centres, mean_of

CENTROIDS = About(
    title="k-means",
    summary="For every class the centres of `ipc` clusters of its images, found by k-means on pixels: averages of real "
    "images, not real ones, unless a cluster is a single image (a baseline of Wang et al., 2018).",
    builds_on=("dd",),
    experts=False,
)
MEANS = About(
    title="Average",
    summary="One image for every class, the average of all its images (a baseline of Wang et al., 2018).",
    builds_on=("dd",),
    experts=False,
)


@settings
class Centroids:
    """The centres of ``ipc`` clusters of the images of each class, by k-means on pixels; the best of ``tries`` runs."""

    about: ClassVar = CENTROIDS
    ipc: int
    tries: int = 10
    replay: Replay | None = None

    def __post_init__(self) -> None:
        check_range("tries", self.tries, 1)
        if self.replay is not None:
            self.replay.check_ipc(self.ipc)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        return made(self.cluster, self.replay, material, generator)

    def cluster(self, material: Material, generator: Generator) -> SyntheticSet:
        real = material.real
        check_ipc(self.ipc, real.labels, real.class_names)
        centres = [
            cluster_centres(Chosen(real.images, rows), self.ipc, self.tries, draw_seed(generator))
            for rows in class_rows(real.labels, len(real.class_names))
        ]
        return made_set(torch.cat(centres).to(real.device), real.class_names, material.normalisation)


@settings
class ClassMeans:
    """One image for every class: the mean of its images. With ``replay``, every update uses all of them."""

    about: ClassVar = MEANS
    ipc: int
    replay: Replay | None = None

    def __post_init__(self) -> None:
        if self.ipc != 1:
            raise ParamsError(f"ipc is {self.ipc}; expected 1: a class has one average; use method: kmeans for more")
        if self.replay is not None:
            self.replay.check_ipc(self.ipc)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        return made(self.average, self.replay, material, generator)

    def average(self, material: Material, generator: Generator) -> SyntheticSet:
        del generator
        real = material.real
        check_ipc(self.ipc, real.labels, real.class_names)
        means = [mean_of(Chosen(real.images, rows)) for rows in class_rows(real.labels, len(real.class_names))]
        return made_set(torch.stack(means).to(real.device), real.class_names, material.normalisation)
