"""Memory of selectors and of evaluation: of three times the images they hold no more but numbers for each.

The limits are lowered, so that a few hundred images are many: blocks of 4,096 values, and nothing that is kept ready.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from live import peak_of

from distillkit.base.randomness import seeded
from distillkit.data import rows
from distillkit.data.files.shards import Collector
from distillkit.data.images import ImageSet, channel_statistics, real_subset
from distillkit.data.rows import FileRows, Images, kept_aside, normalised
from distillkit.evaluation.evaluate import EvaluationRecipe, evaluate, neighbour_accuracy, reference_difficulty
from distillkit.networks.specs import NetworkSpec, build_network
from distillkit.selection import rules as coreset_rules
from distillkit.selection.rules import cluster_centres, cover, distance_to_median, herd, mean_of
from distillkit.training.features import expert_features
from distillkit.training.loop import TrainingRecipe, predicted_classes

FEW, MANY, NUMBERS = 600, 1800, 128  # images, and bytes of an image that are numbers
WIDTH = 64  # of features; as float64 they are 512 bytes an image
NETWORK = NetworkSpec("convnet", depth=1, width=1, norm="none")
RECIPE = EvaluationRecipe(NETWORK, TrainingRecipe(steps=2, batch=16, lr=0.01), runs=1)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK", 2**12)
    monkeypatch.setattr(rows, "READY", 0)
    monkeypatch.setattr(coreset_rules, "COLUMNS", 2**12)
    monkeypatch.setattr(coreset_rules, "LARGE", 2**13)
    monkeypatch.setattr("distillkit.evaluation.evaluate.CURVE_IMAGES", 100)
    monkeypatch.setattr("distillkit.evaluation.neighbours.HELD", 100)


def features(count: int) -> torch.Tensor:
    return torch.randn(count, WIDTH, generator=seeded(0))


def source(count: int, folder: Path) -> ImageSet:
    """Images of 3 x 16 x 16 in a file: 768 bytes each, 3,072 as float32."""
    collector = Collector(folder, f"train-{count}", (3, 16, 16), most=0)
    collector.append(torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8, generator=seeded(0)).numpy())
    return ImageSet(collector.result(), torch.arange(count) % 3, tuple("abc"))


def growth(work: Callable[[int], Callable[[], object]]) -> int:
    """Bytes that each further image adds to the peak."""
    few, many = (peak_of(work(count)).bytes for count in (FEW, MANY))
    return (many - few) // (MANY - FEW)


CHOICES: dict[str, Callable[[Images], torch.Tensor]] = {
    "herding": lambda features_ND: herd(features_ND, 5),
    "k-centre": lambda features_ND: cover(features_ND, 5, 0),
    "moderate": distance_to_median,
}


@pytest.mark.parametrize("choose", CHOICES.values(), ids=CHOICES)
def test_features_are_read_in_blocks(choose: Callable[[Images], torch.Tensor], small_limits: None) -> None:
    """Also from the file that those go into that are many; what is chosen is the same."""
    filed = kept_aside(features(MANY).split(100), MANY)
    assert isinstance(filed, FileRows)
    assert torch.equal(filed[:], features(MANY))
    assert torch.allclose(choose(filed), choose(features(MANY)), rtol=1e-12)

    def work(count: int) -> Callable[[], object]:
        held = kept_aside(features(count).split(100), count)
        return lambda: choose(held)

    assert growth(work) <= NUMBERS


def test_features_go_into_a_file_as_they_come(material, small_limits: None) -> None:
    """Those of 300 images are 64 numbers each."""
    seen = expert_features(material.experts, 1, material.real, material.normalisation)
    few, many = (peak_of(lambda count=count: seen(torch.arange(count))) for count in (200, 300))
    assert isinstance(seen(torch.arange(300)), FileRows)
    assert many.bytes - few.bytes <= 100 * NUMBERS


def test_clusters_of_many_are_read_in_blocks(tmp_path: Path, small_limits: None) -> None:
    def work(count: int) -> Callable[[], object]:
        images = source(count, tmp_path).images
        return lambda: cluster_centres(images, 3, 1, 0)

    assert growth(work) <= NUMBERS


def test_clusters_of_many_are_those_of_all(small_limits: None) -> None:
    """Three heaps, six times as many points as a sample has: the means of all their points, the largest heap first."""
    heaps = torch.bucketize(torch.arange(6000) % 6, torch.tensor([2, 4]))  # 3, 2 and 1 of every six
    points = 10.0 * torch.nn.functional.one_hot(heaps, 8) + torch.rand(6000, 8, generator=seeded(0))
    found = cluster_centres(points, 3, 5, 0)
    assert torch.allclose(found, torch.stack([points[heaps == heap].mean(0) for heap in (0, 1, 2)]), atol=1e-5)


def test_means_are_of_blocks(tmp_path: Path, small_limits: None) -> None:
    def work(count: int) -> Callable[[], object]:
        images = source(count, tmp_path).images
        assert torch.allclose(mean_of(images), images[:].double().mean(0).float() / 255, atol=1e-6)
        return lambda: mean_of(images)

    assert growth(work) <= NUMBERS


@pytest.mark.long
def test_evaluation_holds_no_test_images(tmp_path: Path, small_limits: None) -> None:
    """Networks and neighbours, and the reference, which trains on all images."""

    def work(count: int) -> Callable[[], object]:
        real = source(count, tmp_path)
        small = real_subset(real, torch.arange(30), channel_statistics(real.images))

        def measure() -> None:
            evaluate(small, real, RECIPE, torch.zeros(count), seeded(0))
            neighbour_accuracy(small, real, 1)

        return measure

    assert growth(work) <= NUMBERS


def test_what_is_found_goes_into_one_tensor(tmp_path: Path, small_limits: None) -> None:
    """A small tensor that stays after each chunk keeps the allocator from using the chunk's memory again."""
    network = build_network(NETWORK, (3, 16, 16), 3, 0)

    def work(count: int) -> Callable[[], object]:
        real = source(count, tmp_path)
        seen = normalised(real.images, channel_statistics(real.images), real.device)
        return lambda: predicted_classes(network, seen)

    few, many = (peak_of(work(count)).blocks for count in (FEW, MANY))
    assert many - few <= 2


def test_what_is_kept_ready_is_held_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that are few are normalised chunk by chunk: 3,072 bytes each, and no copies."""
    monkeypatch.setattr(rows, "CHUNK", 2**12)
    real = source(MANY, tmp_path)
    statistics = channel_statistics(real.images)
    peak = peak_of(lambda: normalised(real.images, statistics, real.device, channels_last=True)).bytes
    assert MANY * 3072 <= peak < 1.1 * MANY * 3072


def test_a_reference_is_of_all_images(tmp_path: Path, small_limits: None) -> None:
    def work(count: int) -> Callable[[], object]:
        real = source(count, tmp_path)
        whole = real_subset(real, torch.arange(30), channel_statistics(real.images))
        return lambda: reference_difficulty(whole, real, RECIPE, seeded(0))

    assert growth(work) <= NUMBERS
