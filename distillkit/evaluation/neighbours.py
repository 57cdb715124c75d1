"""Classification without any training: an image gets the class of what is nearest to it in the set.

Axes: N images asked about, B a block of them; M images of the set; D values of an image; K classes.
"""

import torch
from torch import Tensor

BLOCK = 2**24  # distances, or values of images, held at once
TIE = 1e-9  # of the squared lengths: what differs by less is as near, whatever the order of summing


def nearest_classes(images_ND: Tensor, set_MD: Tensor, labels_M: Tensor, classes: int, count: int = 1) -> Tensor:
    """The class (N,) that most of the ``count`` nearest images of the set have; of all where it has no more.

    Distances are Euclidean. Of images as near the first counts, of classes with as many votes the one with the nearest.
    Works on the device of ``images_ND``.
    """
    rows = max(1, BLOCK // max(set_MD.shape))
    blocks = (squared_distances(block_BD, set_MD) for block_BD in images_ND.split(rows))
    return torch.cat([most_votes(squared_BM, labels_M, classes, min(count, len(labels_M))) for squared_BM in blocks])


def squared_distances(images_BD: Tensor, set_MD: Tensor) -> Tensor:
    """‖x − s‖² = ‖x‖² + ‖s‖² − 2 x·s in float64, (B, M), rounded to a billionth of the largest ‖x‖² + ‖s‖²."""
    images_BD, rows = images_BD.double(), max(1, BLOCK // set_MD.shape[1])
    parts = [(part.double().square().sum(1), images_BD @ part.double().T) for part in set_MD.split(rows)]
    squared_M, product_BM = torch.cat([squared for squared, _ in parts]), torch.cat([dot for _, dot in parts], 1)
    squared_B1 = images_BD.square().sum(1, keepdim=True)
    unit_B1 = TIE * (squared_B1 + squared_M.max()).clamp(min=1e-30)
    return ((squared_B1 + squared_M - 2 * product_BM) / unit_B1).round() * unit_B1


def most_votes(squared_BM: Tensor, labels_M: Tensor, classes: int, count: int) -> Tensor:
    """The class (B,) with most votes of the ``count`` nearest; ``squared_BM`` is used up."""
    votes_BK = torch.zeros(len(squared_BM), classes, dtype=torch.float64, device=squared_BM.device)
    for rank in range(count):
        nearest_B1 = squared_BM.argmin(1, keepdim=True)
        vote_B1 = torch.full_like(votes_BK[:, :1], 1 + 0.5 ** (rank + 1))  # all fractions together are below 1
        votes_BK.scatter_add_(1, labels_M[nearest_B1], vote_B1)
        squared_BM.scatter_(1, nearest_B1, torch.inf)
    return votes_BK.argmax(1)
