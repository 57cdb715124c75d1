"""The training loop: batches, schedules, SGD to the bit, seeds."""

import math

import pytest
import torch
from torch import nn

from distillkit.augment import Augmentation
from distillkit.errors import DivergedError, ParamsError
from distillkit.executors import side_by_side
from distillkit.images import channel_statistics
from distillkit.networks import NetworkSpec
from distillkit.parameters import flatten
from distillkit.randomness import seed_for, seeded
from distillkit.training import TrainingRecipe, constant, cosine, epoch_batches, fit, sgd_, step_batches, train


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
def test_sgd_is_torch_sgd_to_the_bit(weight_decay):
    ours, theirs = (nn.Linear(5, 3) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay)
    velocities = [torch.zeros_like(p) for p in ours.parameters()]
    for step in range(4):
        x = torch.rand(7, 5, generator=seeded(step))
        gradients = torch.autograd.grad(ours(x).square().sum(), list(ours.parameters()))
        sgd_(list(ours.parameters()), gradients, velocities, lr=0.1, momentum=0.9, weight_decay=weight_decay)
        optimizer.zero_grad()
        theirs(x).square().sum().backward()
        optimizer.step()
    assert torch.equal(flatten(ours), flatten(theirs))


def test_train_records_what_it_saw(digits):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images = channel_statistics(digits.images).apply(digits.pixels())
    before = network(images[:20])
    (visit,) = train(
        network,
        images,
        digits.labels,
        [torch.arange(20)],
        lr_at=constant(0.1),
        momentum=0.0,
        weight_decay=0.0,
        augmentation=Augmentation(),
        generator=seeded(0),
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
