"""How far images are from the source images nearest to them.

Axes: N images asked about; M source images; C, H, W of an image; D = C·H·W values; B, S blocks of N and of M; K pairs.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from distillkit.base.errors import ArtifactError
from distillkit.data.images import to_pixels
from distillkit.evaluation.neighbours import TIE as ROUNDED
from distillkit.evaluation.neighbours import squared_distances

BLOCK = 2**24  # values of a block of images; 64 MiB of float32
MOST_ROWS = 4096  # images of a block, however small they are
QUERIES = 1024
PAIRS = 2**21  # values of a block of pairs, in float64
TIE = 1 - 1e-12  # sums of float64 may differ by their order; what is closer by less is as close


class Nearest(NamedTuple):
    """Of each image the nearest source image: its distance in pixel space, float64, and its row, int64, both (N,)."""

    distance_N: Tensor
    row_N: Tensor


def root_mean_square(images_KCHW: Tensor, others_KCHW: Tensor) -> Tensor:
    """√(mean over C, H, W of (image − other)²) of each pair, (K,), in float64: exactly 0 for equal images."""
    return (images_KCHW.double() - others_KCHW.double()).square().flatten(1).mean(1).sqrt()


def nearest_source(
    images_NCHW: Tensor, source_MCHW: Tensor, exclude_N: Tensor | None = None, chunk: int | None = None
) -> Nearest:
    """The source image with the smallest :func:`root_mean_square`, for each image; of several the lowest row.

    Images are in pixel space, or uint8. ``exclude_N`` (N,) is a source row that each image is not compared with, such
    as its own; −1 for none. ``chunk`` source images are looked at together, by default as many as make 64 MiB, of which
    some six copies are held at once; the result does not depend on it. Works on the device of ``images_NCHW``.

    Exact: :func:`~distillkit.evaluation.neighbours.squared_distances`, within their rounding, leave a few candidates,
    whose distances are then computed from the differences. Raises ArtifactError when shapes differ or nothing is left
    to compare with.
    """
    own, others, rows = tuple(images_NCHW.shape[1:]), tuple(source_MCHW.shape[1:]), len(source_MCHW)
    if own != others:
        raise ArtifactError(f"images are {own}, source images {others}; expected the same shape; give their source")
    if rows < (1 if exclude_N is None else 2):
        raise ArtifactError(f"there are {rows} source images; expected one to compare with that is not excluded")
    excluded_N = torch.full((len(images_NCHW),), -1) if exclude_N is None else exclude_N
    rows = chunk or max(1, min(MOST_ROWS, BLOCK // max(1, images_NCHW[0].numel())))
    queries = min(QUERIES, rows)
    blocks = zip(images_NCHW.split(queries), excluded_N.split(queries), strict=True)
    found = [nearest_to_block(images, source_MCHW, excluded, rows) for images, excluded in blocks]
    return Nearest(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def nearest_to_block(images_BCHW: Tensor, source_MCHW: Tensor, excluded_B: Tensor, chunk: int) -> Nearest:
    """:func:`nearest_source` for so few images that ``chunk`` distances of each fit into memory."""
    device, images_BCHW = images_BCHW.device, to_pixels(images_BCHW)
    distance_B = torch.full((len(images_BCHW),), torch.inf, dtype=torch.float64, device=device)
    bound_B, row_B = distance_B.clone(), torch.full_like(distance_B, -1, dtype=torch.int64)
    pairs, length_B = max(1, PAIRS // images_BCHW[0].numel()), images_BCHW.double().square().flatten(1).sum(1)
    for start in range(0, len(source_MCHW), chunk):
        source_SCHW = to_pixels(source_MCHW[start : start + chunk].to(device))
        least_BS = squared_distances(images_BCHW.flatten(1), source_SCHW.flatten(1))
        slack_B = 2 * ROUNDED * (length_B + source_SCHW.double().square().flatten(1).sum(1).max())
        own_B = excluded_B.to(device) - start
        here_B = ((own_B >= 0) & (own_B < len(source_SCHW))).nonzero().squeeze(1)
        least_BS[here_B, own_B[here_B]] = torch.inf
        bound_B = torch.minimum(bound_B, least_BS.amin(1) + slack_B)
        query_K, column_K = ((least_BS < torch.inf) & (least_BS <= (bound_B + slack_B)[:, None])).nonzero(as_tuple=True)
        if len(query_K) == 0:
            continue
        parts = zip(query_K.split(pairs), column_K.split(pairs), strict=True)
        exact_K = torch.cat([root_mean_square(images_BCHW[query], source_SCHW[column]) for query, column in parts])
        closest_B = torch.full_like(distance_B, torch.inf).scatter_reduce(0, query_K, exact_K, "amin")
        tied_K = exact_K * TIE <= closest_B[query_K]
        column_B = torch.full_like(row_B, len(source_MCHW)).scatter_reduce(0, query_K[tied_K], column_K[tied_K], "amin")
        closer_B = closest_B < distance_B * TIE
        distance_B = torch.where(closer_B, closest_B, distance_B)
        row_B = torch.where(closer_B, column_B + start, row_B)
    return Nearest(distance_B, row_B)
