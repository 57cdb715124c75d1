"""The best of many random sets: the baseline "optimised real" of dataset distillation (Wang et al. 2018)."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from distillkit.base.about import About
from distillkit.base.errors import ParamsError, check_range
from distillkit.base.randomness import draw_int, draw_seed, seeded
from distillkit.base.settings import settings
from distillkit.data.images import ImageSet, SyntheticSet, real_subset
from distillkit.data.selection import select_random, split_holdout
from distillkit.matching.method import Material
from distillkit.matching.replay import Replay, replayed_accuracy
from distillkit.selection.random_subset import RandomSubset
from distillkit.training.loop import TrainingRecipe, fit, predicted_classes

ABOUT = About(
    title="Optimised real",
    summary="Of `sets` random sets of `ipc` real images of every class, unchanged, the one on which networks learned "
    "best, by their accuracy on training images held out for the purpose, or one drawn among the `best_fraction` of "
    "sets that did best (a baseline of Wang et al., 2018).",
    builds_on=("dd",),
)


@settings
class OptimisedSubset:
    """Of ``sets`` random sets, the one on which networks learn best. Test images are not used.

    A share ``holdout`` of every class's training images is held out, and the sets are drawn from the rest. ``runs``
    networks are trained on each set, by ``training`` (with networks like the experts') or by ``replay``. The set with
    the best mean accuracy on the held-out images is chosen. With ``best_fraction``, one of that share of best sets is
    drawn (the paper uses 0.2 and reports their mean). The networks of all sets start from the same seeds.
    """

    about: ClassVar = ABOUT
    ipc: int
    sets: int
    runs: int
    holdout: float
    training: TrainingRecipe | None = None
    replay: Replay | None = None
    best_fraction: float | None = None

    def __post_init__(self) -> None:
        check_range("sets", self.sets, 1)
        check_range("runs", self.runs, 1)
        check_range("holdout", self.holdout, 0.01, 0.9)
        check_range("best_fraction", self.best_fraction, 1e-6, 1)
        if (self.training is None) == (self.replay is None):
            found = "missing" if self.training is None else "given beside replay"
            raise ParamsError(f"training is {found}; expected either training or replay, by which sets are compared")
        if self.replay is not None:
            self.replay.check_ipc(self.ipc)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        order, notes = self.settled_order(material, generator)
        real = material.real
        pool, held = split_holdout(real.labels, len(real.class_names), self.holdout, generator)
        labels, names = real.labels[pool], real.class_names
        drawn = [pool[select_random(labels, names, self.ipc, generator)] for _ in range(self.sets)]
        found = self.compare(drawn, order, real.take(held), material, generator)
        best = self.chosen(found, generator)
        by_set = {str(number): accuracy for number, accuracy in enumerate(found, start=1)}
        return replace(
            self.built(drawn[best], order, material),
            notes={**notes, "set": best + 1, "holdout_accuracy_by_set": by_set},
        )

    def chosen(self, accuracies: list[float], generator: Generator) -> int:
        """The number of the best set, or of one drawn among the best ones. Of equal sets, earlier ones are better."""
        ranked = torch.tensor(accuracies, dtype=torch.float64).argsort(descending=True, stable=True)
        kept = 1 if self.best_fraction is None else max(1, round(self.best_fraction * len(ranked)))
        return int(ranked[draw_int(0, kept, generator) if kept > 1 else 0])

    def settled_order(self, material: Material, generator: Generator) -> tuple[Replay | None, Mapping[str, Any]]:
        """``replay`` with a step size, and notes. A step size that must be chosen is chosen once, on a random set."""
        if self.replay is None:
            return None, {}
        return self.replay.settled(RandomSubset(self.ipc).draw, material, generator)

    def built(self, rows: Tensor, order: Replay | None, material: Material) -> SyntheticSet:
        subset = real_subset(material.real, rows, material.normalisation)
        return subset if order is None else order.deal(subset, material)

    def compare(
        self, drawn: list[Tensor], order: Replay | None, held_out: ImageSet, material: Material, generator: Generator
    ) -> list[float]:
        """The mean accuracy (0 to 1) on ``held_out`` for each set, rounded to six decimals."""
        seeds = [draw_seed(generator) for _ in range(self.runs)]

        def once(task: tuple[int, int]) -> Tensor:
            number, seed = task
            return self.accuracy(self.built(drawn[number], order, material), held_out, seed, material)

        found = torch.stack(list(material.compute.run(once, product(range(len(drawn)), seeds))))
        return [round(mean, 6) for mean in found.view(len(drawn), self.runs).mean(1).tolist()]

    def accuracy(self, synthetic: SyntheticSet, held_out: ImageSet, seed: int, material: Material) -> Tensor:
        if self.training is None:
            return replayed_accuracy(synthetic, held_out, seed, material.compute)
        spec, classes = material.need_experts().spec, len(synthetic.class_names)
        compute, norm = material.compute, material.normalisation
        images_NCHW, held_NCHW = (compute.seen(part.images, norm, part.labels.device) for part in (synthetic, held_out))
        network = fit(spec, images_NCHW, synthetic.labels, classes, self.training, seeded(seed), compute=compute)
        return (predicted_classes(network, held_NCHW) == held_out.labels).double().mean().cpu()
