"""Nearest neighbours in a set, exact, and classification by them; without training.

Axes: N query images, B a block of them; M images of the set, S a chunk of them; D values of an image; F features; K
pairs; k neighbours.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from distillkit.base.errors import ArtifactError
from distillkit.data.rows import PART, Images, spans, to_pixels

SIDE = 2  # pixels; features are sums over squares of this side
QUERIES = 512  # query images in a block
CANDIDATES = 2**23  # values of a chunk to compare with, 32 MiB of float32; a small chunk rules out few pairs
PAIRS = 2**19  # most float64 values of image pairs in memory
FIRST = 4  # pairs per query image that are computed first, to rule out others
ROUNDING = 1e-7  # bound of the float32 rounding error per summed feature

Track = Callable[[Iterable[slice]], Iterable[slice]]


class Nearest(NamedTuple):
    """The ``k`` nearest images of each query, nearest first: squared distance, float64, and row, int64, both (N, k)."""

    squared_Nk: Tensor
    row_Nk: Tensor


def nearest(
    images: Images,
    others: Images,
    count: int = 1,
    exclude_N: Tensor | None = None,
    track: Track = iter,
    chunk: int = PART,
) -> Nearest:
    """The ``count`` images of ``others`` with the smallest Euclidean distance to each image. Equal distances: lower row
    first.

    Images are float32, or uint8, which are compared in pixel space. ``exclude_N`` (N,) is a row that each image is not
    compared with, such as its own; −1 for none. ``track`` can wrap the chunks of ``others``, each of at most ``chunk``
    images, to show progress.

    The result is exact: ‖f(x) − f(s)‖ ≤ ‖x − s‖ for the :func:`features` f, so a small matrix product rules out most
    pairs. For the others, the distance is computed from the differences in float64. Squared distances within a factor
    of 1 + 1e-12 count as equal, because sums depend on their order. Raises ArtifactError when shapes differ or too few
    images are left to compare with.
    """
    own, theirs, left = tuple(images.shape[1:]), tuple(others.shape[1:]), len(others) - (exclude_N is not None)
    if own != theirs:
        raise ArtifactError(f"images are {own}, source images {theirs}; expected the same shape; give their source")
    if left < count:
        raise ArtifactError(f"there are {left} images to compare with; expected at least {count} that are not excluded")
    device = images.device
    excluded_N = torch.full((len(images),), -1) if exclude_N is None else exclude_N
    found = Nearest(
        torch.full((len(images), count), torch.inf, dtype=torch.float64, device=device),
        torch.full((len(images), count), len(others), device=device),
    )
    for columns in track(list(spans(others, chunk, CANDIDATES))):
        chunk_SD = to_pixels(others[columns].to(device)).flatten(1)
        features_SF = features(chunk_SD.view(-1, *own))
        for rows in spans(images, QUERIES):
            block_BD = to_pixels(images[rows]).flatten(1)
            least_BS = bound(features(block_BD.view(-1, *own)), features_SF)
            column_B = excluded_N[rows].to(device) - columns.start
            here_B = ((column_B >= 0) & (column_B < len(chunk_SD))).nonzero().squeeze(1)
            least_BS[here_B, column_B[here_B]] = torch.inf
            known = Nearest(found.squared_Nk[rows], found.row_Nk[rows])
            better = compared(block_BD, chunk_SD, least_BS, known, columns.start)
            found.squared_Nk[rows], found.row_Nk[rows] = better
    return found


def features(x_BCHW: Tensor) -> Tensor:
    """Sums over squares of SIDE x SIDE values, divided by SIDE, and the norm of the remainder: (B, F) float32.

    The sums are coordinates c in orthonormal directions. With r(x) = √(‖x‖² − ‖c(x)‖²), the norm of the remainder, ‖x −
    s‖² = ‖c(x) − c(s)‖² + ‖rest‖² ≥ ‖c(x) − c(s)‖² + (r(x) − r(s))². So f = (c, r), and ‖f(x)‖ = ‖x‖.
    """
    x_BCHW = x_BCHW if x_BCHW.ndim == 4 else x_BCHW[:, None, None]
    high, wide = x_BCHW.shape[2:]
    side_h, side_w = min(SIDE, high), min(SIDE, wide)
    padded = F.pad(x_BCHW, (0, -wide % side_w, 0, -high % side_h))
    sums_BF = F.avg_pool2d(padded, (side_h, side_w)).flatten(1) * (side_h * side_w) ** 0.5
    rest_B = x_BCHW.double().square().flatten(1).sum(1) - sums_BF.double().square().sum(1)
    return torch.cat([sums_BF, rest_B.clamp(min=0).sqrt().float()[:, None]], 1)


def bound(x_BF: Tensor, s_SF: Tensor) -> Tensor:
    """‖x‖² + ‖s‖² − 2 x·s, (B, S), minus the largest rounding error: a lower bound of the squared distance."""
    squared_B, squared_S = x_BF.square().sum(1), s_SF.square().sum(1)
    slack_B = ROUNDING * x_BF.shape[1] * (squared_B + squared_S.max())
    return torch.addmm(squared_S, x_BF, s_SF.T, alpha=-2).add_((squared_B - slack_B)[:, None])


def compared(block_BD: Tensor, chunk_SD: Tensor, least_BS: Tensor, known: Nearest, start: int) -> Nearest:
    """``known`` updated with nearer images of a chunk that begins at row ``start``. Overwrites ``least_BS``."""
    few = min(known.row_Nk.shape[1] - 1 + FIRST, least_BS.shape[1])
    likely_Bk = least_BS.topk(few, largest=False).indices
    hopeful = torch.zeros_like(least_BS, dtype=torch.bool).scatter_(1, likely_Bk, True)
    for wanted in (hopeful, ~hopeful):  # the likeliest first, because they rule out most of the others
        pairs = (wanted & (least_BS < torch.inf) & (least_BS <= known.squared_Nk[:, -1:])).nonzero(as_tuple=True)
        parts = zip(*(side_K.split(max(1, PAIRS // chunk_SD.shape[1])) for side_K in pairs), strict=True)
        squared = [(block_BD[query].double() - chunk_SD[column].double()).square().sum(1) for query, column in parts]
        known = merged(known, pairs[0], torch.cat(squared), pairs[1] + start)
    return known


def merged(known: Nearest, query_K: Tensor, squared_K: Tensor, row_K: Tensor) -> Nearest:
    """The nearest of those known and of additional pairs (query image, row)."""
    images, count = known.row_Nk.shape
    number_B = torch.arange(images, device=query_K.device)
    query = torch.cat([number_B.repeat_interleave(count), query_K])
    squared = torch.cat([known.squared_Nk.flatten(), squared_K])
    row = torch.cat([known.row_Nk.flatten(), row_K])
    order = row.argsort(stable=True)
    for key in (squared.view(torch.int64) + 2**11 >> 12, query):  # 40 bits of positive floats, in the same order
        order = order[key[order].argsort(stable=True)]
    first_B = torch.searchsorted(query[order], number_B)
    best_Bk = order[first_B[:, None] + torch.arange(count, device=order.device)]
    return Nearest(squared[best_Bk], row[best_Bk])


def root_mean_square(images_KCHW: Tensor, others_KCHW: Tensor) -> Tensor:
    """√(mean over C, H, W of (image − other)²) for each pair, (K,), float64; exactly 0 for equal images."""
    return (images_KCHW.double() - others_KCHW.double()).square().flatten(1).mean(1).sqrt()


def nearest_classes(images: Images, others: Images, labels_M: Tensor, classes: int, count: int = 1) -> Tensor:
    """The class (N,) that most of the ``count`` nearest images of ``others`` have.

    If several classes have the same number of votes, the one with the nearest image wins.
    """
    count = min(count, len(others))
    row_Nk = nearest(images, others, count).row_Nk
    vote_k = 1 + 0.5 ** torch.arange(
        1, count + 1, dtype=torch.float64
    )  # the fractions break ties; their sum is below 1
    votes_NK = torch.zeros(len(row_Nk), classes, dtype=torch.float64, device=row_Nk.device)
    return votes_NK.scatter_add_(1, labels_M[row_Nk], vote_k.to(row_Nk.device).expand(row_Nk.shape)).argmax(1)
