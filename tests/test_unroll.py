"""The unroll and its loss: values by hand, gradients against autograd through the whole graph, in float64."""

from itertools import accumulate, product

import pytest
import torch
import torch.nn.functional as F
from marks import long
from torch import nn

from distillkit.base.errors import DivergedError
from distillkit.base.randomness import seeded
from distillkit.data import augment
from distillkit.data.augment import ALL_OPERATIONS, Augmentation
from distillkit.data.images import Iterate
from distillkit.matching import unroll as unroll_module
from distillkit.matching.kernels import CompiledKernel, EagerKernel, adjoint_function, with_plain_norms
from distillkit.matching.objectives import trajectory_matching_loss
from distillkit.matching.unroll import InnerStep, plan, unroll
from distillkit.networks.parameters import call_with, flatten, forget_statistics
from distillkit.networks.specs import NetworkSpec, build_network
from distillkit.training.compute import Compute

CLASSES, IMAGES, STEPS = 3, 7, 4
SHAPES = {"resnet18": (3, 8, 8), "lenet": (1, 28, 28), "alexcifarnet": (3, 32, 32)}
EXACT = 1e-10


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
    (theta,) = unroll(EagerKernel(network), torch.zeros(2), iterate, [InnerStep(torch.tensor([0]), [])])
    assert torch.allclose(theta, torch.tensor([0.1, -0.1]))


