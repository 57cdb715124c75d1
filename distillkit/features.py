"""What a trained network sees in an image: the values that its last layer classifies.

Axes: N images; C, H, W channels, height, width; D features.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from distillkit.errors import ParamsError
from distillkit.images import ImageSet, Normalisation
from distillkit.networks import build_network
from distillkit.parameters import load_flat_
from distillkit.trajectories import Experts

SAMPLE = 512  # training images that batch normalisation takes its statistics from
CHUNK = 512

Features = Callable[[Tensor], Tensor]


def expert_features(experts: Experts, count: int, real: ImageSet, normalisation: Normalisation) -> Features:
    """A function from rows of ``real`` to features (N, D): those of ``count`` experts after training, side by side.

    Raises ParamsError when there are fewer experts.
    """
    if not 1 <= count <= len(experts):
        raise ParamsError(
            f"experts is {count}, but {len(experts)} are trained; expected 1 to {len(experts)}, or add expert_shards"
        )
    networks = []
    for expert in range(count):
        network = build_network(experts.spec, real.image_shape, len(real.class_names), seed=0)
        load_flat_(network, experts.read(expert, experts.snapshots - 1))
        networks.append(network.to(real.images.device))
        take_statistics_(networks[-1], normalisation.apply(real.take(spread_rows(real.labels)).pixels()))

    def features(rows: Tensor) -> Tensor:
        parts = rows.split(CHUNK)
        images = (normalisation.apply(real.take(part).pixels()) for part in parts)
        return torch.cat([torch.cat([embed(network, x_NCHW) for network in networks], 1) for x_NCHW in images])

    return features


@torch.no_grad()
def embed(network: nn.Module, x_NCHW: Tensor) -> Tensor:
    """What goes into the last linear layer, (N, D)."""
    *_, classifier = (module for module in network.modules() if isinstance(module, nn.Linear))
    seen: list[Tensor] = []
    handle = classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(1)))
    try:
        network(x_NCHW)
    finally:
        handle.remove()
    return seen[-1]


@torch.no_grad()
def take_statistics_(network: nn.Module, sample_NCHW: Tensor) -> None:
    """Fix batch normalisation by one pass over a sample, then evaluate: an image's features are its own from here on.

    Trajectories hold no running statistics.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of this pass and no other
    network.train()
    network(sample_NCHW)
    network.eval()


def spread_rows(labels_N: Tensor, count: int = SAMPLE) -> Tensor:
    """At most ``count`` rows, evenly spread over the set in the order of its classes."""
    places = torch.linspace(0, len(labels_N) - 1, min(count, len(labels_N)), dtype=torch.float64).round().long()
    return labels_N.argsort(stable=True)[places.to(labels_N.device)]
