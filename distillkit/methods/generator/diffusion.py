"""Diffusion: a generator is trained on the source and makes the images of the set. They are not optimised afterwards.

After the idea of Li et al., "Data-efficient generation for dataset distillation", ECCV 2024 workshops. It is not a
reproduction, because we do not know the paper's numbers.
"""

from typing import ClassVar

from torch import Generator, Tensor

from distillkit.base.about import About
from distillkit.base.errors import check_range
from distillkit.base.randomness import draw_seed, seed_for, seeded
from distillkit.base.settings import settings
from distillkit.data.images import SyntheticSet, check_fits, made_set
from distillkit.matching.method import Material
from distillkit.methods.generator.denoising import Sampling
from distillkit.methods.generator.image_generator import ImageGenerator, make_images, train_generator
from distillkit.methods.generator.networks import GeneratorSpec
from distillkit.training.compute import Compute

ABOUT = About(
    title="Diffusion",
    summary="Images that a class-conditional diffusion model makes, trained on the source; of every class `ipc`, none "
    "optimised afterwards. A design after the idea of data-efficient generation (Li et al., 2024), no reproduction of "
    "it.",
    paper="""\
@misc{li2024dataefficient,
  title         = {Data-Efficient Generation for Dataset Distillation},
  author        = {Li, Zhe and others},
  year          = {2024},
  eprint        = {2409.03929},
  archivePrefix = {arXiv}
}""",
    experts=False,
)


@settings
class Diffusion:
    """A generator ``model`` is trained on the source. Then it makes ``ipc`` images of every class by ``sampling``."""

    about: ClassVar = ABOUT
    ipc: int
    model: GeneratorSpec
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        check_range("ipc", self.ipc, 1)

    def trained(self, material: Material, seed: int) -> ImageGenerator:
        """The trained generator. It depends only on ``model``, the images and ``seed``, not on the other settings."""
        return train_generator(self.model, material.real, seeded(seed_for(seed, "model")), material.compute)

    def images(self, trained: ImageGenerator, seed: int, compute: Compute) -> Tensor:
        """Pixels (N, C, H, W) of ``ipc`` images of every class, class by class."""
        return make_images(trained, self.ipc, seed_for(seed, "images"), self.sampling, compute)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        real, seed = material.real, draw_seed(generator)
        check_fits(self.ipc, len(real.class_names), real.image_shape)  # before hours of training
        pixels = self.images(self.trained(material, seed), seed, material.compute)
        return made_set(pixels.to(real.device), real.class_names, material.normalisation)
