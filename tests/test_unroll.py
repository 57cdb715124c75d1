"""The unroll and its loss: values by hand, gradients by finite differences, in float64."""

import pytest
import torch
from torch import nn

from distillkit.augment import Augmentation
from distillkit.errors import DivergedError
from distillkit.images import Iterate
from distillkit.matching import trajectory_matching_loss
from distillkit.networks import NetworkSpec, build_network
from distillkit.parameters import flatten, forget_statistics
from distillkit.randomness import seeded
from distillkit.unroll import InnerStep, plan, unroll


def test_matching_loss_by_hand():
    """start 0, target (3, 4), student (3, 0): 16 / 25."""
    student, start, target = torch.tensor([3.0, 0.0]), torch.zeros(2), torch.tensor([3.0, 4.0])
    assert trajectory_matching_loss(student, start, target).item() == pytest.approx(16 / 25)
    assert trajectory_matching_loss(start, start, target).item() == 1
    assert trajectory_matching_loss(target, start, target).item() == 0


def test_an_expert_that_stood_still_is_refused():
    with pytest.raises(DivergedError, match=r"did not move.*experts.lr"):
        trajectory_matching_loss(torch.ones(2), torch.zeros(2), torch.zeros(2))


def test_one_step_by_hand():
    """One linear unit pair on one image x = 2, label 0, weights 0: softmax (½, ½), so ∇W = (−½, ½) · 2 and η = 0.1."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    iterate = Iterate(torch.tensor([[[[2.0]]]]), torch.tensor([0]), torch.tensor(0.1))
    theta = unroll(network, torch.zeros(2), iterate, [InnerStep(torch.tensor([0]), [])])
    assert torch.allclose(theta, torch.tensor([0.1, -0.1]))


def test_unroll_is_sgd():
    """Three steps equal three steps of torch's own SGD."""
    network = build_network(NetworkSpec("convnet", "batch", 1, 3), (1, 4, 4), 3, seed=0).double().train()
    start = flatten(network)
    images = torch.rand(6, 1, 4, 4, dtype=torch.float64, generator=seeded(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    steps = plan(6, 3, 4, Augmentation(), seeded(1))
    student = forget_statistics(build_network(NetworkSpec("convnet", "batch", 1, 3), (1, 4, 4), 3, seed=9)).double()
    found = unroll(student, start, Iterate(images, labels, torch.tensor(0.1, dtype=torch.float64)), steps)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for rows, _ in steps:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimizer.step()
    assert torch.allclose(found, flatten(network), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("augmentation", ["none", "dsa"])
def test_gradients_through_the_unroll(norm, augmentation):
    spec = NetworkSpec("convnet", norm, 1, 2)
    student = forget_statistics(build_network(spec, (1, 4, 4), 2, seed=0)).double().train()
    start, target = flatten(student), flatten(student) + 0.1
    labels, steps = torch.tensor([0, 1, 0]), plan(3, 2, 3, Augmentation(augmentation), seeded(5))

    def loss(images, lr):
        return trajectory_matching_loss(unroll(student, start, Iterate(images, labels, lr), steps), start, target)

    images = torch.rand(3, 1, 4, 4, dtype=torch.float64, generator=seeded(2), requires_grad=True)
    assert torch.autograd.gradcheck(loss, [images, torch.tensor(0.3, dtype=torch.float64, requires_grad=True)])
