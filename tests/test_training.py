"""The training loop: batches, schedules, SGD to the bit, seeds."""

import math

import pytest
import torch
from torch import nn

from distillkit.base.errors import ArtifactError, DivergedError, ParamsError
from distillkit.base.randomness import draw_seed, seed_for, seeded
from distillkit.data.augment import Augmentation
from distillkit.data.images import Schedule, channel_statistics
from distillkit.networks.parameters import flatten
from distillkit.networks.specs import NetworkSpec, build_network
from distillkit.process.interruption import Interrupted
from distillkit.training.compute import Compute
from distillkit.training.executors import side_by_side
from distillkit.training.loop import (
    Lot,
    TrainingRecipe,
    constant,
    cosine,
    epoch_batches,
    fit,
    replay,
    step_batches,
    train,
)
from distillkit.training.update_rules import sgd_

TINY = NetworkSpec("convnet", "instance", 1, 4)


def test_an_epoch_visits_every_row_once_in_even_batches():
    batches = epoch_batches(10, 4, seeded(0))
    assert sorted(torch.cat(batches).tolist()) == list(range(10))
    assert [len(batch) for batch in batches] == [4, 3, 3]


def test_step_batches_reshuffle_only_when_exhausted():
    batches = step_batches(6, 2, 5, seeded(0))
    assert [len(batch) for batch in batches] == [2] * 5
    assert sorted(torch.cat(batches[:3]).tolist()) == list(range(6))


def test_a_batch_is_never_larger_than_the_set():
    assert [sorted(batch.tolist()) for batch in step_batches(3, 50, 2, seeded(0))] == [[0, 1, 2]] * 2


def test_schedules():
    """Half a cosine from 1 to 0.01: the middle is their mean."""
    rate = cosine(1.0, 10, final_fraction=0.01)
    assert (rate(0), rate(5), rate(10)) == (1.0, pytest.approx(0.505), pytest.approx(0.01))
    assert rate(1) == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi / 10)) / 2)
    assert constant(0.3)(7) == 0.3