def test_unroll_is_sgd():
    """Three steps equal three steps of torch's own SGD."""
    network = build_network(NetworkSpec("convnet", "batch", 1, 3), (1, 4, 4), 3, seed=0).double().train()
    start = flatten(network)
    images = torch.rand(6, 1, 4, 4, dtype=torch.float64, generator=seeded(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    steps = plan(6, 3, 4, Augmentation(), seeded(1))
    student = forget_statistics(build_network(NetworkSpec("convnet", "batch", 1, 3), (1, 4, 4), 3, seed=9)).double()
    lr = torch.tensor(0.1, dtype=torch.float64)
    *_, found = unroll(EagerKernel(student), start, Iterate(images, labels, lr), steps)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for rows, _ in steps:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimizer.step()
    assert torch.allclose(found, flatten(network), rtol=1e-12, atol=1e-14)


class Case:
    """A small problem: a student, where it starts, seven images of which five may be learned, four steps of four."""

    def __init__(
        self, norm: str, soft: bool = False, lr_per_step: bool = False, augmentation=None, depth=2, name="convnet"
    ):
        shape, double = SHAPES.get(name, (2, 6, 6)), torch.float64
        spec = NetworkSpec(name, norm, depth, width=3)
        self.network = forget_statistics(build_network(spec, shape, CLASSES, seed=0)).to(double).train()
        self.images = torch.randn(IMAGES, *shape, dtype=double, generator=seeded(1))
        self.learned = torch.tensor([True, True, False, True, True, False, True])
        self.labels = torch.arange(IMAGES) % CLASSES
        if soft:
            self.labels = torch.rand(IMAGES, CLASSES, dtype=double, generator=seeded(2)).softmax(1)
        self.lr = torch.linspace(0.1, 0.4, STEPS, dtype=double) if lr_per_step else torch.tensor(0.3, dtype=double)
        self.steps = plan(IMAGES, STEPS, 4, augmentation or Augmentation("dsa"), seeded(3))
        self.start = torch.stack([flatten(self.network), flatten(self.network)])[0]  # a view, as experts in memory are
        self.weights = torch.randn(STEPS, len(self.start), dtype=double, generator=seeded(4))

    def inputs(self):
        return [
            t.clone().requires_grad_(t.is_floating_point()) for t in (self.start, self.images, self.labels, self.lr)
        ]

    def loss(self, thetas, every: bool):
        """Curved in θ: of the last only, or of all."""
        pairs = list(zip(thetas, self.weights[: len(thetas)], strict=True))
        return sum((theta.sin() * weight).sum() for theta, weight in (pairs if every else pairs[-1:]))

    def gradients(self, thetas_of, every: bool):
        """Of start, images (the learned ones), labels if soft, step sizes."""
        inputs = self.inputs()
        loss = self.loss(thetas_of(*inputs), every)
        wanted = [t for t in inputs if t.requires_grad]
        found = torch.autograd.grad(loss, wanted)
        return loss.detach(), [g[self.learned] if g.shape == self.images.shape else g for g in found]

    def full_graph(self, start, images, labels, lr):
        """The plain way: autograd keeps the graph of every step."""
        thetas, theta = [], start
        for (rows, draw), eta in zip(self.steps, lr.expand(STEPS), strict=True):
            loss = F.cross_entropy(call_with(self.network, theta, augment.apply(images[rows], draw)), labels[rows])
            theta = theta - eta * torch.autograd.grad(loss, theta, create_graph=True)[0]
            thetas.append(theta)
        return thetas

    def ours(self, kernel=None, keep=0):
        return lambda start, images, labels, lr: unroll(
            kernel or EagerKernel(self.network), start, Iterate(images, labels, lr, self.learned), self.steps, keep=keep
        )


class ReverseOverForward:
    """The functions that are compiled, not compiled."""

    def __init__(self, network):
        self.gradient = EagerKernel(network).gradient
        self.adjoint = adjoint_function(with_plain_norms(network))


def assert_equal_to(reference, found, tolerance=EXACT):
    assert found[0].item() == pytest.approx(reference[0].item(), rel=tolerance)
    for ours, theirs in zip(found[1], reference[1], strict=True):
        assert theirs.norm() > 0
        assert ((ours - theirs).norm() / theirs.norm()).item() < tolerance


@pytest.mark.parametrize(
    ("norm", "soft", "lr_per_step", "every"), list(product(["batch", "instance", "none"], *[[False, True]] * 3))
)
@pytest.mark.parametrize("kernel", ["eager", "reverse over forward"])
@pytest.mark.filterwarnings("ignore:.*jit.script:FutureWarning")
def test_adjoint_equals_autograd_through_the_whole_unroll(norm, soft, lr_per_step, every, kernel):
    case = Case(norm, soft, lr_per_step)
    own = None if kernel == "eager" else ReverseOverForward(case.network)
    assert_equal_to(case.gradients(case.full_graph, every), case.gradients(case.ours(own), every))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*jit.script:FutureWarning")
def test_kernels_agree_on_a_resnet():
    network = forget_statistics(build_network(NetworkSpec("resnet18"), (1, 8, 8), 3, seed=0)).double().train()
    theta, images = flatten(network), torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=seeded(0))
    v = torch.randn(len(theta), dtype=torch.float64, generator=seeded(1))
    eager = EagerKernel(network).adjoint(theta, images, torch.tensor([0, 1, 2, 0]), v)
    other = ReverseOverForward(network).adjoint(theta, images, torch.tensor([0, 1, 2, 0]), v)
    for ours, theirs in zip(other[:3], eager[:3], strict=True):
        assert ((ours - theirs).norm() / theirs.norm()).item() < EXACT


@pytest.mark.parametrize("operation", [*ALL_OPERATIONS, "simple", "none"])
def test_adjoint_with_every_augmentation(operation):
    kind = Augmentation(operation) if operation in ("simple", "none") else Augmentation("dsa", (operation,))
    case = Case("batch", augmentation=kind)
    assert_equal_to(case.gradients(case.full_graph, True), case.gradients(case.ours(), True))


@pytest.mark.parametrize(
    ("name", "norm", "keep"),
    [
        *product(["convnet"], ["batch"], [1, STEPS - 1, STEPS, 100, None]),
        *product(["convnet"], ["instance", "none"], [STEPS - 1, None]),
        *[("lenet", "none", 1), ("alexcifarnet", "none", 1)],
        long("resnet18", "none", 1),
    ],
)
def test_keeping_graphs_changes_no_bit(name, norm, keep):
    """PyTorch has two formulas for the gradient of a group norm, one of them for when a graph is made."""
    case = Case(norm, soft=True, name=name)
    case.steps = case.steps if name == "convnet" else case.steps[:2]
    (loss, gradients), (kept_loss, kept) = (case.gradients(case.ours(keep=k), True) for k in (0, keep))
    assert torch.equal(loss, kept_loss)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(kept, gradients, strict=True))


