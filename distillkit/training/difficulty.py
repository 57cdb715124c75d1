"""The difficulty of every training image, from the experts' training. Larger always means harder.

Each score is a function of :class:`~distillkit.training.trajectories.Dynamics` with axes E experts, L epochs, N images.
It returns ``difficulty_N``, float32, averaged over experts.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from distillkit.base.errors import ParamsError
from distillkit.training.trajectories import Dynamics


def score_forgetting(dynamics: Dynamics) -> Tensor:
    """Number of changes from right in one epoch to wrong in the next (Toneva et al. 2019).

    An image that an expert never classifies right counts as L, above the possible maximum, so it ranks hardest.
    """
    correct_ELN = dynamics.correct.bool()
    events_EN = (correct_ELN[:, :-1] & ~correct_ELN[:, 1:]).sum(1)
    events_EN[~correct_ELN.any(1)] = correct_ELN.shape[1]
    return events_EN.float().mean(0)


def score_el2n(dynamics: Dynamics) -> Tensor:
    """E ‖softmax(f) − one-hot‖₂ over experts and epochs (Paul et al. 2021, who use the first epochs only)."""
    return dynamics.error_norm.float().mean((0, 1))


def score_margin(dynamics: Dynamics) -> Tensor:
    """Minus the area under the margin: −E[label's logit − best other logit] (AUM, Pleiss et al. 2020)."""
    return -dynamics.margin.float().mean((0, 1))


def score_probability_margin(dynamics: Dynamics) -> Tensor:
    """−E[label's probability − best other probability], the margin in the code of coverage-centric selection.

    Zheng et al. (ICLR 2023) also call it AUM. They sum over epochs; this is the mean.
    """
    return -dynamics.probability_margin.float().mean((0, 1))


def score_confidence(dynamics: Dynamics) -> Tensor:
    """1 − E[probability of the label]."""
    return 1 - dynamics.probability.float().mean((0, 1))


def score_consistency(dynamics: Dynamics) -> Tensor:
    """1 − share of epochs and experts in which the image was classified right while the expert trained on it.

    A cheap substitute for the C-score (Jiang et al. 2021), which uses networks that never saw the image.
    """
    return 1 - dynamics.correct.float().mean((0, 1))


SCORES: dict[str, Callable[[Dynamics], Tensor]] = {
    "forgetting": score_forgetting,
    "el2n": score_el2n,
    "margin": score_margin,
    "probability-margin": score_probability_margin,
    "confidence": score_confidence,
    "consistency": score_consistency,
}


def scores_of(experts: Iterable[Dynamics]) -> dict[str, Tensor]:
    """All scores by name, averaged over experts. ``experts`` yields one expert's dynamics, each (1, L, N), at a
    time.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    for dynamics in experts:
        for name, score_images in SCORES.items():
            found[name].append(score_images(dynamics))
    return {name: torch.stack(parts).mean(0) for name, parts in found.items()}


def first_epochs(dynamics: Dynamics, epochs: int | None) -> Dynamics:
    """Only the first ``epochs`` epochs, or all if None. Raises ParamsError when there are fewer."""
    check_epochs(epochs, dynamics.correct.shape[1])
    return dynamics if epochs is None else Dynamics(*(part[:, :epochs] for part in dynamics))


def check_epochs(epochs: int | None, trained: int) -> None:
    """Raise ParamsError when the experts were trained for fewer than ``epochs`` epochs."""
    if epochs is not None and not 1 <= epochs <= trained:
        raise ParamsError(f"score.epochs is {epochs}; expected 1 to {trained}, the epochs the experts are trained for")
