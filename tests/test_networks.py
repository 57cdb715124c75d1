"""Networks as the field defines them: parameter counts, layers, seeds; and networks as functions of a vector."""

import pytest
import torch
from torch import nn

from distillkit.base.errors import ParamsError
from distillkit.base.randomness import seeded
from distillkit.data.images import Iterate
from distillkit.matching.kernels import EagerKernel
from distillkit.matching.unroll import InnerStep, unroll
from distillkit.networks.parameters import call_with, flatten, forget_statistics
from distillkit.networks.specs import NetworkSpec, build_network


@pytest.mark.parametrize(
    ("depth", "shape", "classes", "parameters"),
    [
        (3, (3, 32, 32), 10, 320_010),
        (3, (3, 32, 32), 100, 504_420),
        (4, (3, 64, 64), 200, 857_160),
        (3, (1, 28, 28), 10, 317_706),
    ],
    ids=["CIFAR-10", "CIFAR-100", "Tiny-ImageNet", "MNIST"],
)
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_published_parameter_counts(depth, shape, classes, parameters, norm):
    network = build_network(NetworkSpec("convnet", norm, depth, 128), shape, classes, seed=0)
    assert len(flatten(network)) == parameters
    assert network.eval()(torch.zeros(2, *shape)).shape == (2, classes)


def test_convnet_block_order():
    network = build_network(NetworkSpec("convnet", "none", 1, 2), (1, 4, 6), 3, seed=0)
    assert [type(layer) for layer in network] == [nn.Conv2d, nn.Identity, nn.ReLU, nn.AvgPool2d, nn.Flatten, nn.Linear]
    assert network[-1].in_features == 2 * 2 * 3


def test_instance_norm_is_group_norm_with_affine():
    network = build_network(NetworkSpec("convnet", "instance", 1, 6), (3, 8, 8), 2, seed=0)
    assert isinstance(network[1], nn.GroupNorm)
    assert (network[1].num_groups, network[1].affine) == (6, True)


def test_resnet18_small_image_stem():
    """11,173,962 parameters: the CIFAR ResNet18 of the field."""
    network = build_network(NetworkSpec("resnet18"), (3, 32, 32), 10, seed=0)
    assert len(flatten(network)) == 11_173_962
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert network.layer4[1].conv2(torch.zeros(1, 512, 4, 4)).shape == (1, 512, 4, 4)


def test_seed_fixes_weights_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first, second, other = (
        flatten(build_network(NetworkSpec("convnet", width=4), (1, 8, 8), 2, seed)) for seed in (7, 7, 8)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_too_deep_for_the_image():
    with pytest.raises(ParamsError, match=r"depth is 4.*8x8.*smaller depth"):
        build_network(NetworkSpec("convnet", depth=4), (1, 8, 8), 10, seed=0)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_call_with_equals_the_network_and_changes_nothing(norm):
    network = build_network(NetworkSpec("convnet", norm, 2, 4), (3, 8, 8), 5, seed=1)
    x = torch.rand(6, 3, 8, 8)
    expected = network.train()(x)
    student = forget_statistics(build_network(NetworkSpec("convnet", norm, 2, 4), (3, 8, 8), 5, seed=2)).train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert torch.allclose(call_with(student, flatten(network), x), expected, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_flatten_copies():
    """The field's ``p.detach().cpu()`` aliases live weights on a CPU; ours must not."""
    network = build_network(NetworkSpec("convnet", width=2), (1, 8, 8), 2, seed=0)
    theta = flatten(network)
    kept = theta.clone()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert torch.equal(theta, kept)


LENET, ALEX = NetworkSpec("lenet", "none"), NetworkSpec("alexcifarnet", "none")


@pytest.mark.parametrize(
    ("spec", "shape", "parameters"),
    [
        # 6 (25 + 1), 16 (6 x 25 + 1), 120 (400 + 1), 84 (120 + 1), 10 (84 + 1)
        (LENET, (1, 28, 28), 156 + 2416 + 48_120 + 10_164 + 850),
        (LENET, (3, 32, 32), 6 * (3 * 25 + 1) + 2416 + 48_120 + 10_164 + 850),
        # 64 (3 x 25 + 1), 64 (64 x 25 + 1), 384 (4096 + 1), 192 (384 + 1), 10 (192 + 1)
        (ALEX, (3, 32, 32), 4864 + 102_464 + 1_573_248 + 73_920 + 1930),
    ],
)
def test_networks_of_dataset_distillation(spec, shape, parameters):
    network = build_network(spec, shape, 10, seed=0)
    assert len(flatten(network)) == parameters
    assert network(torch.zeros(2, *shape)).abs().max() == 0, "biases are 0"
    weight = network[-3].weight
    fan_in, fan_out = weight.shape[1], weight.shape[0]
    assert weight.std().item() == pytest.approx((2 / (fan_in + fan_out)) ** 0.5, rel=0.05)
    assert str(spec) in ("LeNet", "AlexCifarNet")


@pytest.mark.parametrize(("spec", "shape"), [(LENET, (1, 28, 28)), (ALEX, (3, 32, 32))])
def test_an_unrolled_step_goes_through_them(spec, shape):
    """The gradient with respect to images, through one step, is that of plain autograd."""
    network = build_network(spec, shape, 3, seed=0).double()
    theta_P = flatten(network)
    images, labels = torch.rand(3, *shape, dtype=torch.float64, generator=seeded(0)).requires_grad_(), torch.arange(3)
    iterate = Iterate(images, labels, torch.tensor(0.1, dtype=torch.float64))
    end_P = unroll(EagerKernel(network), theta_P, iterate, [InnerStep(labels, [])])[-1]
    (found,) = torch.autograd.grad((end_P - theta_P - 0.01).square().sum(), images)
    start_P = theta_P.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(call_with(network, start_P, images), labels)
    (gradient,) = torch.autograd.grad(loss, start_P, create_graph=True)
    (expected,) = torch.autograd.grad((-0.1 * gradient - 0.01).square().sum(), images)
    assert expected.abs().max() > 0
    assert torch.allclose(found, expected, atol=1e-14, rtol=1e-9)


def test_images_that_do_not_fit_and_normalisation_are_refused():
    with pytest.raises(ParamsError, match=r"^network.name is lenet, but images are 8x8; expected 28x28 or 32x32"):
        build_network(LENET, (1, 8, 8), 10, seed=0)
    with pytest.raises(ParamsError, match=r"alexcifarnet, but images are 1x28x28; expected 3x32x32"):
        build_network(ALEX, (1, 28, 28), 10, seed=0)
    with pytest.raises(ParamsError, match=r"^network.norm is batch, but lenet is a network without; expected none"):
        NetworkSpec("lenet")
