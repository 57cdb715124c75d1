"""The outer loop: by hand on a quadratic, stopped and resumed, partly updated, diverging."""

import math
from dataclasses import replace

import pytest
import torch

from distillkit.distill import Distillation, Optim, largest_gradients
from distillkit.errors import DivergedError
from distillkit.images import Normalisation, Schedule, SyntheticSet
from distillkit.methods.mtt import Matching, TrajectoryMatching
from distillkit.networks import NetworkSpec
from distillkit.randomness import seeded

OPTIM = Optim(steps=6, image_lr=0.25, student_lr_init=1.0, student_lr_lr=0.0, momentum=0.5)


class Quadratic:
    """½ Σ x² over all images: the gradient of an image is the image."""

    def init(self, material, generator):
        raise AssertionError("not used")

    def loss(self, iterate, material, generator):
        return iterate.images_NCHW.square().sum() / 2 + 0 * iterate.student_lr


def two_images(learned=(True, False)) -> SyntheticSet:
    return SyntheticSet(
        images=torch.tensor([4.0, 8.0]).view(2, 1, 1, 1),
        labels=torch.tensor([0, 1]),
        class_names=("a", "b"),
        learned=torch.tensor(learned),
        source_row=torch.tensor([0, 1]),
        normalisation=Normalisation(torch.zeros(1), torch.ones(1)),
    )


def test_momentum_by_hand():
    """x = 4; v = 4, x = 4 − ¼·4 = 3; v = ½·4 + 3 = 5, x = 3 − ¼·5 = 1.75. The second image is not learned."""
    run = Distillation(Quadratic(), two_images(), None, OPTIM, seeded(0))
    run.advance()
    assert run.result().images.flatten().tolist() == [3.0, 8.0]
    run.advance()
    assert run.result().images.flatten().tolist() == [1.75, 8.0]
    assert [step.loss for step in run.history] == [(16 + 64) / 2, (9 + 64) / 2]


def test_the_moving_average_of_the_images_by_hand():
    """x = 4, 3, 1.75 as above; a = 4, then (3 · 4 + 3) / 4 = 3.75, then (3 · 3.75 + 1.75) / 4 = 3.25."""
    run = Distillation(Quadratic(), two_images(), None, replace(OPTIM, image_average=0.75), seeded(0))
    assert run.result().images.flatten().tolist() == [4.0, 8.0]
    run.advance()
    assert run.result().images.flatten().tolist() == [3.75, 8.0]
    run.advance()
    assert run.result().images.flatten().tolist() == [3.25, 8.0]
    assert run.iterate().images_NCHW.flatten().tolist() == [1.75, 8.0], "steps go on from the images themselves"


def test_a_step_that_is_skipped_leaves_the_average():
    run = Distillation(Quadratic(), two_images(), None, replace(OPTIM, image_average=0.75, skip_above=1), seeded(0))
    run.advance()
    assert run.result().images.flatten().tolist() == [4.0, 8.0]


def test_steps_are_counted_and_the_last_is_reached():
    run = Distillation(Quadratic(), two_images(), None, OPTIM, seeded(0))
    assert [step.step for step in run] == [1, 2, 3, 4, 5, 6]
    assert run.steps_left == 0


def test_only_the_largest_gradients_move():
    """Half of two images: the one at 8 moves first, 8 → 6 → 3.5; then the one at 4 is the larger."""
    run = Distillation(Quadratic(), two_images((True, True)), None, replace(OPTIM, update_fraction=0.5), seeded(0))
    seen = []
    for _ in range(3):
        run.advance()
        seen.append(run.result().images.flatten().tolist())
    assert seen == [[4.0, 6.0], [4.0, 6.0 - 0.25 * (0.5 * 8 + 6)], [3.0, 3.5]]


def test_a_step_is_clipped_as_a_whole():
    """Gradients 4 and 8: moves 1 and 2, root mean square √2.5; half of it allowed, so both images move half as far."""
    clipped = replace(OPTIM, max_move=2.5**0.5 / 2)
    run = Distillation(Quadratic(), two_images((True, True)), None, clipped, seeded(0))
    run.advance()
    assert run.result().images.flatten().tolist() == pytest.approx([4 - 0.5, 8 - 1.0])
    free = Distillation(Quadratic(), two_images((True, True)), None, replace(OPTIM, max_move=2.0), seeded(0))
    free.advance()
    assert free.result().images.flatten().tolist() == [3.0, 6.0]


