"""Several networks of one kind as one: f(x)_r = f_r(x_r) for network r. The results differ only by rounding.

Images and activations of the R networks are concatenated as channels, (N, R·C, H, W). A convolution then has R times
the groups, a normalisation layer R times the channels, and a linear layer is a batched product. In small networks,
where the start of each operation takes most of the time, this saves about a third of the time.

Axes: R networks; N images of a batch; C, H, W channels, height, width; D features; K classes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

CHANNEL_BY_CHANNEL = (
    nn.ReLU,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.Identity,
    nn.Flatten,
)  # without parameters: used unchanged


class StackedLinear(nn.Module):
    """The linear layers of R networks: (N, R·D) to (N, R·K)."""

    def __init__(self, networks: int, layer: nn.Linear):
        super().__init__()
        self.networks = networks
        self.weight = nn.Parameter(torch.empty(networks * layer.out_features, layer.in_features))
        self.bias = nn.Parameter(torch.empty(networks * layer.out_features)) if layer.bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        x_RND = x.view(len(x), self.networks, -1).transpose(0, 1)
        y_RNK = x_RND @ self.weight.view(self.networks, -1, x_RND.shape[2]).transpose(1, 2)
        y = y_RNK.transpose(0, 1).flatten(1)
        return y if self.bias is None else y + self.bias


def convolution(count: int, one: nn.Conv2d) -> nn.Module:
    channels, groups = (count * one.in_channels, count * one.out_channels), count * one.groups
    shape = (one.kernel_size, one.stride, one.padding, one.dilation)
    return nn.Conv2d(*channels, *shape, groups, one.bias is not None, one.padding_mode)  # type: ignore[arg-type]


def batch_norm(count: int, one: nn.BatchNorm2d) -> nn.Module:
    return nn.BatchNorm2d(count * one.num_features, one.eps, one.momentum, one.affine, one.track_running_stats)


def group_norm(count: int, one: nn.GroupNorm) -> nn.Module:
    return nn.GroupNorm(count * one.num_groups, count * one.num_channels, one.eps, one.affine)


WIDER: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Conv2d: convolution,
    nn.BatchNorm2d: batch_norm,
    nn.GroupNorm: group_norm,
    nn.Linear: StackedLinear,
}  # from one network's layer to the layer of R networks


def stack(networks: Sequence[nn.Module]) -> nn.Module | None:
    """One network for several networks of one kind; None if a layer's type is unknown, or a layer occurs twice.

    The parameters and running statistics of ``networks`` become views of the stack's, so that training the stack trains
    all of them.
    """
    if len(networks) == 1:
        return networks[0]
    layers_of = [leaves(network) for network in networks]
    if not all(map(known, layers_of[0])) or len({*layers_of[0]}) < len(layers_of[0]):  # a layer in two places
        return None
    return nn.Sequential(*map(stacked_layer, zip(*layers_of, strict=True)))


def leaves(network: nn.Module) -> list[nn.Module]:
    """The layers of nested ``nn.Sequential``, in order. Any other module counts as one layer."""
    if type(network) is not nn.Sequential:
        return [network]
    return [leaf for child in network for leaf in leaves(child)]


def known(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return type(layer) in (*CHANNEL_BY_CHANNEL, *WIDER)


@torch.no_grad()
def stacked_layer(layers: Sequence[nn.Module]) -> nn.Module:
    """One layer for the same layer of R networks. Their tensors become views of the new layer's tensors."""
    first = layers[0]
    if type(first) not in WIDER:
        return first
    with torch.device("meta"):  # draws no random weights
        joint = WIDER[type(first)](len(layers), first)
    for name, own in [*first.named_parameters(), *first.named_buffers()]:
        if own.ndim == 0:  # num_batches_tracked, equal in all networks
            joint.register_buffer(name, own)
            continue
        parts = [getattr(layer, name) for layer in layers]
        whole = torch.cat(parts)
        setattr(joint, name, nn.Parameter(whole) if isinstance(own, nn.Parameter) else whole)
        for part, place in zip(parts, whole.split(len(own)), strict=True):
            part.data = place
    return joint
