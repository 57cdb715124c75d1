"""The core on a CUDA device: the same results as on the CPU, within rounding."""

import pytest
import torch

from distillkit.augment import Augmentation
from distillkit.distill import Distillation, Optim
from distillkit.evaluate import EvaluationRecipe, evaluate
from distillkit.images import RealData, SourceInfo
from distillkit.methods.mtt import Matching
from distillkit.methods.selmatch import SelMatch
from distillkit.networks import NetworkSpec
from distillkit.protocol import Material
from distillkit.randomness import seeded
from distillkit.training import TrainingRecipe
from distillkit.trajectories import ExpertRecipe, record_expert

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


def test_experts_and_evaluation_run(digits, material):
    own = moved(material)
    expert = record_expert(own.real, own.normalisation, ExpertRecipe(material.experts.spec, 2, 64, 0.05), seeded(0))
    assert expert.trajectory_TP.device.type == "cpu"
    synthetic = SelMatch(4, 0.5, Matching(3, 20, 1, 2), 0.25).init(own, seeded(0))
    training = TrainingRecipe(steps=40, batch=32, lr=0.1, augmentation=Augmentation("combined"))
    recipe = EvaluationRecipe(NetworkSpec("convnet", "batch", 1, 4), training, runs=2)
    report = evaluate(synthetic, own.real, recipe, torch.arange(300.0), seeded(1))
    assert report.accuracy_R.min() > 0.3
