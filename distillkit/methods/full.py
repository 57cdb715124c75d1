"""The ceiling: all of the training set."""

import torch
from torch import Generator

from distillkit.images import SyntheticSet, real_subset
from distillkit.protocol import Material
from distillkit.settings import settings


@settings
class FullSet:
    """Every training image, unchanged."""

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        del generator
        return real_subset(material.real, torch.arange(len(material.real)), material.normalisation)
