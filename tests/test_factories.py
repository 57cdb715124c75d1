"""Networks of one's own: named, imported only by their user, checked once, and trained like ours."""

import subprocess
import sys

import own_networks
import pytest
import torch
from marks import long
from torch import nn

from distillkit.base import params
from distillkit.base.errors import ParamsError
from distillkit.base.randomness import seeded
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.matching.kernels import EagerKernel
from distillkit.networks import factories
from distillkit.networks.factories import NetworkFactory, admit, build, known_as
from distillkit.networks.parameters import flatten, forget_statistics
from distillkit.networks.specs import Network, NetworkSpec, build_network, without_classifier
from distillkit.pipeline.own_code import own_code
from distillkit.training.loop import TrainingRecipe, fit
from distillkit.training.trajectories import ExpertRecipe, record_expert

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """Each test begins as a process does: nobody has named a network."""
    monkeypatch.setattr(factories, "FACTORIES", {})
    monkeypatch.setattr(factories, "CHECKED", set())


def test_a_network_is_read_by_its_keys():
    own = params.read({"factory": "own_networks:Small"}, Network, "network")
    ours = params.read({"name": "convnet", "depth": 1}, Network, "network")
    assert own == NetworkFactory("own_networks:Small") and ours == NetworkSpec("convnet", depth=1)
    with pytest.raises(ParamsError, match=r"network.fctory is not a parameter"):
        params.read({"fctory": "own_networks:Small"}, Network, "network")
    with pytest.raises(ParamsError, match=r"network.depth is not a parameter"):
        params.read({"factory": "own_networks:Small", "depth": 2}, Network, "network")


@pytest.mark.parametrize("name", ["os", "os:", ":system", "os:a b", "a:b:c", "../x:y", "os:system\n"])
def test_what_is_no_import_path(name):
    with pytest.raises(ParamsError, match=r"expected package.module:function"):
        NetworkFactory(name)


def test_nothing_is_imported_because_a_file_names_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "own_networks")
    with pytest.raises(ParamsError, match="nothing is imported because a file names it"):
        build(NetworkFactory("own_networks:Small"), SHAPE, 10)
    assert "own_networks" not in sys.modules
    admit("own_networks:Small")
    assert build(NetworkFactory("own_networks:Small"), SHAPE, 10)(torch.zeros(3, *SHAPE)).shape == (3, 10)