@pytest.mark.parametrize("weight_decay", [0.0, 5e-4])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torch_sgd_to_the_bit(weight_decay, nesterov):
    recipe = {"lr": 0.1, "momentum": 0.9, "weight_decay": weight_decay, "nesterov": nesterov}
    ours, theirs = (nn.Linear(5, 3) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimizer = torch.optim.SGD(theirs.parameters(), **recipe)
    velocities = [torch.zeros_like(p) for p in ours.parameters()]
    for step in range(4):
        x = torch.rand(7, 5, generator=seeded(step))
        gradients = torch.autograd.grad(ours(x).square().sum(), list(ours.parameters()))
        sgd_(list(ours.parameters()), gradients, velocities, **recipe)
        optimizer.zero_grad()
        theirs(x).square().sum().backward()
        optimizer.step()
    assert torch.equal(flatten(ours), flatten(theirs))


def test_nesterov_reaches_the_training(digits):
    """With it the first update of a fresh network is 1 + μ times as long."""
    images = channel_statistics(digits.images).apply(digits.pixels())
    steps = []
    for nesterov in (False, True):
        recipe = TrainingRecipe(1, 50, lr=0.1, momentum=0.5, weight_decay=0.0, nesterov=nesterov)
        after = flatten(fit(TINY, images, digits.labels, 10, recipe, seeded(0)))
        steps.append(after - flatten(build_network(TINY, (1, 8, 8), 10, draw_seed(seeded(0)))))
    assert torch.allclose(steps[1], 1.5 * steps[0], atol=1e-6)
    assert steps[0].norm() > 0.01
    with pytest.raises(ParamsError, match=r"nesterov is true, but training.momentum is 0; expected one above 0"):
        TrainingRecipe(1, 50, lr=0.1, momentum=0, nesterov=True)


def test_train_records_what_it_saw(digits):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images = channel_statistics(digits.images).apply(digits.pixels())
    before = network(images[:20])
    (visit,) = train(
        network,
        [Lot(images, digits.labels, seeded(0))],
        [(torch.arange(20),)],
        lr_at=constant(0.1),
        momentum=0.0,
        weight_decay=0.0,
        augmentation=Augmentation(),
    )
    assert torch.equal(visit.logits, before)
    assert not torch.equal(network(images[:20]), before)


def test_fit_learns_and_repeats_side_by_side(digits):
    images = channel_statistics(digits.images).apply(digits.pixels())

    def weights(seed: int) -> torch.Tensor:
        recipe = TrainingRecipe(steps=60, batch=32, lr=0.1)
        spec = NetworkSpec("convnet", "batch", 1, 4)
        network = fit(spec, images, digits.labels, 10, recipe, seeded(seed)).eval()
        assert (network(images).argmax(1) == digits.labels).float().mean() > 0.8
        return flatten(network)

    torch.set_num_threads(1)
    one_by_one = [weights(seed) for seed in (1, 2, 3)]
    together = list(side_by_side(weights, [1, 2, 3]))
    assert all(torch.equal(a, b) for a, b in zip(one_by_one, together, strict=True))


def test_bad_recipe():
    with pytest.raises(ParamsError, match=r"training.lr is 0; expected a finite number above 0"):
        TrainingRecipe(steps=1, batch=2, lr=0)
    with pytest.raises(ParamsError, match=r"training.momentum is 1; expected between 0 and 0.9999"):
        TrainingRecipe(steps=1, batch=2, lr=1, momentum=1)


def test_diverged_training_is_an_error(digits):
    recipe = TrainingRecipe(steps=5, batch=32, lr=1e30)
    with pytest.raises(DivergedError, match=r"gave nan or infinity; lower training.lr \(1e\+30\)"):
        fit(NetworkSpec("convnet", "none", 1, 4), digits.pixels(), digits.labels, 10, recipe, seeded(0))


def test_seeds_for_different_purposes_differ():
    assert seed_for(0, "expert", 1) == seed_for(0, "expert", 1)
    assert (
        len({seed_for(0, "expert", 1), seed_for(0, "expert", 2), seed_for(1, "expert", 1), seed_for(0, "evaluate")})
        == 4
    )


@pytest.mark.parametrize("fixed", [True, False])
def test_a_replay_takes_the_steps_of_its_schedule(digits, fixed):
    """θ ← θ − η ∇ℓ, each step on its own images: rows 3, 4 with η 0.5 and 0.125, rows 0 to 2 with 0.25 and 1."""
    spec = NetworkSpec("convnet", "instance", 1, 2)
    images, labels = digits.pixels()[:5], digits.labels[:5]
    start = flatten(build_network(spec, (1, 8, 8), 10, seed=4))
    schedule = Schedule(spec, torch.tensor([1, 1, 1, 0, 0]), torch.tensor([0.5, 0.25, 0.125, 1.0]))
    replayed = replay(images, labels, 10, schedule, seeded(0), start if fixed else None)
    by_hand = build_network(spec, (1, 8, 8), 10, seed=4 if fixed else draw_seed(seeded(0)))
    for rows, lr in (([3, 4], 0.5), ([0, 1, 2], 0.25), ([3, 4], 0.125), ([0, 1, 2], 1.0)):
        loss = nn.functional.cross_entropy(by_hand(images[rows]), labels[rows])
        for p, g in zip(by_hand.parameters(), torch.autograd.grad(loss, list(by_hand.parameters())), strict=True):
            p.data -= lr * g
    torch.testing.assert_close(flatten(replayed), flatten(by_hand))


def test_every_update_is_told_and_may_end_the_training(digits):
    images, updates, spec = digits.pixels()[:5], [], NetworkSpec("convnet", "instance", 1, 2)
    schedule = Schedule(spec, torch.tensor([1, 1, 1, 0, 0]), torch.tensor([0.5, 0.25, 0.125, 1.0]))
    recipe = TrainingRecipe(steps=7, batch=2, lr=0.1)

    def told() -> None:
        updates.append(None)
        if len(updates) == 14:
            raise Interrupted

    compute = Compute(on_update=told)
    fit(spec, images, digits.labels[:5], 10, recipe, seeded(0), compute=compute)
    assert len(updates) == 7
    replay(images, digits.labels[:5], 10, schedule, seeded(0), compute=compute)
    assert len(updates) == 7 + 4
    with pytest.raises(Interrupted):
        fit(spec, images, digits.labels[:5], 10, recipe, seeded(0), compute=compute)
    assert len(updates) == 14


def test_a_replay_from_the_start_of_another_network(digits):
    schedule = Schedule(NetworkSpec("convnet", "instance", 1, 2), torch.zeros(5, dtype=torch.int64), torch.ones(1))
    with pytest.raises(ArtifactError, match=r"these are 7 parameters, but the network has \d+; expected those of its"):
        replay(digits.pixels()[:5], digits.labels[:5], 10, schedule, seeded(0), torch.zeros(7))


def test_a_replay_that_diverges(digits):
    schedule = Schedule(NetworkSpec("convnet", "none", 1, 2), torch.zeros(5, dtype=torch.int64), torch.full((9,), 1e30))
    with pytest.raises(DivergedError, match="the set's own schedule gave nan or infinity; distil with smaller step"):
        replay(digits.pixels()[:5], digits.labels[:5], 10, schedule, seeded(0))
