"""DC, DSA, DM and the difficulty correction: values by hand, gradients in float64, networks that a run remembers."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distillkit.base.errors import ParamsError, WindowError
from distillkit.base.randomness import seeded
from distillkit.data import augment
from distillkit.data.augment import ALL_OPERATIONS, Augmentation
from distillkit.data.images import Iterate
from distillkit.matching.difficulty_correction import DifficultyCorrection
from distillkit.matching.distillation import Distillation, Optim
from distillkit.matching.gradient_accumulation import gradient_norm, summed
from distillkit.matching.kernels import EagerKernel
from distillkit.matching.objectives import gradient_distance, mean_feature_distance
from distillkit.methods.learning.dc import DatasetCondensation, GradientMatching, SiameseCondensation, published_loop
from distillkit.methods.learning.dm import DistributionMatching
from distillkit.methods.learning.mtt import Matching, TrajectoryMatching
from distillkit.networks.parameters import call_with, flatten, measure_statistics
from distillkit.networks.specs import NetworkSpec, build_network, without_classifier

INSTANCE = NetworkSpec("convnet", "instance", depth=1, width=3)
BATCH = NetworkSpec("convnet", "batch", depth=1, width=3)
NAN = torch.tensor(float("nan"))


# ── distances ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_gradient_distance_by_hand():
    """Rows of a matrix: equal, 0; at right angles, 1. A bias: nothing. One convolution's row, opposite: 2."""
    shapes = [torch.Size([2, 2]), torch.Size([2]), torch.Size([1, 2, 1, 1])]
    found = torch.tensor([3.0, 4.0, 1.0, 0.0, 7.0, 7.0, 1.0, 0.0], dtype=torch.float64)
    wanted = torch.tensor([6.0, 8.0, 0.0, 1.0, 0.0, -9.0, -2.0, 0.0], dtype=torch.float64)
    expected = (1 - 50 / (50 + 1e-6)) + 1 + (1 + 2 / (2 + 1e-6))
    assert gradient_distance(found, wanted, shapes).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_distance_of_a_gradient_that_vanished():
    """A row of zeros is at distance 1 from any, and pulls by −h / 10⁻⁶, which is finite."""
    found = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    distance = gradient_distance(found, torch.tensor([3.0, 4.0], dtype=torch.float64), [torch.Size([1, 2])])
    assert distance.item() == 1
    (slope,) = torch.autograd.grad(distance, found)
    assert torch.allclose(slope, torch.tensor([-3e6, -4e6], dtype=torch.float64))


def test_gradient_of_the_gradient_distance():
    shapes = [torch.Size([3, 2]), torch.Size([3]), torch.Size([2, 1, 2, 2])]
    found, wanted = (torch.randn(17, dtype=torch.float64, generator=seeded(i)) for i in (0, 1))
    assert torch.autograd.gradcheck(lambda g: gradient_distance(g, wanted, shapes), found.requires_grad_())


def test_mean_feature_distance_by_hand():
    """Means (2, 1) and (−1, 5): 9 + 16."""
    found, wanted = torch.tensor([[1.0, 0.0], [3.0, 2.0]]), torch.tensor([[-1.0, 5.0]])
    assert mean_feature_distance(found, wanted).item() == 25


# ── losses in parts ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sum_in_parts_is_the_sum():
    x = torch.randn(4, 1, 2, 2, dtype=torch.float64, generator=seeded(0), requires_grad=True)
    parts = [lambda x: x[:2].square().sum(), lambda x: x[1:].sin().sum(), lambda x: (x[0] * x[3]).sum()]
    whole = sum(part(x) for part in parts)
    found = 3 * summed(parts, x)
    assert found.item() == pytest.approx(3 * whole.item())
    assert torch.allclose(torch.autograd.grad(found, x)[0], 3 * torch.autograd.grad(whole, x)[0])


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("batch", [7, 3])
def test_gradient_norm_is_what_autograd_finds(batch, soft):
    """Instance norm, so that batches change nothing: the norm of the whole set's gradient, and its own gradient."""
    network = build_network(INSTANCE, (1, 4, 4), 3, seed=0).double()
    theta = flatten(network)
    images = torch.rand(7, 1, 4, 4, dtype=torch.float64, generator=seeded(1), requires_grad=True)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    if soft:
        labels = torch.rand(7, 3, dtype=torch.float64, generator=seeded(2)).softmax(1).requires_grad_()
    inputs = [images, labels] if soft else [images]
    wanted = theta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        F.cross_entropy(call_with(network, wanted, images), labels), wanted, create_graph=True
    )
    found = gradient_norm(EagerKernel(network), theta, images, labels, batch)
    assert found.item() == pytest.approx(gradient.norm().item(), rel=1e-12)
    for mine, autograds in zip(
        torch.autograd.grad(found, inputs), torch.autograd.grad(gradient.norm(), inputs), strict=True
    ):
        assert torch.allclose(mine, autograds, atol=1e-12)


