"""Sets with an order of training: how images are dealt, and how a step size is chosen."""

from dataclasses import replace

import pytest
import torch

from distillkit.base.errors import ParamsError
from distillkit.base.randomness import seeded
from distillkit.data.files.artifact import load_synthetic, save_synthetic
from distillkit.data.images import real_subset
from distillkit.data.selection import split_holdout
from distillkit.evaluation.evaluate import EvaluationRecipe, evaluate
from distillkit.matching.replay import Replay, StepSizeScan, made, replayed_accuracy
from distillkit.networks.specs import NetworkSpec
from distillkit.selection.means import Centroids, ClassMeans
from distillkit.selection.optimised import OptimisedSubset
from distillkit.selection.random_subset import RandomSubset
from distillkit.training.loop import TrainingRecipe

PLAIN = NetworkSpec("convnet", "none", 1, 4)
REPLAY = Replay(steps=2, epochs=3, step_size=0.1, network=PLAIN)
SCAN = StepSizeScan((1e-6, 0.1, 1e30), holdout=0.2, runs=2)


def test_every_step_gets_as_many_images_of_each_class(material):
    synthetic = RandomSubset(4, REPLAY).init(material, seeded(0))
    schedule = synthetic.schedule
    assert schedule.step_N.tolist() == [0, 1, 0, 1] * 10
    assert schedule.lr_T.tolist() == pytest.approx([0.1] * 6)
    assert [synthetic.labels[rows].bincount().tolist() for rows in schedule.rows] == [[2] * 10] * 6
    assert (schedule.network, schedule.starts_RP) == (PLAIN, None)


def test_images_are_dealt_whatever_their_order(material):
    """Labels 1, 0, 1, 0, 0, 1: the first two of each class belong to steps 0 and 1, the third to step 0 again."""
    rows = torch.tensor([int((material.real.labels == label).nonzero()[0]) for label in (1, 0, 1, 0, 0, 1)])
    subset = real_subset(material.real, rows, material.normalisation)
    assert REPLAY.deal(subset, material).schedule.step_N.tolist() == [0, 0, 1, 1, 0, 0]


def test_a_replay_does_not_change_which_images(material):
    plain, ordered = (RandomSubset(4, replay).init(material, seeded(0)) for replay in (None, REPLAY))
    assert torch.equal(plain.source_row, ordered.source_row)
    assert plain.schedule is None


def test_the_network_is_like_the_experts_by_default(material):
    synthetic = ClassMeans(1, replace(REPLAY, steps=1, network=None)).init(material, seeded(0))
    assert synthetic.schedule.network == material.experts.spec
    assert len(synthetic.schedule.rows) == 3
    assert all(torch.equal(rows, torch.arange(10)) for rows in synthetic.schedule.rows), "all images in every step"


def test_the_step_size_is_chosen_on_held_out_training_images(material):
    """One that hardly moves and one that leaves the finite numbers lose."""
    synthetic = RandomSubset(4, replace(REPLAY, epochs=10, step_size=SCAN)).init(material, seeded(0))
    accuracy = synthetic.notes["holdout_accuracy_by_step_size"]
    assert set(accuracy) == {"1e-06", "0.1", "1e+30"}
    assert synthetic.notes["step_size"] == 0.1
    assert accuracy["0.1"] > 0.3
    assert synthetic.schedule.lr_T.tolist() == pytest.approx([0.1] * 20)


def test_the_trial_set_knows_nothing_of_the_held_out_images(material):
    """Where the step size is chosen, images are made from the others, and difficulty, which ranks all, is gone."""
    seen = []

    def make(given, generator):
        seen.append(given)
        return RandomSubset(4).draw(given, generator)

    made(make, replace(REPLAY, step_size=SCAN), material, seeded(5))
    pool, _ = split_holdout(material.real.labels, 10, SCAN.holdout, seeded(5))
    assert torch.equal(seen[0].real.images, material.real.images[pool])
    assert seen[0].difficulty_N is seen[0].confidence_N is None
    assert seen[1] is material


def test_a_network_that_diverges_scores_nothing(material):
    synthetic = RandomSubset(4, replace(REPLAY, step_size=1e30)).init(material, seeded(0))
    assert replayed_accuracy(synthetic, material.real, 0, material.compute) == 0


