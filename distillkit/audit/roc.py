"""How well scores separate members from non-members: areas and rates with their errors.

Axes: M attacked sets; N records; P pairs of a set and a record, the highest score first.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[Any]
RATES = {"tpr_at_1_in_100": 0.01, "tpr_at_1_in_1000": 0.001}  # false positive rates
RESAMPLES = 200


class Ranked(NamedTuple):
    """Pairs in descending order of score: membership, row of the record, set, and where each run of ties ends."""

    member_P: Array
    row_P: Array
    set_P: Array
    ends: Array


def ranked(score_MN: Tensor, member_MN: Tensor, among_MN: Tensor) -> Ranked:
    """The pairs selected by ``among_MN``, in order."""
    at_set, at_row = among_MN.nonzero(as_tuple=True)
    score_P = score_MN[at_set, at_row].numpy()
    order = np.argsort(-score_P, kind="stable")
    ends = np.flatnonzero(np.append(score_P[order][1:] != score_P[order][:-1], True))
    member_P, row_P, set_P = (part.numpy()[order] for part in (member_MN[at_set, at_row], at_row, at_set))
    return Ranked(member_P, row_P, set_P, ends)


def curve(pairs: Ranked, weight_P: Array) -> tuple[Array, Array]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1); ties are one threshold."""
    true = np.cumsum(weight_P * pairs.member_P)[pairs.ends]
    false = np.cumsum(weight_P * ~pairs.member_P)[pairs.ends]
    return np.append(0.0, false / max(false[-1], 1e-300)), np.append(0.0, true / max(true[-1], 1e-300))


def rates(pairs: Ranked, weight_P: Array) -> dict[str, float]:
    """The area under the curve, and the true positive rate at each of ``RATES``.

    Between thresholds the curve is a straight line, as if ties were broken at random.
    """
    false, true = curve(pairs, weight_P)
    found = {"auc": float(np.trapezoid(true, false))}
    for name, rate in RATES.items():
        after = min(int(np.searchsorted(false, rate, side="right")), len(false) - 1)
        step = false[after] - false[after - 1]
        share = (rate - false[after - 1]) / step if step > 0 else 1.0
        found[name] = float(true[after - 1] + share * (true[after] - true[after - 1]))
    return found


def measured(score_MN: Tensor, member_MN: Tensor, among_MN: Tensor, seed: int) -> dict[str, Any]:
    """``auc`` and each of ``RATES``, and how many ``members`` and ``non_members`` were judged.

    The ``standard_error`` of a ``value`` is its standard deviation over resamples with replacement of records and,
    independently, of sets (the pigeonhole bootstrap, Owen 2007): both were drawn at random, and the score of one set
    depends on the others. A rate is left out if it is less than one non-member.
    """
    pairs = ranked(score_MN, member_MN, among_MN)
    members = int(pairs.member_P.sum())
    non_members = len(pairs.member_P) - members
    found: dict[str, Any] = {"members": members, "non_members": non_members}
    if min(members, non_members) == 0:
        return found
    values, generator = rates(pairs, np.ones(len(pairs.member_P))), np.random.default_rng(seed)
    again = [rates(pairs, resampled(pairs, score_MN.shape, generator)) for _ in range(RESAMPLES)]
    for name, value in values.items():
        if RATES.get(name, 1) * non_members >= 1:
            error = float(np.std([each[name] for each in again], ddof=1))
            found[name] = {"value": round(value, 6), "standard_error": round(error, 6)}
    return found


def resampled(pairs: Ranked, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """How often each pair occurs when sets and records are resampled with replacement."""
    times_M, times_N = (np.bincount(generator.integers(size, size=size), minlength=size) for size in shape)
    if shape[0] == 1:
        times_M[:] = 1
    weight_P: Array = (times_M[pairs.set_P] * times_N[pairs.row_P]).astype(np.float64)
    return weight_P


def beats_chance(found: Mapping[str, Any]) -> bool:
    """Whether the area or a true positive rate is more than three standard errors above chance."""
    chance = {"auc": 0.5, **RATES}
    named = {name: found[name] for name in chance if name in found}
    return any(part["value"] - chance[name] > 3 * part["standard_error"] for name, part in named.items())
