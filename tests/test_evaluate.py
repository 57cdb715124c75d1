"""Evaluation: figures by hand, fresh networks, pairs of seeds."""

from dataclasses import replace

import pytest
import torch

from distillkit.base.errors import ArtifactError
from distillkit.base.files import read_csv, write_csv, write_json
from distillkit.base.randomness import seeded
from distillkit.data.images import ImageSet, Schedule, channel_statistics, real_subset
from distillkit.data.selection import select_random
from distillkit.evaluation import evaluate as evaluation
from distillkit.evaluation.evaluate import (
    EvaluationRecipe,
    evaluate,
    neighbour_accuracy,
    reference_difficulty,
    spaced,
    summarise,
)
from distillkit.evaluation.metrics import (
    CONFUSION,
    classes_of,
    confusion_of,
    mean_and_std,
    metrics_of,
    read_confusion,
    read_metrics,
)
from distillkit.networks.parameters import flatten
from distillkit.networks.specs import NetworkSpec, build_network
from distillkit.training.compute import Compute
from distillkit.training.executors import side_by_side
from distillkit.training.loop import TrainingRecipe, predicted_classes

RECIPE = EvaluationRecipe(
    NetworkSpec("convnet", "batch", 1, 4), TrainingRecipe(steps=40, batch=32, lr=0.1), runs=3, curve_points=4
)


@pytest.fixture(scope="module")
def subset(digits):
    rows = select_random(digits.labels, digits.class_names, 5, seeded(0))
    return real_subset(digits, rows, channel_statistics(digits.images))


@pytest.fixture(scope="module")
def report(subset, digits):
    return evaluate(subset, digits, RECIPE, torch.arange(300.0), seeded(1))


def test_confusion_by_hand(tmp_path):
    """Two runs, three images of two classes: image 0 is always right, 1 never, 2 once."""
    report = summarise(
        torch.tensor([[0, 1, 1], [0, 1, 0]]), torch.tensor([0, 0, 1]), torch.arange(3.0), [], torch.zeros(2, 0)
    )
    test = ImageSet(torch.zeros(3, 1, 2, 2), torch.tensor([0, 0, 1]), ("a", "b"))
    found = confusion_of(report, test)
    assert found == [(0, 0, 2), (0, 1, 2), (1, 0, 1), (1, 1, 1)]
    write_csv(tmp_path / "a.csv", CONFUSION, found)
    assert read_confusion(tmp_path / "a.csv", 2) == found


def test_summary_by_hand():
    """Two runs, six images: run 1 misses images 4 and 5, run 2 image 5, and difficulty is the row."""
    predicted = torch.tensor([[0, 1, 0, 1, 1, 0], [0, 1, 0, 1, 0, 0]])
    labels, curve = torch.tensor([0, 1, 0, 1, 0, 1]), torch.tensor([[0.5], [0.25]]).double()
    report = summarise(predicted, labels, torch.arange(6.0), [5, 10], curve)
    assert report.curve_RS.tolist() == [pytest.approx([0.5, 4 / 6]), pytest.approx([0.25, 5 / 6])]
    assert summarise(predicted, labels, torch.arange(6.0), [], torch.zeros(2, 0)).curve_RS.shape == (2, 0)
    assert report.accuracy_R.tolist() == pytest.approx([4 / 6, 5 / 6])
    assert report.class_accuracy_RK.tolist() == [pytest.approx([2 / 3, 2 / 3]), pytest.approx([1, 2 / 3])]
    assert report.third_accuracy_R3.tolist() == [[1, 1, 0], [1, 1, 0.5]]


def test_mean_and_sample_std():
    assert mean_and_std(torch.tensor([0.0, 1.0]).double()) == {"mean": 0.5, "std": 0.707107}
    assert mean_and_std(torch.tensor([0.5]).double()) == {"mean": 0.5, "std": 0.0}


def test_networks_learn_and_curves_end_at_the_accuracy(report):
    assert report.accuracy_R.shape == (3,)
    assert report.accuracy_R.min() > 0.5, "digits from five images per class are far above chance"
    assert report.curve_steps == [10, 20, 30, 40]
    assert torch.equal(report.curve_RS[:, -1], report.accuracy_R)


def test_runs_differ_and_repeat_whatever_runs_beside(report, subset, digits):
    torch.set_num_threads(1)
    assert len(set(report.accuracy_R.tolist())) > 1 or not torch.equal(report.curve_RS[0], report.curve_RS[1])
    one_by_one = evaluate(subset, digits, RECIPE, torch.arange(300.0), seeded(1))
    together = evaluate(subset, digits, RECIPE, torch.arange(300.0), seeded(1), Compute(side_by_side))
    assert torch.equal(one_by_one.curve_RS, together.curve_RS)
    assert torch.equal(one_by_one.class_accuracy_RK, together.class_accuracy_RK)


def test_the_way_is_tested_on_a_part_of_a_large_test_split(report, subset, digits, monkeypatch):
    """Of 300 images every third; the last point is the accuracy on all, which nothing is tested for twice."""
    tested = []
    monkeypatch.setattr(evaluation, "CURVE_IMAGES", 100)
    monkeypatch.setattr(
        evaluation,
        "predicted_classes",
        lambda network, images: tested.append(images) or predicted_classes(network, images),
    )
    found = evaluate(subset, digits, replace(RECIPE, runs=1), torch.arange(300.0), seeded(1))
    assert [len(images) for images in tested] == [100, 100, 100, 300]
    assert torch.equal(tested[0], tested[3][::3])
    assert found.curve_RS[0, -1] == found.accuracy_R[0] == report.accuracy_R[0]
    assert (found.curve_RS[0, :-1] - report.curve_RS[0, :-1]).abs().max() < 0.1


