"""The experts' most confident images: an interpretation of SelMatch in the literature, but not in SelMatch's paper."""

from typing import ClassVar

from torch import Generator

from distillkit.base.about import About
from distillkit.base.settings import settings
from distillkit.data.images import SyntheticSet, real_subset
from distillkit.data.selection import select_easiest
from distillkit.matching.method import Material

ABOUT = About(
    title="Confident",
    summary="Of every class, the `ipc` real images whose label the experts found most probable, unchanged.",
)


@settings
class ConfidentSubset:
    """Of every class, the ``ipc`` images whose label is most probable to the experts; the most probable last."""

    about: ClassVar = ABOUT
    ipc: int

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        del generator
        real = material.real
        rows = select_easiest(real.labels, 1 - material.need_confidence(), real.class_names, self.ipc)
        return real_subset(real, rows, material.normalisation)
