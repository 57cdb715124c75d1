"""Training on a set in a fixed order of plain steps, for the baselines of dataset distillation (Wang et al. 2018).

The protocol of that paper: the images are divided into S steps. A network makes E passes over the steps, with one
gradient step for each, without momentum, weight decay or augmentation. All steps have the same step size.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Generator, Tensor

from distillkit.base.errors import DivergedError, ParamsError, check_positive, check_range
from distillkit.base.randomness import draw_seed, seeded
from distillkit.base.settings import settings
from distillkit.data.images import ImageSet, Schedule, SyntheticSet
from distillkit.data.selection import class_rows, split_holdout
from distillkit.matching.method import Material
from distillkit.networks.specs import Network
from distillkit.training.compute import Compute
from distillkit.training.loop import predicted_classes, replay

Make = Callable[[Material, Generator], SyntheticSet]


@settings
class StepSizeScan:
    """Chooses the step size by training with each candidate, without test images.

    A share ``holdout`` of each class's training images is held out, and a set is made from the rest. ``runs`` networks
    are trained on it with each candidate. The candidate with the best mean accuracy on the held-out images is chosen.
    """

    candidates: tuple[float, ...]
    holdout: float
    runs: int

    def __post_init__(self) -> None:
        if not self.candidates:
            raise ParamsError("step_size.candidates is empty; expected step sizes such as [0.01, 0.1, 1]")
        for candidate in self.candidates:
            check_positive("step_size.candidates", candidate)
        check_range("step_size.holdout", self.holdout, 0.01, 0.9)
        check_range("step_size.runs", self.runs, 1)


@settings
class Replay:
    """``steps`` steps, ``epochs`` passes over them, one ``step_size``, and the network (None: the experts')."""

    steps: int
    epochs: int
    step_size: float | StepSizeScan
    network: Network | None = None

    def __post_init__(self) -> None:
        check_range("replay.steps", self.steps, 1)
        check_range("replay.epochs", self.epochs, 1)
        if not isinstance(self.step_size, StepSizeScan):
            check_positive("replay.step_size", self.step_size)

    def check_ipc(self, ipc: int) -> None:
        """Raise ParamsError unless all steps get the same number of images of each class."""
        if ipc % self.steps:
            found = f"replay.steps is {self.steps}, but ipc {ipc} cannot be dealt evenly to so many steps"
            raise ParamsError(f"{found}; expected a divisor of ipc; replay.epochs repeats them")

    def settled(self, make: Make, material: Material, generator: Generator) -> tuple["Replay", dict[str, Any]]:
        """This Replay with a number as step size, and the results of the scan (if any) for the set's notes."""
        scan = self.step_size
        if not isinstance(scan, StepSizeScan):
            return self, {}
        real, classes = material.real, len(material.real.class_names)
        pool, held = split_holdout(real.labels, classes, scan.holdout, generator)
        apart = replace(material, real=real.take(pool), difficulty_N=None, confidence_N=None)
        trial, held_out = make(apart, generator), real.take(held)
        seeds = [draw_seed(generator) for _ in range(scan.runs)]

        def once(task: tuple[float, int]) -> Tensor:
            step_size, seed = task
            dealt = replace(self, step_size=step_size).deal(trial, material)
            return replayed_accuracy(dealt, held_out, seed, material.compute)

        found = torch.stack(list(material.compute.run(once, product(scan.candidates, seeds))))
        means = found.view(len(scan.candidates), scan.runs).mean(1).tolist()
        accuracy = {candidate: round(mean, 6) for candidate, mean in zip(scan.candidates, means, strict=True)}
        best = max(accuracy, key=lambda candidate: accuracy[candidate])
        scanned = {f"{candidate:g}": value for candidate, value in accuracy.items()}
        return replace(self, step_size=best), {"step_size": best, "holdout_accuracy_by_step_size": scanned}

    def deal(self, synthetic: SyntheticSet, material: Material, notes: Mapping[str, Any] | None = None) -> SyntheticSet:
        """The set with a schedule: the k-th image of each class, from 0, belongs to step k mod S."""
        if isinstance(self.step_size, StepSizeScan):
            raise ValueError("expected a number as step size; call settled first")
        step_N = torch.zeros_like(synthetic.labels)
        for rows in class_rows(synthetic.labels, len(synthetic.class_names)):
            step_N[rows] = torch.arange(len(rows), device=rows.device) % self.steps
        lr_T = torch.full((self.steps * self.epochs,), float(self.step_size), device=step_N.device)
        schedule = Schedule(self.network or material.need_experts().spec, step_N, lr_T)
        return replace(synthetic, schedule=schedule, notes={**synthetic.notes, **(notes or {})})


def made(make: Make, replay: Replay | None, material: Material, generator: Generator) -> SyntheticSet:
    """The set that ``make`` returns; with a schedule if ``replay`` is given."""
    if replay is None:
        return make(material, generator)
    chosen, notes = replay.settled(make, material, generator)
    return chosen.deal(make(material, generator), material, notes)


def replayed_accuracy(synthetic: SyntheticSet, held_out: ImageSet, seed: int, compute: Compute) -> Tensor:
    """Accuracy on ``held_out`` of one network trained by the set's schedule; 0 if the training diverges."""
    if synthetic.schedule is None:
        raise ValueError("only a set with a schedule can be replayed")
    images_NCHW = synthetic.normalisation.apply(synthetic.pixels())
    held_NCHW = compute.seen(held_out.images, synthetic.normalisation, held_out.device)
    classes, generator = len(synthetic.class_names), seeded(seed)
    try:
        network = replay(images_NCHW, synthetic.targets, classes, synthetic.schedule, generator, compute=compute)
    except DivergedError:
        return torch.zeros((), dtype=torch.float64)
    return (predicted_classes(network, held_NCHW) == held_out.labels).double().mean().cpu()
