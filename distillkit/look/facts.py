"""What is known of each image of a set. Axes: N images of the set, in the page's order; M training images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from distillkit.data.images import RealData, SyntheticSet
from distillkit.evaluation.neighbours import root_mean_square
from distillkit.look.opening import Subject
from distillkit.package.recipe_json import nearest_images, source_yardstick

MOST_WORK = 10**12  # products of values for the nearest training images: about a minute on two cores
BLOCK = 1024


@dataclass(frozen=True)
class Facts:
    """By image: its row in the set, the training row it is or began as (−1: none), the nearest one (−1: not sought).

    ``distance_N`` to the nearest one and ``moved_N`` from the beginning are root mean squares in pixels, ``harder_N``
    is the share in percent of its class that is easier; nan is not known. ``yardstick`` is the median distance between
    a training image and the nearest other one.
    """

    row_N: Tensor
    start_N: Tensor
    nearest_N: Tensor
    distance_N: Tensor
    moved_N: Tensor
    harder_N: Tensor
    yardstick: float | None
    missing: tuple[str, ...]


def facts_of(subject: Subject) -> Facts:
    """All facts of a set; images stand class by class, in each class as in the set."""
    synthetic, real = subject.synthetic, subject.real
    row_N = synthetic.labels.argsort(stable=True)
    unknown_N = torch.full((len(row_N),), torch.nan, dtype=torch.float64)
    start_N = synthetic.source_row[row_N]
    harder_N, missing = unknown_N, list[str]()
    if real is not None and subject.difficulty_N is not None:
        harder_M = percentiles(subject.difficulty_N, real.train.labels.cpu())
        harder_N = torch.where(start_N >= 0, harder_M[start_N.clamp(min=0)], torch.nan)
    if real is None:
        return Facts(row_N, start_N, torch.full_like(row_N, -1), unknown_N, unknown_N, harder_N, None, ())
    moved_N = moved(synthetic, real, row_N)
    near_N, distance_N, yardstick = torch.full_like(row_N, -1), unknown_N, None
    if work(synthetic, real) <= MOST_WORK:
        near_N, distance_N = neighbours(synthetic, real, row_N)
        yardstick = source_yardstick(real.train)
    else:
        missing.append("The nearest training images were not computed: the set and the source are too large.")
    return Facts(row_N, start_N, near_N, distance_N, moved_N, harder_N, yardstick, tuple(missing))


def rows_beside(facts: Facts, learned_N: Tensor) -> list[int]:
    """The training rows that learned images began as or are nearest to, which the page shows beside them."""
    wanted = torch.stack([facts.start_N, facts.nearest_N], 1)[learned_N].flatten().tolist()
    return list(dict.fromkeys(row for row in wanted if row >= 0))


def percentiles(difficulty_M: Tensor, labels_M: Tensor) -> Tensor:
    """Share in percent of the other images of the class that are easier, (M,) float64: 0 the easiest, 100 the hardest.

    Equal ones are ranked by their row. To one decimal, as the page shows it: what is counted is what is read.
    """
    order = difficulty_M.argsort(stable=True)
    order = order[labels_M[order].argsort(stable=True)]
    counts = torch.bincount(labels_M)
    first_M = (counts.cumsum(0) - counts)[labels_M[order]]
    rank_M = torch.arange(len(order)) - first_M
    found = torch.empty(len(order), dtype=torch.float64)
    found[order] = 100 * rank_M.double() / (counts[labels_M[order]] - 1).clamp(min=1)
    return found.round(decimals=1)


def moved(synthetic: SyntheticSet, real: RealData, row_N: Tensor) -> Tensor:
    """How far each image is from the training image it began as, (N,); 0 for real ones, nan for those without one."""
    start_N = synthetic.source_row[row_N]
    found = torch.full((len(row_N),), torch.nan, dtype=torch.float64)
    found[~synthetic.learned[row_N]] = 0.0
    for part in (synthetic.learned[row_N] & (start_N >= 0)).nonzero().squeeze(1).split(BLOCK):
        found[part] = root_mean_square(synthetic.pixels(row_N[part]), real.train.pixels(start_N[part]).cpu())
    return found


def work(synthetic: SyntheticSet, real: RealData) -> int:
    """Products of values that :func:`neighbours` takes at most."""
    return int(synthetic.learned.sum()) * len(real.train) * synthetic.images.shape[1:].numel()


def neighbours(synthetic: SyntheticSet, real: RealData, row_N: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest training image of each image and how far it is, both (N,); a real image is its own, at 0."""
    learned_N = synthetic.learned[row_N]
    near_N = synthetic.source_row[row_N].clone()
    distance_N = torch.where(near_N >= 0, 0.0, torch.nan).to(torch.float64)
    if bool(learned_N.any()):
        images = synthetic.pixels(row_N[learned_N])
        found = nearest_images(images, real.train, None, "nearest training images")
        near_N[learned_N], distance_N[learned_N] = found
    return near_N, distance_N
