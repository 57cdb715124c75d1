"""Rules of choice by hand: a few points, and what must be picked of them."""

import pytest
import torch

from distillkit.base.errors import WindowError
from distillkit.base.randomness import seeded
from distillkit.selection.rules import (
    beta_weights,
    cluster_centres,
    cover,
    distance_to_median,
    draw_weighted,
    herd,
    middle,
    share_out,
    stratified,
)


def column(*values):
    return torch.tensor(values)[:, None]


def test_herding_by_hand():
    """0, 1, 2, 5 have mean 2. First 2; then 2·2 − 2 = 2 is missing: 1; then 3·2 − 3 = 3: 5 is nearer than 0."""
    points = column(0.0, 1.0, 2.0, 5.0)
    assert herd(points, 4).tolist() == [2, 1, 3, 0]
    assert herd(points, 2).tolist() == [2, 1]


def test_herding_never_takes_a_row_twice_and_ties_go_to_the_first():
    assert herd(column(1.0, 1.0, 1.0), 3).tolist() == [0, 1, 2]


def test_k_centre_by_hand():
    """From 0 the farthest of 0, 1, 4, 10, 6 is 10; then 4 and 6 are both 4 away, the first is taken; then 6, then 1."""
    points = column(0.0, 1.0, 4.0, 10.0, 6.0)
    assert cover(points, 5, first=0).tolist() == [0, 3, 2, 4, 1]
    assert cover(points, 2, first=3).tolist() == [3, 0]


def test_k_centre_never_takes_a_row_twice():
    assert cover(column(1.0, 1.0, 1.0), 3, first=1).tolist() == [1, 0, 2]


def test_distance_to_the_median_of_every_dimension():
    """Medians of (0, 0, 9) and (0, 4, 5) are 0 and 4, which is no point; of 1, 2, 3 and 100 it is 2.5."""
    assert distance_to_median(torch.tensor([[0.0, 0], [0, 4], [9, 5]])).tolist() == [4, 0, 82**0.5]
    assert distance_to_median(column(100.0, 1.0, 2.0, 3.0)).tolist() == [97.5, 1.5, 0.5, 0.5]


def test_middle_ranks_by_hand():
    """Ranks 0 to 6: the middle three are 2, 3, 4. Of an odd rest the first rank is even: 1.5 and 2.5 are 2."""
    distance = torch.tensor([6.0, 0.0, 5.0, 1.0, 4.0, 2.0, 3.0])
    assert distance[middle(distance, 3)].tolist() == [2, 3, 4]
    assert distance[middle(distance, 4)].tolist() == [2, 3, 4, 5]
    assert distance[middle(distance, 2)].tolist() == [2, 3]
    assert distance[middle(distance, 7)].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert middle(torch.zeros(5), 3).tolist() == [1, 2, 3], "ties keep the order of the dataset"


def test_more_than_there_are():
    with pytest.raises(WindowError, match=r"6 images asked for, of 5; lower ipc or add images"):
        middle(torch.zeros(5), 6)


def test_strata_share_by_hand():
    """Six over strata of 1, 5, 0 and 4: the empty one gives none of its 6 // 4, the next its one of 6 // 3, then
    5 // 2 of four and the rest of five."""
    assert share_out(6, [1, 5, 0, 4]) == [1, 3, 0, 2]
    assert share_out(2, [9, 9, 9]) == [0, 1, 1]
    assert share_out(27, [9, 9, 9]) == [9, 9, 9]


def test_coverage_by_hand():
    """Of 0 to 9 and 100 the hardest goes; strata [0, 3), [3, 6) and [6, 9] give two each, hardest first."""
    difficulty = torch.tensor([3.0, 100, 0, 1, 2, 9, 4, 5, 6, 7, 8])
    drawn = [difficulty[stratified(difficulty, 6, 0.1, 3, seeded(seed))] for seed in range(20)]
    for chosen in drawn:
        assert [int(((chosen >= low) & (chosen < high)).sum()) for low, high in ((0, 3), (3, 6), (6, 10))] == [2, 2, 2]
        assert (chosen.diff() < 0).all()
    assert {value for chosen in drawn for value in chosen.tolist()} == set(range(10)), "any may be drawn"


