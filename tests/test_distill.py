"""The outer loop: by hand on a quadratic, stopped and resumed, partly updated, diverging."""

import math
from dataclasses import replace

import pytest
import torch

from distillkit.base.errors import DivergedError
from distillkit.base.randomness import seeded
from distillkit.data.files.snapshots import load_snapshots, save_snapshots, snapshot_file
from distillkit.data.images import Normalisation, Schedule, SyntheticSet
from distillkit.matching.distillation import Distillation, Optim, largest_gradients
from distillkit.methods.learning.mtt import Matching, TrajectoryMatching
from distillkit.networks.specs import NetworkSpec

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
    optim = Optim(steps=8, image_lr=5, student_lr_init=0.05, student_lr_lr=0.1, image_average=average, snapshots=3)

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
    assert list(whole.snapshots) == [2, 4, 6]
    assert all(torch.equal(images, second.snapshots[step]) for step, images in whole.snapshots.items())


@pytest.mark.parametrize(
    ("steps", "count", "expected"), [(90, 2, {30, 60}), (8, 0, set()), (3, 9, {1, 2}), (1, 5, set()), (10, 1, {5})]
)
def test_steps_of_snapshots(steps, count, expected):
    assert Optim(steps, 1, snapshots=count).snapshot_steps == expected


def test_snapshots_show_the_images_on_the_way_and_change_nothing(tmp_path):
    """Both learned images of four steps after the second one, clipped and rounded; a state without any has no entry."""
    plain, kept = (
        Distillation(Quadratic(), two_images((True, True)), None, replace(OPTIM, steps=4, snapshots=n), seeded(0))
        for n in (0, 1)
    )
    list(plain)
    kept.advance(), kept.advance()
    expected = (kept.result().images.clamp(0, 1) * 255).round().to(torch.uint8)
    list(kept)
    assert torch.equal(kept.snapshots[2], expected) and torch.equal(kept.result().images, plain.result().images)
    assert set(kept.state()) - set(plain.state()) == {"snapshot.2"}
    path = tmp_path / "artifacts/snapshots/a.safetensors"
    assert snapshot_file(tmp_path / "artifacts/distilled/a.safetensors") == path
    assert load_snapshots(path, kept.result()) == {}
    save_snapshots(path, kept.snapshots, kept.result())
    found = load_snapshots(path, kept.result())
    assert list(found) == [2] and torch.equal(found[2], expected) and (path.parent / ".gitignore").read_text() == "*\n"
    other = replace(kept.result(), images=kept.result().images + 0.5)
    assert load_snapshots(path, other) == {}, "they are of another set"


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
    """Σ η: the gradient of η is 1, that of η relative to its start η₀ is η₀."""

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
    torch.testing.assert_close(run.result().schedule.lr_T, lr * (1 - 0.1 * lr))
    assert run.result().student_lr is None


def test_adam_learns_the_logarithm_of_step_sizes():
    """Adam's first step is its rate, whatever the gradient: η = η₀ e^(−0.1)."""
    schedule = Schedule(NetworkSpec("convnet"), torch.tensor([0, 1]), torch.tensor([0.5, 4.0]))
    optim = Optim(steps=1, image_lr=1.0, student_lr_lr=0.1, rule="adam")
    run = Distillation(Slope(), replace(two_images(), schedule=schedule), None, optim, seeded(0))
    list(run)
    torch.testing.assert_close(run.result().schedule.lr_T, torch.tensor([0.5, 4.0]) * math.exp(-0.1))


class Best:
    """(η / best − 1)² / 2 + floor: a student whose best step size lies far from where it starts."""

    student = True

    def __init__(self, best: float):
        self.best = best

    def init(self, material, generator):
        raise AssertionError("not used")

    def loss(self, iterate, material, generator):
        return (iterate.student_lr / self.best - 1).square() / 2 + 0 * iterate.images_NCHW.sum()


