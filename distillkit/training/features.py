"""Features of images in a trained network: the inputs of its last layer.

Axes: N images; C, H, W channels, height, width; D features.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from distillkit.base.errors import ParamsError
from distillkit.data.images import ImageSet, Normalisation
from distillkit.data.rows import Chosen, Images, Normalised, chunks, kept_aside
from distillkit.networks.parameters import load_flat_, measure_statistics
from distillkit.networks.specs import build_network, without_classifier
from distillkit.training.trajectories import Experts

SAMPLE = 512  # training images for the statistics of batch normalisation
CHUNK = 512

Features = Callable[[Tensor], Images]


def expert_features(experts: Experts, count: int, real: ImageSet, normalisation: Normalisation) -> Features:
    """A function from rows of ``real`` to features (N, D): those of the first ``count`` trained experts, concatenated.

    If there are many features, they are in a temporary file. Raises ParamsError when there are fewer experts.
    """
    check_count(count, len(experts))
    networks = [without_classifier(trained_expert(experts, expert, real, normalisation)) for expert in range(count)]

    @torch.no_grad()
    def features(rows: Tensor) -> Images:
        images = chunks(Normalised(Chosen(real.images, rows), normalisation, real.device), CHUNK)
        parts = (torch.cat([network(x_NCHW).flatten(1) for network in networks], 1) for x_NCHW in images)
        return kept_aside(parts, len(rows))

    return features


def check_count(count: int, trained: int) -> None:
    """Raise ParamsError unless ``count`` is from 1 to ``trained``, the number of experts."""
    if not 1 <= count <= trained:
        expected = f"expected 1 to {trained}, or add expert_shards"
        raise ParamsError(f"experts is {count}, but {trained} are trained; {expected}")


def trained_expert(experts: Experts, number: int, real: ImageSet, normalisation: Normalisation) -> nn.Module:
    """An expert after its last epoch, in evaluation mode.

    The statistics of batch normalisation come from some training images, spread evenly over the classes.
    """
    device = real.device
    network = build_network(experts.spec, real.image_shape, len(real.class_names), seed=0).to(device)
    load_flat_(network, experts.read(number, experts.snapshots - 1).to(device))
    return measure_statistics(network, normalisation.apply(real.pixels(spread_rows(real.labels))))


def spread_rows(labels_N: Tensor, count: int = SAMPLE) -> Tensor:
    """At most ``count`` rows, evenly spaced in the set sorted by class."""
    places = torch.linspace(0, len(labels_N) - 1, min(count, len(labels_N)), dtype=torch.float64).round().long()
    return labels_N.argsort(stable=True)[places.to(labels_N.device)]
