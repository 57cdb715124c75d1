"""Networks trained as one stack: each as if it were alone."""

import pytest
import torch
from marks import long
from torch import nn

from distillkit.base.randomness import seeded
from distillkit.data.augment import Augmentation
from distillkit.data.images import channel_statistics
from distillkit.networks.parameters import flatten
from distillkit.networks.specs import NetworkSpec, build_network
from distillkit.training.compute import Compute
from distillkit.training.loop import Lot, TrainingRecipe, fit, fit_all, loss_and_logits
from distillkit.training.stacking import stack

SPECS = {
    "batch": (NetworkSpec("convnet", "batch", 2, 4), (1, 8, 8)),
    "instance": (NetworkSpec("convnet", "instance", 2, 4), (3, 8, 8)),
    "lenet": (NetworkSpec("lenet", "none"), (1, 28, 28)),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("soft", [False, True])
def test_a_stack_has_the_loss_and_the_gradients_of_its_networks(name, soft):
    """Three networks, each with a batch of its own, in float64: to the 12th digit. They share the stack's memory."""
    spec, shape = SPECS[name]
    networks = [build_network(spec, shape, 5, seed).double() for seed in range(3)]
    x_RNCHW = torch.randn(3, 6, *shape, generator=seeded(0), dtype=torch.float64)
    labels_RN = torch.randint(5, (3, 6), generator=seeded(1))
    if soft:
        labels_RN = torch.rand(3, 6, 5, generator=seeded(1), dtype=torch.float64)
    single = []
    for network, x_NCHW, labels in zip(networks, x_RNCHW, labels_RN, strict=True):
        loss = nn.functional.cross_entropy(network.train()(x_NCHW), labels)
        single.append((loss, torch.autograd.grad(loss, list(network.parameters()))))
    statistics = [network[1].running_var.clone() for network in networks if name == "batch"]

    networks = [build_network(spec, shape, 5, seed).double() for seed in range(3)]
    joint = stack(networks)
    logits = joint.train()(torch.cat([*x_RNCHW], 1))
    assert logits.shape == (6, 15)
    loss = sum(
        nn.functional.cross_entropy(own, labels) for own, labels in zip(logits.split(5, 1), labels_RN, strict=True)
    )
    torch.testing.assert_close(loss, sum(loss for loss, _ in single), rtol=1e-12, atol=0)
    found = torch.autograd.grad(loss, list(joint.parameters()))
    for part, *own in zip(found, *(gradients for _, gradients in single), strict=True):
        torch.testing.assert_close(part, torch.cat(own), rtol=1e-9, atol=1e-12)
    for network, variance in zip(networks, statistics, strict=False):
        torch.testing.assert_close(network[1].running_var, variance, rtol=1e-12, atol=0)
    with torch.no_grad():
        for parameter in joint.parameters():
            parameter.zero_()
    assert not any(flatten(network).any() for network in networks), "they do not share memory"


def test_the_loss_is_the_sum_over_networks(digits):
    """The loop's own: logits (N, R·K) against labels that lie image by image."""
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2)]
    images, labels = digits.pixels()[:12].view(2, 6, 1, 8, 8), digits.labels[:12].view(2, 6)
    single = sum(loss_and_logits(*parts, "fp32")[0] for parts in zip(networks, images, labels, strict=True))
    joint, together = stack(networks), torch.cat([*images], 1)
    loss, _ = loss_and_logits(joint, together, labels.transpose(0, 1).flatten(), "fp32")
    torch.testing.assert_close(loss, single)


@pytest.mark.parametrize("compute", [Compute(), Compute(channels_last=True)])
def test_networks_fitted_together_are_those_fitted_alone(digits, compute):
    """Sets of their own, their own draws and augmentation: equal but for rounding, which grows from step to step."""
    spec, recipe = NetworkSpec("convnet", "batch", 1, 4), TrainingRecipe(12, 20, 0.05, augmentation=Augmentation("dsa"))
    images = channel_statistics(digits.images).apply(digits.pixels())
    sets = [(images[rows], digits.labels[rows]) for rows in (slice(0, 60), slice(60, 120), slice(120, 180))]
    alone = [fit(spec, *part, 10, recipe, seeded(seed), compute=compute) for seed, part in enumerate(sets)]
    seen: list[tuple[int, int]] = []
    together = fit_all(
        spec,
        [Lot(*part, seeded(seed)) for seed, part in enumerate(sets)],
        10,
        recipe,
        on_step=lambda step, number, _: seen.append((step, number)),
        compute=compute,
    )
    assert seen == [(step, number) for step in range(1, 13) for number in range(3)]
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(flatten(one), flatten(other), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(one.eval()(images), other.eval()(images), rtol=1e-3, atol=1e-3)


class Doubling(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x], 1)


def test_networks_that_are_not_known_are_not_stacked():
    """Whatever mixes channels, ends elsewhere or stands in two places; then they are trained one by one."""
    linear = nn.Linear(4, 4)
    for layers in ([Doubling()], [nn.LocalResponseNorm(2)], [nn.Flatten(2)], [linear, nn.ReLU(), linear]):
        assert stack([nn.Sequential(*layers), nn.Sequential(*layers)]) is None
    assert stack([build_network(NetworkSpec("resnet18"), (3, 8, 8), 10, seed) for seed in (0, 1)]) is None


@pytest.mark.parametrize("spec", [long(NetworkSpec("resnet18", "none")), NetworkSpec("convnet", "batch", 1, 4)])
def test_what_is_not_stacked_is_fitted_one_by_one(digits, spec):
    """An unknown network, or batches of different sizes: to the bit as alone."""
    recipe, images = TrainingRecipe(2, 30, 0.01), digits.pixels()
    sizes = (30, 30) if spec.name == "resnet18" else (20, 30)
    lots = [Lot(images[:size], digits.labels[:size], seeded(size)) for size in sizes]
    for size, network in zip(sizes, fit_all(spec, lots, 10, recipe), strict=True):
        alone = fit(spec, images[:size], digits.labels[:size], 10, recipe, seeded(size))
        assert torch.equal(flatten(network), flatten(alone))


def test_groups_are_as_equal_as_can_be_and_two_at_least():
    assert Compute().groups(range(3)) == [[0], [1], [2]]
    compute = Compute(stack=4)
    assert [len(group) for group in compute.groups(range(5))] == [2, 3]
    assert [len(group) for group in compute.groups(range(9))] == [3, 3, 3]
    assert compute.groups(range(2)) == [[0], [1]]
    assert compute.groups([7]) == [[7]]