def test_step_sizes_are_learned_by_plain_sgd_at_the_published_rate():
    """η from 0.001 to 0.04 as torch.optim.SGD takes it at rate 1e-5; student_lr_lr = 1e-5 / 0.001²."""
    optim = Optim(steps=200, image_lr=1.0, student_lr_init=0.001, student_lr_lr=10, momentum=0.5)
    run = Distillation(Best(0.04), two_images(), None, optim, seeded(0))
    found = [step.student_lr for step in run]
    lr = torch.tensor(0.001, dtype=torch.float64, requires_grad=True)
    theirs, expected = torch.optim.SGD([lr], lr=1e-5, momentum=0.5), []
    for _ in range(200):
        expected.append(lr.item())
        theirs.zero_grad()
        ((lr / 0.04 - 1).square() / 2).backward()
        theirs.step()
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[-1] == pytest.approx(0.04, rel=0.1)


def test_a_step_takes_at_most_half_of_the_step_size():
    """The gradient at η = 1 for a best of 0.1 is 90: plain SGD at rate 1 would make η −89."""
    optim = Optim(steps=2, image_lr=1.0, student_lr_init=1.0, student_lr_lr=1.0)
    assert [step.student_lr for step in Distillation(Best(0.1), two_images(), None, optim, seeded(0))] == [1.0, 0.5]


def test_a_student_that_stops_is_told_with_the_knob():
    """η halves at each step: 2⁻⁷ is below a hundredth of the start."""
    optim = Optim(steps=50, image_lr=1.0, student_lr_init=1.0, student_lr_lr=1e6, momentum=0.0)
    run = Distillation(Best(1e-6), two_images(), None, optim, seeded(0))
    with pytest.raises(
        DivergedError, match=r"step 8: .* fell from 1 to 0\.0078125, .*; lower optim.student_lr_lr \(1e\+06\)"
    ):
        list(run)
    assert run.done == 7


class AtRest:
    """A loss of 1, whatever the images: trajectory matching when the student does not move."""

    student = True

    def __init__(self, loss: float):
        self.value = loss

    def init(self, material, generator):
        raise AssertionError("not used")

    def loss(self, iterate, material, generator):
        return self.value + 0 * (iterate.images_NCHW.sum() + iterate.student_lr)


def test_a_loss_of_one_for_fifty_steps_is_told():
    optim = Optim(steps=60, image_lr=1.0, student_lr_init=1e-9)
    with pytest.raises(
        DivergedError, match=r"step 50: the matching loss has been 1 for 50 steps.*raise optim.student_lr_init"
    ):
        list(Distillation(AtRest(1.0), two_images(), None, optim, seeded(0)))
    assert len(list(Distillation(AtRest(1.0001), two_images(), None, optim, seeded(0)))) == 60


@pytest.mark.parametrize(
    "how",
    [
        {"momentum": 0.9},
        {"rule": "adam"},
        {"momentum": 0.9, "decay": 0.5, "decay_every": 2},
        {"momentum": 0.9, "update_fraction": 0.5},
    ],
)
def test_no_step_moves_images_further_than_max_move(how):
    """Whatever momentum, decay or Adam make of a gradient; the limit is reached, so it is the limit that is tested."""
    optim = Optim(**{"steps": 12, "image_lr": 0.25, "max_move": 0.125, "student_lr_init": 1.0, **how})
    run = Distillation(Quadratic(), two_images((True, True)), None, optim, seeded(0))
    before, moves = run.result().images, []
    for _ in run:
        after = run.result().images
        moved = (after - before).flatten()
        moves.append(moved[moved != 0].square().mean().sqrt().item())
        before = after
    assert max(moves) == pytest.approx(0.125, rel=1e-4)


def test_a_clipped_step_does_not_echo():
    """Momentum ½: a step clipped to 1 is followed by half of it when the gradient is gone, not by many clipped ones."""

    class OneExplosion(Quadratic):
        def loss(self, iterate, material, generator):
            return (1e6 if iterate.step == 0 else 0.0) * iterate.images_NCHW.sum() + 0 * iterate.student_lr

    run = Distillation(OneExplosion(), two_images(), None, replace(OPTIM, max_move=1.0), seeded(0))
    seen = [run.result().images[0].item()]
    for _ in range(3):
        run.advance()
        seen.append(run.result().images[0].item())
    assert seen == pytest.approx([4.0, 3.0, 2.5, 2.25])
