"""The networks that papers of the field test their sets on beside a ConvNet: VGG11, AlexNet, an MLP and a small ViT.

VGG11, AlexNet and MLP have the field's form for 28x28 and 32x32 images (VICO-UoE/DatasetCondensation), which is not
torchvision's: no large linear layers, no dropout, and one normalisation for each convolution of VGG11. On smaller
images, pooling stops once a single pixel is left. The ViT is torchvision's class at a size for small images.
"""

from math import prod
from typing import Literal

import torch
from torch import nn

from distillkit.base.errors import ParamsError

Norm = Literal["batch", "instance", "none"]
Shape = tuple[int, int, int]
VGG11 = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
ALEXNET = ((128, 5), "pool", (192, 5), "pool", (256, 3), (192, 3), (192, 3), "pool")
VIT = {"num_layers": 4, "num_heads": 4, "hidden_dim": 128, "mlp_dim": 256}
PATCHES = 8  # on a side, at most


def normalisation_layer(norm: Norm, channels: int) -> nn.Module:
    """The field's "instance norm" is GroupNorm with one channel a group: affine, no running statistics."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "instance":
        return nn.GroupNorm(channels, channels)
    return nn.Identity()


def vgg11(norm: Norm, image_shape: Shape, classes: int) -> nn.Module:
    """Eight 3x3 convolutions with normalisation and ReLU, five max-poolings, one linear layer.

    Of one-channel images the first convolution pads by 3, as the field does for MNIST. Raises ParamsError for instance
    normalisation of features of one pixel, which it makes zero.
    """
    channels, height, width = image_shape
    padding, layers = 3 if channels == 1 else 1, list[nn.Module]()
    for part in VGG11:
        if isinstance(part, int):
            height, width = height + 2 * (padding - 1), width + 2 * (padding - 1)
            if norm == "instance" and height * width == 1:
                check_instance("vgg11", image_shape)
            convolution = nn.Conv2d(channels, part, 3, padding=padding)
            layers += [convolution, normalisation_layer(norm, part), nn.ReLU()]
            channels, padding = part, 1
        elif min(height, width) > 1:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))


def check_instance(name: str, image_shape: Shape) -> None:
    found = f"network.norm is instance, but {name} makes one pixel of {image_shape[1]}x{image_shape[2]} images"
    raise ParamsError(f"{found}, whose instance normalisation is 0; expected batch; change it, or set data.size to 32")


def alexnet(image_shape: Shape, classes: int) -> nn.Module:
    """Five convolutions with ReLU, three max-poolings, one linear layer; no normalisation, no dropout."""
    channels, height, width = image_shape
    padding, layers = 4 if channels == 1 else 2, list[nn.Module]()
    for part in ALEXNET:
        if isinstance(part, tuple):
            out, size = part
            height, width = height + 2 * padding + 1 - size, width + 2 * padding + 1 - size
            layers += [nn.Conv2d(channels, out, size, padding=padding), nn.ReLU()]
            channels = out
        elif min(height, width) > 1:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        padding = 2 if part == "pool" and channels == 128 else 1
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))


def mlp(image_shape: Shape, classes: int) -> nn.Module:
    """Two hidden layers of 128 with ReLU."""
    layers = [nn.Flatten(), nn.Linear(prod(image_shape), 128), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, classes))


def vit(image_shape: Shape, classes: int) -> nn.Module:
    """torchvision's VisionTransformer: 4 layers of 4 heads, 128 wide, without dropout, on at most 8x8 patches.

    Raises ParamsError for images that are not square, or cannot be cut into equal patches.
    """
    from torchvision.models import VisionTransformer

    channels, height, width = image_shape
    sizes = [size for size in range(2, height) if height % size == 0 and height // size <= PATCHES]
    if height != width or not sizes:
        found = f"network.name is vit, but images are {height}x{width}"
        raise ParamsError(f"{found}; expected a square that 2 to {PATCHES} equal patches make; set data.size")
    network: nn.Module = VisionTransformer(image_size=height, patch_size=sizes[0], num_classes=classes, **VIT)
    if channels != 3:
        cut = nn.Conv2d(channels, VIT["hidden_dim"], sizes[0], sizes[0])
        nn.init.trunc_normal_(cut.weight, std=(channels * sizes[0] ** 2) ** -0.5)
        cut.register_parameter("bias", nn.Parameter(torch.zeros(VIT["hidden_dim"])))
        network.conv_proj = cut
    return network