def test_batches_of_a_gradient_norm_mix_the_classes():
    """Four images in batches of two: 0 and 2, then 1 and 3."""
    seen = []

    class Kernel(EagerKernel):
        def gradient(self, theta_P, images_NCHW, labels):
            seen.append(labels.tolist())
            return super().gradient(theta_P, images_NCHW, labels)

    kernel = Kernel(build_network(INSTANCE, (1, 4, 4), 2, seed=0))
    gradient_norm(kernel, flatten(kernel.network), torch.rand(4, 1, 4, 4), torch.tensor([0, 0, 1, 1]), 2)
    assert seen == [[0, 1], [0, 1]]


# ── difficulty correction ─────────────────────────────────────────────────────────────────────────────────────────────


def test_weights_of_the_correction():
    """Constant; or from 1 to 3 in four steps, and 3 from there on."""
    assert [DifficultyCorrection(0.5).weight_at(step) for step in (0, 9)] == [0.5, 0.5]
    line = DifficultyCorrection(1, final_weight=3, over=4)
    assert [line.weight_at(step) for step in (0, 1, 2, 4, 9)] == [1, 1.5, 2, 3, 3]


def test_the_correction_is_added_to_trajectory_matching_at_the_experts_start(material):
    """One expert and one start epoch, so θ is known: the loss grows by λ ‖∇CE(S; θ)‖, and so does its gradient."""
    only = replace(material, experts=replace(material.experts, trajectories_ETP=material.experts.trajectories_ETP[:1]))
    plain = Matching(student_steps=2, student_batch=40, expert_epochs=1, max_start_epoch=1)
    method, correction = TrajectoryMatching(4, plain), DifficultyCorrection(0.5, final_weight=0.0, over=10)
    start = method.init(only, seeded(0))
    images = start.normalisation.apply(start.images).requires_grad_()
    iterate = Iterate(images, start.labels, torch.tensor(0.05), step=5)
    theta = only.experts.read(0, 0).clone().requires_grad_()
    loss = F.cross_entropy(call_with(only.kernel.network, theta, images), start.labels)
    norm = torch.autograd.grad(loss, theta, create_graph=True)[0].norm()
    without = method.loss(iterate, only, seeded(3))
    with_it = TrajectoryMatching(4, replace(plain, difficulty_correction=correction)).loss(iterate, only, seeded(3))
    assert with_it.item() == pytest.approx((without + 0.25 * norm).item(), rel=1e-5)
    found, expected = (torch.autograd.grad(value, images)[0] for value in (with_it, without + 0.25 * norm))
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_correction_of_nothing_costs_nothing():
    iterate = Iterate(torch.zeros(1, 1, 4, 4), torch.tensor([0]), NAN)
    assert DifficultyCorrection(0.0).penalty(None, torch.zeros(1), iterate).item() == 0


# ── networks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_published_loops():
    assert [published_loop(ipc) for ipc in (1, 10, 20, 30, 40, 50)] == [
        (1, 1), (10, 50), (20, 25), (30, 20), (40, 15), (50, 10)
    ]  # fmt: skip
    assert [published_loop(ipc) for ipc in (4, 15, 45, 51, 1000)] == [(4, 17), (15, 38), (45, 12), (50, 10), (50, 10)]


