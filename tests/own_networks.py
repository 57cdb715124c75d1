"""Networks as users write them, for tests: named tests' import path ``own_networks:NAME``."""

import torch
from torch import nn


class Small(nn.Module):
    """A convolution with batch normalisation, as people write one: with a view that needs its own memory layout."""

    def __init__(self, image_shape, classes):
        super().__init__()
        channels, height, width = image_shape
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * height * width, classes)

    def forward(self, x):
        x = self.norm(self.conv(x)).relu()
        return self.fc(x.view(x.size(0), -1))


def plain(image_shape, classes):
    """Without normalisation."""
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 8), nn.Tanh(), nn.Linear(8, classes))


def timm_resnet(image_shape, classes):
    import timm

    return timm.create_model("test_resnet", pretrained=False, num_classes=classes, in_chans=image_shape[0])


def torchvision_resnet(image_shape, classes):
    from torchvision.models.resnet import BasicBlock, ResNet

    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=classes)
    network.conv1 = nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False)
    return network


def with_dropout(image_shape, classes):
    return nn.Sequential(plain(image_shape, classes), nn.Dropout(0.5))


def no_module(image_shape, classes):
    return lambda x: x


def too_few(image_shape, classes):
    return plain(image_shape, classes - 1)


def for_other_images(image_shape, classes):
    return plain((3, 5, 5), classes)


def with_a_part_unused(image_shape, classes):
    network = plain(image_shape, classes)
    network.register_parameter("extra", nn.Parameter(torch.zeros(2)))
    return network


def frozen(image_shape, classes):
    return plain(image_shape, classes).requires_grad_(False)


number = 3
