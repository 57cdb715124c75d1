"""The one ordinary training loop: every expert, evaluation and reference network is trained by it.

The dataset is a tensor on the device and a batch is a row index, so there are no workers and no per-image transforms.
Axes: N images; C, H, W channels, height, width; K classes.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from distillkit.base.device import onto
from distillkit.base.errors import DivergedError, ParamsError, check_positive, check_range
from distillkit.base.randomness import draw_seed
from distillkit.base.settings import settings
from distillkit.data import augment
from distillkit.data.augment import Augmentation
from distillkit.data.images import Schedule
from distillkit.data.networks import Network, build_network
from distillkit.data.parameters import load_flat_
from distillkit.training.compute import Compute, Precision, compiled


@settings
class TrainingRecipe:
    """How a fresh network is trained on a set of any size: always the same number of updates.

    ``precision: bf16`` trains with layers in bfloat16 where PyTorch's autocast holds it safe; parameters stay float32,
    and so does :func:`predict`. ``nesterov`` is a kind of ``momentum``, see :func:`sgd_`.
    """

    steps: int
    batch: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    final_lr_fraction: float = 0.0
    augmentation: Augmentation = Augmentation()
    precision: Precision = "fp32"
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_range("training.steps", self.steps, 1)
        check_range("training.batch", self.batch, 2)
        check_positive("training.lr", self.lr)
        check_range("training.momentum", self.momentum, 0, 0.9999)
        check_range("training.weight_decay", self.weight_decay, 0)
        check_range("training.final_lr_fraction", self.final_lr_fraction, 0, 1)
        if self.nesterov and not self.momentum:
            raise ParamsError("training.nesterov is true, but training.momentum is 0; expected one above 0, as 0.9")


TensorList = list[Tensor] | tuple[Tensor, ...]


class Visit(NamedTuple):
    """One update: the rows visited, the logits (N, K) before the update and the mean loss, all detached."""

    rows: Tensor
    logits: Tensor
    loss: Tensor


def train(
    network: nn.Module,
    images_NCHW: Tensor,
    labels_N: Tensor,
    batches: Iterable[Tensor],
    *,
    lr_at: Callable[[int], float],
    momentum: float,
    weight_decay: float,
    augmentation: Augmentation,
    generator: Generator,
    learned_N: Tensor | None = None,
    precision: Precision = "fp32",
    nesterov: bool = False,
    compute: Compute = Compute(),
) -> Iterator[Visit]:
    """Train ``network`` in place by SGD on cross-entropy, one update for each batch of rows; images are normalised."""
    forward = loss_and_logits
    if compute.compile:
        forward = compiled(loss_and_logits, loss_and_logits, "the training step", compute.say)
    parameters: list[Tensor] = list(network.parameters())
    learned_N = None if learned_N is None else learned_N.cpu()
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    for step, rows in enumerate(batches):
        network.train()
        steps = augment.draw(augmentation, len(rows), generator, None if learned_N is None else learned_N[rows])
        rows = onto(images_NCHW.device, rows)
        x_NCHW = compute.layout(augment.apply(images_NCHW[rows], steps))
        loss, logits = forward(network, x_NCHW, labels_N[rows], precision)
        gradients = torch.autograd.grad(loss, parameters)
        lr = lr_at(step)
        sgd_(parameters, gradients, velocities, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
        compute.on_update()
        yield Visit(rows, logits.detach().clone(), loss.detach().clone())


def loss_and_logits(
    network: nn.Module, x_NCHW: Tensor, labels_N: Tensor, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and logits (N, K) in float32; layers in ``precision``."""
    with torch.autocast(x_NCHW.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = network(x_NCHW)
    logits = logits.float()
    return F.cross_entropy(logits, labels_N), logits


@torch.no_grad()
def sgd_(
    parameters: TensorList,
    gradients: TensorList,
    velocities: TensorList,
    *,
    lr: float,
    momentum: float,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> None:
    """v ← μ v + g + λ p, then p ← p − η v, in place: ``torch.optim.SGD`` to the bit.

    With ``nesterov`` p ← p − η (g + λ p + μ v). Ours, because the first optimiser that a process builds makes torch
    import its compiler, 1.7 s here, and every stage is a process of its own.
    """
    if weight_decay:
        gradients = torch._foreach_add(gradients, parameters, alpha=weight_decay)
    torch._foreach_mul_(velocities, momentum)
    torch._foreach_add_(velocities, gradients)
    steps = torch._foreach_add(gradients, velocities, alpha=momentum) if nesterov else velocities
    torch._foreach_add_(parameters, steps, alpha=-lr)


@torch.no_grad()
def adam_(
    parameters: TensorList,
    gradients: TensorList,
    means: TensorList,
    squares: TensorList,
    *,
    lr: float,
    decays: tuple[float, float],
    step: int,
    epsilon: float = 1e-8,
) -> None:
    """m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², p ← p − η m̂ / (√v̂ + ε), in place; ``step`` counts from 1."""
    first, second = decays
    for p, g, m, v in zip(parameters, gradients, means, squares, strict=True):
        m.mul_(first).add_(g, alpha=1 - first)
        v.mul_(second).addcmul_(g, g, value=1 - second)
        root = (v / (1 - second**step)).sqrt_().add_(epsilon)
        p.addcdiv_(m, root, value=-lr / (1 - first**step))


def epoch_batches(count: int, batch: int, generator: Generator) -> list[Tensor]:
    """Every row once, in random order, in batches as equal as can be and no larger than ``batch``."""
    return list(torch.randperm(count, generator=generator).tensor_split(math.ceil(count / batch)))


def step_batches(count: int, batch: int, steps: int, generator: Generator) -> list[Tensor]:
    """``steps`` batches without replacement, reshuffled when exhausted; the whole set when it is no larger."""
    batch = min(batch, count)
    passes = math.ceil(steps * batch / count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(passes)])
    return list(order[: steps * batch].view(steps, batch))


def cosine(lr: float, steps: int, final_fraction: float = 0.0) -> Callable[[int], float]:
    """From ``lr`` at step 0 down to ``final_fraction * lr`` at ``steps``, along half a cosine."""
    low = final_fraction * lr
    return lambda step: low + (lr - low) * (1 + math.cos(math.pi * step / steps)) / 2


def constant(lr: float) -> Callable[[int], float]:
    """``lr`` at every step."""
    return lambda _: lr


def fit(
    spec: Network,
    images_NCHW: Tensor,
    labels_N: Tensor,
    classes: int,
    recipe: TrainingRecipe,
    generator: Generator,
    *,
    learned_N: Tensor | None = None,
    on_step: Callable[[int, nn.Module], None] = lambda *_: None,
    compute: Compute = Compute(),
) -> nn.Module:
    """A fresh network trained under ``recipe``; ``on_step(step, network)`` is called after every update, from 1 on.

    Raises DivergedError when its parameters leave the finite numbers.
    """
    channels, height, width = images_NCHW.shape[1:]
    network = build_network(spec, (channels, height, width), classes, draw_seed(generator))
    network = compute.place(network, images_NCHW.device)
    visits = train(
        network,
        images_NCHW,
        labels_N,
        step_batches(len(labels_N), recipe.batch, recipe.steps, generator),
        lr_at=cosine(recipe.lr, recipe.steps, recipe.final_lr_fraction),
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        augmentation=recipe.augmentation,
        generator=generator,
        learned_N=learned_N,
        precision=recipe.precision,
        nesterov=recipe.nesterov,
        compute=compute,
    )
    for step, _ in enumerate(visits, start=1):
        on_step(step, network)
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise DivergedError(f"training a network gave nan or infinity; lower training.lr ({recipe.lr:g})")
    return network


def replay(
    images_NCHW: Tensor,
    labels: Tensor,
    classes: int,
    schedule: Schedule,
    generator: Generator,
    start_P: Tensor | None = None,
    *,
    on_step: Callable[[int, nn.Module], None] = lambda *_: None,
    compute: Compute = Compute(),
) -> nn.Module:
    """A network trained exactly as ``schedule`` says, from ``start_P`` or fresh weights; plain steps, no augmentation.

    Raises ArtifactError when ``start_P`` is no start of the schedule's network, DivergedError as :func:`fit` does.
    """
    channels, height, width = images_NCHW.shape[1:]
    network = build_network(schedule.network, (channels, height, width), classes, draw_seed(generator))
    if start_P is not None:
        load_flat_(network, start_P)
    network = compute.place(network, images_NCHW.device)
    parameters: list[Tensor] = list(network.parameters())
    for step, (rows, lr) in enumerate(zip(schedule.rows, schedule.lr_T, strict=True), start=1):
        loss, _ = loss_and_logits(network.train(), compute.layout(images_NCHW[rows]), labels[rows], "fp32")
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)  # with one, group norms round as in unroll
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(lr * gradient)  # rounded as in unroll; sgd_ rounds once where that rounds twice
        compute.on_update()
        on_step(step, network)
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise DivergedError("training by the set's own schedule gave nan or infinity; distil with smaller step sizes")
    return network


@torch.no_grad()
def predict(network: nn.Module, images_NCHW: Tensor, chunk: int = 1000) -> Tensor:
    """Logits (N, K) in evaluation mode."""
    network.eval()
    return torch.cat([network(part) for part in images_NCHW.split(chunk)])
