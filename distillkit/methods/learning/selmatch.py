"""SelMatch: window selection by difficulty, then trajectory matching that updates only part of the set.

Lee & Chung, "SelMatch: Effectively scaling up dataset distillation via selection-based initialization and partial
updates by trajectory matching", ICML 2024.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from distillkit.base.about import About
from distillkit.base.errors import ParamsError, check_range
from distillkit.base.settings import settings
from distillkit.data.images import Iterate, SyntheticSet
from distillkit.data.selection import WindowUnit
from distillkit.matching.method import Material
from distillkit.matching.soft_labels import Labels, with_labels
from distillkit.methods.learning.mtt import Matching
from distillkit.methods.learning.starts import Start, check_start, starting_selection
from distillkit.selection.window import WindowScan

ABOUT = About(
    title="SelMatch",
    summary="Window selection and partial trajectory matching (Lee & Chung, ICML 2024). Of every class, `ipc` real "
    "images are selected: neighbours when the class is ranked by difficulty, from `window_start` on (a fraction of "
    "the class, hardest first), unless `start` says otherwise. A share `distill_fraction` of them, the easier end of "
    "the window, is then learned as in MTT; the rest stays real.",
    paper="""\
@inproceedings{lee2024selmatch,
  title     = {{SelMatch}: Effectively Scaling Up Dataset Distillation via Selection-Based Initialization
               and Partial Updates by Trajectory Matching},
  author    = {Lee, Yongmin and Chung, Hye Won},
  booktitle = {International Conference on Machine Learning},
  year      = {2024},
  note      = {arXiv:2406.18561}
}""",
    builds_on=("mtt",),
)


@settings
class SelMatch:
    """Of every class's window, the easier share ``distill_fraction`` is learned. The harder rest stays real.

    Students are trained on both. ``start: confident`` replaces the window by the experts' most confident images, an
    interpretation in the literature; then the most confident share is learned. ``start: random`` replaces it by random
    images, and learns a random share.
    """

    about: ClassVar = ABOUT
    student: ClassVar = True
    ipc: int
    distill_fraction: float
    matching: Matching
    window_start: float | WindowScan | None = None
    window_unit: WindowUnit = "class"
    start: Start = "window"
    labels: Labels = "hard"

    def __post_init__(self) -> None:
        check_range("distill_fraction", self.distill_fraction, 0, 1)
        check_start(self.start, self.window_start, self.window_unit)
        if round(self.distill_fraction * self.ipc) == 0:
            found = f"distill_fraction {self.distill_fraction:g} of ipc {self.ipc} is no image at all"
            raise ParamsError(f"{found}; raise it, or use method: window, which learns nothing")

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        self.matching.check_against(material.need_experts().snapshots)
        window = starting_selection(self.start, self.ipc, self.window_start, self.window_unit).init(material, generator)
        frozen_per_class = self.ipc - round(self.distill_fraction * self.ipc)
        rank_N = torch.arange(len(window), device=window.learned.device) % self.ipc  # class by class, hardest first
        return with_labels(replace(window, learned=rank_N >= frozen_per_class), self.labels, material)

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        return self.matching.loss(iterate, material, generator)

    def visits(self, classes: int) -> int:
        return self.matching.visits(self.ipc * classes)
