"""DC and DSA: gradients of synthetic images are matched to gradients of real ones, class by class and layer by layer.

Zhao, Mopuri & Bilen, "Dataset condensation with gradient matching", ICLR 2021;
Zhao & Bilen, "Dataset condensation with differentiable siamese augmentation", ICML 2021.
"""

from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from distillkit.base.about import About
from distillkit.base.errors import check_positive, check_range
from distillkit.base.randomness import draw_seed
from distillkit.base.settings import settings
from distillkit.data.augment import Augmentation, check_siamese
from distillkit.data.images import Iterate, SyntheticSet
from distillkit.data.selection import draw_rows
from distillkit.matching.difficulty_correction import DifficultyCorrection, corrected
from distillkit.matching.gradient_accumulation import summed
from distillkit.matching.kernels import EagerKernel, batch_loss
from distillkit.matching.method import Material
from distillkit.matching.objectives import gradient_distance
from distillkit.methods.learning.condensation import (
    ClassBatch,
    NoiseOrReal,
    class_batches,
    has_batch_norm,
    network_like,
    start_from,
)
from distillkit.networks.parameters import flatten, load_flat_, measure_statistics
from distillkit.networks.specs import Network
from distillkit.training.loop import Lot, constant, epoch_batches, train

PUBLISHED = ((1, 1), (10, 50), (20, 25), (30, 20), (40, 15), (50, 10))  # (image updates of a network, epochs between)
FOR_STATISTICS = 16  # most real images of every class from which batch normalisation gets its statistics


def published_loop(ipc: int) -> tuple[int, int]:
    """The number of image updates with one network, and of epochs that the network is trained for between two of them.

    The published numbers for 1, 10, 20, 30, 40 and 50 images per class are in ``PUBLISHED``: there are as many updates
    as images. Between these, epochs are interpolated linearly. Above 50, both are those for 50.
    """
    updates = max(1, min(ipc, 50))
    segment = next((low, high) for low, high in pairwise(PUBLISHED) if updates <= high[0])
    (low, first), (high, last) = segment
    return updates, round(first + (last - first) * (updates - low) / (high - low))


