"""SDC: sample difficulty correction, a penalty for any matching loss (Wang et al., arXiv 2408.12483)."""

from typing import ClassVar

import torch
from torch import Tensor

from distillkit.base.about import Option
from distillkit.base.errors import ParamsError, check_range
from distillkit.base.settings import settings
from distillkit.data.images import Iterate
from distillkit.matching.gradient_accumulation import gradient_norm
from distillkit.matching.kernels import Kernel

SDC = """\
@misc{wang2024sdc,
  title  = {Not All Samples Should Be Utilized Equally: Towards Understanding and Improving Dataset Distillation},
  author = {Wang, Shaobo and Yang, Yantai and Wang, Qilong and Li, Kaixin and Zhang, Linfeng and Yan, Junchi},
  year   = {2024},
  note   = {arXiv:2408.12483}
}"""

CORRECTING = Option(
    SDC,
    "Its loss has a penalty on top (`matching.difficulty_correction`): `weight` times the norm of the gradient of the "
    "cross-entropy on the learned set, at the network that is matched, so that of sets that match as well the easier "
    "one wins. It follows sample difficulty correction (SDC; Wang et al., 2024); it is not known whether this is the "
    "paper's exact form.",
)


@settings
class DifficultyCorrection:
    """Adds λ ‖∇_θ CE(S; θ)‖ to the loss: among sets that match equally well, it prefers those that are easier for θ.

    λ is ``weight``, or changes linearly from ``weight`` to ``final_weight`` over the first ``over`` outer steps. The
    gradient is computed in batches of at most ``batch`` images, which limits memory.
    """

    options: ClassVar = (CORRECTING,)
    weight: float
    final_weight: float | None = None
    over: int | None = None
    batch: int = 256

    def __post_init__(self) -> None:
        check_range("difficulty_correction.weight", self.weight, 0)
        check_range("difficulty_correction.batch", self.batch, 1)
        if (self.final_weight is None) != (self.over is None):
            given, missing = ("over", "final_weight") if self.final_weight is None else ("final_weight", "over")
            raise ParamsError(f"difficulty_correction has {given} without {missing}; expected both or neither")
        check_range("difficulty_correction.final_weight", self.final_weight, 0)
        check_range("difficulty_correction.over", self.over, 1)

    def weight_at(self, step: int) -> float:
        """λ after ``step`` outer steps."""
        if self.final_weight is None or self.over is None:
            return self.weight
        return self.weight + (self.final_weight - self.weight) * min(step / self.over, 1.0)

    def penalty(self, kernel: Kernel, theta_P: Tensor, iterate: Iterate) -> Tensor:
        """λ ‖∇_θ CE(S; θ)‖ over the whole set S, differentiable in its images and probabilities."""
        weight = self.weight_at(iterate.step)
        if not weight:
            return torch.zeros((), device=theta_P.device)
        return weight * gradient_norm(kernel, theta_P, iterate.images_NCHW, iterate.labels, self.batch)


def corrected(
    loss: Tensor, correction: DifficultyCorrection | None, kernel: Kernel, theta_P: Tensor, iterate: Iterate
) -> Tensor:
    """``loss`` plus the penalty, if there is a ``correction``."""
    return loss if correction is None else loss + correction.penalty(kernel, theta_P, iterate)
