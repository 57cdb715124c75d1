"""The whole training set, the upper reference for all other sets."""

from typing import ClassVar

from torch import Generator

from distillkit.base.about import About
from distillkit.base.settings import settings
from distillkit.data.images import SyntheticSet, all_of
from distillkit.matching.method import Material

ABOUT = About("Full", "Every training image of the source, unchanged.", experts=False)


@settings
class FullSet:
    """Every training image, unchanged."""

    about: ClassVar = ABOUT

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        del generator
        return all_of(material.real, material.normalisation)
