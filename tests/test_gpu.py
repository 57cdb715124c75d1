"""The core on a CUDA device: the same results as on the CPU, within rounding."""

from dataclasses import replace

import pytest
import torch

from distillkit.base.randomness import seeded
from distillkit.data.augment import Augmentation
from distillkit.data.images import Iterate, RealData
from distillkit.data.origin import SourceInfo
from distillkit.evaluation.evaluate import EvaluationRecipe, evaluate, neighbour_accuracy
from distillkit.matching.distillation import Distillation, Optim
from distillkit.matching.kernels import CompiledKernel, EagerKernel
from distillkit.matching.method import Material
from distillkit.matching.replay import Replay, StepSizeScan
from distillkit.matching.unroll import plan, unroll
from distillkit.methods.generator.denoising import Sampling
from distillkit.methods.generator.diffusion import Diffusion
from distillkit.methods.generator.networks import AutoencoderSpec, DiTSpec, FitSpec, GeneratorSpec, UNetSpec
from distillkit.methods.learning.mtt import Matching
from distillkit.methods.learning.selmatch import SelMatch
from distillkit.networks.parameters import flatten, forget_statistics
from distillkit.networks.specs import NetworkSpec, build_network
from distillkit.selection.coresets import CoverageCentric, Herding, KCentre, Moderate
from distillkit.selection.means import Centroids, ClassMeans
from distillkit.selection.optimised import OptimisedSubset
from distillkit.training.compute import Compute
from distillkit.training.loop import TrainingRecipe, fit
from distillkit.training.trajectories import ExpertRecipe, record_expert

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
CUDA = torch.device("cuda")


def moved(material: Material) -> Material:
    data = RealData(material.real, material.real, material.normalisation, SourceInfo("", "", "", "")).to(CUDA)
    return Material(
        data.train,
        data.normalisation,
        material.difficulty_N.to(CUDA),
        material.confidence_N.to(CUDA),
        material.experts,
    )


@pytest.mark.parametrize("augmentation", ["none", "dsa"])
def test_first_step_agrees_with_the_cpu(material, augmentation):
    method = SelMatch(4, 0.5, Matching(3, 20, 1, 2, augmentation=Augmentation(augmentation)), 0.25)
    optim = Optim(steps=2, image_lr=5, student_lr_init=0.05, student_lr_lr=0.01)
    results = []
    for own in (material, moved(material)):
        run = Distillation(method, method.init(own, seeded(0)), own, optim, seeded(1))
        run.advance()
        results.append((run.history[0].loss, run.result().images.cpu()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-3)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-3)


@pytest.mark.parametrize("method", [Herding(4), KCentre(4), Moderate(4), CoverageCentric(4, 0.3)])
def test_selections_agree_with_the_cpu(material, method):
    """But for near ties, which rounding decides."""
    here, there = (method.init(own, seeded(0)) for own in (material, moved(material)))
    assert there.images.is_cuda
    assert (here.source_row == there.source_row.cpu()).double().mean() > 0.7


def test_made_and_replayed_sets_run(material):
    own = moved(material)
    network = NetworkSpec("convnet", "instance", 1, 4)
    replay = Replay(2, 10, StepSizeScan((0.1, 0.3), holdout=0.2, runs=1), network)
    recipe = EvaluationRecipe(network, TrainingRecipe(steps=1, batch=2, lr=0.1), runs=2)
    for method in (Centroids(4, 1, replay), OptimisedSubset(4, 2, 1, 0.2, replay=replay)):
        synthetic = method.init(own, seeded(0))
        assert evaluate(synthetic, own.real, recipe, torch.arange(300.0), seeded(1)).accuracy_R.min() > 0.3
    here, there = (ClassMeans(1).init(each, seeded(0)) for each in (material, own))
    assert torch.allclose(here.images, there.images.cpu(), atol=1e-7)
    assert neighbour_accuracy(here, material.real, 3) == neighbour_accuracy(there, own.real, 3)


