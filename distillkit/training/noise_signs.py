"""Signs of wrong labels in the training of experts.

Networks learn common patterns before single exceptions. During a part of the training they therefore predict the true
class of a wrongly labelled image. In the histogram of
:func:`~distillkit.training.difficulty.score_probability_margin`, such images form a second hump on the hard side. The
histogram of correctly labelled images only falls there. There is no such hump if about half of the labels of a class
are wrong in the same way (asymmetric noise near 50 %).
"""

from typing import NamedTuple

import torch
from torch import Tensor

BINS = 20  # over the range of the margin, -1 to 1
SIGMAS = 3.5  # least difference between the counts of top and valley, in standard deviations of the difference


class Hump(NamedTuple):
    """A second hump of the difficulty. A ``share`` (0 to 1) of the images has a larger difficulty than ``threshold``,
    the valley before the hump.
    """

    share: float
    threshold: float


def second_hump(difficulty_N: Tensor) -> Hump | None:
    """The hump of images whose label the experts contradict; None if there is none.

    ``difficulty_N`` is the probability margin with minus sign, −1 to 1. Its histogram c has the top at bin m. A bin p
    beyond m + 1 is a second top if its difficulty is above 0, where experts prefer another class, and
    (c_p − c_v) / √(c_p + c_v) ≥ SIGMAS, where v is the lowest bin between m and p. The p with the largest quotient is
    taken.
    """
    counts = torch.histc(difficulty_N.float(), BINS, -1, 1).double()
    top = int(counts.argmax())
    found: tuple[float, int] | None = None
    for peak in range(max(top + 2, BINS // 2), BINS):
        valley = top + 1 + int(counts[top + 1 : peak].argmin())
        rise = (counts[peak] - counts[valley]).item() / max(1.0, (counts[peak] + counts[valley]).sqrt().item())
        if rise >= SIGMAS and (found is None or rise > found[0]):
            found = rise, valley
    if found is None:
        return None
    threshold = -1 + 2 * (found[1] + 0.5) / BINS
    return Hump((difficulty_N > threshold).double().mean().item(), threshold)


def warning(hump: Hump | None) -> str | None:
    """The warning about a hump, in one line; None without a hump."""
    if hump is None:
        return None
    return (
        f"about {100 * hump.share:.0f} % of the training labels look wrong: experts give these images another class, "
        "and they are a group apart, not the end of a tail; look at the images with the largest difficulty, and see "
        "docs/noise.md for methods and scores that stand it"
    )
