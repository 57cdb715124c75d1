"""Figures that compare an accuracy with those of random images and of all images, and with those of other networks.

Accuracies are 0 to 1. Errors are standard errors over the networks of one set, propagated to first order as if the
networks of different sets were independent. They are None if a single network was trained.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Measured(NamedTuple):
    """``mean`` and sample standard deviation ``std`` of the accuracy of ``runs`` networks."""

    mean: float
    std: float
    runs: int

    @property
    def error(self) -> float:
        """The standard error of the mean, std / √n; NaN for a single network."""
        return self.std / math.sqrt(self.runs) if self.runs > 1 else math.nan


class Figure(NamedTuple):
    """A value and its standard error, None if unknown."""

    value: float
    error: float | None


def relative_gain(own: Measured, random: Measured, full: Measured) -> Figure | None:
    """g = (m − r) / (f − r): the gain over random images, as a share of the gain of all images.

    m is the mean accuracy of the set, r of as many random images, f of all images, with standard errors e. The error of
    g is √(e_m² + (1 − g)² e_r² + g² e_f²) / (f − r). None if f − r is not above 0, or not above two of its standard
    errors (if these are known): then g means nothing.
    """
    room = full.mean - random.mean
    apart = math.hypot(full.error, random.error)
    if room <= 0 or (not math.isnan(apart) and room <= 2 * apart):
        return None
    gain = (own.mean - random.mean) / room
    error = math.hypot(own.error, (1 - gain) * random.error, gain * full.error) / room
    return figure(gain, error)


def hard_label_recovery(own: Measured, full: Measured) -> Figure:
    """f − m, the HLR of DD-Ranking (Li et al. 2025): the accuracy f of all images minus m of the set, with hard labels.

    Smaller is better. Its error is √(e_m² + e_f²).
    """
    return figure(full.mean - own.mean, math.hypot(own.error, full.error))


def drop(own: Measured, others: Sequence[Measured]) -> Figure | None:
    """m − Σ o / k: the accuracy m of the main network minus the mean accuracy of k other networks; None without others.

    Its error is √(e_m² + Σ e_o² / k²). It does not include the choice of the other networks.
    """
    if not others:
        return None
    error = math.hypot(own.error, *(other.error / len(others) for other in others))
    return figure(own.mean - sum(other.mean for other in others) / len(others), error)


def figure(value: float, error: float) -> Figure:
    return Figure(value, None if math.isnan(error) else error)


def in_percent(found: Figure | None, digits: int = 1) -> str:
    """A text such as ``81.3 ± 4.2``, in percent or percentage points; a dash for None."""
    if found is None:
        return "–"
    spread = "" if found.error is None else f" ± {100 * found.error:.{digits}f}"
    value = round(100 * found.value, digits)
    return f"{'−' if value < 0 else ''}{abs(value):.{digits}f}{spread}"


def plain(name: str, found: Figure | None) -> dict[str, float]:
    """A mapping with ``name`` and ``name_error``, rounded to six decimals; without what is unknown."""
    if found is None:
        return {}
    error = {} if found.error is None else {f"{name}_error": round(found.error, 6)}
    return {name: round(found.value, 6), **error}
