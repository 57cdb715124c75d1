"""Classes of the nearest: by hand, and against another's."""

import pytest
import torch
from scipy.fft import dct
from sklearn.neighbors import KNeighborsClassifier

from distillkit.base.randomness import seeded
from distillkit.data.images import channel_statistics, real_subset
from distillkit.evaluation import neighbours
from distillkit.evaluation.evaluate import neighbour_accuracy
from distillkit.evaluation.neighbours import nearest, nearest_classes


def column(*values):
    return torch.tensor(values)[:, None]


def test_the_nearest_by_hand():
    """1 is nearest to 0, 9 to 10; 5 is as near to both, and the first of the set counts."""
    images = column(1.0, 9.0, 5.0)
    assert nearest_classes(images, column(0.0, 10.0), torch.tensor([1, 0]), 2).tolist() == [1, 0, 1]


def test_votes_by_hand():
    """Of 0 (class 1), 1 and 2 (class 0): the nearest to −1 says 1, three say 0, and of two the nearer one decides."""
    found = [nearest_classes(column(-1.0), column(0.0, 1.0, 2.0), torch.tensor([1, 0, 0]), 2, k) for k in (1, 2, 3, 9)]
    assert [classes.item() for classes in found] == [1, 1, 0, 0]


def test_distances_by_hand():
    found = nearest(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0], [0.0, 3.0]]), 2)
    assert found.squared_Nk.tolist() == [[0, 25]]
    assert found.row_Nk.tolist() == [[1, 0]]


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 5), (2, 1, 9), (3, 40, 70), (5,)])
def test_features_are_no_farther_apart_than_images(shape):
    """And the bound holds in float32, at which it is computed."""
    images = torch.randn(60, *shape, generator=seeded(4)) * 3
    exact = torch.cdist(images.flatten(1).double(), images.flatten(1).double()).square()
    found = neighbours.features(images)
    assert found.square().sum(1).tolist() == pytest.approx(images.square().flatten(1).sum(1).tolist(), rel=1e-5)
    assert (neighbours.bound(found, found) <= exact).all()


def test_the_cosine_transform_is_that_of_scipy():
    x = torch.randn(7, dtype=torch.float64, generator=seeded(2))
    assert (neighbours.cosines(7) @ x).tolist() == pytest.approx(dct(x.numpy(), norm="ortho").tolist())


def test_copies_are_as_near_whatever_the_order_of_summing():
    """A hundred copies of one image and one test image: the first of them counts."""
    image = torch.rand(1, 3072, generator=seeded(0))
    copies = image.expand(101, -1)
    labels = torch.arange(101)
    assert nearest_classes(torch.rand(9, 3072, generator=seeded(1)), copies, labels, 101).tolist() == [0] * 9


@pytest.mark.parametrize("count", [1, 5])
def test_agrees_with_scikit_learn(digits, count, monkeypatch):
    images = digits.pixels().flatten(1)
    theirs = KNeighborsClassifier(count).fit(images[:100], digits.labels[:100]).predict(images[100:])
    ours = nearest_classes(images[100:], images[:100], digits.labels[:100], 10, count)
    agree = (ours == torch.from_numpy(theirs)).double().mean()
    assert agree == 1 if count == 1 else agree > 0.95, "ties are broken otherwise"
    monkeypatch.setattr(neighbours, "QUERIES", 7)
    monkeypatch.setattr(neighbours, "HELD", 20)
    monkeypatch.setattr(neighbours, "PAIRS", 64)
    assert torch.equal(ours, nearest_classes(images[100:], images[:100], digits.labels[:100], 10, count))


def test_accuracy_of_a_set(digits):
    """Every image is its own nearest; with labels moved on by one all are wrong."""
    everything = real_subset(digits, torch.arange(300), channel_statistics(digits.images))
    assert neighbour_accuracy(everything, digits, 1) == 1