def test_centroids_round_trip_and_are_replayed(material, tmp_path):
    synthetic = Centroids(2, 2, replace(REPLAY, epochs=20)).init(material, seeded(0))
    save_synthetic(tmp_path / "set.safetensors", synthetic, {})
    loaded, _ = load_synthetic(tmp_path / "set.safetensors")
    assert torch.equal(loaded.schedule.step_N, synthetic.schedule.step_N)
    recipe = EvaluationRecipe(NetworkSpec("resnet18"), TrainingRecipe(1, 2, 0.1), runs=2, curve_points=4)
    report = evaluate(loaded, material.real, recipe, torch.arange(300.0), seeded(0))
    assert report.curve_steps == [10, 20, 30, 40]
    assert report.accuracy_R.min() > 0.4


def test_the_luckiest_set_is_drawn_beside_the_held_out_images(material):
    method = OptimisedSubset(4, sets=3, runs=2, holdout=0.3, training=TrainingRecipe(20, 20, 0.05))
    synthetic = method.init(material, seeded(2))
    accuracy = synthetic.notes["holdout_accuracy_by_set"]
    assert list(accuracy) == ["1", "2", "3"]
    assert accuracy[str(synthetic.notes["set"])] == max(accuracy.values())
    pool, held = split_holdout(material.real.labels, 10, 0.3, seeded(2))
    assert set(synthetic.source_row.tolist()) <= set(pool.tolist())
    assert not set(synthetic.source_row.tolist()) & set(held.tolist())


def test_the_best_on_the_held_out_images_is_taken(material, monkeypatch):
    """Told that the second of three did best, whatever they are compared on: that is what stood in the call."""
    calls = []

    def compare(self, drawn, order, held_out, material, generator):
        calls.append((drawn, held_out))
        return [0.5, 0.75, 0.75]

    monkeypatch.setattr(OptimisedSubset, "compare", compare)
    method = OptimisedSubset(4, sets=3, runs=2, holdout=0.3, training=TrainingRecipe(20, 20, 0.05))
    synthetic = method.init(material, seeded(2))
    [(drawn, held_out)] = calls
    _, held = split_holdout(material.real.labels, 10, 0.3, seeded(2))
    assert torch.equal(held_out.images, material.real.images[held])
    assert torch.equal(synthetic.source_row, drawn[1])
    assert synthetic.notes == {"set": 2, "holdout_accuracy_by_set": {"1": 0.5, "2": 0.75, "3": 0.75}}


def test_sets_are_compared_as_they_will_be_trained_on(material):
    method = OptimisedSubset(4, sets=2, runs=1, holdout=0.2, replay=replace(REPLAY, step_size=SCAN))
    synthetic = method.init(material, seeded(0))
    assert synthetic.schedule.lr_T.tolist() == pytest.approx([0.1] * 6)
    assert set(synthetic.notes) == {"step_size", "holdout_accuracy_by_step_size", "set", "holdout_accuracy_by_set"}
    _, held = split_holdout(material.real.labels, 10, 0.2, replayed_generator(material))
    assert not set(synthetic.source_row.tolist()) & set(held.tolist())


def replayed_generator(material):
    """The generator after the step size was chosen."""
    generator = seeded(0)
    replace(REPLAY, step_size=SCAN).settled(RandomSubset(4).draw, material, generator)
    return generator


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: RandomSubset(5, REPLAY),
            "^replay.steps is 2, but ipc 5 cannot be dealt evenly to so many",
        ),
        (lambda: Centroids(5, 1, REPLAY), "^replay.steps is 2, but ipc 5 cannot"),
        (lambda: ClassMeans(1, REPLAY), "^replay.steps is 2, but ipc 1 cannot"),
        (lambda: Replay(0, 1, 0.1), "^replay.steps is 0; expected at least 1$"),
        (lambda: Replay(1, 0, 0.1), "^replay.epochs is 0; expected at least 1$"),
        (lambda: Replay(1, 1, 0.0), "^replay.step_size is 0; expected a finite number above 0$"),
        (lambda: StepSizeScan((), 0.2, 1), "^step_size.candidates is empty; expected step sizes"),
        (lambda: StepSizeScan((-1.0,), 0.2, 1), "^step_size.candidates is -1; expected a finite"),
        (lambda: StepSizeScan((1.0,), 0.0, 1), "^step_size.holdout is 0; expected between 0.01 and 0.9$"),
        (lambda: StepSizeScan((1.0,), 0.2, 0), "^step_size.runs is 0; expected at least 1$"),
    ],
)
def test_bad_parameters(build, message):
    with pytest.raises(ParamsError, match=message):
        build()