def test_coverage_of_equal_difficulties():
    chosen = stratified(torch.zeros(5), 3, 0.0, 50, seeded(0))
    assert len(set(chosen.tolist())) == 3


def test_coverage_of_too_few():
    with pytest.raises(WindowError, match=r"hardest_dropped 0.5 leaves 2 of 4 images, of which 3 are asked for; lower"):
        stratified(torch.arange(4.0), 3, 0.5, 2, seeded(0))


def test_clusters_by_hand():
    """Two far clusters, of three and of two points: their means, the larger cluster's first."""
    points = torch.tensor([[10.0, 0], [10, 2], [0, 0], [0, 2], [0, 1]])
    for seed in range(5):
        assert cluster_centres(points, 2, tries=2, seed=seed).tolist() == [[0, 1], [10, 1]]


def test_one_cluster_is_the_mean():
    points = torch.rand(20, 6, generator=seeded(0))
    assert torch.allclose(cluster_centres(points, 1, 1, 0)[0], points.mean(0), atol=1e-6)


def test_clusters_repeat_to_the_bit():
    points = torch.rand(200, 30, generator=seeded(0))
    assert torch.equal(cluster_centres(points, 8, 2, 3), cluster_centres(points, 8, 2, 3))


def test_too_few_different_points():
    with pytest.raises(WindowError, match=r"3 clusters are asked for, but a class has fewer different images; lower"):
        cluster_centres(torch.tensor([[0.0], [1], [1], [0]]), 3, 1, 0)


def test_beta_weights_by_hand():
    """All kept: of two images μ = 3/8, so b = 15 · 5/8, a = 16 − b. A hundredth kept, exponent 1: b is a hundredth."""
    score, probability = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.25])
    b = 15 * 5 / 8
    expected = [0.5 ** (15 - b) * 0.5 ** (b - 1), 2 * 0.25 ** (15 - b) * 0.75 ** (b - 1)]
    assert beta_weights(score, probability, 1.0, 4.0).tolist() == pytest.approx(expected)
    b /= 100
    expected = [0.5 ** (15 - b) * 0.5 ** (b - 1), 2 * 0.25 ** (15 - b) * 0.75 ** (b - 1)]
    assert beta_weights(score, probability, 0.01, 1.0).tolist() == pytest.approx(expected)


def test_of_many_images_only_the_ten_of_the_highest_score_place_the_density():
    """Ten of p = ½ and one of a lower score with p = 1: b = 15 · ½ all the same, and its weight is nearly none."""
    score, probability = torch.tensor([*[2.0] * 10, 1.0]), torch.tensor([*[0.5] * 10, 1.0])
    found = beta_weights(score, probability, 1.0, 1.0)
    assert found[:10].tolist() == pytest.approx([2 * 0.5**7.5 * 0.5**6.5] * 10)
    assert found[10] == pytest.approx((1 - 1e-6) ** 7.5 * 1e-6**6.5)


def test_rows_are_drawn_in_proportion_to_their_weights():
    """Weights 1, 0, 3: the last first in three of four draws; 2,000 draws have a standard error of a hundredth."""
    generator, weights = seeded(0), torch.tensor([1.0, 0.0, 3.0])
    drawn = torch.stack([draw_weighted(weights, 3, generator) for _ in range(2000)])
    assert (drawn[:, 0] == 2).double().mean().item() == pytest.approx(0.75, abs=0.03)
    assert (drawn[:, 2] == 1).all()
    with pytest.raises(WindowError, match="4 images asked for, of 3; lower ipc or add images"):
        draw_weighted(weights, 4, generator)
