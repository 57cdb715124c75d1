"""Rules that pick, or make, a few images of a class: pure functions of features, pixels or difficulty.

Axes: N images, one row each; D values of a row. Where rows are equally good, the first is taken.
"""

import warnings

import torch
from torch import Generator, Tensor

from distillkit.base.errors import WindowError, counted
from distillkit.data.selection import rank_hardest_first

LARGE = 2**25  # values, 256 MiB of float64


def herd(features_ND: Tensor, count: int) -> Tensor:
    """``count`` rows whose mean stays close to the mean μ of all: herding (Welling, ICML 2009).

    The k-th is x = argmin ‖μ − (s + x) / k‖ among those left, s being the sum of the k − 1 before; in float64.
    """
    features_ND = features_ND.double()
    mean_D, squared_N = features_ND.mean(0), features_ND.square().sum(1)
    sum_D = torch.zeros_like(mean_D)
    chosen: list[int] = []
    for k in range(1, count + 1):
        missing_D = k * mean_D - sum_D
        gap_N = squared_N - features_ND @ (2 * missing_D)  # ‖missing − x‖² but for a constant
        gap_N[chosen] = torch.inf
        chosen.append(int(gap_N.argmin()))
        sum_D = sum_D + features_ND[chosen[-1]]
    return torch.tensor(chosen, device=features_ND.device)


def cover(features_ND: Tensor, count: int, first: int) -> Tensor:
    """``count`` rows no other row is far from: greedy k-centre (Gonzalez 1985; Sener & Savarese, ICLR 2018).

    From row ``first`` on, the next is always the row that is farthest from all chosen ones:
    argmax_x min_c ‖x − c‖; in float64.
    """
    features_ND, chosen = features_ND.double(), [first]
    squared_N = features_ND.square().sum(1)
    distance_N = torch.full_like(squared_N, torch.inf)
    while len(chosen) < count:
        last_D = features_ND[chosen[-1]]
        distance_N = torch.minimum(distance_N, squared_N + squared_N[chosen[-1]] - features_ND @ (2 * last_D))
        distance_N[chosen] = -1
        chosen.append(int(distance_N.argmax()))
    return torch.tensor(chosen, device=features_ND.device)


def distance_to_median(features_ND: Tensor) -> Tensor:
    """d_x = ‖x − m‖, m being the median of every dimension; in float64. Of an even number it is the mean of two."""
    features_ND = features_ND.double()
    sorted_ND, half = features_ND.sort(0).values, len(features_ND) // 2
    median_D = (sorted_ND[half] + sorted_ND[-1 - half]) / 2
    distance_N: Tensor = (features_ND - median_D).norm(dim=1)
    return distance_N


def middle(distance_N: Tensor, count: int) -> Tensor:
    """``count`` rows of the middle ranks by distance, the nearest first: moderate selection (Xia et al., ICLR 2023).

    As many are nearer as are farther; of an odd rest the one left over goes to the side that makes the first rank even.
    Raises WindowError when there are fewer than ``count`` rows.
    """
    if count > len(distance_N):
        raise WindowError(f"{counted(count, 'image')} asked for, of {len(distance_N)}; lower ipc or add images")
    first = round((len(distance_N) - count) / 2)
    return distance_N.argsort(stable=True)[first : first + count]


def stratified(difficulty_N: Tensor, count: int, hardest_dropped: float, strata: int, generator: Generator) -> Tensor:
    """``count`` rows that cover all difficulties but the highest: coverage-centric (Zheng et al., ICLR 2023).

    The hardest share ``hardest_dropped`` is left out; the range of the difficulty that remains is cut into ``strata``
    of equal width, which share ``count`` by :func:`share_out`; inside each, rows are drawn uniformly. Hardest first.
    Raises WindowError when fewer than ``count`` rows remain.
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
    """Chances to be drawn (N,), float64, up to a factor: score · Beta(p; a, b) (DUAL, Cho et al., ICML 2025).

    b = 15 · (1 − μ) · (1 − (1 − kept)^exponent) and a = 16 − b, where p is the mean probability of the label and μ its
    mean over the ten images of the highest score. The fewer are kept, the nearer is the density's mode to p = 1.
    """
    p_N = probability_N.double().clamp(1e-6, 1 - 1e-6)  # where the density is finite
    best = score_N.topk(min(10, len(score_N))).indices
    b = 15 * (1 - probability_N[best].double().mean()) * (1 - (1 - kept) ** exponent)
    weight_N: Tensor = score_N.double() * p_N ** (15 - b) * (1 - p_N) ** (b - 1)
    return weight_N


def draw_weighted(weight_N: Tensor, count: int, generator: Generator) -> Tensor:
    """``count`` rows drawn one by one, each with chances in proportion to the weights of those left; in that order.

    The rows of the smallest e / weight, where e are exponential: the same distribution. Weights of 0 come last.
    Raises WindowError when there are fewer than ``count`` rows.
    """
    if count > len(weight_N):
        raise WindowError(f"{counted(count, 'image')} asked for, of {len(weight_N)}; lower ipc or add images")
    waiting_N = torch.rand(len(weight_N), dtype=torch.float64, generator=generator).log().neg()
    return (waiting_N.to(weight_N.device) / weight_N).argsort(stable=True)[:count]


def share_out(count: int, sizes: list[int]) -> list[int]:
    """How many of ``count`` each stratum gets: as equal as can be, but none more than its size.

    The smallest stratum first takes its share of what is left, ⌊left / strata to come⌋, or all that it has; what it
    cannot give goes to those after it.
    """
    budgets, left = [0] * len(sizes), count
    for done, stratum in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        budgets[stratum] = min(sizes[stratum], left // (len(sizes) - done))
        left -= budgets[stratum]
    return budgets


def cluster_centres(points_ND: Tensor, count: int, tries: int, seed: int) -> Tensor:
    """The centres (``count``, D) of k-means, seeded by k-means++, the largest cluster's first.

    min_c Σ_x min_k ‖x − c_k‖², the best of ``tries`` runs of Lloyd's algorithm; in float64, or float32 where there are
    more than LARGE values, and on one thread, so that sums come in one order. Raises WindowError when there are fewer
    than ``count`` different points.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    found = KMeans(count, init="k-means++", n_init=tries, random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            found.fit((points_ND if points_ND.numel() > LARGE else points_ND.double()).cpu().numpy())
        except ConvergenceWarning:
            raise WindowError(
                f"{count} clusters are asked for, but a class has fewer different images; lower ipc or add images"
            ) from None
    label_N = torch.from_numpy(found.labels_).long().to(points_ND.device)
    largest_first = torch.bincount(label_N, minlength=count).argsort(descending=True, stable=True).tolist()
    # means of the images themselves: scikit-learn's centres were moved and are off by a rounding
    return torch.stack([points_ND[label_N == cluster].double().mean(0) for cluster in largest_first]).to(points_ND)