@pytest.mark.parametrize("network", [UNetSpec("unet", (8, 16), 1), DiTSpec("dit", 1, 2, 8)])
@pytest.mark.parametrize("latent", [False, True])
def test_generators_agree_with_the_cpu(material, network, latent):
    """After a few steps in float32, within rounding; bfloat16 gives images, too."""
    fit = FitSpec(steps=3, batch=16, lr=1e-4)
    spec = GeneratorSpec(network, fit, AutoencoderSpec(fit, (8, 8), 2) if latent else None)
    method = Diffusion(4, spec, Sampling(steps=3))
    here, there = (method.init(own, seeded(0)) for own in (material, moved(material)))
    assert there.images.is_cuda
    assert torch.allclose(here.images, there.images.cpu(), atol=2e-2)
    half = replace(method, model=replace(spec, training=replace(fit, precision="bf16")))
    assert half.init(moved(material), seeded(0)).images.isfinite().all()


def test_experts_and_evaluation_run(digits, material):
    own = moved(material)
    expert = record_expert(own.real, own.normalisation, ExpertRecipe(material.experts.spec, 2, 64, 0.05), seeded(0))
    assert expert.trajectory_TP.device.type == "cpu"
    synthetic = SelMatch(4, 0.5, Matching(3, 20, 1, 2), 0.25).init(own, seeded(0))
    training = TrainingRecipe(steps=40, batch=32, lr=0.1, augmentation=Augmentation("combined"))
    recipe = EvaluationRecipe(NetworkSpec("convnet", "batch", 1, 4), training, runs=2)
    report = evaluate(synthetic, own.real, recipe, torch.arange(300.0), seeded(1))
    assert report.accuracy_R.min() > 0.3


def test_compiled_and_graphed_unroll_equals_the_eager_one():
    """Twice over, with other numbers: CUDA graphs replay into the same memory, so a stale output would show."""
    double = torch.float64
    network = forget_statistics(build_network(NetworkSpec("convnet", depth=1, width=4), (3, 8, 8), 3, 0))
    network = network.to(CUDA, double).train()
    said: list[str] = []
    compiled = CompiledKernel(network, Compute(channels_last=True, compile=True, say=said.append))
    start, labels = flatten(network), torch.arange(12, device=CUDA) % 3
    for seed in range(3):
        images = torch.randn(12, 3, 8, 8, dtype=double, generator=seeded(seed)).to(CUDA).requires_grad_()
        steps = plan(12, 5, 8, Augmentation("dsa"), seeded(seed))
        lr = torch.tensor(0.1 * (seed + 1), dtype=double, device=CUDA, requires_grad=True)
        gradients = []
        for kernel in (EagerKernel(network), compiled):
            *_, theta = unroll(kernel, start, Iterate(images, labels, lr), steps)
            gradients.append(torch.autograd.grad(theta.sin().sum(), [images, lr]))
        for eager, graphed in zip(*gradients, strict=True):
            assert ((eager - graphed).norm() / eager.norm()).item() < 1e-9
    assert said and all(line.startswith("compiled") for line in said)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_training_learns(digits, material, precision):
    own = moved(material)
    recipe = TrainingRecipe(60, 50, lr=0.1, augmentation=Augmentation("combined"), precision=precision)
    compute = Compute(channels_last=True, compile=True)
    images = compute.layout(own.normalisation.apply(own.real.pixels()))
    learned = torch.arange(300, device=CUDA) % 2 == 0
    spec = NetworkSpec("convnet", depth=1, width=8)
    network = fit(spec, images, own.real.labels, 10, recipe, seeded(0), learned_N=learned, compute=compute).eval()
    assert (network(images).argmax(1) == own.real.labels).double().mean() > 0.5


def test_memory_of_the_unroll_is_flat():
    network = forget_statistics(build_network(NetworkSpec("convnet"), (3, 32, 32), 10, 0)).to(CUDA).train()
    start, labels = flatten(network), torch.arange(100, device=CUDA) % 10
    images = torch.randn(100, 3, 32, 32, generator=seeded(0)).to(CUDA).requires_grad_()
    peaks = []
    for count in (5, 5, 55):
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
        lr = torch.tensor(0.01, device=CUDA)
        *_, theta = unroll(
            EagerKernel(network), start, Iterate(images, labels, lr), plan(100, count, 64, Augmentation(), seeded(1))
        )
        torch.autograd.grad(theta.sum(), images)
        peaks.append(torch.cuda.max_memory_allocated() - base)
    assert peaks[2] < 1.2 * peaks[1]
