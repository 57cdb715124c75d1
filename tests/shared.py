"""Shared fixtures: real digits, tiny networks, experts trained once a session."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ci_projects import Project, new_project
from hub_server import Hub
from huggingface_hub import constants
from packages import build_package
from sklearn.datasets import load_digits

from distillkit.base.randomness import seeded
from distillkit.data.images import ImageSet, Normalisation, SyntheticSet, channel_statistics, to_pixels
from distillkit.matching.method import Material
from distillkit.networks.specs import NetworkSpec
from distillkit.training.difficulty import score_confidence
from distillkit.training.trajectories import Dynamics, ExpertRecipe, ExpertsInMemory, record_expert

torch.set_num_threads(1)  # two gain nothing on images this small, and lose much where another process is busy

TINY = NetworkSpec("convnet", "batch", depth=1, width=4)
PLAIN = NetworkSpec("convnet", "instance", depth=1, width=4)


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
def imported(digits) -> SyntheticSet:
    """Four images a class that another code could have made: digits somewhat changed, classes without names."""
    rows = torch.cat([(digits.labels == label).nonzero()[:4, 0] for label in range(10)])
    return SyntheticSet(
        images=to_pixels(digits.images[rows]) * 1.25 - 0.125,
        labels=digits.labels[rows],
        class_names=tuple("0123456789"),
        learned=torch.ones(40, dtype=torch.bool),
        source_row=torch.full((40,), -1),
        normalisation=Normalisation(torch.tensor([0.5]), torch.tensor([0.25])),
        notes={"imported": {"saved_as": "pixels"}},
    )


@pytest.fixture(scope="session")
def pretrained(digits) -> ExpertsInMemory:
    """Three tiny experts without batch normalisation, as another pipeline could have trained them."""
    recipe = ExpertRecipe(PLAIN, epochs=20, batch=32, lr=0.1)
    statistics = channel_statistics(digits.images)
    trained = [record_expert(digits, statistics, recipe, seeded(seed)) for seed in (3, 4, 5)]
    return ExpertsInMemory(PLAIN, torch.stack([expert.trajectory_TP for expert in trained]))


@pytest.fixture(scope="session")
def material(digits, experts, imported, pretrained) -> Material:
    trajectories, dynamics = experts
    difficulty = score_confidence(dynamics)
    statistics = channel_statistics(digits.images)
    return Material(
        digits, statistics, difficulty, 1 - difficulty, trajectories, imported=imported, pretrained=pretrained
    )


@pytest.fixture(scope="session")
def first(tmp_path_factory) -> Path:
    """The first version of a package, two recipes, as tests/packages.py builds it: not to be changed."""
    return build_package(tmp_path_factory.mktemp("first") / "tiny")


@pytest.fixture(scope="session")
def ci_project(tmp_path_factory) -> Project:
    """A repository of somebody else's, its pipeline run and pushed: not to be changed."""
    return new_project(tmp_path_factory.mktemp("ci"))


@pytest.fixture
def project(ci_project, tmp_path) -> Project:
    """A copy of it, remote and all. (tests/test_pipeline.py has a project of its own.)"""
    return ci_project.copy(tmp_path)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    """A Hub on the loopback; the client in this process knows no other, and no token or cache but the test's."""
    warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)  # the client's own, on LFS; this test's only
    with Hub() as hub:
        for name, value in hub.environment(tmp_path / "hf").items():
            if name.startswith("HF_") or name.lower() == "no_proxy":
                monkeypatch.setenv(name, value)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf/hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf/token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        hub.waited = list[float]()  # seconds that push and pull would wait
        monkeypatch.setattr("distillkit.hub.errors.sleep", hub.waited.append)
        yield hub
