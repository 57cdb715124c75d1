"""Gradients of losses that are sums of independent parts, with the memory of one part.

Axes: P parameters of one network; N images; C, H, W channels, height, width; K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from distillkit.matching.kernels import Kernel

Part = Callable[[Tensor], Tensor]


def summed(parts: Sequence[Part], images_NCHW: Tensor) -> Tensor:
    """The sum of scalar functions of the images, differentiable once.

    The gradient of each part is computed with its value, so that only one graph is in memory at a time.
    """
    total: Tensor = Summed.apply(images_NCHW, parts)
    return total


class Summed(torch.autograd.Function):
    """The forward pass computes values and gradients part by part; the backward pass returns the stored gradient."""

    @staticmethod
    def forward(ctx: Any, images_NCHW: Tensor, parts: Sequence[Part]) -> Tensor:
        total, gradient_NCHW = images_NCHW.new_zeros(()), torch.zeros_like(images_NCHW)
        for part in parts:
            with torch.enable_grad():
                x_NCHW = images_NCHW.detach().requires_grad_()
                value = part(x_NCHW)
            if ctx.needs_input_grad[0]:
                gradient_NCHW += torch.autograd.grad(value, x_NCHW)[0]
            total += value.detach()
        ctx.save_for_backward(gradient_NCHW)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        (gradient_NCHW,) = ctx.saved_tensors
        return outer * gradient_NCHW, None


def gradient_norm(kernel: Kernel, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor, batch: int) -> Tensor:
    """‖g‖ with g = Σ_b (n_b / N) ∇_θ CE(f(θ; x_b), y_b), over batches b of at most ``batch`` images.

    Differentiable once in the images and in probabilities (N, K), not in θ: with v = g / ‖g‖, ∂‖g‖/∂x = ∂(g·v)/∂x, and
    g·v is a sum over batches. With k batches, each takes every k-th image, so that images in order of class are mixed.
    """
    norm: Tensor = GradientNorm.apply(images_NCHW, labels, theta_P, kernel, batch)
    return norm


class GradientNorm(torch.autograd.Function):
    """Two passes over the batches: the gradient, then its adjoint along v = g / ‖g‖."""

    @staticmethod
    def forward(ctx: Any, images_NCHW: Tensor, labels: Tensor, theta_P: Tensor, kernel: Kernel, batch: int) -> Tensor:
        count = len(images_NCHW)
        parts = -(-count // batch)
        batches = [torch.arange(i, count, parts, device=images_NCHW.device) for i in range(parts)]
        gradient_P = torch.zeros_like(theta_P)
        for rows in batches:
            gradient_P += len(rows) / count * kernel.gradient(theta_P, images_NCHW[rows], labels[rows])
        norm: Tensor = gradient_P.norm()
        v_P = gradient_P / norm.clamp(min=torch.finfo(norm.dtype).tiny)
        image_gradient_NCHW = torch.zeros_like(images_NCHW)
        label_gradient_NK = torch.zeros_like(labels) if labels.is_floating_point() else None
        for rows in batches if any(ctx.needs_input_grad) else ():
            found = kernel.adjoint(theta_P, images_NCHW[rows], labels[rows], v_P)
            image_gradient_NCHW[rows] = len(rows) / count * found.images_NCHW
            if label_gradient_NK is not None and found.labels is not None:
                label_gradient_NK[rows] = len(rows) / count * found.labels
        ctx.save_for_backward(image_gradient_NCHW, label_gradient_NK)
        return norm

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        image_gradient_NCHW, label_gradient_NK = ctx.saved_tensors
        return (
            outer * image_gradient_NCHW,
            None if label_gradient_NK is None else outer * label_gradient_NK,
            *3 * (None,),
        )