def test_either_number_of_the_loop_may_be_given():
    assert GradientMatching(updates=2).loop(10) == (2, 50)
    assert GradientMatching(inner_epochs=0).loop(10) == (10, 0)


def test_the_network_is_fresh_every_few_steps_and_trained_in_between(material):
    """Three updates a network: steps 0 and 3 draw one; before steps 1 and 2 it takes two steps on the whole set."""
    method = DatasetCondensation(2, "random", GradientMatching(updates=3, inner_epochs=2, network_lr=0.5))
    start, memory, generator = method.init(material, seeded(0)), {}, seeded(1)
    images = start.normalisation.apply(start.images)
    thetas = []
    for step in range(4):
        moved = images + step  # the images of every step differ: those of the step count
        method.loss(Iterate(moved, start.labels, NAN, step=step, memory=memory), material, generator)
        thetas.append(memory["theta_P"].clone())
    kernel = material.kernel  # batch statistics, as in training
    for step in (1, 2):
        theta = thetas[step - 1]
        for _ in range(2):
            theta = theta - 0.5 * kernel.gradient(theta, images + step, start.labels)
        assert torch.allclose(thetas[step], theta, atol=1e-5)
    fresh = {tuple(theta[:5].tolist()) for theta in (thetas[0], thetas[3])}
    assert len(fresh) == 2
    assert thetas[3].norm() != thetas[2].norm()


def test_a_network_for_one_update_is_not_remembered(material):
    method, memory = DatasetCondensation(1, "random"), {}
    start = method.init(material, seeded(0))
    method.loss(Iterate(start.images, start.labels, NAN, memory=memory), material, seeded(1))
    assert not memory


def test_frozen_statistics_are_those_of_the_images():
    """Channel means and variances of the convolution's output; features of an image no longer depend on its batch."""
    network = build_network(BATCH, (1, 4, 4), 2, seed=0)
    images = torch.rand(6, 1, 4, 4, generator=seeded(0))
    frozen = measure_statistics(network, images)
    assert not frozen.training
    seen = network[0](images)
    assert torch.allclose(network[1].running_mean, seen.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(network[1].running_var, seen.var((0, 2, 3)), atol=1e-6)
    assert torch.allclose(frozen(images)[:1], frozen(images[:1]), atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "features"), [(NetworkSpec("convnet", "instance", 2, 5), 5 * 2 * 2), (NetworkSpec("resnet18"), 512)]
)
def test_features_are_what_the_classifier_sees(spec, features):
    network = build_network(spec, (3, 8, 8), 7, seed=0).eval()
    images = torch.rand(2, 3, 8, 8)
    *_, classifier = (module for module in network.modules() if isinstance(module, nn.Linear))
    logits = network(images)
    found = without_classifier(network)(images)
    assert found.shape == (2, features)
    assert torch.equal(classifier(found), logits)


@pytest.mark.parametrize("operation", ALL_OPERATIONS)
def test_siamese_draws_treat_all_images_of_all_batches_alike(operation):
    steps = augment.draw_siamese(Augmentation("dsa", (operation,)), seeded(1))
    images = torch.rand(1, 2, 8, 8, generator=seeded(2))
    one = augment.apply(images, steps)
    assert torch.equal(augment.apply(images.repeat(5, 1, 1, 1), steps), one.repeat(5, 1, 1, 1))


# ── whole losses ──────────────────────────────────────────────────────────────────────────────────────────────────────

MATCHERS = [
    DistributionMatching(1, network=INSTANCE, augmentation=Augmentation()),
    DistributionMatching(1, network=BATCH),
    DatasetCondensation(1, matching=GradientMatching(network=INSTANCE)),
    SiameseCondensation(1, matching=GradientMatching(network=BATCH)),
]


@pytest.mark.parametrize("method", MATCHERS)
def test_the_real_images_are_at_no_distance_from_themselves(method, material):
    """The whole training set as the synthetic one: all that is compared is equal, but for DC's 10⁻⁶."""
    rows = torch.cat(material.rows_by_class)
    images, labels = material.normalised(rows).double(), material.real.labels[rows]
    other = images.flip(0)
    losses = [method.loss(Iterate(x, labels, NAN), material, seeded(4)).item() for x in (images, other)]
    assert losses[0] < 5e-3
    assert losses[1] > 20 * losses[0]


