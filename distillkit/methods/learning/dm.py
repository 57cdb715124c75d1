"""DM: the mean features of synthetic images are matched to those of real ones, in random networks.

Zhao & Bilen, "Dataset condensation with distribution matching", WACV 2023.
"""

from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor

from distillkit.base.about import About
from distillkit.base.errors import check_range
from distillkit.base.randomness import draw_seed
from distillkit.base.settings import settings
from distillkit.data.augment import Augmentation, check_siamese
from distillkit.data.images import Iterate, SyntheticSet
from distillkit.matching.gradient_accumulation import summed
from distillkit.matching.method import Material
from distillkit.matching.objectives import mean_feature_distance
from distillkit.methods.learning.condensation import (
    ClassBatch,
    NoiseOrReal,
    class_batches,
    has_batch_norm,
    network_like,
    start_from,
)
from distillkit.networks.parameters import forget_statistics
from distillkit.networks.specs import Network, without_classifier

ABOUT = About(
    title="DM",
    summary="Distribution matching (Zhao & Bilen, WACV 2023). Starting from real images unless `start` is noise, all "
    "images are changed until, class by class, their mean features in random networks are those of real images. Real "
    "and synthetic images of a class are augmented alike.",
    paper="""\
@inproceedings{zhao2023dm,
  title     = {Dataset Condensation with Distribution Matching},
  author    = {Zhao, Bo and Bilen, Hakan},
  booktitle = {IEEE/CVF Winter Conference on Applications of Computer Vision},
  year      = {2023},
  note      = {arXiv:2110.04181}
}""",
    builds_on=("dsa",),
    experts=False,
)


@settings
class DistributionMatching:
    """Every outer step uses a new untrained network: ``network``, or one like the experts'.

    In it, the mean features of all synthetic images of a class are compared with those of ``real_batch`` real ones.
    Both get the same augmentation.
    """

    about: ClassVar = ABOUT
    student: ClassVar = False
    ipc: int
    start: NoiseOrReal = "random"
    real_batch: int = 256
    network: Network | None = None
    augmentation: Augmentation = Augmentation("dsa")

    def __post_init__(self) -> None:
        check_range("ipc", self.ipc, 1)
        check_range("real_batch", self.real_batch, 1)
        check_siamese(self.augmentation)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        return start_from(self.start, self.ipc, material, generator)

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        """Σ_c ‖mean φ(A_c(S_c)) − mean φ(A_c(B_c))‖², where φ are the features: the input of the last layer.

        S_c are all synthetic images of class c, B_c is a batch of real ones, and A_c is one augmentation for both.
        Features are computed class by class or, with batch normalisation, for all classes in one batch.
        """
        network = network_like(self.network, material, draw_seed(generator), iterate.images_NCHW)
        embed = forget_statistics(without_classifier(network)).requires_grad_(False)

        def distance(batches: list[ClassBatch], images_NCHW: Tensor) -> Tensor:
            with torch.no_grad():
                wanted = embed_all([batch.wanted(material, images_NCHW) for batch in batches])
            found = embed_all([batch.synthetic(images_NCHW) for batch in batches])
            return torch.stack([mean_feature_distance(*pair) for pair in zip(found, wanted, strict=True)]).sum()

        def embed_all(groups: list[Tensor]) -> tuple[Tensor, ...]:
            sizes = [len(group) for group in groups]
            features: tuple[Tensor, ...] = embed(torch.cat(groups)).split(sizes)
            return features

        batches = list(class_batches(iterate, material, self.real_batch, self.augmentation, generator))
        parts = [batches] if has_batch_norm(network) else [[batch] for batch in batches]
        return summed([partial(distance, part) for part in parts], iterate.images_NCHW)

    def visits(self, classes: int) -> int:
        return classes * (self.ipc + self.real_batch)
