"""A window of difficulty: of every class, images of consecutive ranks, hardest first (Lee & Chung, ICML 2024)."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from distillkit.base.about import About
from distillkit.base.errors import ParamsError, WindowError, check_range
from distillkit.base.randomness import draw_seed, seeded
from distillkit.base.settings import settings
from distillkit.data.images import SyntheticSet, real_subset
from distillkit.data.selection import WindowUnit, select_window, split_holdout
from distillkit.matching.method import Material
from distillkit.training.loop import Lot, TrainingRecipe, fit_all, predicted_classes


@settings
class WindowScan:
    """Chooses the window's start by training on candidate windows, without test images.

    A share ``holdout`` of every class's training images is held out, and windows are taken from the rest. ``runs``
    networks like the experts' are trained on each by ``training``. The start with the best mean accuracy on the
    held-out images is chosen.
    """

    candidates: tuple[float, ...]
    holdout: float
    runs: int
    training: TrainingRecipe

    def __post_init__(self) -> None:
        if not self.candidates:
            raise ParamsError("window_start.candidates is empty; expected fractions such as [0.2, 0.5, 0.8]")
        for candidate in self.candidates:
            check_range("window_start.candidates", candidate, 0, 1)
        check_range("window_start.holdout", self.holdout, 0.01, 0.9)
        check_range("window_start.runs", self.runs, 1)

    def fitting(self, ipc: int, smallest: int) -> list[float]:
        """The candidates whose window of ``ipc`` images fits into a class of ``smallest`` images.

        Raises WindowError when there is none.
        """
        found = [candidate for candidate in self.candidates if round(candidate * smallest) + ipc <= smallest]
        if not found:
            raise WindowError(
                f"no window of {ipc} images from window_start.candidates {list(self.candidates)} fits the smallest "
                f"class, of which the holdout of {self.holdout:g} leaves {smallest} images; lower ipc, holdout or a "
                "candidate"
            )
        return found


ABOUT = About(
    title="Window",
    summary="Of every class, `ipc` real images that are neighbours when the class is ranked by difficulty, from "
    "`window_start` on (a fraction of the class, hardest first), unchanged.",
    builds_on=("selmatch",),
)


@settings
class WindowSubset:
    """``ipc`` images of every class, ranked hardest first, from ``window_start`` on.

    ``window_start`` is a fraction of the class, or with ``window_unit: ipc`` a fraction of ``ipc``.
    """

    about: ClassVar = ABOUT
    ipc: int
    window_start: float | WindowScan
    window_unit: WindowUnit = "class"

    def __post_init__(self) -> None:
        if isinstance(self.window_start, WindowScan):
            if self.window_unit != "class":
                raise ParamsError("window_unit is 'ipc', but a window scan works in fractions of the class; drop one")
        else:
            check_range("window_start", self.window_start, 0, 1 if self.window_unit == "class" else None)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        real, difficulty_N, start = material.real, material.need_difficulty(), self.window_start
        notes: Mapping[str, Any] = {}
        if isinstance(start, WindowScan):
            accuracy = scan_windows(material, self.ipc, start, generator)
            start = max(accuracy, key=lambda candidate: accuracy[candidate])
            scanned = {f"{candidate:g}": value for candidate, value in accuracy.items()}
            notes = {"window_start": start, "holdout_accuracy_by_window_start": scanned}
        rows = select_window(real.labels, difficulty_N, real.class_names, self.ipc, start, self.window_unit)
        return replace(real_subset(real, rows, material.normalisation), notes=notes)


def scan_windows(material: Material, ipc: int, scan: WindowScan, generator: Generator) -> dict[float, float]:
    """The mean accuracy (0 to 1) on held-out training images for each candidate window.

    All candidates are trained from the same seeds, so that differences come from the windows. Candidates whose window
    does not fit into the rest of the smallest class after the holdout are left out. Raises WindowError when none fits.
    """
    real, spec, classes = material.real, material.need_experts().spec, len(material.real.class_names)
    pool, held = split_holdout(real.labels, classes, scan.holdout, generator)
    smallest = int(torch.bincount(real.labels[pool], minlength=classes).min())
    candidates = scan.fitting(ipc, smallest)
    seeds = [draw_seed(generator) for _ in range(scan.runs)]
    difficulty_N = material.need_difficulty()[pool]
    compute, held_labels = material.compute, real.labels[held]
    held_NCHW = compute.seen(real.take(held).images, material.normalisation, real.device)

    def lot(candidate: float, seed: int) -> Lot:
        window = real.take(pool[select_window(real.labels[pool], difficulty_N, real.class_names, ipc, candidate)])
        return Lot(compute.seen(window.images, material.normalisation, real.device), window.labels, seeded(seed))

    def held_out_accuracies(group: list[tuple[float, int]]) -> Tensor:
        networks = fit_all(spec, [lot(*task) for task in group], classes, scan.training, compute=compute)
        predicted_RN = torch.stack([predicted_classes(network, held_NCHW) for network in networks])
        return (predicted_RN == held_labels).double().mean(1).cpu()

    groups = compute.groups(product(candidates, seeds))
    found = torch.cat(list(compute.run(held_out_accuracies, groups)))
    means = found.view(len(candidates), scan.runs).mean(1)
    return {candidate: round(mean, 6) for candidate, mean in zip(candidates, means.tolist(), strict=True)}
