"""The baseline every method must beat: random real images."""

from typing import ClassVar

from torch import Generator

from distillkit.images import SyntheticSet, real_subset
from distillkit.protocol import About, Material
from distillkit.selection import select_random
from distillkit.settings import settings

ABOUT = About(
    title="Random",
    summary="Of every class, `ipc` real images drawn without replacement, unchanged.",
    experts=False,
)


@settings
class RandomSubset:
    """``ipc`` images of every class, drawn without replacement."""

    about: ClassVar = ABOUT
    ipc: int

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        real = material.real
        rows = select_random(real.labels, real.class_names, self.ipc, generator)
        return real_subset(real, rows, material.normalisation)
