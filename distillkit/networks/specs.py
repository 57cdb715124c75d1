"""The networks of the field, built from a specification and a seed: ConvNet, ResNet18, LeNet, AlexCifarNet and others.

Layers follow the networks shared by DC, DSA, DM, MTT and SelMatch (VICO-UoE/DatasetCondensation), so that parameter
counts and published settings carry over: 320,010 parameters for CIFAR-10, 317,706 for MNIST.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from distillkit.base.errors import ParamsError, check_range
from distillkit.base.settings import settings
from distillkit.networks.factories import NetworkFactory, build, factory_of
from distillkit.networks.usual import Norm, alexnet, check_instance, mlp, normalisation_layer, vgg11, vit

DEEPEST, WIDEST = 32, 2**13  # blocks that each halve the image, and channels: more is a mistake
PLAIN = {"lenet": "LeNet", "alexcifarnet": "AlexCifarNet", "alexnet": "AlexNet", "mlp": "MLP", "vit": "ViT"}
TITLES = {"resnet18": "ResNet18", "vgg11": "VGG11"}


@settings
class NetworkSpec:
    """Which network: ``depth`` blocks of ``width`` channels (ConvNet only) and the kind of normalisation.

    Those in ``PLAIN`` have none to choose, and say so: ``norm: none``.
    """

    name: Literal["convnet", "resnet18", "lenet", "alexcifarnet", "vgg11", "alexnet", "mlp", "vit"]
    norm: Norm = "batch"
    depth: int = 3
    width: int = 128
    stem_stride: int = 1

    def __post_init__(self) -> None:
        check_range("network.depth", self.depth, 1, DEEPEST)
        check_range("network.width", self.width, 1, WIDEST)
        check_range("network.stem_stride", self.stem_stride, 1, 2)
        if self.name in PLAIN and self.norm != "none":
            raise ParamsError(f"network.norm is {self.norm}, but {self.name} is a network without; expected none")

    def __str__(self) -> str:
        if self.name in PLAIN:
            return PLAIN[self.name]
        norm = {"batch": "BN", "instance": "IN", "none": ""}[self.norm]
        return f"ConvNet{norm}-{self.depth}-{self.width}" if self.name == "convnet" else f"{TITLES[self.name]}{norm}"


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

    if spec.norm == "instance" and max(image_shape[1:]) <= 8 * spec.stem_stride:
        check_instance("resnet18", image_shape)
    network = imagenet_resnet18(num_classes=classes, norm_layer=partial(normalisation_layer, spec.norm))
    network.conv1 = nn.Conv2d(image_shape[0], 64, 3, stride=spec.stem_stride, padding=1, bias=False)
    network.maxpool = nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    result: nn.Module = network
    return result


def lenet(spec: NetworkSpec, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """LeNet with ReLU and max-pooling, for 32x32 images and, padded to them, 28x28 (Wang et al. 2018)."""
    del spec
    channels, height, width = image_shape
    if (height, width) not in ((28, 28), (32, 32)):
        raise ParamsError(f"network.name is lenet, but images are {height}x{width}; expected 28x28 or 32x32")
    layers: list[nn.Module] = [nn.Conv2d(channels, 6, 5, padding=2 if height == 28 else 0), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    layers += [nn.Linear(16 * 5 * 5, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)]
    return xavier(nn.Sequential(*layers))


def alexcifarnet(spec: NetworkSpec, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The AlexNet of dataset distillation for CIFAR-10: two 5x5 convolutions, local response normalisation."""
    del spec
    if image_shape != (3, 32, 32):
        found = "x".join(map(str, image_shape))
        raise ParamsError(f"network.name is alexcifarnet, but images are {found}; expected 3x32x32; set data.size")
    pool, response = partial(nn.MaxPool2d, 3, stride=2, padding=1), partial(nn.LocalResponseNorm, 4, 0.001 / 9, 0.75, 1)
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 5, padding=2), nn.ReLU(), pool(), response()]
    layers += [nn.Conv2d(64, 64, 5, padding=2), nn.ReLU(), response(), pool(), nn.Flatten()]
    layers += [nn.Linear(64 * 8 * 8, 384), nn.ReLU(), nn.Linear(384, 192), nn.ReLU(), nn.Linear(192, classes)]
    return xavier(nn.Sequential(*layers))


