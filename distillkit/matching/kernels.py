"""The inner step of an unroll and its adjoint: two pure functions with fixed shapes, eager or compiled.

Let ``g = ∇_θ ℓ(f(θ; z), y)`` be the gradient on one batch. The adjoint of a step along v needs the slope s = g·v and
its derivatives ∂s/∂θ (the Hessian times v), ∂s/∂z and, for soft labels, ∂s/∂y.

Axes: P parameters of one network; N images of a batch; C, H, W channels, height, width; K classes.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distillkit.networks.parameters import call_with
from distillkit.training.compute import Compute, compiled


class Adjoint(NamedTuple):
    """The slope s = g·v and its derivatives; ``labels`` (N, K) is None for hard labels."""

    slope: Tensor
    theta_P: Tensor
    images_NCHW: Tensor
    labels: Tensor | None


class Recorded(NamedTuple):
    """A gradient with its graph, so that the adjoint needs no second forward pass."""

    theta_P: Tensor
    images_NCHW: Tensor
    labels: Tensor
    gradient_P: Tensor

    def adjoint(self, v_P: Tensor) -> Adjoint:
        soft = self.labels.is_floating_point()
        inputs = [self.theta_P, self.images_NCHW, *([self.labels] if soft else [])]
        theta_P, images_NCHW, *labels = torch.autograd.grad(self.gradient_P, inputs, v_P)
        return Adjoint(self.gradient_P.detach() @ v_P, theta_P, images_NCHW, labels[0] if labels else None)


class Kernel(Protocol):
    """An inner step and its adjoint; ``labels`` are classes (N,) or probabilities (N, K)."""

    def gradient(self, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor) -> Tensor:
        """The gradient g (P,) of the batch's loss."""
        ...

    def adjoint(self, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor, v_P: Tensor) -> Adjoint: ...


def batch_loss(network: nn.Module, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor) -> Tensor:
    """ℓ: the mean cross-entropy of one batch."""
    return F.cross_entropy(call_with(network, theta_P, images_NCHW), labels)


class EagerKernel:
    """Reverse over reverse mode, with PyTorch's own layers. The graph of a step can be kept (:meth:`record`).

    With instance norm, :meth:`gradient` and :meth:`record` differ by rounding: PyTorch uses a fast formula for the
    gradient of a group norm, and another formula for a gradient that is differentiated again.
    """

    def __init__(self, network: nn.Module):
        self.network = network
        self.graph_bytes: dict[torch.Size, int] = {}

    def gradient(self, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor) -> Tensor:
        with torch.enable_grad():
            theta_P = theta_P.detach().requires_grad_()
            (gradient_P,) = torch.autograd.grad(batch_loss(self.network, theta_P, images_NCHW, labels), theta_P)
        return gradient_P

    def record(self, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor) -> Recorded:
        with torch.enable_grad():
            theta_P, images_NCHW = theta_P.detach().requires_grad_(), images_NCHW.detach().requires_grad_()
            labels = labels.detach().requires_grad_(labels.is_floating_point())
            loss = batch_loss(self.network, theta_P, images_NCHW, labels)
            (gradient_P,) = torch.autograd.grad(loss, theta_P, create_graph=True)
        return Recorded(theta_P, images_NCHW, labels, gradient_P)

    def bytes_kept(self, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor) -> int:
        """Bytes of the tensors that one step's graph saves, measured once for each shape of batch."""
        if images_NCHW.shape not in self.graph_bytes:
            sizes: dict[int, int] = {}

            def note(tensor: Tensor) -> Tensor:
                storage = tensor.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
                return tensor.detach()

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                self.record(theta_P, images_NCHW, labels)
            self.graph_bytes[images_NCHW.shape] = sum(sizes.values())
        return self.graph_bytes[images_NCHW.shape]

    def adjoint(self, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor, v_P: Tensor) -> Adjoint:
        return self.record(theta_P, images_NCHW, labels).adjoint(v_P)


