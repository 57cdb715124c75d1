"""The difficulty of every training image, from the experts' training. Larger means harder.

For ``dual`` and ``tdds`` larger means more worth keeping: they measure how much an image's predictions change during
training, so an image that is never learned scores as low as an easy one. Each score is a function of
:class:`~distillkit.training.dynamics.Dynamics`, with axes E experts, L epochs, N images. It returns ``difficulty_N``,
float32, averaged over experts.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor

from distillkit.base.errors import ParamsError
from distillkit.training.dynamics import MOVING, Dynamics

WINDOW = 10  # consecutive epochs in a run


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


def score_dual(dynamics: Dynamics, window: int = WINDOW) -> Tensor:
    """Uncertainty times difficulty: the mean over all runs of J epochs of std(p)·(1 − mean(p)) (DUAL, Cho et al. 2025).

    J is ``window``. p is the label's probability; std is the sample standard deviation, 0 for one epoch. The paper uses
    J = 10 and the first 30 epochs, and a score that is 10 times as large.
    """
    total_EN = torch.zeros_like(dynamics.probability[:, 0], dtype=torch.float32)
    runs = runs_of(dynamics.probability, window)
    for run_EJN in runs if dynamics.probability.shape[1] > 1 else ():
        p_EJN = run_EJN.float()
        total_EN += p_EJN.std(1) * (1 - p_EJN.mean(1))
    return total_EN.mean(0) / len(runs)


def score_tdds(dynamics: Dynamics, window: int = WINDOW) -> Tensor:
    """How unevenly predictions change: Σ_t 0.9 · 0.1^(T − t) · ‖m − mean(m)‖₂ (TDDS, Zhang et al. 2024).

    t is the last epoch of a run of J = ``window`` epochs, T is the last epoch of all, and m are the J − 1 movements
    inside the run; see :class:`~distillkit.training.dynamics.Dynamics`. The weights fall so fast that only the last
    three runs matter.
    """
    total_EN = torch.zeros_like(dynamics.movement[:, 0], dtype=torch.float32)
    for back, run_EJN in enumerate(reversed(runs_of(dynamics.movement, window))):
        m_EJN = run_EJN[:, 1:].float()
        total_EN += 0.9 * 0.1**back * (m_EJN - m_EJN.mean(1, keepdim=True)).norm(dim=1)
    return total_EN.mean(0)


def runs_of(part_ELN: Tensor, window: int) -> list[Tensor]:
    """All runs of ``window`` consecutive epochs, or one run of all epochs if there are fewer, each (E, J, N)."""
    window = min(window, part_ELN.shape[1])
    return [part_ELN[:, first : first + window] for first in range(part_ELN.shape[1] - window + 1)]


SCORES: dict[str, Callable[[Dynamics], Tensor]] = {
    "forgetting": score_forgetting,
    "el2n": score_el2n,
    "margin": score_margin,
    "probability-margin": score_probability_margin,
    "confidence": score_confidence,
    "consistency": score_consistency,
    "dual": score_dual,
    "tdds": score_tdds,
}
BY_RUNS = {"dual": score_dual, "tdds": score_tdds}  # these use runs of epochs


def scores_of(experts: Iterable[Dynamics], window: int = WINDOW) -> dict[str, Tensor]:
    """All scores (N,), by name, averaged over experts. ``experts`` yields the dynamics of one expert at a time, each
    (1, L, N).
    """
    scores = SCORES | {name: partial(score_images, window=window) for name, score_images in BY_RUNS.items()}
    found: dict[str, list[Tensor]] = {name: [] for name in scores}
    for dynamics in experts:
        for name, score_images in scores.items():
            found[name].append(score_images(dynamics))
    return {name: torch.stack(parts).mean(0) for name, parts in found.items()}


def score_called(name: str, scores: Mapping[str, Tensor]) -> Tensor:
    """The score ``name`` of :func:`scores_of`. Raises ParamsError for ``tdds`` if the experts recorded no movement."""
    if name == "tdds" and not scores[name].any():
        raise ParamsError(
            f"score is tdds, but the experts recorded no movement, as N images times K classes are more than "
            f"{MOVING:,}, or all epochs are alike; use dual, or fewer images"
        )
    return scores[name]


def first_epochs(dynamics: Dynamics, epochs: int | None) -> Dynamics:
    """The dynamics of the first ``epochs`` epochs, or of all if None. Raises ParamsError when there are fewer."""
    check_epochs(epochs, dynamics.correct.shape[1])
    return dynamics if epochs is None else Dynamics(*(part[:, :epochs] for part in dynamics))


def check_epochs(epochs: int | None, trained: int) -> None:
    """Raise ParamsError unless ``epochs`` is None or from 1 to ``trained``, the epochs that experts are trained for."""
    if epochs is not None and not 1 <= epochs <= trained:
        raise ParamsError(f"score.epochs is {epochs}; expected 1 to {trained}, the epochs the experts are trained for")
