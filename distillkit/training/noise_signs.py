"""Whether the training of experts looks as if labels were wrong.

Networks learn what many images agree on before they learn single exceptions. For a while they therefore give a wrongly
labelled image its true class, with some confidence. In the distribution of
:func:`~distillkit.training.difficulty.score_probability_margin` such images are a second hump on the hard side, where
clean images have a tail that only falls. Where no class is right for most of its images, as with asymmetric noise near
a half, there is no such hump.
"""

from typing import NamedTuple

import torch
from torch import Tensor

BINS = 20  # over the range of the margin, -1 to 1
SIGMAS = 3.5  # of the difference between the hump's top and the valley before it, from their counts


class Hump(NamedTuple):
    """``share`` of the images lie beyond ``threshold``, the valley before the hump."""

    share: float
    threshold: float


def second_hump(difficulty_N: Tensor) -> Hump | None:
    """The hump of images whose label experts contradict, None where there is none.

    Of the histogram c of the difficulty, with its top at m, a bin p > m counts as a second top if it lies above 0,
    where experts prefer another class, and (c_p − c_v) / √(c_p + c_v) ≥ SIGMAS for the lowest bin v between m and p.
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
    """What is said of it, in one line."""
    if hump is None:
        return None
    return (
        f"about {100 * hump.share:.0f} % of the training labels look wrong: experts give these images another class, "
        "and they are a group apart, not the end of a tail; look at the images with the largest difficulty, and see "
        "docs/noise.md for methods and scores that stand it"
    )
