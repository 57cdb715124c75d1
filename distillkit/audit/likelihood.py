"""The likelihood-ratio attack: was this record among the images that the set was made from?

After Carlini et al., "Membership inference attacks from first principles" (IEEE S&P 2022). Every shadow set is
attacked in turn, by an attacker who has learned from all other shadow sets what to expect of a record that is in, and
of one that is out. Axes: M shadow sets; N records.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
LEAST = 1e-12  # of a variance; a statistic that never varies says nothing


class Evidence(NamedTuple):
    """For each attacked set and record, both (M, N) float64.

    ``score`` is the log-likelihood ratio of "in" over "out"; ``exposure`` is what the other sets say of how well such a
    score can tell the two apart. Neither looks at whether the record is in the attacked set.
    """

    score_MN: Tensor
    exposure_MN: Tensor


Judge = Callable[[Tensor, Tensor], Evidence]  # of a statistic (M, N) and of what is in (M, N)


def gaussian_evidence(statistic_MN: Tensor, member_MN: Tensor) -> Evidence:
    """log N(t; b + δ, σ²) − log N(t; b, σ²) = δ (t − b − δ/2) / σ², with exposure δ² / σ².

    For each attacked set, b, δ and σ² come from the other sets: b is the record's value when it is out, δ how far being
    in moves it, σ² the variance within "in" and "out", one for all records, as in LiRA with few shadow models. δ is the
    record's own difference of means, drawn towards the mean of all records by as much as it is noise (empirical Bayes):
    with few shadow sets the own difference is hardly known. nan is a missing value, and gives 0.
    """
    known_MN, value_MN = ~statistic_MN.isnan(), statistic_MN.double().nan_to_num()
    masks = (known_MN & member_MN).double(), (known_MN & ~member_MN).double()
    (n_in, mean_in, ss_in), (n_out, mean_out, ss_out) = (moments_of_others(value_MN, mask_MN) for mask_MN in masks)
    freedom_M1 = ((n_in - 1).clamp(min=0) + (n_out - 1).clamp(min=0)).sum(1, keepdim=True)
    variance_M1 = (ss_in + ss_out).sum(1, keepdim=True) / freedom_M1.clamp(min=1)
    both_MN = (n_in > 0) & (n_out > 0)
    noise_MN = variance_M1 * (1 / n_in.clamp(min=1) + 1 / n_out.clamp(min=1))
    shift_MN = shrunk(mean_in - mean_out, noise_MN, both_MN)
    base_MN = (n_out * mean_out + n_in * (mean_in - shift_MN)) / (n_in + n_out).clamp(min=1)
    usable_MN = known_MN & (n_in + n_out > 0) & (variance_M1 > LEAST)
    score_MN = shift_MN * (value_MN - base_MN - shift_MN / 2) / variance_M1.clamp(min=LEAST)
    exposure_MN = shift_MN.square() / variance_M1.clamp(min=LEAST)
    return Evidence(score_MN.where(usable_MN, 0), exposure_MN.where(variance_M1 > LEAST, 0))


def moments_of_others(value_MN: Tensor, mask_MN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number, mean and sum of squared deviations of the masked values of all sets but the one in question, (M, N).

    Means are 0 where there is no value.
    """
    centred_MN = value_MN - value_MN.mean(0)  # for the sums of squares
    number_MN, total_MN, squares_MN = (
        part.sum(0) - part for part in (mask_MN, mask_MN * centred_MN, mask_MN * centred_MN.square())
    )
    mean_MN = total_MN / number_MN.clamp(min=1)
    squared_MN = (squares_MN - number_MN * mean_MN.square()).clamp(min=0)
    return number_MN, (mean_MN + value_MN.mean(0)).where(number_MN > 0, 0), squared_MN