def peak_bytes(function) -> int:
    """The most memory that tensors held at once, from every allocation and release that PyTorch makes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = list(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
    return max(held)


def test_memory_is_flat_in_the_steps_unless_graphs_are_kept():
    """From 5 to 15 inner steps: more by the parameters of each step, and with kept graphs by far more."""
    network = forget_statistics(
        build_network(NetworkSpec("convnet", depth=1, width=8), (3, 16, 16), 10, seed=0)
    ).train()
    images = torch.randn(100, 3, 16, 16, generator=seeded(0)).requires_grad_()
    iterate = Iterate(images, torch.arange(100) % 10, torch.tensor(0.01))

    def peak(count: int, keep: int) -> int:
        steps = plan(100, count, 32, Augmentation("dsa"), seeded(1))

        def differentiate():
            *_, theta = unroll(EagerKernel(network), flatten(network), iterate, steps, keep=keep)
            torch.autograd.grad(theta.sum(), images)

        differentiate()
        return peak_bytes(differentiate)

    assert peak(15, keep=0) - peak(5, keep=0) < 10 * 1.5 * flatten(network).nbytes
    assert peak(15, keep=15) > 2 * peak(5, keep=5)


def test_as_many_graphs_are_kept_as_fit_the_budget(monkeypatch):
    case = Case("batch")
    kernel, rows = EagerKernel(case.network), case.steps[0].rows
    batch = case.start, case.images[rows], case.labels[rows]
    one = kernel.bytes_kept(*batch)
    assert one > case.images[rows].nbytes
    for budget, expected in ((0, 0), (one - 1, 0), (2.5 * one, 2)):
        monkeypatch.setattr(unroll_module, "CPU_BUDGET", int(budget))
        assert unroll_module.graphs_that_fit(kernel, *batch) == expected


def test_keeping_graphs_saves_their_replay():
    """Each kept step is recorded once; the others once on the way and once on the way back."""
    case, recorded = Case("batch"), []

    class Counting(EagerKernel):
        def record(self, *arguments):
            recorded.append(1)
            return super().record(*arguments)

    for keep, expected in ((STEPS, STEPS), (3, STEPS + 1), (0, 2 * STEPS)):
        recorded.clear()
        case.gradients(case.ours(Counting(case.network), keep=keep), False)
        assert len(recorded) == expected


def test_only_images_that_may_change_get_gradients():
    case = Case("batch")
    inputs = case.inputs()
    case.loss(case.ours()(*inputs), False).backward()
    changed = inputs[1].grad.flatten(1).norm(dim=1) > 0
    assert torch.equal(changed, case.learned)


def test_backward_twice():
    """Kept graphs are used once; after that the steps are replayed."""
    case = Case("batch")
    inputs = case.inputs()
    loss = case.loss(case.ours(keep=2)(*inputs), True)
    first, second = (torch.autograd.grad(loss, inputs[1], retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.filterwarnings("ignore:.*jit.script:FutureWarning")
def test_native_batch_norm_is_wrong_reverse_over_forward():
    """Why :class:`PlainNorm` exists. If this fails, PyTorch has mended its rule and PlainNorm may go."""
    case = Case("batch")
    v, labels = torch.randn(len(case.start), dtype=torch.float64, generator=seeded(5)), case.labels
    right = EagerKernel(case.network).adjoint(case.start, case.images, labels, v)
    plain = adjoint_function(with_plain_norms(case.network))(case.start, case.images, labels, v)
    native = adjoint_function(case.network)(case.start, case.images, labels, v)
    assert torch.allclose(plain.theta_P, right.theta_P, rtol=EXACT, atol=1e-14)
    assert not torch.allclose(native.theta_P, right.theta_P, rtol=1e-3)


def test_with_plain_norms_keeps_names_and_order():
    network = build_network(NetworkSpec("resnet18"), (3, 8, 8), 10, seed=0)
    found = {name: p.shape for name, p in with_plain_norms(network).named_parameters()}
    assert list(found.items()) == [(name, p.shape) for name, p in network.named_parameters()]
    with pytest.raises(ValueError, match="one channel per group"):
        with_plain_norms(nn.Sequential(nn.GroupNorm(2, 4)))


@pytest.mark.long
def test_compiled_kernel_agrees_with_the_eager_one():
    """In float64, so that no ReLU sits on another side of its knot."""
    case, said = Case("batch", depth=1), []
    kernel = CompiledKernel(case.network, Compute(channels_last=True, compile=True, say=said.append))
    assert_equal_to(case.gradients(case.full_graph, False), case.gradients(case.ours(kernel), False))
    assert all(line.startswith("compiled") for line in said)


def test_where_nothing_compiles_the_eager_kernel_does_the_work(monkeypatch):
    def refuse(*_, **__):
        def call(*_):
            raise RuntimeError("no C++ compiler\ndetails")

        return call

    monkeypatch.setattr(torch, "compile", refuse)
    case, said = Case("batch"), []
    kernel = CompiledKernel(case.network, Compute(compile=True, say=said.append))
    eager, found = (case.gradients(case.ours(k), False) for k in (None, kernel))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found[1], eager[1], strict=True))
    assert said == [
        f"cannot compile {what} here (no C++ compiler); running it uncompiled"
        for what in ("the inner step", "its adjoint")
    ]
