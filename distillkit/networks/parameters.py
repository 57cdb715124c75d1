"""A network as a function of one flat parameter vector.

Axes: P parameters of one network; N images; C, H, W channels, height, width; K classes.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from distillkit.base.errors import ArtifactError

BatchNorm = nn.modules.batchnorm._BatchNorm  # of any dimension, and what libraries make of it


def flatten(network: nn.Module) -> Tensor:
    """A copy of all parameters as one vector of shape (P,), in ``network.parameters()`` order."""
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def load_flat_(network: nn.Module, theta_P: Tensor) -> None:
    """Set all parameters from one vector. Raises ArtifactError when it has another length."""
    found, expected = len(theta_P), sum(p.numel() for p in network.parameters())
    if found != expected:
        raise ArtifactError(f"these are {found} parameters, but the network has {expected}; expected those of its kind")
    with torch.no_grad():
        for p, part in zip(network.parameters(), theta_P.split([p.numel() for p in network.parameters()]), strict=True):
            p.copy_(part.view_as(p))


def call_with(network: nn.Module, theta_P: Tensor, x_NCHW: Tensor) -> Tensor:
    """Logits (N, K) of ``network`` with its parameters replaced by ``theta_P``; differentiable in both."""
    shapes = {name: p.shape for name, p in network.named_parameters()}
    parts = theta_P.split([shape.numel() for shape in shapes.values()])
    named = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    logits: Tensor = functional_call(network, named, (x_NCHW,))
    return logits


@torch.no_grad()
def measure_statistics(network: nn.Module, images_NCHW: Tensor) -> nn.Module:
    """``network`` in evaluation mode, its batch normalisation by the statistics of these images; changed in place.

    Trajectories hold no running statistics. What it says of an image does not depend on its neighbours from here on.
    """
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of the next batch
    if norms:
        network.train()(images_NCHW)
    return network.eval()


def forget_statistics(network: nn.Module) -> nn.Module:
    """``network`` with batch normalisation always by batch statistics, so that a call changes nothing.

    Trajectories hold parameters only, no running statistics; students are matched in this form, as in MTT.
    """
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return network
