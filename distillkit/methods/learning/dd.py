"""DD: dataset distillation (Wang et al. 2018): images for gradient steps, learned by the loss after the last step.

Axes: N images; C, H, W channels, height, width; P parameters of one network; R networks.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from distillkit.base.about import About
from distillkit.base.device import onto
from distillkit.base.errors import ParamsError, check_positive, check_range, shown
from distillkit.base.randomness import draw_int, draw_seed
from distillkit.base.settings import settings
from distillkit.data.images import Iterate, Schedule, SyntheticSet
from distillkit.data.selection import draw_rows
from distillkit.matching.attack import Attack
from distillkit.matching.kernels import EagerKernel, batch_loss
from distillkit.matching.method import Material
from distillkit.matching.pretrained import (
    Initialisation,
    Pretrained,
    check_built,
    check_norm,
    checked_population,
    population,
)
from distillkit.matching.replay import Replay
from distillkit.matching.soft_labels import Labels, with_labels
from distillkit.matching.unroll import InnerStep, unroll
from distillkit.methods.learning.condensation import NoiseOrReal, network_like, start_from
from distillkit.networks.factories import NetworkFactory
from distillkit.networks.parameters import flatten
from distillkit.networks.specs import Network

ABOUT = About(
    title="DD",
    summary="Dataset distillation (Wang et al., 2018). Images belong to `steps` gradient steps, which a network takes "
    "in order, `epochs` times over; they are changed, starting from noise or from real ones, and so is the size of "
    "each step, until the loss on real images after the last step is small. Networks start from the weights that "
    "`initialisation` names; with `attack`, one class is to be taken for another.",
    paper="""\
