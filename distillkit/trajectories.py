"""Experts: networks trained on real data, their parameters after every epoch, and what they found hard.

Axes: E experts; T snapshots (one before the first epoch and one after each); P parameters; L epochs; N training images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from distillkit.augment import Augmentation
from distillkit.compute import Compute, Precision
from distillkit.errors import DivergedError, check_positive, check_range
from distillkit.images import ImageSet, Normalisation
from distillkit.networks import NetworkSpec, build_network
from distillkit.parameters import flatten
from distillkit.randomness import draw_seed
from distillkit.settings import settings
from distillkit.training import constant, epoch_batches, train


@settings
class ExpertRecipe:
    """How an expert is trained: plain SGD at a constant rate, as trajectory matching expects.

    ``precision: bf16`` is for the layers only; parameters, and so trajectories, stay float32.
    """

    network: NetworkSpec
    epochs: int
    batch: int
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    augmentation: Augmentation = Augmentation()
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        check_range("epochs", self.epochs, 1)
        check_range("batch", self.batch, 2)
        check_positive("lr", self.lr)
        check_range("momentum", self.momentum, 0, 0.9999)
        check_range("weight_decay", self.weight_decay, 0)


@settings
class ExpertsSpec:
    """The ``experts`` section: how an expert is trained, and how many make one shard."""

    per_shard: int
    recipe: ExpertRecipe

    def __post_init__(self) -> None:
        check_range("per_shard", self.per_shard, 1)

    def visits(self, images: int) -> int:
        """Images shown to the experts of a shard in all."""
        return self.per_shard * self.recipe.epochs * images


class Dynamics(NamedTuple):
    """What happened to every training image in every epoch, seen in the pass that trained on it.

    All (..., L, N): ``correct`` bool; ``probability`` of the label; ``margin`` of the label's logit over the best other
    (Pleiss et al. 2020); ``error_norm`` ‖softmax − one-hot‖₂ (EL2N, Paul et al. 2021). float16 but for ``correct``.
    """

    correct: Tensor
    probability: Tensor
    margin: Tensor
    error_norm: Tensor


class Expert(NamedTuple):
    """One expert: its ``trajectory`` (T, P), float32, and its ``dynamics``, each (L, N)."""

    trajectory_TP: Tensor
    dynamics: Dynamics


class Experts(Protocol):
    """Trained experts, wherever their snapshots are kept."""

    spec: NetworkSpec
    snapshots: int

    def __len__(self) -> int: ...

    def read(self, expert: int, snapshot: int) -> Tensor:
        """Parameters (P,) of one expert at one snapshot."""
        ...


@dataclass(frozen=True)
class ExpertsInMemory:
    """Experts whose trajectories (E, T, P) are one tensor."""

    spec: NetworkSpec
    trajectories_ETP: Tensor

    @property
    def snapshots(self) -> int:
        return self.trajectories_ETP.shape[1]

    def __len__(self) -> int:
        return len(self.trajectories_ETP)

    def read(self, expert: int, snapshot: int) -> Tensor:
        return self.trajectories_ETP[expert, snapshot]


@dataclass(frozen=True)
class KindOfExperts:
    """What experts are like, without any: for methods whose sets do not change with them."""

    spec: NetworkSpec
    snapshots: int = 0

    def __len__(self) -> int:
        return 0

    def read(self, expert: int, snapshot: int) -> Tensor:
        raise ValueError(f"expert {expert} at {snapshot}: a method that reads experts must say that it uses them")


def dynamics_of(logits_NK: Tensor, labels_N: Tensor) -> Dynamics:
    """One visit's record, each (N,)."""
    probability_NK = logits_NK.float().softmax(1)
    label_N1 = labels_N[:, None]
    label_logit_N = logits_NK.gather(1, label_N1).squeeze(1)
    other_N = logits_NK.scatter(1, label_N1, float("-inf")).amax(1)
    error_NK = probability_NK - F.one_hot(labels_N, logits_NK.shape[1])
    return Dynamics(
        correct=label_logit_N > other_N,
        probability=probability_NK.gather(1, label_N1).squeeze(1).half(),
        margin=(label_logit_N - other_N).half(),
        error_norm=error_NK.norm(dim=1).half(),
    )


def record_expert(
    real: ImageSet,
    normalisation: Normalisation,
    recipe: ExpertRecipe,
    generator: Generator,
    on_epoch: Callable[[int], None] = lambda _: None,
    compute: Compute = Compute(),
) -> Expert:
    """Train one expert on ``real``, copying its parameters before the first epoch and after each.

    Raises DivergedError, naming the knob, when the training leaves the finite numbers.
    """
    network = build_network(recipe.network, real.image_shape, len(real.class_names), draw_seed(generator))
    network = compute.place(network, real.images.device)
    images_NCHW = compute.layout(normalisation.apply(real.pixels()))
    trajectory, epochs = [flatten(network)], []
    for epoch in range(recipe.epochs):
        visits = train(
            network,
            images_NCHW,
            real.labels,
            epoch_batches(len(real), recipe.batch, generator),
            lr_at=constant(recipe.lr),
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            augmentation=recipe.augmentation,
            generator=generator,
            precision=recipe.precision,
            compute=compute,
        )
        rows, logits = (torch.cat(parts) for parts in zip(*((v.rows, v.logits) for v in visits), strict=True))
        if not logits.isfinite().all():
            raise DivergedError(f"expert training gave nan or infinity in epoch {epoch + 1}; lower lr ({recipe.lr:g})")
        epochs.append(dynamics_of(logits[rows.argsort()], real.labels))
        trajectory.append(flatten(network))
        on_epoch(epoch)
    return Expert(
        torch.stack(trajectory).cpu(), Dynamics(*(torch.stack(parts).cpu() for parts in zip(*epochs, strict=True)))
    )
