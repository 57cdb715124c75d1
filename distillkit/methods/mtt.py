"""MTT: matching training trajectories (Cazenavette et al., CVPR 2022), with every image learned."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from distillkit.augment import Augmentation
from distillkit.errors import ParamsError, check_range
from distillkit.images import Iterate, SyntheticSet
from distillkit.matching import trajectory_matching_loss
from distillkit.methods.correction import DifficultyCorrection, corrected
from distillkit.methods.starts import Start, check_start, starting_selection
from distillkit.methods.window import WindowScan
from distillkit.protocol import About, Material
from distillkit.randomness import draw_int
from distillkit.settings import settings
from distillkit.unroll import plan, unroll


@settings
class Matching:
    """Which stretch of an expert's trajectory the student must cover, and in how many steps.

    ``difficulty_correction`` adds its penalty at the stretch's first parameters.
    """

    student_steps: int
    student_batch: int
    expert_epochs: int
    max_start_epoch: int
    min_start_epoch: int = 0
    augmentation: Augmentation = Augmentation()
    difficulty_correction: DifficultyCorrection | None = None

    def __post_init__(self) -> None:
        for name in ("student_steps", "student_batch", "expert_epochs", "max_start_epoch"):
            check_range(f"matching.{name}", getattr(self, name), 1)
        check_range("matching.min_start_epoch", self.min_start_epoch, 0, self.max_start_epoch - 1)

    def check_against(self, snapshots: int) -> None:
        """Raise ParamsError when the longest stretch ends after the last of ``snapshots``."""
        last = self.max_start_epoch - 1 + self.expert_epochs
        if last >= snapshots:
            raise ParamsError(
                f"matching reaches epoch {last} (max_start_epoch {self.max_start_epoch} − 1 + expert_epochs "
                f"{self.expert_epochs}), but the experts have {snapshots - 1} epochs; "
                "lower one or raise experts.epochs"
            )

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        """‖θ_N − θ*_{t+M}‖² / ‖θ*_t − θ*_{t+M}‖² for one drawn expert and start epoch t; θ_0 = θ*_t."""
        experts = material.need_experts()
        expert = draw_int(0, len(experts), generator)
        start = draw_int(self.min_start_epoch, self.max_start_epoch, generator)
        device = iterate.images_NCHW.device
        start_P = experts.read(expert, start).to(device)
        target_P = experts.read(expert, start + self.expert_epochs).to(device)
        steps = plan(len(iterate.labels), self.student_steps, self.student_batch, self.augmentation, generator)
        *_, student_P = unroll(material.kernel, start_P, iterate, steps, keep=material.compute.keep)
        matched = trajectory_matching_loss(student_P, start_P, target_P)
        return corrected(matched, self.difficulty_correction, material.kernel, start_P, iterate)

    @property
    def visits(self) -> int:
        """Images shown to the student in one outer step."""
        return self.student_steps * self.student_batch


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
    """Start from real images, random ones unless ``start`` says otherwise, and learn them all."""

    about: ClassVar = ABOUT
    student: ClassVar = True
    ipc: int
    matching: Matching
    start: Start = "random"
    window_start: float | WindowScan | None = None

    def __post_init__(self) -> None:
        check_start(self.start, self.window_start)

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        self.matching.check_against(material.need_experts().snapshots)
        start = starting_selection(self.start, self.ipc, self.window_start).init(material, generator)
        return replace(start, learned=torch.ones_like(start.learned))

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        return self.matching.loss(iterate, material, generator)

    @property
    def visits(self) -> int:
        return self.matching.visits