def test_dm_takes_classes_apart_or_together_with_the_same_result(material, monkeypatch):
    method = DistributionMatching(3, network=INSTANCE)
    start = method.init(material, seeded(0))
    images = start.normalisation.apply(start.images).double().requires_grad_()
    results = []
    for together in (False, True):
        monkeypatch.setattr("distillkit.methods.learning.dm.has_batch_norm", lambda _, together=together: together)
        loss = method.loss(Iterate(images, start.labels, NAN), material, seeded(1))
        results.append((loss, torch.autograd.grad(loss, images)[0]))
    assert results[0][0].item() == pytest.approx(results[1][0].item())
    assert torch.allclose(results[0][1], results[1][1])


@pytest.mark.parametrize("steps", [3, 4, 5])
def test_a_run_resumes_with_the_network_that_it_had(material, steps):
    """Four updates a network: stopped within a network's life, at its end, and after the first update of the next."""
    method = SiameseCondensation(4, matching=GradientMatching(inner_epochs=2))
    optim = Optim(steps=7, image_lr=1)
    whole = Distillation(method, method.init(material, seeded(0)), material, optim, seeded(1))
    list(whole)
    first = Distillation(method, method.init(material, seeded(0)), material, optim, seeded(1))
    for _ in range(steps):
        first.advance()
    state = {name: part.clone() for name, part in first.state().items()}
    second = Distillation(method, method.init(material, seeded(0)), material, optim, seeded(9))
    second.restore(state)
    list(second)
    assert torch.equal(second.result().images, whole.result().images)
    assert [step.loss for step in second.history] == [step.loss for step in whole.history]


@pytest.mark.parametrize("method", [DistributionMatching, DatasetCondensation])
@pytest.mark.parametrize("ipc", [10**9, 10**15])
def test_more_noise_than_any_machine_holds_is_refused(material, method, ipc):
    with pytest.raises(ParamsError, match=r"^ipc is 1e\+\d\d?, but 10 classes of so many images of 1x8x8 are"):
        method(ipc, start="noise").init(material, seeded(0))


def test_hundreds_of_images_a_class_may_start_from_noise(material):
    """More than there are real ones, which is none of noise's business."""
    assert DistributionMatching(200, "noise").init(material, seeded(0)).images_per_class == [200] * 10
    with pytest.raises(WindowError, match="ipc is 200"):
        DistributionMatching(200).init(material, seeded(0))


def test_networks_need_a_kind(material):
    method = DistributionMatching(1, "noise")
    start, bare = method.init(material, seeded(0)), replace(material, experts=None)
    iterate = Iterate(start.images, start.labels, NAN)
    with pytest.raises(ParamsError, match=r"^network is missing, .*; add network or train experts$"):
        method.loss(iterate, bare, seeded(0))
    assert replace(method, network=INSTANCE).loss(iterate, bare, seeded(0)) > 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DatasetCondensation(0), "ipc is 0; expected at least 1"),
        (lambda: SiameseCondensation(1, augmentation=Augmentation("combined")), "augmentation.kind is combined, which"),
        (
            lambda: DistributionMatching(1, augmentation=Augmentation("combined")),
            "augmentation.kind is combined, which",
        ),
        (lambda: DistributionMatching(1, real_batch=0), "real_batch is 0; expected at least 1"),
        (lambda: GradientMatching(updates=0), "matching.updates is 0; expected at least 1"),
        (lambda: GradientMatching(inner_epochs=-1), "matching.inner_epochs is -1; expected at least 0"),
        (lambda: GradientMatching(network_lr=0), "matching.network_lr is 0; expected a finite number above 0"),
        (lambda: DifficultyCorrection(-1), "difficulty_correction.weight is -1; expected at least 0"),
        (lambda: DifficultyCorrection(1, over=3), "difficulty_correction has over without final_weight; expected both"),
        (lambda: DifficultyCorrection(1, final_weight=3), "difficulty_correction has final_weight without over"),
    ],
)
def test_bad_parameters(build, message):
    with pytest.raises(ParamsError, match=message):
        build()
