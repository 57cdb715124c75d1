"""Random real images, the baseline for all methods."""

from typing import ClassVar

from torch import Generator

from distillkit.base.about import About
from distillkit.base.settings import settings
from distillkit.data.images import SyntheticSet, real_subset
from distillkit.data.selection import select_random
from distillkit.matching.method import Material
from distillkit.matching.replay import Replay, made

ABOUT = About(
    title="Random",
    summary="Of every class, `ipc` real images drawn without replacement, unchanged.",
    experts=False,
)


@settings
class RandomSubset:
    """``ipc`` images of every class, drawn without replacement. ``replay`` gives the set a schedule."""

    about: ClassVar = ABOUT
    ipc: int
    replay: Replay | None = None

    def __post_init__(self) -> None:
        if self.replay is not None:
            self.replay.check_ipc(self.ipc)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        return made(self.draw, self.replay, material, generator)

    def draw(self, material: Material, generator: Generator) -> SyntheticSet:
        real = material.real
        rows = select_random(real.labels, real.class_names, self.ipc, generator)
        return real_subset(real, rows, material.normalisation)