class CompiledKernel:
    """Reverse over forward mode, compiled: s is the directional derivative of ℓ along v, differentiated once.

    The first call of each function compiles it. If that fails, an :class:`EagerKernel` is used.
    """

    def __init__(self, network: nn.Module, compute: Compute):
        eager, plain_layers, layout = EagerKernel(network), with_plain_norms(network), compute.layout
        gradient, adjoint = gradient_function(plain_layers, layout), adjoint_function(plain_layers, layout)
        self.compiled_gradient = compiled(gradient, eager.gradient, "the inner step", compute.say)
        self.compiled_adjoint = compiled(adjoint, eager.adjoint, "its adjoint", compute.say)

    def gradient(self, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor) -> Tensor:
        return self.compiled_gradient(theta_P.detach(), images_NCHW, labels)

    def adjoint(self, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor, v_P: Tensor) -> Adjoint:
        found = self.compiled_adjoint(theta_P.detach(), images_NCHW, labels.detach(), v_P)
        return Adjoint(*found)


def unchanged(x_NCHW: Tensor) -> Tensor:
    return x_NCHW


def gradient_function(
    network: nn.Module, layout: Callable[[Tensor], Tensor] = unchanged
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """g as a function that can be compiled; it first converts the images with ``layout``."""

    def gradient(theta_P: Tensor, images_NCHW: Tensor, labels: Tensor) -> Tensor:
        images_NCHW = layout(images_NCHW)
        found: Tensor = torch.func.grad(lambda theta_P: batch_loss(network, theta_P, images_NCHW, labels))(theta_P)
        return found

    return gradient


def adjoint_function(
    network: nn.Module, layout: Callable[[Tensor], Tensor] = unchanged
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Adjoint]:
    """s and its derivatives, reverse over forward mode. Correct only without PyTorch's normalisation layers."""

    def adjoint(theta_P: Tensor, images_NCHW: Tensor, labels: Tensor, v_P: Tensor) -> Adjoint:
        images_NCHW = layout(images_NCHW)
        theta_P, v_P = theta_P.clone(), v_P.clone()  # compiled forward mode does not accept views of a larger tensor

        def slope(theta_P: Tensor, images_NCHW: Tensor, labels: Tensor) -> Tensor:
            along: Tensor = torch.func.jvp(
                lambda theta_P: batch_loss(network, theta_P, images_NCHW, labels), (theta_P,), (v_P,)
            )[1]
            return along

        arguments = (0, 1, 2) if labels.is_floating_point() else (0, 1)
        derivatives, s = torch.func.grad_and_value(slope, argnums=arguments)(theta_P, images_NCHW, labels)
        return Adjoint(s, derivatives[0], derivatives[1], derivatives[2] if len(derivatives) == 3 else None)

    return adjoint


class PlainNorm(nn.Module):
    """Normalisation over ``dims`` with the batch's statistics, in elementary operations.

    In reverse over forward mode, PyTorch 2.15 silently computes wrong derivatives of its batch norm: it treats mean and
    variance as constants. With elementary operations all derivatives are exact.
    """

    def __init__(self, weight_C: Tensor, bias_C: Tensor, eps: float, dims: tuple[int, ...]):
        super().__init__()
        self.weight, self.bias, self.eps, self.dims = weight_C, bias_C, eps, dims

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(x − mean) / √(var + ε) · weight + bias."""
        var, mean = torch.var_mean(x_NCHW, self.dims, correction=0, keepdim=True)
        return (x_NCHW - mean) * torch.rsqrt(var + self.eps) * self.weight[:, None, None] + self.bias[:, None, None]


def with_plain_norms(network: nn.Module) -> nn.Module:
    """A copy of ``network`` with :class:`PlainNorm` as batch and instance norms. Parameters keep their names and order.

    Raises ValueError for a group norm with several channels in a group.
    """
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, PlainNorm(child.weight, child.bias, child.eps, (0, 2, 3)))
            elif isinstance(child, nn.GroupNorm):
                if child.num_groups != child.num_channels:
                    raise ValueError("only group norms with one channel per group (instance norms) are supported")
                setattr(parent, name, PlainNorm(child.weight, child.bias, child.eps, (2, 3)))
    return network
