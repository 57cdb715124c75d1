"""Shared fixtures: real digits, tiny networks, experts trained once a session."""

import pytest
import torch
from sklearn.datasets import load_digits

from distillkit.images import ImageSet, channel_statistics
from distillkit.networks import NetworkSpec
from distillkit.protocol import Material
from distillkit.randomness import seeded
from distillkit.scoring import score_confidence
from distillkit.trajectories import Dynamics, ExpertRecipe, ExpertsInMemory, record_expert

TINY = NetworkSpec("convnet", "batch", depth=1, width=4)


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    """The first 300 digits, ten classes, 8x8."""
    data = load_digits()
    images = torch.tensor(data.images[:300] * 255 / 16).round().to(torch.uint8)[:, None]
    return ImageSet(images, torch.tensor(data.target[:300]), tuple("0123456789"))


@pytest.fixture(scope="session")
def experts(digits):
    """Two tiny experts of four epochs, and their dynamics with a leading axis of experts."""
    recipe = ExpertRecipe(TINY, epochs=4, batch=64, lr=0.05)
    statistics = channel_statistics(digits.images)
    trained = [record_expert(digits, statistics, recipe, seeded(seed)) for seed in (1, 2)]
    trajectories = ExpertsInMemory(TINY, torch.stack([expert.trajectory_TP for expert in trained]))
    dynamics = Dynamics(*(torch.stack(parts) for parts in zip(*(e.dynamics for e in trained), strict=True)))
    return trajectories, dynamics


@pytest.fixture(scope="session")
def material(digits, experts) -> Material:
    trajectories, dynamics = experts
    difficulty = score_confidence(dynamics)
    return Material(digits, channel_statistics(digits.images), difficulty, 1 - difficulty, trajectories)
