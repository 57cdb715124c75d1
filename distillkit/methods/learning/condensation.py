"""Functions that DC, DSA and DM share: initial sets, new networks, and batches of one class. DD uses the first two.

Axes: N images; C, H, W channels, height, width.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

from distillkit.base.errors import ParamsError
from distillkit.data import augment
from distillkit.data.augment import Augmentation, Draw
from distillkit.data.images import Iterate, SyntheticSet, check_fits, made_set
from distillkit.data.selection import class_rows, draw_rows
from distillkit.matching.method import Material
from distillkit.networks.parameters import BatchNorm
from distillkit.networks.specs import Network, build_network
from distillkit.selection.random_subset import RandomSubset

NoiseOrReal = Literal["noise", "random"]


def start_from(start: NoiseOrReal, ipc: int, material: Material, generator: Generator) -> SyntheticSet:
    """An initial set of which all images are learned: random real images, or noise.

    Raises WindowError if a class has fewer than ``ipc`` images, ParamsError as :func:`noise` does.
    """
    if start == "noise":
        return noise(ipc, material, generator)
    real = RandomSubset(ipc).init(material, generator)
    return replace(real, learned=torch.ones_like(real.learned))


def noise(ipc: int, material: Material, generator: Generator) -> SyntheticSet:
    """``ipc`` images of every class, drawn from N(0, 1) in normalised space.

    Raises ParamsError for too many images, see :func:`~distillkit.data.images.check_fits`.
    """
    classes, device = len(material.real.class_names), material.real.device
    check_fits(ipc, classes, material.real.image_shape)
    noise_NCHW = torch.randn(ipc * classes, *material.real.image_shape, generator=generator).to(device)
    return made_set(material.normalisation.undo(noise_NCHW), material.real.class_names, material.normalisation)


def network_like(spec: Network | None, material: Material, seed: int, images_NCHW: Tensor) -> nn.Module:
    """A new network by ``spec``, or like the experts' if None, with the device and dtype of ``images_NCHW``.

    Raises ParamsError when there is no ``spec`` and no expert.
    """
    if spec is None and material.experts is None:
        raise ParamsError("network is missing, and there are no experts to be like; add network or train experts")
    spec = material.need_experts().spec if spec is None else spec
    network = build_network(spec, material.real.image_shape, len(material.real.class_names), seed)
    return network.to(images_NCHW.device, images_NCHW.dtype)


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a network has batch normalisation: an image's features then depend on the other images of its batch."""
    return any(isinstance(module, BatchNorm) for module in network.modules())


class ClassBatch(NamedTuple):
    """One class: the ``rows`` of its synthetic images, the rows of a batch of ``real`` ones, and their augmentation."""

    rows: Tensor
    real: Tensor
    draw: Draw

    def synthetic(self, images_NCHW: Tensor) -> Tensor:
        """The augmented synthetic images of this class; ``images_NCHW`` are those of all classes."""
        return augment.apply(images_NCHW[self.rows], self.draw)

    def wanted(self, material: Material, like: Tensor) -> Tensor:
        """The augmented real images, normalised, with the dtype of ``like``."""
        return augment.apply(material.normalised(self.real).to(like.dtype), self.draw)


def class_batches(
    iterate: Iterate, material: Material, count: int, augmentation: Augmentation, generator: Generator
) -> Iterator[ClassBatch]:
    """Yield for each class all synthetic images, ``count`` random real ones (or all if fewer), and one augmentation."""
    synthetic = class_rows(iterate.labels, len(material.rows_by_class))
    for rows, own in zip(synthetic, material.rows_by_class, strict=True):
        yield ClassBatch(rows, draw_rows(own, count, generator), augment.draw_siamese(augmentation, generator))
