"""The only training loop: it trains every expert, evaluation network and reference network.

The dataset is a tensor on the device, or an object that is indexed in the same way; a batch is a tensor of row indices.
There are no workers and no per-image transforms. Several small networks can be trained as one (``stacking.py``), each
on its own :class:`Lot`.

Axes: N images; C, H, W channels, height, width; K classes; R networks.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from distillkit.data.rows import Images, spans
from distillkit.networks.parameters import load_flat_
from distillkit.networks.specs import Network, build_network
from distillkit.training.compute import Compute, Precision, compiled
from distillkit.training.stacking import stack
from distillkit.training.update_rules import sgd_


@settings
class TrainingRecipe:
    """How a new network is trained: a fixed number of updates, whatever the size of the set.

    The learning rate falls from ``lr`` to ``final_lr_fraction`` of it, see :func:`cosine`. ``precision: bf16`` uses
    PyTorch's autocast to bfloat16 in the layers; parameters and :func:`predict` stay float32. ``nesterov`` is a form of
    ``momentum``, see :func:`sgd_`.
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


class Lot(NamedTuple):
    """The training data of one network: normalised images, labels (N,) or (N, K), and the generator of random choices.

    ``learned_N`` is for the augmentation, see :func:`~distillkit.data.augment.draw`.
    """

    images_NCHW: Images
    labels_N: Tensor
    generator: Generator
    learned_N: Tensor | None = None

    def batch(self, rows: Tensor, augmentation: Augmentation) -> tuple[Tensor, Tensor]:
        """The augmented images at ``rows`` and their labels."""
        learned_N = None if self.learned_N is None else self.learned_N.cpu()[rows]
        steps = augment.draw(augmentation, len(rows), self.generator, learned_N)
        rows = onto(self.images_NCHW.device, rows)
        return augment.apply(self.images_NCHW[rows], steps), self.labels_N[rows]


class Visit(NamedTuple):
    """One update: the rows of each of R networks, the logits before the update (N, R·K), and the loss; all detached."""

    rows: Sequence[Tensor]
    logits: Tensor
    loss: Tensor