@article{wang2018dd,
  title   = {Dataset Distillation},
  author  = {Wang, Tongzhou and Zhu, Jun-Yan and Torralba, Antonio and Efros, Alexei A.},
  journal = {arXiv preprint arXiv:1811.10959},
  year    = {2018}
}""",
    experts=False,
    ordered=True,
)


@settings
class DatasetDistillation:
    """The k-th of ``ipc`` images of a class belongs to step k mod ``steps``; ``epochs`` passes over the steps.

    ``initialisation`` is the kind of the networks' initial weights. ``random``: new ones at every outer step.
    ``fixed``: one random draw for all steps. ``random-pretrained``: those of a random expert after its training, except
    the last ``kept_apart`` experts, with which the set is tested. ``fixed-pretrained``: those of the first expert. The
    experts are this pipeline's, or those in the file that ``pretrained`` names. All step sizes start at ``step_size``.
    Each outer step uses ``networks`` networks and one batch of ``real_batch`` real images. With ``attack``, networks
    are trained to mistake one class for another, see :class:`~distillkit.matching.attack.Attack`.
    """

    about: ClassVar = ABOUT
    student: ClassVar = False
    ipc: int
    steps: int
    epochs: int = 3
    step_size: float = 0.02
    initialisation: Initialisation = "random"
    networks: int = 1
    real_batch: int = 1024
    start: NoiseOrReal = "noise"
    labels: Labels = "hard"
    network: Network | None = None
    pretrained: Pretrained | None = None
    kept_apart: int = 1
    attack: Attack | None = None

    @property
    def uses_experts(self) -> bool:
        """True if labels start from the experts' logits, or if networks start from experts of this pipeline."""
        trained = self.initialisation.endswith("pretrained") and self.pretrained is None
        return trained or self.labels == "learned"

    def __post_init__(self) -> None:
        for name in ("ipc", "steps", "epochs", "networks", "real_batch", "kept_apart"):
            check_range(name, getattr(self, name), 1)
        check_positive("step_size", self.step_size)
        if self.ipc % self.steps:
            raise ParamsError(f"steps is {self.steps}; expected a divisor of ipc ({self.ipc}); epochs repeats them")
        self.check_initialisation()

    def check_initialisation(self) -> None:
        """Raise ParamsError for settings that contradict ``initialisation``, and for batch normalisation."""
        kind, trained = self.initialisation, self.initialisation.endswith("pretrained")
        if kind.startswith("fixed") and self.networks > 1:
            raise ParamsError(f"networks is {self.networks}, but initialisation is {kind}: there is one; expected 1")
        if self.network is not None:
            check_norm(self.network, "network is")
        if trained and self.network is not None:
            raise ParamsError(f"network is given, but initialisation is {kind}: networks are the experts'; remove it")
        if self.kept_apart != 1 and kind != "random-pretrained":
            found = f"kept_apart is {shown(self.kept_apart)}, but initialisation is {kind}"
            raise ParamsError(f"{found}; remove it, or set initialisation: random-pretrained")
        for name in ("pretrained", "attack"):
            if getattr(self, name) is not None and not trained:
                raise ParamsError(f"{name} is given, but initialisation is {kind}; expected one of trained networks")

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        """The initial set with a schedule: equal step sizes, and the weights from which the set is tested, see
        :meth:`starts`.
        """
        start = with_labels(start_from(self.start, self.ipc, material, generator), self.labels, material)
        notes = {} if self.attack is None else {"attack": self.attack.notes(material.real.class_names)}
        order = Replay(self.steps, self.epochs, self.step_size, self.network_of(material))
        dealt = order.deal(start, material, notes)
        assert dealt.schedule is not None
        starts_RP = self.starts(dealt.schedule.network, material, generator)
        return replace(dealt, schedule=replace(dealt.schedule, starts_RP=starts_RP))

    def network_of(self, material: Material) -> Network:
        """The kind of networks: that of the pretrained weights, else ``network``, else that of the experts.

        In the last case, batch normalisation is replaced by instance normalisation. Raises ParamsError for pretrained
        networks, or a network of the user, with batch normalisation.
        """
        if self.initialisation.endswith("pretrained"):
            return checked_population(self.pretrained, material).spec
        spec = self.network or material.need_experts().spec
        if isinstance(spec, NetworkFactory):
            check_built(network_like(spec, material, 0, material.real.pixels(slice(0, 1))), spec)
            return spec
        return replace(spec, norm="instance") if spec.norm == "batch" else spec

    def starts(self, spec: Network, material: Material, generator: Generator) -> Tensor | None:
        """The weights (R, P) from which the set is tested; None for new random ones."""
        if self.initialisation == "random":
            return None
        if self.initialisation == "fixed":
            return flatten(network_like(spec, material, draw_seed(generator), material.real.pixels(slice(0, 1))))[None]
        experts = population(self.pretrained, material)
        if self.initialisation == "fixed-pretrained":
            chosen = range(1)
        else:
            check_range("kept_apart", self.kept_apart, 1, len(experts) - 1)
            chosen = range(len(experts) - self.kept_apart, len(experts))
        found = [experts.read(number, experts.snapshots - 1) for number in chosen]
        return torch.stack(found).to(material.real.device)

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        """The mean over networks of ℓ(x, y; θ_T) on one batch of real images.

        θ_{k+1} = θ_k − η_k ∇ℓ(x̃ of step k mod S; θ_k) for k = 0 … T − 1, with T = S·E for S steps and E epochs.
        """
        assert iterate.schedule is not None, "the set has no steps"
        images_NCHW, real = iterate.images_NCHW, material.real
        rows = draw_rows(torch.arange(len(real)), self.real_batch, generator)
        real_NCHW = material.normalised(rows).to(images_NCHW.dtype)
        labels_N = real.labels[onto(real.labels.device, rows)]
        if self.attack is not None:
            labels_N = self.attack.relabelled(labels_N, real.class_names)
        steps = [InnerStep(rows, []) for rows in iterate.schedule.rows]
        keep = material.compute.keep if self.networks == 1 else 0  # several networks' graphs might not fit
        losses = []
        for _ in range(self.networks):
            seed = draw_seed(generator) if self.initialisation == "random" else 0
            network = network_like(iterate.schedule.network, material, seed, images_NCHW)
            start_P = self.start_of(iterate.schedule, flatten(network), material, generator)
            end_P = unroll(EagerKernel(network), start_P, iterate, steps, keep=keep)[-1]
            losses.append(batch_loss(network, end_P, real_NCHW, labels_N))
        return torch.stack(losses).mean()

    def start_of(self, schedule: Schedule, fresh_P: Tensor, material: Material, generator: Generator) -> Tensor:
        """The initial weights θ_0 (P,) of one network. ``fresh_P`` are new random ones."""
        if self.initialisation == "random":
            return fresh_P
        if self.initialisation == "random-pretrained":
            experts = population(self.pretrained, material)
            number = draw_int(0, len(experts) - self.kept_apart, generator)
            return experts.read(number, experts.snapshots - 1).to(fresh_P)
        assert schedule.starts_RP is not None, "the set has no weights to start from"
        return schedule.starts_RP[0].to(fresh_P)

    def visits(self, classes: int) -> int:
        return self.networks * (self.epochs * self.ipc * classes + self.real_batch)
