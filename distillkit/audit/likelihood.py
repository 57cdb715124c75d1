"""The likelihood-ratio attack: was this record among the images that the set was made from?

After Carlini et al., "Membership inference attacks from first principles" (IEEE S&P 2022). Every shadow set is
attacked in turn. The attacker learns from all other shadow sets which statistics to expect for a record that is in, and
for one that is out. Axes: M shadow sets; N records.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
LEAST = 1e-12  # variance; a statistic that never varies says nothing


class Evidence(NamedTuple):
    """For each attacked set and record, both (M, N) float64.

    ``score`` is the log-likelihood ratio of "in" over "out"; ``exposure`` estimates, from the other sets, how well such
    a score separates the two. Neither uses whether the record is in the attacked set.
    """

    score_MN: Tensor
    exposure_MN: Tensor


Judge = Callable[[Tensor, Tensor], Evidence]  # from a statistic and from membership, both (M, N)


def gaussian_evidence(statistic_MN: Tensor, member_MN: Tensor) -> Evidence:
    """log N(t; b + δ, σ²) − log N(t; b, σ²) = δ (t − b − δ/2) / σ², with exposure δ² / σ².

    b, δ and σ² are expected from the other sets, see :class:`Expected`. NaN is a missing value and gives 0.
    """
    scores, exposures = [], []
    for place, statistic_N in enumerate(statistic_MN.double()):
        others = rows_but(place, len(statistic_MN))
        base_N, shift_N, variance = expected(statistic_MN[others].double(), member_MN[others])
        score_N = shift_N * (statistic_N - base_N - shift_N / 2) / variance
        scores.append(score_N.nan_to_num(0))
        exposures.append(shift_N.square() / variance)
    return Evidence(torch.stack(scores), torch.stack(exposures))


def rows_but(place: int, count: int) -> list[int]:
    """All numbers below ``count`` except ``place``."""
    return [number for number in range(count) if number != place]


class Expected(NamedTuple):
    """``base`` (N,) is a record's statistic when it is out, ``shift`` (N,) the change when it is in.

    ``variance`` is the variance within "in" and within "out", one for all records, as in LiRA with few shadow models. A
    statistic that never varies says nothing; its variance is infinite.
    """

    base_N: Tensor
    shift_N: Tensor
    variance: Tensor


def expected(statistic_MN: Tensor, member_MN: Tensor) -> Expected:
    """What an attacker expects of the next set after these; ``base`` is NaN for records without any value.

    A record's shift is its own difference of means, shrunk towards that of all records in proportion to its noise,
    because few sets determine it badly.
    """
    known_MN, value_MN = ~statistic_MN.isnan(), statistic_MN.nan_to_num()
    n_in, mean_in, squares_in = moments(value_MN, known_MN & member_MN)
    n_out, mean_out, squares_out = moments(value_MN, known_MN & ~member_MN)
    freedom = ((n_in - 1).clamp(min=0) + (n_out - 1).clamp(min=0)).sum().clamp(min=1)
    variance = (squares_in + squares_out).sum() / freedom
    noise_N = variance * (1 / n_in + 1 / n_out)  # infinite where one of them is 0
    shift_N = shrunk(mean_in - mean_out, noise_N)
    base_N = (n_out * mean_out + n_in * (mean_in - shift_N)) / (n_in + n_out)
    return Expected(base_N, shift_N, variance.masked_fill(variance < LEAST, torch.inf))


def moments(value_MN: Tensor, mask_MN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number, mean (0 without any) and sum of squared deviations of each record's masked values, all (N,)."""
    number_N = mask_MN.sum(0).double()
    mean_N = (value_MN * mask_MN).sum(0) / number_N.clamp(min=1)
    return number_N, mean_N, ((value_MN - mean_N).square() * mask_MN).sum(0)


def shrunk(shift_N: Tensor, noise_N: Tensor) -> Tensor:
    """g + τ² / (τ² + noise) (shift − g): empirical Bayes. Shifts with infinite noise become g.

    The mean g weights every shift by 1 / noise; τ² = mean((shift − g)² − noise), at least 0, is the variance of the
    true shifts.
    """
    known_N = noise_N.isfinite()
    if not known_N.any() or not noise_N[known_N].min() > 0:
        return torch.zeros_like(shift_N)
    weight_N = 1 / noise_N
    mean = (weight_N * shift_N).sum() / weight_N.sum()
    apart_N = shift_N - mean
    spread = (apart_N.square() - noise_N)[known_N].mean().clamp(min=0)
    return mean + (spread / (spread + noise_N)) * apart_N


def copy_evidence(copied_MN: Tensor, member_MN: Tensor) -> Evidence:
    """Evidence from copies: the log of the ratio of the shares of records with a copy among "in" and "out".

    The shares are over all records in the other sets, with half a case added to each side.
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
    each side. This corrects scores in tails that are not Gaussian, of records that the set follows closely.
    """
    found, score_MN = judge(statistic_MN, member_MN), torch.zeros(statistic_MN.shape, dtype=torch.float64)
    for place in range(len(statistic_MN)):
        others = rows_but(place, len(statistic_MN))
        known = judge(statistic_MN[others], member_MN[others]).score_MN.flatten().numpy()
        score_MN[place] = torch.from_numpy(
            log_odds(known, member_MN[others].flatten().numpy(), found.score_MN[place].numpy())
        )
    return Evidence(score_MN, found.exposure_MN)


def log_odds(known: Array, member: Array, asked: Array) -> Array:
    """Log-odds of membership for the scores ``asked``; they rise with the score, apart from the added half cases."""
    from sklearn.isotonic import isotonic_regression

    scores, block, cases = np.unique(known, return_inverse=True, return_counts=True)
    share = isotonic_regression(np.bincount(block, member) / cases, sample_weight=cases)
    step = np.concatenate([[0], np.cumsum(np.diff(share) > 0)])
    members, total = np.bincount(step, share * cases), np.bincount(step, cases)
    odds = (members + 0.5) / (total - members + 0.5)
    at = np.clip(np.searchsorted(scores, asked, side="right") - 1, 0, None)
    logarithm: Array = np.log(odds)[step[at]]
    return logarithm


def combine(parts: Sequence[Evidence]) -> Evidence:
    """The sum of the parts, which are assumed to be independent."""
    scores, exposures = (torch.stack(each).sum(0) for each in zip(*parts, strict=True))
    return Evidence(scores, exposures)


def most_exposed(exposure_MN: Tensor, share: float) -> Tensor:
    """A mask (M, N) of the most exposed records according to the other sets: this ``share`` of all, rounded up."""
    count = math.ceil(share * exposure_MN.shape[1])
    rows = exposure_MN.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(exposure_MN, dtype=torch.bool).scatter(1, rows, True)
