"""What DC, DSA and DM share: where they start, fresh networks, and batches of one class.

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
    """Random real images, or noise drawn from N(0, 1) in normalised space; all to be learned."""
    if start == "noise":
        return noise(ipc, material, generator)
    real = RandomSubset(ipc).init(material, generator)
    return replace(real, learned=torch.ones_like(real.learned))


def noise(ipc: int, material: Material, generator: Generator) -> SyntheticSet:
    """``ipc`` images of every class that come from no real one. Raises ParamsError for more than fit any machine."""
    classes, device = len(material.real.class_names), material.real.device
    check_fits(ipc, classes, material.real.image_shape)
    noise_NCHW = torch.randn(ipc * classes, *material.real.image_shape, generator=generator).to(device)
    return made_set(material.normalisation.undo(noise_NCHW), material.real.class_names, material.normalisation)


def network_like(spec: Network | None, material: Material, seed: int, images_NCHW: Tensor) -> nn.Module:
    """A freshly initialised network on the device and in the type of the images; like the experts' without ``spec``.

    Raises ParamsError when there is neither.
    """
    if spec is None and material.experts is None:
        raise ParamsError("network is missing, and there are no experts to be like; add network or train experts")
    spec = material.need_experts().spec if spec is None else spec
    network = build_network(spec, material.real.image_shape, len(material.real.class_names), seed)
    return network.to(images_NCHW.device, images_NCHW.dtype)


def has_batch_norm(network: nn.Module) -> bool:
    """Whether an image's features depend on the other images of its batch."""
    return any(isinstance(module, BatchNorm) for module in network.modules())


class ClassBatch(NamedTuple):
    """Rows of the synthetic images of one class, of a batch of real ones, and how both are augmented."""

    rows: Tensor
    real: Tensor
    draw: Draw

    def synthetic(self, images_NCHW: Tensor) -> Tensor:
        """The augmented synthetic images, of all those given."""
        return augment.apply(images_NCHW[self.rows], self.draw)

    def wanted(self, material: Material, like: Tensor) -> Tensor:
        """The augmented real images, normalised, in the type of ``like``."""
        return augment.apply(material.normalised(self.real).to(like.dtype), self.draw)


def class_batches(
    iterate: Iterate, material: Material, count: int, augmentation: Augmentation, generator: Generator
) -> Iterator[ClassBatch]:
    """For each class all synthetic images, ``count`` real ones or all there are, and one draw for both."""
    synthetic = class_rows(iterate.labels, len(material.rows_by_class))
    for rows, own in zip(synthetic, material.rows_by_class, strict=True):
        yield ClassBatch(rows, draw_rows(own, count, generator), augment.draw_siamese(augmentation, generator))
