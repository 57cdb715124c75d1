"""SGD on a synthetic set as one differentiable function of images, labels, step sizes and initial parameters.

The gradient is exact. The forward pass runs the steps without a graph and keeps only the parameter vector of each; the
backward pass computes each step again (Pearlmutter 1994; the discrete adjoint). So the memory for graphs does not grow
with the number of steps.

Axes: P parameters of one network; S steps; N images; C, H, W channels, height, width; K classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from distillkit.base.device import onto
from distillkit.data import augment
from distillkit.data.augment import Augmentation, Draw
from distillkit.data.images import Iterate
from distillkit.matching.kernels import Adjoint, EagerKernel, Kernel, Recorded
from distillkit.training.loop import step_batches

CPU_BUDGET = 4 * 2**30  # bytes for kept graphs on a CPU; on a GPU, half of the free memory is used


class InnerStep(NamedTuple):
    """The rows of one inner step, and their augmentation."""

    rows: Tensor
    draw: Draw


def plan(count: int, steps: int, batch: int, augmentation: Augmentation, generator: Generator) -> list[InnerStep]:
    """All random choices of an unroll, made in advance, so that it can be repeated exactly."""
    rows = step_batches(count, batch, steps, generator)
    return [InnerStep(step_rows, augment.draw(augmentation, len(step_rows), generator)) for step_rows in rows]


def unroll(
    kernel: Kernel, theta_P: Tensor, iterate: Iterate, steps: list[InnerStep], *, keep: int | None = 0
) -> tuple[Tensor, ...]:
    """(θ_1, ..., θ_S) with θ_{i+1} = θ_i − η_i ∇CE(f(θ_i; A_i(x_{b_i})), y_{b_i}).

    Differentiable in ``theta_P``, ``iterate.images_NCHW`` (where ``learned``), ``iterate.labels`` if they are
    probabilities (N, K), and ``iterate.student_lr``: one η, or one per step (S,). A loss may use any of the θ.

    Each step needs the memory of one more θ. An :class:`EagerKernel` also keeps the graphs of the first ``keep`` steps
    (None: as many as fit into memory). This saves their second computation and does not change the result.
    """
    lr_S, device = iterate.student_lr.expand(len(steps)), iterate.images_NCHW.device
    learned_N = iterate.learned
    if learned_N is None:
        learned_N = torch.ones(len(iterate.labels), dtype=torch.bool, device=device)
    steps = [InnerStep(onto(device, rows), draw) for rows, draw in steps]
    thetas: tuple[Tensor, ...] = Unroll.apply(
        theta_P, iterate.images_NCHW, iterate.labels, lr_S, Setting(kernel, steps, learned_N, keep)
    )
    return thetas


class Setting(NamedTuple):
    """The arguments of an unroll that have no gradient."""

    kernel: Kernel
    steps: list[InnerStep]
    learned_N: Tensor
    keep: int | None


class Unroll(torch.autograd.Function):
    """The forward pass runs the steps, the backward pass their adjoint."""

    @staticmethod
    def forward(
        ctx: Any, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor, lr_S: Tensor, setting: Setting
    ) -> tuple[Tensor, ...]:
        thetas, recorded = [theta_P], Recorder(setting.kernel, setting.keep)
        for step, lr in zip(setting.steps, lr_S, strict=True):
            batch = augment.apply(images_NCHW[step.rows], step.draw), labels[step.rows]
            thetas.append(thetas[-1] - lr * recorded.gradient(thetas[-1], *batch))
        ctx.save_for_backward(images_NCHW, labels, lr_S, *thetas[:-1])
        ctx.setting, ctx.graphs = setting, recorded.graphs
        ctx.set_materialize_grads(False)
        return tuple(thetas[1:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *theta_gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """v ← v + ∂L/∂θ_{i+1}; with s = g_i·v: x̄ −= η ∂s/∂x, ȳ −= η ∂s/∂y, η̄_i = −s, v ← v − η ∂s/∂θ."""
        images_NCHW, labels, lr_S, *thetas = ctx.saved_tensors
        _, needs_images, needs_labels, *_ = ctx.needs_input_grad
        kernel, steps, learned_N, _ = ctx.setting
        v_P, lr_gradient_S = torch.zeros_like(thetas[0]), torch.zeros_like(lr_S)
        used = [i for i, gradient_P in enumerate(theta_gradients) if gradient_P is not None]
        image_gradient_NCHW = torch.zeros_like(images_NCHW) if needs_images else None
        label_gradient_NK = torch.zeros_like(labels) if needs_labels else None
        for i in reversed(range(max(used, default=-1) + 1)):
            gradient_P = theta_gradients[i]
            v_P = v_P if gradient_P is None else v_P + gradient_P
            rows, draw = steps[i]
            z_NCHW, pull_back = augmented(images_NCHW[rows], draw)
            graph: Recorded | None = ctx.graphs.pop(i, None)
            found: Adjoint = graph.adjoint(v_P) if graph else kernel.adjoint(thetas[i], z_NCHW, labels[rows], v_P)
            if image_gradient_NCHW is not None:
                x_gradient_NCHW = -lr_S[i] * pull_back(found.images_NCHW)
                frozen_N111 = ~learned_N[rows][:, None, None, None]
                image_gradient_NCHW.index_add_(0, rows, x_gradient_NCHW.masked_fill(frozen_N111, 0.0))
            if label_gradient_NK is not None and found.labels is not None:
                label_gradient_NK.index_add_(0, rows, -lr_S[i] * found.labels)
            lr_gradient_S[i] = -found.slope
            v_P = v_P - lr_S[i] * found.theta_P
        return v_P, image_gradient_NCHW, label_gradient_NK, lr_gradient_S, None


def augmented(x_NCHW: Tensor, draw: Draw) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The augmented batch z, and the map from ∂s/∂z to ∂s/∂x. It needs only first derivatives of the augmentation."""
    if not draw:
        return x_NCHW, lambda z_gradient_NCHW: z_gradient_NCHW
    with torch.enable_grad():
        x_NCHW = x_NCHW.detach().requires_grad_()
        z_NCHW = augment.apply(x_NCHW, draw)
    return z_NCHW.detach(), lambda z_gradient_NCHW: torch.autograd.grad(z_NCHW, x_NCHW, z_gradient_NCHW)[0]


class Recorder:
    """Computes gradients; keeps the graphs of the first ``keep`` steps, or of as many as fit into memory."""

    def __init__(self, kernel: Kernel, keep: int | None):
        self.kernel, self.keep, self.graphs = kernel, keep, dict[int, Recorded]()
        self.step = 0

    def gradient(self, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor) -> Tensor:
        step, self.step = self.step, self.step + 1
        if not isinstance(self.kernel, EagerKernel):
            return self.kernel.gradient(theta_P, images_NCHW, labels)
        if self.keep is None:
            self.keep = graphs_that_fit(self.kernel, theta_P, images_NCHW, labels)
        recorded = self.kernel.record(theta_P, images_NCHW, labels)  # kernel.gradient may round differently
        if step < self.keep:
            self.graphs[step] = recorded
        return recorded.gradient_P.detach()


def graphs_that_fit(kernel: EagerKernel, theta_P: Tensor, images_NCHW: Tensor, labels: Tensor) -> int:
    """The number of steps whose graphs fit into CPU_BUDGET, or on a GPU into half of the free memory."""
    on_gpu = theta_P.device.type == "cuda"
    budget = torch.cuda.mem_get_info(theta_P.device)[0] // 2 if on_gpu else CPU_BUDGET
    return budget // max(1, kernel.bytes_kept(theta_P, images_NCHW, labels))