def shrunk(shift_MN: Tensor, noise_MN: Tensor, known_MN: Tensor) -> Tensor:
    """g + τ² / (τ² + noise) (shift − g): own shifts drawn towards their mean g, which unknown ones are given.

    g weighs every shift by 1 / noise; τ² = mean((shift − g)² − noise), at least 0, is how much true shifts differ.
    """
    number_M1 = known_MN.sum(1, keepdim=True).clamp(min=1)
    weight_MN = known_MN / noise_MN.clamp(min=LEAST)
    mean_M1 = (weight_MN * shift_MN).sum(1, keepdim=True) / weight_MN.sum(1, keepdim=True).clamp(min=LEAST)
    apart_MN = (shift_MN - mean_M1).where(known_MN, 0)
    spread_M1 = ((apart_MN.square() - noise_MN.where(known_MN, 0)).sum(1, keepdim=True) / number_M1).clamp(min=0)
    return mean_M1 + spread_M1 / (spread_M1 + noise_MN).clamp(min=LEAST) * apart_MN


def copy_evidence(copied_MN: Tensor, member_MN: Tensor) -> Evidence:
    """The same for a fact, that the set has a copy of the record: log of the ratio of its shares among "in" and "out".

    Shares are of all records in the other sets, half a case added to each side.
    """
    rates = []
    for mask_MN in (member_MN, ~member_MN):
        hits_M, cases_M = ((part.sum() - part.sum(1)).double() for part in (copied_MN & mask_MN, mask_MN))
        rates.append((hits_M + 0.5) / (cases_M + 1))
    if_copied_M, if_not_M = (rates[0] / rates[1]).log(), ((1 - rates[0]) / (1 - rates[1])).log()
    score_MN = torch.where(copied_MN, if_copied_M[:, None], if_not_M[:, None])
    often_MN = (copied_MN.sum(0) - copied_MN.double()) / max(1, len(copied_MN) - 1)
    return Evidence(score_MN, often_MN * if_copied_M.clamp(min=0)[:, None])


def calibrated(judge: Judge, statistic_MN: Tensor, member_MN: Tensor) -> Evidence:
    """The evidence of ``judge``, with scores that are log-odds of being in, among records with such a score.

    Isotonic regression on the other sets, each judged without the attacked one, gives the odds; half a case is added to
    each side. So tails that no Gaussian has, of records that the set follows closely, count as much as they should.
    """
    found, score_MN = judge(statistic_MN, member_MN), torch.zeros(statistic_MN.shape, dtype=torch.float64)
    for place in range(len(statistic_MN)):
        others = [number for number in range(len(statistic_MN)) if number != place]
        known = judge(statistic_MN[others], member_MN[others]).score_MN.flatten().numpy()
        score_MN[place] = torch.from_numpy(
            log_odds(known, member_MN[others].flatten().numpy(), found.score_MN[place].numpy())
        )
    return Evidence(score_MN, found.exposure_MN)


def log_odds(known: Array, member: Array, asked: Array) -> Array:
    """Log-odds of membership of the scores ``asked``, never falling with the score but for the half cases added."""
    from sklearn.isotonic import isotonic_regression

    scores, block, cases = np.unique(known, return_inverse=True, return_counts=True)
    share = isotonic_regression(np.bincount(block, member) / cases, sample_weight=cases)
    step = np.concatenate([[0], np.cumsum(np.diff(share) > 0)])
    members, total = np.bincount(step, share * cases), np.bincount(step, cases)
    odds = (members + 0.5) / (total - members + 0.5)
    at = np.clip(np.searchsorted(scores, asked, side="right") - 1, 0, None)
    logarithm: Array = np.log(odds)[step[at]]
    return logarithm


def together(parts: Sequence[Evidence]) -> Evidence:
    """Evidence that is taken to be independent adds up."""
    scores, exposures = (torch.stack(each).sum(0) for each in zip(*parts, strict=True))
    return Evidence(scores, exposures)


def most_exposed(exposure_MN: Tensor, share: float) -> Tensor:
    """Which records (M, N) are that ``share`` of all, rounded up, that the other sets say is the most exposed."""
    count = math.ceil(share * exposure_MN.shape[1])
    rows = exposure_MN.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(exposure_MN, dtype=torch.bool).scatter(1, rows, True)
