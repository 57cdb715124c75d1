"""The networks of the field: ConvNet and ResNet18, built from a specification and a seed.

Layers follow the networks shared by DC, DSA, DM, MTT and SelMatch (VICO-UoE/DatasetCondensation), so that parameter
counts and published settings carry over: 320,010 parameters for CIFAR-10, 317,706 for MNIST.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import nn

from distillkit.errors import ParamsError, check_range
from distillkit.settings import settings

Norm = Literal["batch", "instance", "none"]


@settings
class NetworkSpec:
    """Which network: ``depth`` blocks of ``width`` channels (ConvNet only) and the kind of normalisation."""

    name: Literal["convnet", "resnet18"]
    norm: Norm = "batch"
    depth: int = 3
    width: int = 128
    stem_stride: int = 1

    def __post_init__(self) -> None:
        check_range("network.depth", self.depth, 1)
        check_range("network.width", self.width, 1)
        check_range("network.stem_stride", self.stem_stride, 1, 2)

    def __str__(self) -> str:
        norm = {"batch": "BN", "instance": "IN", "none": ""}[self.norm]
        return f"ConvNet{norm}-{self.depth}-{self.width}" if self.name == "convnet" else f"ResNet18{norm}"


def normalisation_layer(norm: Norm, channels: int) -> nn.Module:
    """The field's "instance norm" is GroupNorm with one channel a group: affine, no running statistics."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "instance":
        return nn.GroupNorm(channels, channels)
    return nn.Identity()


def convnet(spec: NetworkSpec, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """``depth`` blocks of 3x3 convolution, normalisation, ReLU and 2x2 average pooling, then one linear layer.

    One-channel 28x28 images are padded to 32x32 by the first convolution, as the field does for MNIST.
    """
    channels, height, width = image_shape
    padding = 3 if image_shape == (1, 28, 28) else 1
    height, width = height + 2 * (padding - 1), width + 2 * (padding - 1)
    layers: list[nn.Module] = []
    for block in range(spec.depth):
        layers += [
            nn.Conv2d(channels, spec.width, kernel_size=3, padding=padding if block == 0 else 1),
            normalisation_layer(spec.norm, spec.width),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]
        channels, height, width = spec.width, height // 2, width // 2
    if not height * width:
        raise ParamsError(
            f"network.depth is {spec.depth}, but images of {image_shape[1]}x{image_shape[2]} cannot be "
            "halved that often; use a smaller depth or larger images"
        )
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))


def resnet18(spec: NetworkSpec, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """torchvision's ResNet18 with the field's small-image stem (3x3, no max-pool) and default initialisation."""
    from torchvision.models import resnet18 as imagenet_resnet18

    network = imagenet_resnet18(num_classes=classes, norm_layer=partial(normalisation_layer, spec.norm))
    network.conv1 = nn.Conv2d(image_shape[0], 64, 3, stride=spec.stem_stride, padding=1, bias=False)
    network.maxpool = nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    result: nn.Module = network
    return result


def without_classifier(network: nn.Module) -> nn.Module:
    """``network`` up to what its last linear layer sees: features (N, F), flattened; changed in place."""
    *_, last = (name for name, module in network.named_modules() if isinstance(module, nn.Linear))
    network.set_submodule(last, nn.Identity())
    return network


NETWORKS: dict[str, Callable[[NetworkSpec, tuple[int, int, int], int], nn.Module]] = {
    "convnet": convnet,
    "resnet18": resnet18,
}


INITIALISING = threading.Lock()  # the global generator is one; networks may be built side by side


@contextmanager
def initialising(seed: int) -> Iterator[None]:
    """A block in which new layers get the weights of ``seed``; the global generator is left as it was."""
    with INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_network(spec: NetworkSpec, image_shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """A freshly initialised network; the same seed gives the same weights and leaves the global generator alone."""
    with initialising(seed):
        return NETWORKS[spec.name](spec, image_shape, classes)