def test_a_factory_in_the_repository_of_the_working_directory(tmp_path):
    """As a stage of a pipeline in a folder finds it; what is installed goes before it."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "mine.py").write_text("from torch import nn\nclass Net(nn.Flatten):\n  def __init__(self, s, c): ...\n")
    (tmp_path / "json.py").write_text("raise ValueError")
    (tmp_path / "distill").mkdir()
    code = "from distillkit.networks.factories import *; admit('mine:Net'); import json; print(FACTORIES['mine:Net'])"
    ran = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path / "distill", capture_output=True, text=True)
    assert ran.stdout == "<class 'mine.Net'>\n", ran.stderr


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:Net", r"cannot be imported here \(No module named 'no_such_module'\)"),
        ("own_networks:nothing", "has no attribute 'nothing'"),
        ("own_networks:number", "own_networks:number, a int; expected a function or class"),
    ],
)
def test_what_cannot_be_imported(path, message):
    with pytest.raises(ParamsError, match=message):
        admit(path)


def test_a_factory_needs_a_name():
    assert known_as(own_networks.plain) == NetworkFactory("own_networks:plain")
    with pytest.raises(ParamsError, match="network is a lambda; expected a function or class at the top"):
        known_as(lambda shape, classes: nn.Flatten())
    with pytest.raises(ParamsError, match="network is Small; expected a function or class"):
        known_as(own_networks.Small(SHAPE, 10))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("with_dropout", "draws random numbers in training"),
        ("no_module", "gave function; expected a function or class"),
        ("too_few", r"gave \[2, 9\] for two images; expected logits \(2, 10\)"),
        ("for_other_images", "cannot take images of 1x8x8"),
        ("with_a_part_unused", "the logits do not depend on extra"),
        ("frozen", "1.weight is frozen"),
    ],
)
def test_networks_that_cannot_be_trained_here(factory, message):
    with pytest.raises(ParamsError, match=message):
        build(known_as(getattr(own_networks, factory)), SHAPE, 10)


def test_a_seed_gives_the_same_weights_and_the_check_changes_none():
    spec, state = known_as(own_networks.Small), torch.get_rng_state()
    first, second, other = (build_network(spec, SHAPE, 10, seed) for seed in (7, 7, 8))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(flatten(first), flatten(second)) and not torch.equal(flatten(first), flatten(other))
    assert torch.equal(first.norm.running_mean, torch.zeros(4)), "as nobody had called it"
    assert str(spec) == "own_networks:Small"


OWN = [own_networks.Small, own_networks.timm_resnet, long(own_networks.torchvision_resnet)]


@pytest.mark.parametrize("factory", OWN, ids=lambda factory: factory.__name__)
def test_own_networks_train_and_are_matched(factory, digits, material):
    """An expert, a fit as in evaluation, and the derivatives of an inner step, by finite differences in float64."""
    if factory is own_networks.timm_resnet:
        pytest.importorskip("timm")
    rgb = digits.images[:60].repeat(1, 3, 4, 4)  # 32x32
    real = type(digits)(rgb, digits.labels[:60], digits.class_names)
    spec = known_as(factory)
    expert = record_expert(real, material.normalisation, ExpertRecipe(spec, epochs=1, batch=20, lr=0.05), seeded(0))
    assert expert.trajectory_TP.isfinite().all() and not torch.equal(*expert.trajectory_TP)
    fit(spec, real.pixels(), real.labels, 10, TrainingRecipe(steps=1, batch=10, lr=0.1), seeded(0))

    network = forget_statistics(build_network(spec, (3, 32, 32), 10, 0)).double().train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    kernel, theta, y = EagerKernel(network), flatten(network), real.labels[:6]
    x = torch.rand(6, 3, 32, 32, generator=seeded(3), dtype=torch.float64)  # without ties for max-pooling
    v = torch.randn(len(theta), generator=seeded(1), dtype=torch.float64)
    found = kernel.adjoint(theta, x, y, v)
    d, h = torch.randn(x.shape, generator=seeded(2), dtype=torch.float64), 1e-7
    slopes = [kernel.gradient(theta, x + sign * h * d, y) @ v for sign in (1, -1)]
    along = (slopes[0] - slopes[1]) / (2 * h)
    assert torch.isclose((found.images_NCHW * d).sum(), along, rtol=1e-3, atol=1e-6)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers()), "a call changes nothing"
    features = without_classifier(build_network(spec, (3, 32, 32), 10, 0)).eval()
    assert features(real.pixels()[:2]).flatten(1).shape[1] != 10


def test_a_network_without_a_linear_layer_has_no_features():
    with pytest.raises(ParamsError, match="no linear layer"):
        without_classifier(nn.Sequential(nn.Flatten()))


def test_params_name_a_network_and_its_file_counts_for_unfinished_work(tmp_path, monkeypatch):
    from distillkit.pipeline.checks import check_params

    recipe = {"network": {"factory": "own_networks:plain"}, "training": {"steps": 1, "batch": 2, "lr": 0.1}, "runs": 1}
    assert own_code('["own_networks:plain"]') == []
    check_params({"evaluation": recipe})
    assert [name for name, _ in own_code('["own_networks:plain"]')] == ["own_networks.py"]
    assert params.read(recipe, EvaluationRecipe, "evaluation").network == NetworkFactory("own_networks:plain")
    with pytest.raises(ParamsError, match="cannot be imported here"):
        check_params({"evaluation": recipe | {"network": {"factory": "own_networks:no"}}})
    with pytest.raises(ParamsError, match=r"own_networks:nn.ReLU6.extra_repr takes .*def my_net\("):
        check_params({"evaluation": recipe | {"network": {"factory": "own_networks:nn.ReLU6.extra_repr"}}})
