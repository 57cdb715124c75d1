"""Exact nearest neighbours in a set, and classification by them, without training.

Axes: N query images, B a block of them; M images of the set, S a chunk of them; D values of an image; F features; K
pairs; k neighbours.
"""

from collections.abc import Callable, Iterable
from math import ceil, pi, sqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from distillkit.base.errors import ArtifactError
from distillkit.data.rows import PART, Chosen, Images, spans, to_pixels

FEATURES = 256  # most frequencies of an image that are features
SIDE = 32  # most rows and columns whose frequencies are computed; larger images are first summed over rectangles
COLOUR = 9  # weight of a frequency between channels: colours vary less over an image than brightness
HELD = 2**14  # most query images whose features are in memory, 16 MiB
QUERIES = 512  # query images in a block
CANDIDATES = 2**26  # most bytes of a chunk to compare with; a small chunk rules out few pairs
PAIRS = 2**16  # most float64 values of image pairs in memory: half a MiB, which stays in the cache of a core
FIRST = 1  # pairs per query image that are computed first, to rule out others
ROUNDING = 1e-7  # bound of the float32 rounding error per feature

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
    """The ``count`` images of ``others`` with the smallest Euclidean distance to each image.

    Of equal distances, the lower row comes first. Images are float32, or uint8, which are compared in pixel space.
    ``exclude_N`` (N,) is a row that each image is not compared with, such as its own; −1 for none. ``track`` can wrap
    the chunks of ``others``, each of at most ``chunk`` images, to show progress.

    The result is exact: ‖f(x) − f(s)‖ ≤ ‖x − s‖ for the :func:`features` f, so that a small matrix product rules out
    most pairs. For the remaining pairs, the distance is computed from the differences in float64. Squared distances
    within a factor of about 1 + 1e-12 count as equal, because sums depend on their order. Raises ArtifactError when
    shapes differ or too few images are left to compare with.
    """
    own, theirs, left = tuple(images.shape[1:]), tuple(others.shape[1:]), len(others) - (exclude_N is not None)
    if own != theirs:
        raise ArtifactError(f"images are {own}, source images {theirs}; expected the same shape; give their source")
    if left < count:
        raise ArtifactError(f"there are {left} images to compare with; expected at least {count} that are not excluded")
    excluded_N = torch.full((len(images),), -1) if exclude_N is None else exclude_N
    if len(images) <= HELD:
        return searched(images, others, count, excluded_N, track, chunk)
    parts = torch.arange(len(images)).split(HELD)
    found = [searched(Chosen(images, rows), others, count, excluded_N[rows], track, chunk) for rows in parts]
    return Nearest(*(torch.cat(part) for part in zip(*found, strict=True)))


