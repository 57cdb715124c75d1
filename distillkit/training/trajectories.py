"""Experts: networks trained on real data, with their parameters after every epoch and each image's training dynamics.

Axes: E experts; T snapshots (one before the first epoch and one after each); P parameters; L epochs; N training images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from distillkit.base.device import onto
from distillkit.base.errors import DivergedError, ParamsError, check_positive, check_range, counted
from distillkit.base.randomness import draw_seed
from distillkit.base.settings import settings
from distillkit.data.augment import Augmentation
from distillkit.data.images import ImageSet, Normalisation
from distillkit.data.rows import Images
from distillkit.networks.parameters import flatten, load_flat_
from distillkit.networks.specs import Network, build_network
from distillkit.training.compute import Compute, Precision, to_the_end
from distillkit.training.dynamics import DYNAMICS, MOVING, Dynamics, dynamics_of, log_probabilities
from distillkit.training.loop import Lot, constant, epoch_batches, train


@settings
class ExpertRecipe:
    """How an expert is trained: SGD with a constant learning rate, as in trajectory matching (Cazenavette et al. 2022).

    ``precision: bf16`` applies to the layers only; parameters and trajectories stay float32.
    """

    network: Network
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
    """The ``experts`` section: how an expert is trained, and how many experts a shard has."""

    per_shard: int
    recipe: ExpertRecipe

    def __post_init__(self) -> None:
        check_range("per_shard", self.per_shard, 1)

    def visits(self, images: int) -> int:
        """The number of images shown to all experts of a shard."""
        return self.per_shard * self.recipe.epochs * images


class Expert(NamedTuple):
    """One expert: its trajectory (T, P), float32, and its ``dynamics``, each (L, N), all on the CPU."""

    trajectory_TP: Tensor
    dynamics: Dynamics


class Experts(Protocol):
    """Trained experts, in memory or in files."""

    @property
    def spec(self) -> Network: ...

    @property
    def snapshots(self) -> int: ...

    def __len__(self) -> int: ...

    def read(self, expert: int, snapshot: int) -> Tensor:
        """Parameters (P,) of one expert at one snapshot."""
        ...


def described(experts: Experts) -> str:
    """The experts in one line of text."""
    many, epochs = counted(len(experts), "expert"), counted(experts.snapshots - 1, "epoch")
    return f"{many}: {experts.spec}, {epochs}"


def in_memory(spec: Network, experts: Sequence[Expert], trained_on: str = "") -> "ExpertsInMemory":
    """Join experts of one kind; ``trained_on`` identifies their training images."""
    recorded = Dynamics(*(torch.stack(parts) for parts in zip(*(e.dynamics for e in experts), strict=True)))
    return ExpertsInMemory(spec, torch.stack([expert.trajectory_TP for expert in experts]), recorded, trained_on)


@dataclass(frozen=True, repr=False, eq=False)
class ExpertsInMemory:
    """Experts with all trajectories (E, T, P) in one tensor; ``recorded`` are their dynamics, each (E, L, N).

    ``trained_on`` identifies their training images; it is empty if unknown.
    """

    spec: Network
    trajectories_ETP: Tensor
    recorded: Dynamics | None = None
    trained_on: str = ""

    def __repr__(self) -> str:
        return described(self)

    def dynamics(self) -> Iterator[Dynamics]:
        """Yield the dynamics of one expert at a time, each (1, L, N). Raises ParamsError if they were not recorded."""
        if self.recorded is None:
            raise ParamsError(
                "these experts have no record of each image's difficulty; expected experts that distillkit trained"
            )
        for expert in range(len(self)):
            yield Dynamics(*(part[expert : expert + 1] for part in self.recorded))

    @property
    def snapshots(self) -> int:
        return self.trajectories_ETP.shape[1]

    def __len__(self) -> int:
        return len(self.trajectories_ETP)

    def read(self, expert: int, snapshot: int) -> Tensor:
        return self.trajectories_ETP[expert, snapshot]


@dataclass(frozen=True)
class KindOfExperts:
    """The kind of the experts' network without any expert, for methods whose sets do not depend on experts."""

    spec: Network
    snapshots: int = 0

    def __len__(self) -> int:
        return 0

    def read(self, expert: int, snapshot: int) -> Tensor:
        raise ValueError(f"expert {expert} at {snapshot}: a method that reads experts must say that it uses them")


