"""What became of learned images: how far they went, what lies nearest, and how hard networks find them. See why.py.

Axes: N learned images.
"""

from typing import Any, NamedTuple

import torch
from scipy.stats import spearmanr
from torch import Tensor

PAIRS = 10  # that are kept of those that moved most, and of those that moved least


class Fates(NamedTuple):
    """What became of each learned image (N,): distances in yardsticks, also to the ``nearest`` training image.

    Difficulty is the share of the class that is easier, in percent: ``hard`` by the experts' records, which only
    training images have, and ``seen`` by what judges say of the pixels.
    """

    labels: Tensor
    before: Tensor
    after: Tensor
    moved: Tensor
    nearest: Tensor
    still_own: Tensor
    same_class: Tensor
    hard_before: Tensor
    hard_of_nearest: Tensor
    seen_before: Tensor
    seen_after: Tensor

    def summary(self) -> dict[str, Any]:
        """Means, the rank correlation of movement with difficulty, and means by fifth of it, the easiest first."""
        means = {name: mean_of(getattr(self, name)) for name in self._fields[3:]}
        fifth_N = (self.hard_before / 20).long().clamp(max=4)
        change_N = self.seen_after - self.seen_before
        return means | {
            "moved_by_difficulty": round(float(spearmanr(self.moved, self.hard_before).statistic), 6),
            "moved_by_fifth": [mean_of(self.moved[fifth_N == fifth]) for fifth in range(5)],
            "change_by_fifth": [mean_of(change_N[fifth_N == fifth]) for fifth in range(5)],
            "tenths_of_nearest": tenths(self.hard_of_nearest),
            "tenths_seen_before": tenths(self.seen_before),
            "tenths_seen_after": tenths(self.seen_after),
        }

    def pairs(self) -> dict[str, Any]:
        """The images that moved most and least: before and after, 8 bits a pixel in hexadecimal digits."""
        order = self.moved.argsort(descending=True)
        chosen = {"most": order[:PAIRS].tolist(), "least": order[-PAIRS:].flip(0).tolist()}
        told = ("moved", "hard_before", "seen_before", "seen_after")

        def pair(row: int) -> dict[str, Any]:
            figures = {name: round(float(getattr(self, name)[row]), 2) for name in told}
            pixels = {"before": as_hex(self.before[row]), "after": as_hex(self.after[row])}
            return {"label": int(self.labels[row]), **pixels, **figures}

        return {name: [pair(row) for row in rows] for name, rows in chosen.items()}


def mean_of(part: Tensor) -> float | None:
    return round(part.mean().item(), 6) if len(part) else None


def tenths(percent_N: Tensor) -> list[int]:
    return (percent_N / 10).long().clamp(max=9).bincount(minlength=10).tolist()


def as_hex(pixels_CHW: Tensor) -> str:
    return bytes((pixels_CHW.clamp(0, 1) * 255).round().to(torch.uint8).flatten().tolist()).hex()