def searched(images: Images, others: Images, count: int, excluded_N: Tensor, track: Track, chunk: int) -> Nearest:
    """:func:`nearest` for images whose features all fit into memory."""
    device, x_NF = images.device, features(images)
    found = Nearest(
        torch.full((len(images), count), torch.inf, dtype=torch.float64, device=device),
        torch.full((len(images), count), len(others), device=device),
    )
    for columns in track(list(spans(others, chunk, CANDIDATES // others.dtype.itemsize))):
        part = others[columns].to(device)
        s_SF = features(part)
        for row_B in torch.arange(len(images)).split(QUERIES):
            rows = slice(int(row_B[0]), int(row_B[-1]) + 1)
            least_BS = bound(x_NF[rows], s_SF)
            column_B = excluded_N[rows].to(device) - columns.start
            here_B = ((column_B >= 0) & (column_B < len(part))).nonzero().squeeze(1)
            least_BS[here_B, column_B[here_B]] = torch.nan
            known = Nearest(found.squared_Nk[rows], found.row_Nk[rows])
            better = compared(known, Chosen(images, row_B), part, least_BS, columns.start)
            found.squared_Nk[rows], found.row_Nk[rows] = better
    return found


def features(images: Images) -> Tensor:
    """Coordinates of images in orthonormal directions, and the norm of the remainder: (N, F + 1) float32.

    c(x) are the coordinates, r(x) = √(‖x‖² − ‖c(x)‖²) is the norm of the remainder, and f = (c, r). Then ‖f(x)‖ = ‖x‖
    and ‖x − s‖² ≥ ‖c(x) − c(s)‖² + (r(x) − r(s))², because norms of differences are at least differences of norms.
    """
    shape = (1, 1, *images.shape[1:])[-3:]  # an image of one axis counts as one row of pixels
    kept = min(FEATURES, pooled(torch.empty(1, *shape)).numel())
    found_NF = torch.empty(len(images), kept + 1, device=images.device)
    for rows in spans(images):
        x_BCHW = to_pixels(images[rows]).double().view(-1, *shape)
        c_BF = lowest_frequencies(pooled(x_BCHW))
        rest_B = x_BCHW.square().flatten(1).sum(1) - c_BF.square().sum(1)
        found_NF[rows] = torch.cat([c_BF, rest_B.clamp(min=0).sqrt()[:, None]], 1).float()
    return found_NF


def pooled(x_BCHW: Tensor) -> Tensor:
    """Sums over rectangles, scaled to be coordinates in orthonormal directions: (B, C, h, w) with h, w ≤ SIDE."""
    high, wide = x_BCHW.shape[2:]
    sides = ceil(high / SIDE), ceil(wide / SIDE)
    padded = F.pad(x_BCHW, (0, -wide % sides[1], 0, -high % sides[0]))
    return F.avg_pool2d(padded, sides) * sqrt(sides[0] * sides[1]) if max(sides) > 1 else x_BCHW


def lowest_frequencies(x_BCHW: Tensor) -> Tensor:
    """At most FEATURES coordinates of the cosine transform over channels, rows and columns, (B, F).

    They are the lowest frequencies, with fewer for colour (frequencies over channels) than for brightness, because
    natural images differ most in these.
    """
    over_C, over_H, over_W = (cosines(side).to(x_BCHW.device) for side in x_BCHW.shape[1:])
    every_D3 = torch.cartesian_prod(*(torch.arange(side) for side in x_BCHW.shape[1:])).view(-1, 3)
    c, i, j = every_D3.T
    order_D = ((i**2 + j**2 + 1) * torch.where(c > 0, COLOUR, 1)).argsort(stable=True)
    c, i, j = every_D3[order_D[:FEATURES]].T
    waves_BCij = over_H[: i.max() + 1] @ x_BCHW @ over_W[: j.max() + 1].T
    return torch.einsum("fc,bcij->bfij", over_C, waves_BCij)[:, c, i, j]


def cosines(count: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II), (n, n) float64: √(2/n) cos(π f (2k + 1) / 2n) for frequency f and
    place k, and √(1/n) for f = 0."""
    place = torch.arange(count, dtype=torch.float64)
    waves = (pi / (2 * count) * place[:, None] * (2 * place + 1)).cos() * sqrt(2 / count)
    waves[0] /= sqrt(2)
    return waves


def bound(x_BF: Tensor, s_SF: Tensor) -> Tensor:
    """‖x‖² + ‖s‖² − 2 x·s, (B, S), minus the largest rounding error: a lower bound of the squared distance."""
    squared_B, squared_S = x_BF.square().sum(1), s_SF.square().sum(1)
    slack_B = ROUNDING * x_BF.shape[1] * (squared_B + squared_S.max())
    return torch.addmm(squared_S, x_BF, s_SF.T, alpha=-2).add_((squared_B - slack_B)[:, None])


def compared(known: Nearest, block: Images, part: Tensor, least_BS: Tensor, start: int) -> Nearest:
    """``known`` of a block of images updated with nearer images of a chunk, ``part``, that begins at row ``start``.

    ``least_BS`` has lower bounds of the squared distances, NaN for pairs that do not count. Overwrites it.
    """

    def updated(known: Nearest, query_K: Tensor, column_K: Tensor) -> Nearest:
        return merged(known, query_K, squared_distances(block, query_K, part, column_K), column_K + start)

    hopeful_BS = least_BS <= known.squared_Nk[:, -1:]
    few = min(known.row_Nk.shape[1] - 1 + FIRST, least_BS.shape[1])
    if hopeful_BS.sum() > few * len(least_BS):  # the likeliest first, because they rule out most of the others
        likely_Bk = least_BS.topk(few, largest=False).indices
        query_K, place_K = hopeful_BS.gather(1, likely_Bk).nonzero(as_tuple=True)
        known = updated(known, query_K, likely_Bk[query_K, place_K])
        hopeful_BS = least_BS.scatter_(1, likely_Bk, torch.nan) <= known.squared_Nk[:, -1:]
    return updated(known, *hopeful_BS.nonzero(as_tuple=True))


def squared_distances(block: Images, query_K: Tensor, part: Tensor, column_K: Tensor) -> Tensor:
    """‖x − s‖² of pairs (K,), float64, from the differences."""
    pairs = max(1, PAIRS // part[0].numel())
    found_K = torch.empty(len(query_K), dtype=torch.float64, device=part.device)  # before the loop: see data.rows.spans
    for rows in torch.arange(len(query_K)).split(pairs):
        differences_KCHW = to_pixels(block[query_K[rows]]).double() - to_pixels(part[column_K[rows]]).double()
        found_K[rows] = differences_KCHW.square().flatten(1).sum(1)
    return found_K


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