@settings
class GradientMatching:
    """The networks on which gradients are compared, and the number of real images.

    A new network (``network``, or one like the experts') is used for ``updates`` outer steps. Between two of them it is
    trained on the synthetic set for ``inner_epochs`` epochs of plain SGD, with the rate ``network_lr`` and batches of
    ``network_batch``. The defaults of ``updates`` and ``inner_epochs`` are those of :func:`published_loop`. The
    gradients of ``real_batch`` real images of each class are matched.
    """

    updates: int | None = None
    inner_epochs: int | None = None
    real_batch: int = 256
    network: Network | None = None
    network_lr: float = 0.01
    network_batch: int = 256
    difficulty_correction: DifficultyCorrection | None = None

    def __post_init__(self) -> None:
        for name, low in (("updates", 1), ("inner_epochs", 0), ("real_batch", 1), ("network_batch", 2)):
            check_range(f"matching.{name}", getattr(self, name), low)
        check_positive("matching.network_lr", self.network_lr)

    def loop(self, ipc: int) -> tuple[int, int]:
        """The number of image updates with one network, and of epochs between two, for ``ipc`` images per class."""
        updates, epochs = published_loop(ipc)
        return self.updates or updates, epochs if self.inner_epochs is None else self.inner_epochs

    def loss(self, iterate: Iterate, material: Material, augmentation: Augmentation, generator: Generator) -> Tensor:
        """Σ_c D(∇CE(A_c(S_c); θ), ∇CE(A_c(B_c); θ)), with D as in
        :func:`~distillkit.matching.objectives.gradient_distance`.

        S_c are all synthetic images of class c, B_c is a batch of real ones, and A_c is one augmentation for both. A
        penalty is added if there is a ``difficulty_correction``.
        """
        network = self.network_at(iterate, material, augmentation, generator)
        kernel, theta_P, images_NCHW = EagerKernel(network), flatten(network), iterate.images_NCHW
        shapes = [parameter.shape for parameter in network.parameters()]

        def distance(batch: ClassBatch, images_NCHW: Tensor) -> Tensor:
            labels_N, real_NCHW = iterate.labels[batch.rows], batch.wanted(material, images_NCHW)
            wanted_P = kernel.gradient(theta_P, real_NCHW, labels_N[:1].expand(len(real_NCHW)))
            parameters_P = theta_P.detach().requires_grad_()
            loss = batch_loss(network, parameters_P, batch.synthetic(images_NCHW), labels_N)
            (found_P,) = torch.autograd.grad(loss, parameters_P, create_graph=True)
            return gradient_distance(found_P, wanted_P, shapes)

        batches = class_batches(iterate, material, self.real_batch, augmentation, generator)
        matched = summed([partial(distance, batch) for batch in batches], images_NCHW)
        return corrected(matched, self.difficulty_correction, kernel, theta_P, iterate)

    def network_at(
        self, iterate: Iterate, material: Material, augmentation: Augmentation, generator: Generator
    ) -> nn.Module:
        """This outer step's network: a new one, or that of the last step after training on the current images.

        Its batch normalisation uses the statistics of real images of all classes, because a batch has only one class.
        """
        images_NCHW, memory = iterate.images_NCHW.detach(), {} if iterate.memory is None else iterate.memory
        updates, epochs = self.loop(len(iterate.labels) // len(material.rows_by_class))
        fresh = iterate.step % updates == 0
        network = network_like(self.network, material, draw_seed(generator) if fresh else 0, images_NCHW)
        if not fresh:
            load_flat_(network, memory["theta_P"])
            self.train(network, images_NCHW, iterate.labels, epochs, augmentation, generator)
        if updates > 1:
            memory["theta_P"] = flatten(network)
        if has_batch_norm(network):
            rows = torch.cat([draw_rows(own, FOR_STATISTICS, generator) for own in material.rows_by_class])
            measure_statistics(network, material.normalised(rows).to(images_NCHW.dtype))
        return network

    def visits(self, ipc: int, classes: int) -> int:
        """The number of images in one outer step, on average: those matched, and those that train the network."""
        updates, epochs = self.loop(ipc)
        return classes * (ipc + self.real_batch) + classes * ipc * epochs * (updates - 1) // updates

    def train(
        self,
        network: nn.Module,
        images_NCHW: Tensor,
        labels_N: Tensor,
        epochs: int,
        augmentation: Augmentation,
        generator: Generator,
    ) -> None:
        """``epochs`` epochs of plain SGD on the synthetic set, in place."""
        shuffled = [epoch_batches(len(labels_N), self.network_batch, generator) for _ in range(epochs)]
        for _ in train(
            network,
            [Lot(images_NCHW, labels_N, generator)],
            [(rows,) for batches in shuffled for rows in batches],
            lr_at=constant(self.network_lr),
            momentum=0.0,
            weight_decay=0.0,
            augmentation=augmentation,
        ):
            pass


DC = About(
    title="DC",
    summary="Gradient matching (Zhao, Mopuri & Bilen, ICLR 2021). Starting from noise, or from real images where "
    "`start` is random, all images are changed until, class by class, they give a network the gradients that real "
    "images give it. Networks are random ones, trained on the images in between.",
    paper="""\
@inproceedings{zhao2021dc,
  title     = {Dataset Condensation with Gradient Matching},
  author    = {Zhao, Bo and Mopuri, Konda Reddy and Bilen, Hakan},
  booktitle = {International Conference on Learning Representations},
  year      = {2021},
  note      = {arXiv:2006.05929}
}""",
    experts=False,
)


@settings
class DatasetCondensation:
    """DC: gradient matching without augmentation. Starts from noise, as published, or from ``random`` real images."""

    about: ClassVar = DC
    student: ClassVar = False
    ipc: int
    start: NoiseOrReal = "noise"
    matching: GradientMatching = GradientMatching()

    def __post_init__(self) -> None:
        check_range("ipc", self.ipc, 1)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        return start_from(self.start, self.ipc, material, generator)

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        return self.matching.loss(iterate, material, Augmentation(), generator)

    def visits(self, classes: int) -> int:
        return self.matching.visits(self.ipc, classes)


DSA = About(
    title="DSA",
    summary="Gradient matching with differentiable siamese augmentation (Zhao & Bilen, ICML 2021). As DC, starting "
    "from real images unless `start` is noise; at each step real and synthetic images of a class are augmented alike.",
    paper="""\
@inproceedings{zhao2021dsa,
  title     = {Dataset Condensation with Differentiable Siamese Augmentation},
  author    = {Zhao, Bo and Bilen, Hakan},
  booktitle = {International Conference on Machine Learning},
  year      = {2021},
  note      = {arXiv:2102.08259}
}""",
    builds_on=("dc",),
    experts=False,
)


@settings
class SiameseCondensation:
    """DSA: gradient matching with one augmentation for real and synthetic images, drawn for each class and step.

    Starts from ``random`` real images, as published, or from noise.
    """

    about: ClassVar = DSA
    student: ClassVar = False
    ipc: int
    start: NoiseOrReal = "random"
    matching: GradientMatching = GradientMatching()
    augmentation: Augmentation = Augmentation("dsa")

    def __post_init__(self) -> None:
        check_range("ipc", self.ipc, 1)
        check_siamese(self.augmentation)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        return start_from(self.start, self.ipc, material, generator)

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        return self.matching.loss(iterate, material, self.augmentation, generator)

    def visits(self, classes: int) -> int:
        return self.matching.visits(self.ipc, classes)
