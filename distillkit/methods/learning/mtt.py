"""MTT: matching training trajectories (Cazenavette et al., CVPR 2022), with every image learned."""

from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from distillkit.base.about import About, Option
from distillkit.base.errors import ParamsError, check_range
from distillkit.base.randomness import draw_int
from distillkit.base.settings import settings
from distillkit.data.augment import Augmentation
from distillkit.data.images import Iterate, SyntheticSet
from distillkit.matching.difficulty_correction import DifficultyCorrection, corrected
from distillkit.matching.method import Material
from distillkit.matching.objectives import trajectory_matching_loss
from distillkit.matching.soft_labels import DATM, Labels, with_labels
from distillkit.matching.unroll import plan, unroll
from distillkit.methods.learning.starts import Start, check_start, starting_selection
from distillkit.selection.window import WindowScan

WIDENING = Option(
    DATM,
    "The range of epochs from which stretches of the experts' trajectories are drawn widens (`matching.widen_steps`): "
    "it ends at `matching.first_max_start_epoch` first, and at `matching.max_start_epoch` after so many outer steps, "
    "as in DATM (Guo et al., 2024): easy patterns first.",
)


@settings
class Matching:
    """The stretch of an expert's trajectory that is matched, and the student's steps.

    The stretch has ``expert_epochs`` epochs. It starts at an epoch drawn from ``min_start_epoch`` to
    ``max_start_epoch`` − 1. With ``widen_steps``, the upper end grows linearly from ``first_max_start_epoch`` to
    ``max_start_epoch`` over so many outer steps, so that easy patterns are learned first (DATM, Guo et al. 2024). The
    student takes ``student_steps`` steps with batches of ``student_batch`` images. ``difficulty_correction`` adds its
    penalty at the first parameters of the stretch.
    """

    student_steps: int
    student_batch: int
    expert_epochs: int
    max_start_epoch: int
    min_start_epoch: int = 0
    augmentation: Augmentation = Augmentation()
    first_max_start_epoch: int | None = None
    widen_steps: int | None = None
    difficulty_correction: DifficultyCorrection | None = None

    def __post_init__(self) -> None:
        for name in ("student_steps", "student_batch", "expert_epochs", "max_start_epoch"):
            check_range(f"matching.{name}", getattr(self, name), 1)
        check_range("matching.min_start_epoch", self.min_start_epoch, 0, self.max_start_epoch - 1)
        if (self.first_max_start_epoch is None) != (self.widen_steps is None):
            raise ParamsError("matching.first_max_start_epoch and widen_steps belong together; give both or neither")
        low, high = self.min_start_epoch + 1, self.max_start_epoch
        check_range("matching.first_max_start_epoch", self.first_max_start_epoch, low, high)
        check_range("matching.widen_steps", self.widen_steps, 1)

    @property
    def options(self) -> tuple[Option, ...]:
        """The option of DATM, if the range widens."""
        return () if self.widen_steps is None else (WIDENING,)

    def check_against(self, snapshots: int) -> None:
        """Raise ParamsError when the last possible stretch ends after the last of ``snapshots``."""
        last = self.max_start_epoch - 1 + self.expert_epochs
        if last >= snapshots:
            raise ParamsError(
                f"matching reaches epoch {last} (max_start_epoch {self.max_start_epoch} − 1 + expert_epochs "
                f"{self.expert_epochs}), but the experts have {snapshots - 1} epochs; lower one or raise experts.epochs"
            )

    def max_start_at(self, step: int) -> int:
        """The upper end of the range of start epochs after ``step`` outer steps."""
        first, whole, over = self.first_max_start_epoch, self.max_start_epoch, self.widen_steps
        if first is None or over is None:
            return whole
        return min(whole, first + (whole - first) * step // over)

    def stretch(self, iterate: Iterate, material: Material, generator: Generator) -> "Stretch":
        """θ_0 = θ*_t, θ_1, ..., θ_N and θ*_{t+M} for one drawn expert and start epoch t."""
        experts = material.need_experts()
        expert = draw_int(0, len(experts), generator)
        start = draw_int(self.min_start_epoch, self.max_start_at(iterate.step), generator)
        device = iterate.images_NCHW.device
        start_P = experts.read(expert, start).to(device)
        target_P = experts.read(expert, start + self.expert_epochs).to(device)
        steps = plan(len(iterate.labels), self.student_steps, self.student_batch, self.augmentation, generator)
        return Stretch(start_P, unroll(material.kernel, start_P, iterate, steps, keep=material.compute.keep), target_P)

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        """The :meth:`distance` after the student's last step, for one drawn stretch."""
        stretch = self.stretch(iterate, material, generator)
        return self.distance(stretch.thetas[-1], stretch, iterate, material)

    def distance(self, student_P: Tensor, stretch: "Stretch", iterate: Iterate, material: Material) -> Tensor:
        """‖θ − θ*_{t+M}‖² / ‖θ*_t − θ*_{t+M}‖² for the student's θ, plus the correction at θ*_t if there is one."""
        matched = trajectory_matching_loss(student_P, stretch.start_P, stretch.target_P)
        return corrected(matched, self.difficulty_correction, material.kernel, stretch.start_P, iterate)

    def visits(self, images: int) -> int:
        """The number of images shown to the student in one outer step, for a set of ``images`` images."""
        return self.student_steps * min(self.student_batch, images)


class Stretch(NamedTuple):
    """The start of expert and student, the student's parameters after each step, and the expert's end, all (P,)."""

    start_P: Tensor
    thetas: tuple[Tensor, ...]
    target_P: Tensor


ABOUT = About(
    title="MTT",
    summary="Matching training trajectories (Cazenavette et al., CVPR 2022). Starting from real images, all images are "
    "changed by gradient steps until a network trained on them moves through its parameters as the experts did.",
    paper="""\
@inproceedings{cazenavette2022mtt,
  title     = {Dataset Distillation by Matching Training Trajectories},
  author    = {Cazenavette, George and Wang, Tongzhou and Torralba, Antonio and Efros, Alexei A. and Zhu, Jun-Yan},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2022},
  note      = {arXiv:2203.11932}
}""",
)


@settings
class TrajectoryMatching:
    """All images are learned. They start from real images: ``start`` is random, confident or window.

    ``labels: learned`` makes labels soft. They start from the experts' logits, and ``optim.label_lr`` is their learning
    rate.
    """

    about: ClassVar = ABOUT
    student: ClassVar = True
    ipc: int
    matching: Matching
    start: Start = "random"
    window_start: float | WindowScan | None = None
    labels: Labels = "hard"

    def __post_init__(self) -> None:
        check_start(self.start, self.window_start)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        self.matching.check_against(material.need_experts().snapshots)
        start = starting_selection(self.start, self.ipc, self.window_start).init(material, generator)
        return with_labels(replace(start, learned=torch.ones_like(start.learned)), self.labels, material)

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        return self.matching.loss(iterate, material, generator)

    def visits(self, classes: int) -> int:
        return self.matching.visits(self.ipc * classes)