def xavier(network: nn.Module) -> nn.Module:
    """Weights from N(0, 2 / (fan in + fan out)), biases 0, as dataset distillation starts; changed in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return network


LEARNABLE: set[tuple[object, tuple[int, int, int], int, bool]] = set()  # what was found to be


def check_learnable(spec: "Network", image_shape: tuple[int, int, int], classes: int, twice: bool) -> None:
    """Raise ParamsError unless images can be learned through a network of one's own, which two images show.

    There must be a gradient by the images; with ``twice`` it is that of a gradient by the parameters, as matching
    gradients or trajectories takes it.
    """
    if not isinstance(spec, NetworkFactory):
        if spec.name == "vit" and twice:
            found = "network.name is vit, whose attention cannot be differentiated twice, as this method does"
            raise ParamsError(f"{found}; expected another network to learn with; vit is one to evaluate with")
        return
    if (key := (factory_of(spec), image_shape, classes, twice)) in LEARNABLE:
        return
    network = build_network(spec, image_shape, classes, seed=0).train()
    images = torch.linspace(0, 1, 2 * prod(image_shape)).view(2, *image_shape).requires_grad_()
    try:
        value = F.cross_entropy(network(images), torch.tensor([0, 1]))
        if twice:
            parts = torch.autograd.grad(value, list(network.parameters()), create_graph=True)
            value = torch.stack([part.square().sum() for part in parts]).sum()
        torch.autograd.grad(value, images)
    except RuntimeError as error:
        raise ParamsError(f"network {spec} cannot learn images: {not_learnable(str(error))}") from None
    LEARNABLE.add(key)


def not_learnable(reason: str) -> str:
    """What torch says where a derivative is missing, with the likely cause and what to do."""
    if "not have been used in the graph" in reason or "does not require grad" in reason:
        return "its logits have no gradient by the images; expected no detach, numpy or no_grad on the way; remove it"
    return (
        f"it cannot be differentiated as often as needed ({' '.join(reason.split())[:200]}); expected layers that can; "
        "where attention is fused, turn that off: timm.layers.set_fused_attn(False)"
    )


def without_classifier(network: nn.Module) -> nn.Module:
    """``network`` up to what its last linear layer sees: features (N, F), flattened; changed in place."""
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear) and name]
    if not linear:
        raise ParamsError("the network has no linear layer inside; expected one that classifies, last of all; add it")
    network.set_submodule(linear[-1], nn.Identity())
    return network


Network = NetworkSpec | NetworkFactory
NETWORKS: dict[str, Callable[[NetworkSpec, tuple[int, int, int], int], nn.Module]] = {
    "convnet": convnet,
    "resnet18": resnet18,
    "lenet": lenet,
    "alexcifarnet": alexcifarnet,
    "vgg11": lambda spec, image_shape, classes: vgg11(spec.norm, image_shape, classes),
    "alexnet": lambda _, image_shape, classes: alexnet(image_shape, classes),
    "mlp": lambda _, image_shape, classes: mlp(image_shape, classes),
    "vit": lambda _, image_shape, classes: vit(image_shape, classes),
}


INITIALISING = threading.Lock()  # the global generator is one; networks may be built side by side


@contextmanager
def initialising(seed: int) -> Iterator[None]:
    """A block in which new layers get the weights of ``seed``; the global generator is left as it was."""
    with INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_network(spec: Network, image_shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """A freshly initialised network; the same seed gives the same weights and leaves the global generator alone.

    Raises ParamsError where the network cannot be built for these images, see also
    :func:`distillkit.networks.factories.build`.
    """
    with initialising(seed):
        if isinstance(spec, NetworkFactory):
            return build(spec, image_shape, classes)
        return NETWORKS[spec.name](spec, image_shape, classes)
