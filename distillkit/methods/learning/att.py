"""ATT: automatic training trajectories (Liu et al., ECCV 2024): the student's step closest to the expert is matched."""

from typing import ClassVar

from torch import Generator, Tensor

from distillkit.base.about import About
from distillkit.base.settings import settings
from distillkit.data.images import Iterate, SyntheticSet
from distillkit.matching.method import Material
from distillkit.matching.objectives import closest_step
from distillkit.matching.soft_labels import Labels
from distillkit.methods.learning.mtt import Matching, TrajectoryMatching
from distillkit.methods.learning.starts import Start, check_start
from distillkit.selection.window import WindowScan

ABOUT = About(
    title="ATT",
    summary="Automatic training trajectories (Liu et al., ECCV 2024). As in MTT, all images are changed until a "
    "network trained on them moves as the experts did; but of its steps the one that comes closest to the expert "
    "is matched, so that the length of the trajectory adapts.",
    paper="""\
@inproceedings{liu2024att,
  title     = {Dataset Distillation by Automatic Training Trajectories},
  author    = {Liu, Dai and Gu, Jindong and Cao, Hu and Trinitis, Carsten and Schulz, Martin},
  booktitle = {European Conference on Computer Vision},
  year      = {2024},
  note      = {arXiv:2407.14245}
}""",
    builds_on=("mtt",),
)


@settings
class AutomaticTrajectories:
    """As MTT, but the loss uses the student's step that is closest to the target, not the last one.

    ``matching.student_steps`` is the number of steps that the student takes.
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
        """The initial set of MTT with these settings."""
        return TrajectoryMatching(self.ipc, self.matching, self.start, self.window_start, self.labels).init(
            material, generator
        )

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        """‖θ_i − θ*_{t+M}‖² / ‖θ*_t − θ*_{t+M}‖² at the i where ‖θ_i − θ*_{t+M}‖₁ is smallest."""
        stretch = self.matching.stretch(iterate, material, generator)
        closest_P = stretch.thetas[closest_step(stretch.thetas, stretch.target_P)]
        return self.matching.distance(closest_P, stretch, iterate, material)

    def visits(self, classes: int) -> int:
        return self.matching.visits(self.ipc * classes)