def train(
    network: nn.Module,
    lots: Sequence[Lot],
    batches: Iterable[Sequence[Tensor]],
    *,
    lr_at: Callable[[int], float],
    momentum: float,
    weight_decay: float,
    augmentation: Augmentation,
    precision: Precision = "fp32",
    nesterov: bool = False,
    compute: Compute = Compute(),
) -> Iterator[Visit]:
    """Train ``network`` in place by SGD on cross-entropy: one update for each batch, at the rate ``lr_at(step)``.

    A batch has one tensor of rows for each of ``lots``: one for a single network, R of equal length for a stack of R.
    Steps count from 0.
    """
    forward = loss_and_logits
    if compute.compile:
        forward = compiled(loss_and_logits, loss_and_logits, "the training step", compute.say)
    parameters: list[Tensor] = list(network.parameters())
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    for step, rows in enumerate(batches):
        if not network.training:  # the caller may have tested it after the last update
            network.train()
        images, labels = zip(*(lot.batch(own, augmentation) for lot, own in zip(lots, rows, strict=True)), strict=True)
        x_NCHW = compute.layout(torch.cat(images, 1))
        loss, logits = forward(network, x_NCHW, torch.stack(labels, 1).flatten(0, 1), precision)
        gradients = torch.autograd.grad(loss, parameters)
        lr = lr_at(step)
        sgd_(parameters, gradients, velocities, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
        for _ in lots:
            compute.on_update()
        yield Visit(rows, logits.detach().clone(), loss.detach().clone())


def loss_and_logits(network: nn.Module, x_NCHW: Tensor, labels: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy, and logits (N, K) in float32; the layers use ``precision``.

    For a stack of R networks: the sum of the R means, and logits (N, R·K); ``labels`` are (N·R) or (N·R, K).
    """
    with torch.autocast(x_NCHW.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = network(x_NCHW)
    logits = logits.float()
    networks = len(labels) // len(x_NCHW)
    return F.cross_entropy(logits.view(len(labels), -1), labels) * networks, logits


def epoch_batches(count: int, batch: int, generator: Generator) -> list[Tensor]:
    """Every row once, in random order, in batches of equal size (±1) of at most ``batch``."""
    return list(torch.randperm(count, generator=generator).tensor_split(math.ceil(count / batch)))


def step_batches(count: int, batch: int, steps: int, generator: Generator) -> list[Tensor]:
    """``steps`` batches of ``batch`` rows, from random orders of all rows, one after another.

    A batch at the end of one order continues in the next. With fewer than ``batch`` rows, each batch has all of them.
    """
    batch = min(batch, count)
    passes = math.ceil(steps * batch / count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(passes)])
    return list(order[: steps * batch].view(steps, batch))


def cosine(lr: float, steps: int, final_fraction: float = 0.0) -> Callable[[int], float]:
    """The learning rate by step: half a cosine from ``lr`` at step 0 to ``final_fraction * lr`` at ``steps``."""
    low = final_fraction * lr
    return lambda step: low + (lr - low) * (1 + math.cos(math.pi * step / steps)) / 2


def constant(lr: float) -> Callable[[int], float]:
    """The learning rate ``lr`` at every step."""
    return lambda _: lr


def fit(
    spec: Network,
    images_NCHW: Images,
    labels_N: Tensor,
    classes: int,
    recipe: TrainingRecipe,
    generator: Generator,
    *,
    learned_N: Tensor | None = None,
    on_step: Callable[[int, nn.Module], None] = lambda *_: None,
    compute: Compute = Compute(),
) -> nn.Module:
    """Train a new network by ``recipe``. ``on_step(step, network)`` is called after every update, counted from 1.

    Raises DivergedError when the network's parameters are not finite at the end.
    """
    lot = Lot(images_NCHW, labels_N, generator, learned_N)

    def on(step: int, _: int, network: nn.Module) -> None:
        on_step(step, network)

    return fit_all(spec, [lot], classes, recipe, on_step=on, compute=compute)[0]


def fit_all(
    spec: Network,
    lots: Sequence[Lot],
    classes: int,
    recipe: TrainingRecipe,
    *,
    on_step: Callable[[int, int, nn.Module], None] = lambda *_: None,
    compute: Compute = Compute(),
) -> list[nn.Module]:
    """:func:`fit` for each of ``lots`` (images of one shape); as one stack if all layers can be stacked and all batches
    have the same size.

    ``on_step(step, number, network)`` also gets the network's number, from 0.
    """
    (channels, height, width), device = lots[0].images_NCHW.shape[1:], lots[0].images_NCHW.device
    seeds = [draw_seed(lot.generator) for lot in lots]
    networks = [build_network(spec, (channels, height, width), classes, seed) for seed in seeds]
    networks = [compute.place(network, device) for network in networks]
    batches = [step_batches(len(lot.labels_N), recipe.batch, recipe.steps, lot.generator) for lot in lots]
    same = len({len(rows[0]) for rows in batches}) == 1
    joint = stack(networks) if same else None
    apart: list[tuple[nn.Module, Sequence[int]]] = [(network, [number]) for number, network in enumerate(networks)]
    for network, members in apart if joint is None else [(joint, range(len(lots)))]:
        visits = train(
            network,
            [lots[number] for number in members],
            zip(*(batches[number] for number in members), strict=True),
            lr_at=cosine(recipe.lr, recipe.steps, recipe.final_lr_fraction),
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            augmentation=recipe.augmentation,
            precision=recipe.precision,
            nesterov=recipe.nesterov,
            compute=compute,
        )
        for step, _ in enumerate(visits, start=1):
            for number in members:
                on_step(step, number, networks[number])
    if not all(parameter.isfinite().all() for network in networks for parameter in network.parameters()):
        raise DivergedError(f"training a network gave nan or infinity; lower training.lr ({recipe.lr:g})")
    return networks


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
    """Train a network exactly by ``schedule``, from ``start_P`` (P,) or new weights: plain steps without augmentation.

    Raises ArtifactError when ``start_P`` has the wrong length for the schedule's network, DivergedError as :func:`fit`.
    """
    channels, height, width = images_NCHW.shape[1:]
    network = build_network(schedule.network, (channels, height, width), classes, draw_seed(generator))
    if start_P is not None:
        load_flat_(network, start_P)
    network = compute.place(network, images_NCHW.device)
    parameters: list[Tensor] = list(network.parameters())
    for step, (rows, lr) in enumerate(zip(schedule.rows, schedule.lr_T, strict=True), start=1):
        loss, _ = loss_and_logits(network.train(), compute.layout(images_NCHW[rows]), labels[rows], "fp32")
        gradients = torch.autograd.grad(
            loss, parameters, create_graph=True
        )  # with create_graph, group norms round as in unroll
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(lr * gradient)  # rounds twice, as unroll does; sgd_ rounds once
        compute.on_update()
        on_step(step, network)
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise DivergedError("training by the set's own schedule gave nan or infinity; distil with smaller step sizes")
    return network


def logits_of(network: nn.Module, images_NCHW: Images, most: int = 1000) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows and their logits (B, K) in evaluation mode, for at most ``most`` images at a time."""
    network.eval()
    for rows in spans(images_NCHW, most):
        with torch.no_grad():
            logits_BK = network(images_NCHW[rows])
        yield rows, logits_BK


def predict(network: nn.Module, images_NCHW: Images) -> Tensor:
    """Logits (N, K) in evaluation mode."""
    return torch.cat([logits_BK for _, logits_BK in logits_of(network, images_NCHW)])


def predicted_classes(network: nn.Module, images_NCHW: Images) -> Tensor:
    """The class (N,) with the largest logit, in evaluation mode."""
    found_N = torch.empty(len(images_NCHW), dtype=torch.int64, device=images_NCHW.device)  # before the loop: see spans
    for rows, logits_BK in logits_of(network, images_NCHW):
        found_N[rows] = logits_BK.argmax(1)
    return found_N
