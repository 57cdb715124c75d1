"""What an accuracy is worth beside those of random images and of all images: figures that other tests share.

Accuracies are shares of 1. Errors are standard errors over networks: of one set, one draw of random images. They are
propagated as if the networks of different sets were independent. ``None`` where a single network tells no error.
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
        """Standard error of the mean, std / √n; not a number for a single network."""
        return self.std / math.sqrt(self.runs) if self.runs > 1 else math.nan


class Figure(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float | None


def relative_gain(own: Measured, random: Measured, full: Measured) -> Figure | None:
    """g = (m − r) / (f − r): which share of the way from as many random images to all images a set makes.

    m is the mean of the set, r of random images, f of all images, with standard errors e. The error of g is
    √(e_m² + (1 − g)² e_r² + g² e_f²) / (f − r), to first order. None where all images are not more accurate than random
    ones by over two standard errors of that difference: there is nothing to gain then.
    """
    room = full.mean - random.mean
    apart = math.hypot(full.error, random.error)
    if room <= 0 or (not math.isnan(apart) and room <= 2 * apart):
        return None
    gain = (own.mean - random.mean) / room
    error = math.hypot(own.error, (1 - gain) * random.error, gain * full.error) / room
    return figure(gain, error)


def hard_label_recovery(own: Measured, full: Measured) -> Figure:
    """f − m, DD-Ranking's HLR (Li et al. 2025): what a set lacks to all images, both with hard labels; 0 lacks nothing.

    Its error is √(e_m² + e_f²).
    """
    return figure(full.mean - own.mean, math.hypot(own.error, full.error))


def drop(own: Measured, others: Sequence[Measured]) -> Figure | None:
    """m − Σ o / k: what k other networks lack, on average, to the network that the set is compared with.

    Its error is √(e_m² + Σ e_o² / k²), of the networks that were trained, not of the choice of the others.
    """
    if not others:
        return None
    error = math.hypot(own.error, *(other.error / len(others) for other in others))
    return figure(own.mean - sum(other.mean for other in others) / len(others), error)


def figure(value: float, error: float) -> Figure:
    return Figure(value, None if math.isnan(error) else error)


def in_percent(found: Figure | None, digits: int = 1) -> str:
    """``81.3 ± 4.2`` in percent or points; a dash where there is none."""
    if found is None:
        return "–"
    spread = "" if found.error is None else f" ± {100 * found.error:.{digits}f}"
    value = round(100 * found.value, digits)
    return f"{'−' if value < 0 else ''}{abs(value):.{digits}f}{spread}"


def plain(name: str, found: Figure | None) -> dict[str, float]:
    """``name`` and ``name_error`` to six decimals, as far as they are known."""
    if found is None:
        return {}
    error = {} if found.error is None else {f"{name}_error": round(found.error, 6)}
    return {name: round(found.value, 6), **error}