def test_stacked_networks_are_tested_like_single_ones(report, subset, digits):
    """Whichever share a stack: the same networks but for rounding, so at most an image or two is seen otherwise."""
    for size in (2, 4):
        stacked = evaluate(subset, digits, RECIPE, torch.arange(300.0), seeded(1), Compute(stack=size))
        again = evaluate(subset, digits, RECIPE, torch.arange(300.0), seeded(1), Compute(side_by_side, stack=size))
        assert (stacked.accuracy_R - report.accuracy_R).abs().max() < 0.02
        assert (stacked.curve_RS - report.curve_RS).abs().max() < 0.02
        assert torch.equal(stacked.predicted_RN, again.predicted_RN)


def test_every_set_gets_the_same_number_of_updates(digits, subset):
    """A set of 50 and one of 300 are both trained for 40 steps: the curve has its last point there."""
    everything = real_subset(digits, torch.arange(300), subset.normalisation)
    assert evaluate(everything, digits, replace(RECIPE, runs=1), torch.arange(300.0), seeded(1)).curve_steps[-1] == 40


def test_test_images_must_fit(digits, subset):
    smaller = replace(digits, images=digits.images[:, :, :6])
    with pytest.raises(ArtifactError, match=r"test images are \(1, 6, 8\) in 10 classes, distilled ones \(1, 8, 8\)"):
        evaluate(subset, smaller, RECIPE, torch.arange(300.0), seeded(1))


def test_reference_ranks_wrong_images_as_hard(digits, subset):
    """Half of the labels of a copy are moved on by one: those images must rank harder."""
    everything = real_subset(digits, torch.arange(300), subset.normalisation)
    labels = digits.labels.clone()
    labels[::2] = (labels[::2] + 1) % 10
    difficulty = reference_difficulty(everything, replace(digits, labels=labels), RECIPE, seeded(0))
    assert difficulty[::2].min() > difficulty[1::2].median()
    assert ((difficulty >= 0) & (difficulty <= 1)).all()


def test_metrics_file_has_numbers_only_and_round_trips(report, subset, digits, tmp_path):
    metrics = metrics_of(report, subset, digits, 1)
    assert metrics.keys() == {"accuracy", "easy", "middle", "hard", "images", "knn"}
    assert metrics["knn"] == {"accuracy": round(neighbour_accuracy(subset, digits, 1), 6), "neighbours": 1}
    assert metrics["images"] == {"total": 50, "learned": 0, "real": 50}
    assert metrics["accuracy"]["runs"] == 3
    assert metrics["accuracy"]["run_2"] == pytest.approx(report.accuracy_R[1].item(), abs=1e-6)
    assert all(isinstance(value, int | float) for part in metrics.values() for value in part.values())
    write_json(tmp_path / "m.json", metrics)
    assert read_metrics(tmp_path / "m.json") == metrics


def test_classes_are_rows_in_class_order(report, subset):
    rows = classes_of(report, subset)
    assert [row["class"] for row in rows] == list("0123456789")
    assert rows[3]["accuracy"] == pytest.approx(report.class_accuracy_RK[:, 3].mean().item(), abs=1e-6)


def test_csv_round_trip(tmp_path):
    write_csv(tmp_path / "c.csv", ["step", "loss", "lr"], [(1, 0.5, 0.1), (2, 0.25, 0.1)])
    assert read_csv(tmp_path / "c.csv", "step", "loss") == [(1, 0.5), (2, 0.25)]
    write_csv(tmp_path / "e.csv", ["step", "loss"], [])
    assert read_csv(tmp_path / "e.csv", "step", "loss") == []


def test_spaced_points():
    assert spaced(100, 4) == [25, 50, 75, 100]
    assert spaced(3, 10) == [1, 2, 3]
    assert spaced(10, 0) == []


def test_a_set_with_a_schedule_is_replayed(subset, digits):
    """From its own starts in turn, whatever the evaluation recipe's training says."""
    spec = NetworkSpec("convnet", "instance", 1, 4)
    starts = torch.stack([flatten(build_network(spec, (1, 8, 8), 10, seed)) for seed in (1, 2)])
    schedule = Schedule(spec, torch.arange(50) % 2, torch.full((20,), 0.5), starts)
    scheduled = replace(subset, schedule=schedule)
    report = evaluate(scheduled, digits, RECIPE, torch.arange(300.0), seeded(1))
    other = replace(RECIPE, network=NetworkSpec("resnet18"), training=TrainingRecipe(steps=1, batch=2, lr=1e9))
    again = evaluate(scheduled, digits, other, torch.arange(300.0), seeded(2))
    assert torch.equal(report.accuracy_R, again.accuracy_R)
    assert report.accuracy_R[0] == report.accuracy_R[2] != report.accuracy_R[1]
    assert report.curve_steps == [5, 10, 15, 20]


def test_soft_labels_are_what_is_trained_on(subset, digits):
    """Labels moved on by one class teach that every digit is the next one."""
    moved = torch.nn.functional.one_hot((subset.labels + 1) % 10, 10).float()
    report = evaluate(replace(subset, soft_labels=moved), digits, RECIPE, torch.arange(300.0), seeded(1))
    assert report.accuracy_R.max() < 0.1
