"""Rules that choose or make a few images of a class: functions of features, pixels or difficulty, and random draws.

Rows may not fit into memory: they are read in blocks, and only a few numbers are kept for each row. If rows are equally
good, the first is chosen.
Axes: N images, one row each, B of a block; D values of a row; K clusters; C, H, W channels, height, width.
"""

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from distillkit.base.errors import WindowError, counted
from distillkit.base.randomness import seeded
from distillkit.data.rows import Chosen, Images, chunks, spans, to_pixels
from distillkit.data.selection import rank_hardest_first

LARGE = 2**23  # values, 64 MiB of float64; with more, k-means uses a part of the images
COLUMNS = 2**21  # most values of columns that are sorted at once
SETTLED, ROUNDS = 0.01, 300  # Lloyd's algorithm stops below this share of rows that move, or after so many passes


def by_row(rows_ND: Images, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A value for each row, (N,), float64. ``function`` gets blocks of rows (B, D), float64, and returns (B,)."""
    found_N = torch.empty(len(rows_ND), dtype=torch.float64, device=rows_ND.device)
    for rows in spans(rows_ND):
        found_N[rows] = function(rows_ND[rows].double())
    return found_N


def row_of(rows_ND: Images, row: int) -> Tensor:
    """A row (D,) in float64."""
    return rows_ND[row : row + 1][0].double()


def herd(features_ND: Images, count: int) -> Tensor:
    """``count`` rows whose mean stays close to the mean μ of all: herding (Welling, ICML 2009). In float64.

    The k-th row is x = argmin ‖μ − (s + x) / k‖ among the rows that are left, where s is the sum of the k − 1 rows
    before.
    """
    mean_D = torch.as_tensor(sum(part.double().sum(0) for part in chunks(features_ND)) / len(features_ND))
    squared_N = by_row(features_ND, squares)
    sum_D = torch.zeros_like(mean_D)
    chosen: list[int] = []
    for k in range(1, count + 1):
        missing_D = k * mean_D - sum_D
        gap_N = squared_N - products(features_ND, 2 * missing_D)  # ‖missing − x‖² minus a constant
        gap_N[chosen] = torch.inf
        chosen.append(int(gap_N.argmin()))
        sum_D = sum_D + row_of(features_ND, chosen[-1])
    return torch.tensor(chosen, device=features_ND.device)


def cover(features_ND: Images, count: int, first: int) -> Tensor:
    """``count`` rows by greedy k-centre (Gonzalez 1985; Sener & Savarese, ICLR 2018). In float64.

    Row ``first`` is the first. The next is always the row with the largest distance to its nearest chosen row c:
    argmax_x min_c ‖x − c‖.
    """
    squared_N, chosen = by_row(features_ND, squares), [first]
    distance_N = torch.full_like(squared_N, torch.inf)
    while len(chosen) < count:
        last_D = row_of(features_ND, chosen[-1])
        apart_N = squared_N + squared_N[chosen[-1]] - products(features_ND, 2 * last_D)
        distance_N = torch.minimum(distance_N, apart_N)
        distance_N[chosen] = -1
        chosen.append(int(distance_N.argmax()))
    return torch.tensor(chosen, device=features_ND.device)


def squares(x_BD: Tensor) -> Tensor:
    """‖x‖² of every row, (B,)."""
    return x_BD.square().sum(1)


def products(rows_ND: Images, with_D: Tensor) -> Tensor:
    """The product (N,) of every row with one vector, in float64."""
    return by_row(rows_ND, lambda x_BD: x_BD @ with_D)


def distance_to_median(features_ND: Images) -> Tensor:
    """The distance ‖x − m‖ (N,), float64, of each row x to the median m, taken in each dimension.

    The median of an even number of values is the mean of the two in the middle.
    """
    count, half = len(features_ND), len(features_ND) // 2
    medians = []
    for columns in torch.arange(features_ND.shape[1]).split(max(1, COLUMNS // count)):
        column_DN = torch.empty(len(columns), count, device=features_ND.device)
        for rows in spans(features_ND):
            column_DN[:, rows] = features_ND[rows][:, columns].T
        sorted_DN = column_DN.sort(1).values
        medians.append((sorted_DN[:, half].double() + sorted_DN[:, -1 - half].double()) / 2)
    median_D = torch.cat(medians)
    return by_row(features_ND, lambda x_BD: (x_BD - median_D).norm(dim=1))


def middle(distance_N: Tensor, count: int) -> Tensor:
    """``count`` rows of the middle ranks by distance, the nearest first: moderate selection (Xia et al., ICLR 2023).

    The same number of rows is nearer and farther. If the rest is odd, the first rank (from 0) is rounded to an even
    number. Raises WindowError when there are fewer than ``count`` rows.
    """
    if count > len(distance_N):
        raise WindowError(f"{counted(count, 'image')} asked for, of {len(distance_N)}; lower ipc or add images")
    first = round((len(distance_N) - count) / 2)
    return distance_N.argsort(stable=True)[first : first + count]


def stratified(difficulty_N: Tensor, count: int, hardest_dropped: float, strata: int, generator: Generator) -> Tensor:
    """``count`` rows from all ranges of difficulty except the highest: coverage-centric (Zheng et al., ICLR 2023).

    The hardest share ``hardest_dropped`` is left out. The remaining range of difficulty is divided into ``strata`` of
    equal width, :func:`share_out` divides ``count`` among them, and the rows of each are drawn uniformly. The result is
    sorted, hardest first. Raises WindowError when fewer than ``count`` rows remain.
    """
    rows = torch.arange(len(difficulty_N), device=difficulty_N.device)
    kept = rank_hardest_first(rows, difficulty_N)[round(hardest_dropped * len(rows)) :]
    if count > len(kept):
        found = f"{len(kept)} of {len(rows)} images, of which {count} are asked for"
        raise WindowError(f"hardest_dropped {hardest_dropped:g} leaves {found}; lower hardest_dropped or ipc")
    values = difficulty_N[kept].double()
    width = (values.max() - values.min()) / strata
    stratum_N = ((values - values.min()) / width).long().clamp(max=strata - 1) if width > 0 else torch.zeros_like(kept)
    members = [(stratum_N == stratum).nonzero().squeeze(1) for stratum in range(strata)]
    budgets = share_out(count, [len(own) for own in members])
    drawn = [
        own[torch.randperm(len(own), generator=generator)[:budget].to(own.device)]
        for own, budget in zip(members, budgets, strict=True)
    ]
    return kept[torch.cat(drawn).sort().values]


def beta_weights(score_N: Tensor, probability_N: Tensor, kept: float, exponent: float) -> Tensor:
    """Weights (N,), float64, for a random draw: score · Beta(p; a, b), up to a factor (DUAL, Cho et al., ICML 2025).

    b = 15 · (1 − μ) · (1 − (1 − kept)^exponent) and a = 16 − b. p is ``probability_N``, the mean probability of the
    label, and μ is its mean over the ten images with the highest scores. ``kept`` is the share of images to keep, 0 to
    1. The smaller it is, the nearer is the mode of the density to p = 1.
    """
    p_N = probability_N.double().clamp(1e-6, 1 - 1e-6)  # where the density is finite
    best = score_N.topk(min(10, len(score_N))).indices
    b = 15 * (1 - probability_N[best].double().mean()) * (1 - (1 - kept) ** exponent)
    weight_N: Tensor = score_N.double() * p_N ** (15 - b) * (1 - p_N) ** (b - 1)
    return weight_N


def draw_weighted(weight_N: Tensor, count: int, generator: Generator) -> Tensor:
    """``count`` rows drawn one after another, with probabilities in proportion to the weights of the rows left.

    The code takes the rows with the smallest e / weight, where e are exponential random numbers: this has the same
    distribution. Rows of weight 0 come last. Raises WindowError when there are fewer than ``count`` rows.
    """
    if count > len(weight_N):
        raise WindowError(f"{counted(count, 'image')} asked for, of {len(weight_N)}; lower ipc or add images")
    waiting_N = torch.rand(len(weight_N), dtype=torch.float64, generator=generator).log().neg()
    return (waiting_N.to(weight_N.device) / weight_N).argsort(stable=True)[:count]


def share_out(count: int, sizes: list[int]) -> list[int]:
    """The number of rows from each stratum, ``count`` in all: as equal as possible, but at most the stratum's size.

    From the smallest stratum to the largest, each gets ⌊rows left / strata left⌋, or all its rows if it has fewer.
    """
    budgets, left = [0] * len(sizes), count
    for done, stratum in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        budgets[stratum] = min(sizes[stratum], left // (len(sizes) - done))
        left -= budgets[stratum]
    return budgets


def mean_of(images: Images) -> Tensor:
    """The mean image (C, H, W) in pixel space, float32; summed in float64."""
    total = sum(to_pixels(part).double().sum(0) for part in chunks(images))
    return torch.as_tensor(total / len(images)).float()


def cluster_centres(images: Images, count: int, tries: int, seed: int) -> Tensor:
    """The centres (``count``, C, H, W) of k-means in pixel space, float32, in order of cluster size, the largest first.

    They minimise Σ_x min_k ‖x − c_k‖²: the best of ``tries`` runs of Lloyd's algorithm from k-means++, in float64 and
    on one thread, so that sums have one order. If the images have more than LARGE values, the runs use a random part of
    them, and :func:`lloyd` continues from the best run with all. Raises WindowError when there are fewer than ``count``
    different images.
    """
    most = max(LARGE // images.shape[1:].numel(), 4 * count)
    drawn = torch.randperm(len(images), generator=seeded(seed))[:most].sort().values
    sample = images if len(images) <= most else Chosen(images, drawn)
    label_N, centres_KD = k_means(sample, count, tries, seed)
    if sample is not images:
        label_N = lloyd(images, centres_KD.to(images.device))
    largest_first = torch.bincount(label_N, minlength=count).argsort(descending=True, stable=True).tolist()
    # computed again from the images: scikit-learn subtracts the mean and adds it again, which rounds
    rows = [(label_N == cluster).nonzero().squeeze(1) for cluster in largest_first]
    return torch.stack([mean_of(Chosen(images, own)) for own in rows])


def k_means(images: Images, count: int, tries: int, seed: int) -> tuple[Tensor, Tensor]:
    """The cluster (N,) of every image, and the centres (``count``, D), float64, by scikit-learn.

    Raises WindowError when there are fewer than ``count`` different images.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    points_ND = torch.empty(len(images), images.shape[1:].numel(), dtype=torch.float64)
    for rows in spans(images):
        points_ND[rows] = to_pixels(images[rows]).flatten(1).cpu().double()
    found = KMeans(count, init="k-means++", n_init=tries, random_state=seed, copy_x=False)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            found.fit(points_ND.numpy())
        except ConvergenceWarning:
            raise WindowError(
                f"{count} clusters are asked for, but a class has fewer different images; lower ipc or add images"
            ) from None
    return torch.from_numpy(found.labels_).long().to(images.device), torch.from_numpy(found.cluster_centers_)


def lloyd(images: Images, centres_KD: Tensor) -> Tensor:
    """The cluster (N,) of every image by Lloyd's algorithm from ``centres_KD``. Distances are in float32.

    It stops when a share of less than SETTLED of the images changes its cluster, or after ROUNDS passes.
    """
    label_N = torch.full((len(images),), -1, device=images.device)
    for _ in range(ROUNDS):
        sum_KD, before_N, squared_K = torch.zeros_like(centres_KD), label_N.clone(), squares(centres_KD).float()
        for rows in spans(images):
            x_BD = to_pixels(images[rows]).flatten(1)
            label_N[rows] = torch.addmm(squared_K, x_BD, centres_KD.float().T, alpha=-2).argmin(1)
            sum_KD += F.one_hot(label_N[rows], len(centres_KD)).float().T @ x_BD
        if (label_N != before_N).double().mean() < SETTLED:
            break
        count_K1 = torch.bincount(label_N, minlength=len(centres_KD))[:, None]
        centres_KD = torch.where(count_K1 > 0, sum_KD / count_K1, centres_KD)
    return label_N