class Recording:
    """The training of one expert on ``real``, in steps of one epoch. Records the parameters before the first epoch and
    after each.

    The momentum starts at zero in every epoch, so that :meth:`state` is enough to continue.
    """

    def __init__(
        self,
        real: ImageSet,
        normalisation: Normalisation,
        recipe: ExpertRecipe,
        generator: Generator,
        compute: Compute = Compute(),
    ):
        self.real, self.normalisation, self.recipe, self.compute = real, normalisation, recipe, compute
        network = build_network(recipe.network, real.image_shape, len(real.class_names), draw_seed(generator))
        self.network = compute.place(network, real.device)
        self.generator, self.generator_state = generator, generator.get_state()
        first_P = flatten(self.network).cpu()
        self.trajectory_TP = torch.empty(recipe.epochs + 1, len(first_P))
        self.trajectory_TP[0] = first_P
        shape = (recipe.epochs, len(real))
        self.dynamics = Dynamics(**{name: torch.empty(shape, dtype=kind) for name, kind in DYNAMICS.items()})
        probabilities = torch.Size([len(real), len(real.class_names)])
        self.before_NK = torch.zeros(probabilities, dtype=torch.half) if probabilities.numel() <= MOVING else None
        self.done = 0

    @property
    def steps(self) -> int:
        return self.recipe.epochs

    @cached_property
    def normalised(self) -> Images:
        """The normalised images (N, C, H, W), computed at the first use."""
        return self.compute.seen(self.real.images, self.normalisation, self.real.device)

    def advance(self) -> None:
        """Train one epoch. Raises DivergedError, which names the parameter to lower, when a logit is not finite."""
        recipe, real = self.recipe, self.real
        visits = train(
            self.network,
            [Lot(self.normalised, real.labels, self.generator)],
            zip(epoch_batches(len(real), recipe.batch, self.generator)),
            lr_at=constant(recipe.lr),
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            augmentation=recipe.augmentation,
            precision=recipe.precision,
            compute=self.compute,
        )
        finite = torch.tensor(True, device=real.device)
        now_NK = None if self.before_NK is None else torch.empty_like(self.before_NK)
        for rows, logits, _ in visits:
            finite &= logits.isfinite().all()
            self.record(logits, rows[0], now_NK)
        if not finite:
            raise DivergedError(
                f"expert training gave nan or infinity in epoch {self.done + 1}; lower lr ({recipe.lr:g})"
            )
        self.trajectory_TP[self.done + 1] = flatten(self.network)
        self.generator_state, self.before_NK = self.generator.get_state(), now_NK
        self.done += 1

    def record(self, logits_NK: Tensor, rows: Tensor, now_NK: Tensor | None) -> None:
        """Record the dynamics of one batch. Its log-probabilities are written to ``now_NK`` (N, K)."""
        before_NK = self.before_NK[rows] if self.before_NK is not None and self.done else None
        seen = dynamics_of(logits_NK, self.real.labels[onto(self.real.device, rows)], before_NK)
        for record, part in zip(self.dynamics, seen, strict=True):
            record[self.done, rows] = part.cpu()
        if now_NK is not None:
            now_NK[rows] = log_probabilities(logits_NK).half().cpu()

    def result(self) -> Expert:
        return Expert(self.trajectory_TP, self.dynamics)

    def state(self, since: int = 0) -> dict[str, Tensor]:
        """The epochs after the first ``since``; the generator's state and the log-probabilities of the last one."""
        epochs = slice(since, self.done)
        rows = {name: part[epochs] for name, part in self.dynamics._asdict().items()}
        trajectory_TP = self.trajectory_TP[since + 1 : self.done + 1]
        before = {} if self.before_NK is None else {"before": self.before_NK}
        kept = {"since": torch.tensor(since), "trajectory": trajectory_TP, "generator": self.generator_state}
        return {**kept, **before, **rows}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a :meth:`state`. Raises KeyError or ValueError, and changes nothing, if it does not fit."""
        since, trajectory_TP = int(state["since"]), state["trajectory"]
        end = since + len(trajectory_TP)
        if not (0 <= since <= self.done and end <= self.steps):
            raise ValueError(f"it holds epochs {since + 1} to {end} of {self.steps}, {self.done} of which are known")
        records = [(self.trajectory_TP[since + 1 : end + 1], trajectory_TP)]
        records += [(part[since:end], state[name]) for name, part in self.dynamics._asdict().items()]
        records += [] if self.before_NK is None else [(self.before_NK, state["before"])]
        for record, kept in records:
            if (record.shape, record.dtype) != (kept.shape, kept.dtype):
                raise ValueError(f"it holds {kept.dtype} {tuple(kept.shape)}; expected {tuple(record.shape)}")
        self.generator.set_state(state["generator"])
        for record, kept in records:
            record.copy_(kept)
        self.generator_state, self.done = state["generator"], end
        load_flat_(self.network, self.trajectory_TP[end])


def record_expert(
    real: ImageSet,
    normalisation: Normalisation,
    recipe: ExpertRecipe,
    generator: Generator,
    compute: Compute = Compute(),
) -> Expert:
    """Train one expert; see :class:`Recording`."""
    work = Recording(real, normalisation, recipe, generator, compute)
    to_the_end(work, "expert")
    return work.result()
