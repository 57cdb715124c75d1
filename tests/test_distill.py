"""The outer loop: by hand on a quadratic, stopped and resumed, partly updated, diverging."""

from dataclasses import replace

import pytest
import torch

from distillkit.distill import Distillation, Optim, largest_gradients
from distillkit.errors import DivergedError
from distillkit.images import Normalisation, SyntheticSet
from distillkit.methods.mtt import Matching, TrajectoryMatching
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


def test_resumed_run_equals_an_uninterrupted_one(material):
    method = TrajectoryMatching(2, Matching(2, 10, 1, 2))
    optim = Optim(steps=8, image_lr=5, student_lr_init=0.05, student_lr_lr=0.1)

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