def test_largest_gradients_ties_and_counts():
    gradients = torch.tensor([1.0, 3.0, 3.0, 2.0]).view(4, 1, 1, 1)
    assert largest_gradients(gradients, 0.5).tolist() == [1, 2]
    assert largest_gradients(gradients, 0.01).tolist() == [1]
    assert largest_gradients(gradients, 1.0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("average", [None, 0.9])
def test_resumed_run_equals_an_uninterrupted_one(material, average):
    method = TrajectoryMatching(2, Matching(2, 10, 1, 2))
    optim = Optim(steps=8, image_lr=5, student_lr_init=0.05, student_lr_lr=0.1, image_average=average)

    def fresh() -> Distillation:
        generator = seeded(3)
        return Distillation(method, method.init(material, generator), material, optim, generator)

    whole, first, second = fresh(), fresh(), fresh()
    list(whole)
    for _ in range(3):
        first.advance()
    second.restore({name: tensor.clone() for name, tensor in first.state().items()})
    list(second)
    assert second.history == whole.history
    assert torch.equal(second.result().images, whole.result().images)
    assert second.result().student_lr == whole.result().student_lr


def test_divergence_names_the_knobs_and_keeps_the_last_good_state():
    run = Distillation(Quadratic(), two_images(), None, replace(OPTIM, image_lr=1e30, steps=50), seeded(0))
    with pytest.raises(DivergedError, match=r"distillation step \d: .*lower optim.image_lr \(1e\+30\)"):
        list(run)
    assert run.result().images.isfinite().all()
    assert 0 < len(run.history) < 50


def test_adam_is_that_of_torch():
    """Rates halve every two steps; the state goes on after a restore."""
    optim = Optim(steps=6, image_lr=0.25, student_lr_init=1.0, rule="adam", decay=0.5, decay_every=2)
    run = Distillation(Quadratic(), two_images((True, True)), None, optim, seeded(0))
    x = torch.tensor([4.0, 8.0], requires_grad=True)
    theirs = torch.optim.Adam([x], lr=0.25, betas=(0.5, 0.999))
    for step in range(6):
        if step == 3:
            state = {name: value.clone() for name, value in run.state().items()}
            run = Distillation(Quadratic(), two_images((True, True)), None, optim, seeded(0))
            run.restore(state)
        run.advance()
        theirs.param_groups[0]["lr"] = 0.25 * 0.5 ** (step // 2)
        theirs.zero_grad()
        (x.square().sum() / 2).backward()
        theirs.step()
        torch.testing.assert_close(run.result().images.flatten(), x.detach(), rtol=1e-6, atol=1e-6)


def test_a_step_with_a_large_loss_changes_nothing():
    """The loss is 40 as long as nothing moves."""
    for limit, images in ((39.9, [4.0, 8.0]), (40.0, [3.0, 8.0])):
        run = Distillation(Quadratic(), two_images(), None, replace(OPTIM, skip_above=limit), seeded(0))
        run.advance()
        assert run.result().images.flatten().tolist() == images
        assert len(run.history) == 1


class Labels:
    """Σ of the first class's probability over all images: d/dz of softmax(z)₁ at (½, ½) is ¼, −¼."""

    def init(self, material, generator):
        raise AssertionError("not used")

    def loss(self, iterate, material, generator):
        return iterate.labels[:, 0].sum() + 0 * iterate.images_NCHW.sum()


def test_soft_labels_are_learned_as_logits():
    """z = (log ½, log ½) moves by −2·(¼, −¼), so p₁ = 1 / (1 + e); the second image is real and keeps its label."""
    start = replace(two_images(), soft_labels=torch.full((2, 2), 0.5))
    optim = Optim(steps=1, image_lr=1.0, label_lr=2.0)
    run = Distillation(Labels(), start, None, optim, seeded(0))
    list(run)
    first = 1 / (1 + math.e)
    torch.testing.assert_close(run.result().soft_labels, torch.tensor([[first, 1 - first], [0.5, 0.5]]))
    kept = Distillation(Labels(), start, None, replace(optim, label_lr=None), seeded(0))
    assert torch.equal(kept.result().soft_labels, start.soft_labels)


class Remembering:
    """Counts its calls in the memory, and moves images by the count."""

    def init(self, material, generator):
        raise AssertionError("not used")

    def loss(self, iterate, material, generator):
        count = iterate.memory.get("count", torch.zeros(())) + 1
        iterate.memory["count"] = count
        assert int(count) == iterate.step + 1
        return (count * iterate.images_NCHW).sum()


def test_what_a_method_keeps_is_part_of_the_state():
    run = Distillation(Remembering(), two_images(), None, Optim(steps=4, image_lr=1.0, momentum=0.0), seeded(0))
    run.advance()
    second = Distillation(Remembering(), two_images(), None, run.optim, seeded(0))
    second.restore({name: value.clone() for name, value in run.state().items()})
    list(second)
    assert second.result().images.flatten().tolist() == [4.0 - 1 - 2 - 3 - 4, 8.0]
    assert second.result().student_lr is None


class Slope:
    """Σ η: the gradient of log η is η."""

    def init(self, material, generator):
        raise AssertionError("not used")

    def loss(self, iterate, material, generator):
        return iterate.student_lr.sum() + 0 * iterate.images_NCHW.sum()


def test_step_sizes_of_a_schedule_are_learned_one_by_one():
    schedule = Schedule(NetworkSpec("convnet"), torch.tensor([0, 1]), torch.tensor([0.5, 1.0, 2.0, 4.0]))
    optim = Optim(steps=1, image_lr=1.0, student_lr_lr=0.1)
    run = Distillation(Slope(), replace(two_images(), schedule=schedule), None, optim, seeded(0))
    (step,) = run
    assert step.student_lr == 7.5 / 4
    lr = torch.tensor([0.5, 1.0, 2.0, 4.0])
    torch.testing.assert_close(run.result().schedule.lr_T, lr * (-0.1 * lr).exp())
    assert run.result().student_lr is None
