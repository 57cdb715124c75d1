"""What people give in Python: experts of other images, files, networks of a notebook, test images, names, folders."""

import json
import linecache
import sys
import types
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import own_networks
import pytest
import torch
import torchvision
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

import distillkit as dk
from distillkit.api.settings import check_folder, network_of
from distillkit.base.errors import DistillkitError, ParamsError
from distillkit.base.files import canonical_json, sha256
from distillkit.methods.learning.mtt import TrajectoryMatching
from distillkit.networks import factories
from distillkit.package.manifest import open_package
from distillkit.pipeline.own_code import own_code
from distillkit.selection.random_subset import RandomSubset
from distillkit.setup.defaults import Facts
from distillkit.sources.python import inner
from distillkit.training.expert_files import ExpertFiles

NETWORK = {"name": "convnet", "depth": 1, "width": 4, "norm": "none"}
EXPERTS = {"network": NETWORK, "epochs": 2, "count": 1}
QUICK = {"optim": {"steps": 1}, "matching": {"student_steps": 1, "expert_epochs": 1, "max_start_epoch": 1}}
TRAINING = {"runs": 1, "steps": 2}


@pytest.fixture(scope="module")
def data() -> dk.Data:
    return dk.fetch("digits", per_class=6, test_per_class=3)


@pytest.fixture(scope="module")
def experts(data):
    return dk.train_experts(data, **EXPERTS)


def others(data):
    """The same number of images of the same shape, and what experts may not have seen of them."""
    train = data.train
    return {
        "images": replace(data, train=replace(train, images=train.images.flip(3))),
        "labels": replace(data, train=replace(train, labels=train.labels.flip(0))),
        "normalisation": replace(data, normalisation=data.normalisation._replace(mean=data.normalisation.mean + 0.1)),
    }


# Experts


@pytest.mark.parametrize("changed", ["images", "labels", "normalisation"])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("method", ["mtt", "random"])
def test_experts_of_other_images_are_refused(data, experts, changed, kept, method, tmp_path):
    given = dk.train_experts(data, **EXPERTS, folder=tmp_path) if kept else experts
    found = r"60 images of 1x8x8 in 10 classes, sha256 [0-9a-f]{16}"
    expected = f"^the experts were trained on other images: {found}; expected those of data.train: {found}; train"
    with pytest.raises(ParamsError, match=expected):
        dk.distill(others(data)[changed], method, 1, experts=given)


def test_experts_of_the_same_images_are_taken(data, experts):
    again = dk.fetch("digits", per_class=6, test_per_class=3, licence="mit")
    assert len(dk.distill(again, "mtt", 1, experts=experts, **QUICK)) == 10
    of_a_pipeline = replace(experts, trained_on="")
    assert len(dk.distill(again, "mtt", 1, experts=of_a_pipeline, **QUICK)) == 10
    fewer = dk.fetch("digits", per_class=5, test_per_class=3)
    with pytest.raises(ParamsError, match=r"^the experts were trained on other images: 60 images .* 50 images"):
        dk.distill(fewer, "mtt", 1, experts=experts)
    with pytest.raises(ParamsError, match=r"^the experts were trained on other images: 60; expected the 50 of"):
        dk.distill(fewer, "mtt", 1, experts=of_a_pipeline)


def test_the_fingerprint_is_computed_once(data, monkeypatch):
    known = data.fingerprint
    monkeypatch.setattr("distillkit.api.sets.fingerprint", lambda *_: pytest.fail("computed again"))
    assert data.fingerprint == known and known[:16] in data.training_images


def test_experts_of_two_sets_of_images_do_not_go_together(data, tmp_path):
    dk.train_experts(data, **EXPERTS, folder=tmp_path)
    dk.train_experts(others(data)["images"], **EXPERTS, folder=tmp_path)
    with pytest.raises(DistillkitError, match=r"is for other images than .*; train both again"):
        ExpertFiles(sorted(tmp_path.glob("experts-*.safetensors")))


def test_work_in_a_folder_is_of_this_data(data, tmp_path):
    """Also of how it is normalised and where it comes from, which the set says."""
    sets = [
        dk.distill(each, "random", 1, network=NETWORK, folder=tmp_path)
        for each in (data, others(data)["normalisation"], replace(data, info=replace(data.info, licence="mit")))
    ]
    assert [len(sets), len(list(tmp_path.glob("random-ipc1-*.safetensors")))] == [3, 3]
    assert sets[2].provenance["source"]["licence"] == "mit"


# Files that recipes name


def test_an_imported_set(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dk.distill(data, "random", 1, network=NETWORK).save("theirs.safetensors")
    meant = {"file": "theirs.safetensors", "sha256": sha256(Path("theirs.safetensors"))}
    small = dk.distill(data, "imported", 1, **meant)
    assert torch.equal(small.images, dk.load("theirs.safetensors").images) and small.params["file"] == meant["file"]
    assert torch.equal(dk.distill(data, "imported", 1, **meant, folder="runs").images, small.images)
    with pytest.raises(DistillkitError, match=r"^theirs\.safetensors is not .*, or give sha256='[0-9a-f]{64}'$"):
        dk.distill(data, "imported", 1, **meant | {"sha256": "0" * 64})
    with pytest.raises(ParamsError, match=r"^file x does not exist; expected what distillkit import wrote"):
        dk.distill(data, "imported", 1, **meant | {"file": "x"})


def test_dd_from_pretrained_networks(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dk.train_experts(others(data)["images"], **EXPERTS, folder="theirs")
    [file] = Path("theirs").glob("*.safetensors")
    wanted = {"pretrained": {"file": str(file), "sha256": sha256(file)}, "initialisation": "fixed-pretrained"}
    small = dk.distill(data, "dd", 1, **wanted, optim={"steps": 1}, real_batch=16)
    starts = small.schedule.starts_RP
    assert torch.equal(starts[0], ExpertFiles([file]).read(0, 2))


def test_dd_trains_the_network_that_is_given(data):
    small = dk.distill(data, "dd", 1, network=own_networks.plain, optim={"steps": 1}, real_batch=16)
    assert str(small.schedule.network) == "own_networks:plain" == small.params["network"]["factory"]


# Networks and methods of one's own


def test_a_network_of_a_notebook_is_told_and_recorded(data, tmp_path, monkeypatch, capsys):
    def notebook_net(image_shape, classes):
        return own_networks.plain(image_shape, classes)

    notebook_net.__module__, notebook_net.__qualname__ = "__main__", "MyNet"
    told = "warning: network __main__:MyNet is in this notebook or script only, so nobody else can check"
    experts = dk.train_experts(data, network=notebook_net, epochs=1, count=1)
    assert told not in capsys.readouterr().err, "not before something is made with it"
    small = dk.distill(data, "mtt", 1, experts=experts, optim={"steps": 1}, matching={"student_steps": 1})
    assert capsys.readouterr().err.count(told) == 1
    report = dk.evaluate(small, data.test, network=notebook_net, **TRAINING)
    dk.save_package(tmp_path / "small", data, {"mtt-ipc1": (small, report)})
    assert capsys.readouterr().err.count(told) == 1
    card = (tmp_path / "small/README.md").read_text()
    assert "`__main__:MyNet` (of a notebook or script that is in no package: nobody else can check it)" in card
    recipe = open_package(tmp_path / "small").recipe_json("mtt-ipc1")
    assert recipe["pipeline"]["experts"]["network"] == recipe["evaluation"]["network"] == {"factory": "__main__:MyNet"}


def test_the_code_that_work_is_kept_with(monkeypatch, tmp_path):
    """The module of a network, and the whole package of a method."""
    monkeypatch.setattr(factories, "FACTORIES", {})
    monkeypatch.setattr(factories, "OTHERS", {})
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "kept_with"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rule.py").write_text("share = 1\n")
    (package / "method.py").write_text("class Mine:\n    pass\n")
    import kept_with.method

    factories.OTHERS["mine"] = kept_with.method.Mine
    factories.known_as(own_networks.plain)
    assert own_code("[]") == [] == own_code(canonical_json({"method": "mine2", "name": "own_networks:plain2"}))
    assert [name for name, _ in own_code('["own_networks:plain"]')] == ["own_networks.py"]
    before = own_code('{"method":"mine"}')
    assert [name for name, _ in before] == ["__init__.py", "method.py", "rule.py"]
    (package / "rule.py").write_text("share = 2\n")
    assert own_code('{"method":"mine"}') != before


NOTEBOOK = """
from torch import nn

WIDTH = 4

def block(inner):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(WIDTH), nn.ReLU(), inner)

class Base(nn.Module):
    def forward(self, x):
        return self.layers(x)

class MyNet(Base):
    def __init__(self, image_shape, classes):
        super().__init__()
        self.layers = block(nn.Linear(WIDTH, classes))

def other():
    return 1
"""


def my_net(text, monkeypatch, readable=True):
    """The network of a notebook: a module without a file, whose cells Python can read or not."""
    module, cell = types.ModuleType("typed"), f"<cell {hash(text)}>"
    monkeypatch.setitem(sys.modules, "typed", module)
    monkeypatch.setitem(linecache.cache, cell, (len(text), None, text.splitlines(True), cell))
    exec(compile(text, cell if readable else "<nowhere>", "exec"), module.__dict__)
    return module.MyNet


def typed_code(*arguments, **options):
    """What is kept of it."""
    factories.known_as(my_net(*arguments, **options))
    return own_code('["typed:MyNet"]')


@pytest.fixture
def nothing_known(monkeypatch):
    monkeypatch.setattr(factories, "FACTORIES", {})


@pytest.mark.parametrize(
    ("edit", "same"),
    [
        (("WIDTH, classes", "WIDTH, classes, bias=False"), False),
        (("nn.ReLU()", "nn.Tanh()"), False),
        (("self.layers(x)", "-self.layers(x)"), False),
        (("WIDTH = 4", "WIDTH = 8"), False),
        (("return 1", "return 2"), True),
    ],
)
@pytest.mark.usefixtures("nothing_known")
def test_the_code_of_a_notebook(edit, same, monkeypatch):
    """Of what a network uses, wherever in the notebook, and of nothing else."""
    [(name, digest)] = before = typed_code(NOTEBOOK, monkeypatch)
    assert name == "typed:MyNet" and len(digest) == 64
    assert edit[0] in NOTEBOOK and (typed_code(NOTEBOOK.replace(*edit), monkeypatch) == before) == same


@pytest.mark.parametrize(("edit", "told"), [("nn.Tanh()", True), ("nn.ReLU()", False)])
@pytest.mark.usefixtures("nothing_known")
def test_a_network_that_changes_its_meaning_is_told(edit, told, monkeypatch, capsys):
    for text in (NOTEBOOK, NOTEBOOK.replace("nn.ReLU()", edit)):
        network_of(my_net(text, monkeypatch), Facts((8, 8), 10, 100))
    line = "warning: network typed:MyNet has changed; experts that were trained with the earlier one no longer fit it\n"
    assert capsys.readouterr().err == (line if told else "")


@pytest.mark.usefixtures("nothing_known")
def test_code_that_cannot_be_read(monkeypatch):
    with pytest.raises(ParamsError, match=r"^the code of typed:MyNet cannot be read.*; put it into one, or leave"):
        typed_code(NOTEBOOK, monkeypatch, readable=False)


def test_what_is_used_later_throws_no_work_away(data, tmp_path, capsys):
    dk.train_experts(data, **EXPERTS, folder=tmp_path)
    small = dk.distill(data, "random", 1, network=NETWORK)
    dk.evaluate(small, data.test, network=own_networks.torchvision_resnet, **TRAINING)
    capsys.readouterr()
    dk.train_experts(data, **EXPERTS, folder=tmp_path)
    assert "reused from" in capsys.readouterr().err


def inside():
    def hidden(image_shape, classes):
        return own_networks.plain(image_shape, classes)

    return hidden


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (lambda shape, classes: own_networks.plain(shape, classes), "a lambda"),
        (inside(), r"inside\.<locals>\.hidden"),
        (partial(own_networks.plain), "a partial object"),
    ],
)
def test_networks_without_a_name(data, network, found):
    with pytest.raises(ParamsError, match=rf"^network is {found}; expected a function or class at the top level"):
        dk.train_experts(data, network=network)


@pytest.mark.parametrize("method", [TrajectoryMatching, "mtt"])
def test_a_method_by_its_class(data, experts, method):
    assert dk.distill(data, method, np.int64(1), experts=experts, **QUICK).params["ipc"] == 1


# Test images


class Named(TensorDataset):
    classes = tuple("0123456789")


def test_test_images_of_every_kind(data):
    small = dk.distill(data, "random", 1, network=NETWORK)
    expected = dk.evaluate(small, data, **TRAINING).runs
    images, labels = data.test.images, data.test.labels
    pairs = [(Image.fromarray(image[0].numpy()), int(label)) for image, label in zip(images, labels, strict=True)]
    for test in (data.test, Named(images, labels), pairs, (images, labels), (images[:, 0].numpy(), labels.tolist())):
        assert dk.evaluate(small, test, **TRAINING).runs == expected


def test_grey_test_images_of_a_set_in_colour(data):
    train, test = (part.images.expand(-1, 3, -1, -1) for part in (data.train, data.test))
    colour = dk.from_arrays(train, data.train.labels, test, data.test.labels)
    small = dk.distill(colour, "random", 1, network=NETWORK)
    grey = (data.test.images, data.test.labels)
    assert dk.evaluate(small, grey, **TRAINING).runs == dk.evaluate(small, colour, **TRAINING).runs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, n: n, "^test is Tensor; expected data.test, a map-style Dataset of"),
        (lambda i, n: "test", "^test is str; expected data.test, a map-style Dataset of"),
        (lambda i, n: 3, "^the test dataset is int, which has no __len__ or no __getitem__"),
        (lambda i, n: (i, n[:3]), "^there are 30 images and 3 labels"),
        (lambda i, n: (i, n + 2), r"^test row \d+ has label 1[01]; expected 0 to 9 for 10 classes"),
        (lambda i, n: (i[:, :, :4], n), r"^test images are \(1, 4, 8\) in 10 classes, distilled ones \(1, 8, 8\)"),
        (lambda i, n: (i.float() - 1, n), "^test row 0 has pixels from -1 to"),
        (lambda i, n: (i[:2], n[:2]), r"^test has no images of class"),
    ],
)
def test_what_are_no_test_images(data, change, message):
    small = dk.distill(data, "random", 1, network=NETWORK)
    with pytest.raises(DistillkitError, match=message) as caught:
        dk.evaluate(small, change(data.test.images, data.test.labels), **TRAINING)
    assert "\n" not in str(caught.value)


def test_test_images_of_other_classes(data):
    class Letters(TensorDataset):
        classes = tuple("abcdefghij")

    small = dk.distill(data, "random", 1, network=NETWORK)
    with pytest.raises(DistillkitError, match=r"^the test dataset has the classes 'a', 'b', .* expected '0', '1', "):
        dk.evaluate(small, Letters(data.test.images, data.test.labels), **TRAINING)


def test_a_package_is_measured_on_its_own_test_images(data, tmp_path):
    small = dk.distill(data, "random", 1, network=NETWORK)
    for test in (data.train, data.test.take(torch.arange(30).flip(0)[:29])):
        report = dk.evaluate(small, test, **TRAINING)
        with pytest.raises(ParamsError, match=r"^the evaluation of 'a' is on other images than data\.test"):
            dk.save_package(tmp_path / "wrong", data, {"a": (small, report)})
    report = dk.evaluate(small, (data.test.images, data.test.labels), **TRAINING)
    with pytest.raises(ParamsError, match=r"^name is 'a b'; expected letters"):
        dk.save_package(tmp_path / "wrong", data, {"a b": (small, report)})
    assert not (tmp_path / "wrong").exists()
    dk.save_package(tmp_path / "right", data, {"a": (small, report)})


# Training images


class Few(TensorDataset):
    classes = ("cat", "dog")


def test_names_of_a_part_and_of_several_together():
    few = Few(torch.arange(8, dtype=torch.uint8).reshape(8, 1, 1, 1).expand(-1, 3, 4, 4), torch.arange(8) % 2)
    for given in (
        few,
        Subset(few, range(6)),
        ConcatDataset([few, Subset(few, range(2))]),
        Subset(Subset(few, [0]), [0]),
    ):
        assert inner(given) is few
    mixed = ConcatDataset([few, TensorDataset(*few.tensors)])
    assert inner(mixed) is mixed
    data = dk.from_torch(ConcatDataset([few, few]), few)
    assert data.class_names == ("cat", "dog") and data.info.id == "Few"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: dk.from_torch(DataLoader(Few())), "^the train dataset is DataLoader; .*; give its dataset$"),
        (lambda d: dk.from_arrays(d.train.images, d.train.labels, d.test.images), "^test_labels is missing"),
        (lambda d: dk.from_arrays(d.train.images, None), "^labels is missing"),
        (
            lambda d: dk.from_arrays(np.zeros((4, 3, 8, 8)), [0, 1, 0, 1]),
            r"permute it, or give a tensor \(C, H, W\)$",
        ),
        (lambda d: d.as_dataset("val"), "^split is 'val'; expected one of train, test$"),
        (lambda d: dk.fetch({"kind": "folder"}), "^source.path is missing; add it"),
        (
            lambda d: dk.train_experts(d, network=torchvision.models.resnet18),
            r"^network torchvision.models.resnet:resnet18 takes .*weights.*; write def my_net\(image_shape, classes\): "
            r"return resnet18\(...\)$",
        ),
    ],
)
def test_what_pytorch_users_give_at_first(data, call, message):
    with pytest.raises(DistillkitError, match=message) as caught:
        call(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("random", [True, False])
def test_images_that_are_random_are_told(random, capsys):
    class Noisy(Few):
        def __getitem__(self, row):
            self.read = getattr(self, "read", 0) + random
            return torch.full((3, 4, 4), 10 * row + self.read, dtype=torch.uint8), row % 2

    few = Noisy(torch.zeros(8, 1), torch.zeros(8))
    assert dk.from_torch(few, few).train.images[:2, 0, 0, 0].tolist() == ([1, 12] if random else [0, 10])
    told = "warning: train row 0 is a different image each time that it is read"
    assert (told in capsys.readouterr().err) == random


def test_a_source_as_a_mapping(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(4):
            Image.new("L", (4, 4), 50 * number + (label == "dog")).save(tmp_path / label / f"{number}.png")
    data = dk.fetch({"kind": "folder", "path": str(tmp_path), "train_split": "."}, test_fraction=0.5)
    assert data.class_names == ("cat", "dog") and len(data.train) == 4


def test_what_completion_offers():
    assert set(dir(dk)) == {*dk.__all__, "__version__"}


# How torch is set


def test_torch_as_others_have_set_it(data):
    """Sets are the same under no_grad, inference_mode, and another default type or device, which stay."""
    expected = dk.distill(data, "dm", 1, network=NETWORK, optim={"steps": 1}).images
    for mode in (torch.no_grad(), torch.inference_mode(), torch.device("meta")):
        with mode:
            assert torch.equal(dk.distill(data, "dm", 1, network=NETWORK, optim={"steps": 1}).images, expected)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        assert torch.equal(dk.distill(data, "dm", 1, network=NETWORK, optim={"steps": 1}).images, expected)
        assert (torch.get_default_dtype(), torch.get_default_device().type) == (torch.float64, "meta")
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


@pytest.mark.parametrize(
    ("difficulty", "message"),
    [
        (["a"] * 60, "^difficulty is list; expected a score by name, or numbers$"),
        (torch.full((60,), torch.nan), "^difficulty holds nan or infinity"),
    ],
)
def test_scores_that_are_none(data, experts, difficulty, message):
    with pytest.raises(ParamsError, match=message):
        dk.distill(data, "window", 1, experts=experts, difficulty=difficulty, window_start=0.1)


def test_a_size_in_one_number(data):
    assert dk.from_arrays(data.train.images, data.train.labels, size=4).train.image_shape == (1, 4, 4)


# Names, seeds and folders


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "a/b c"}, r"^name is 'a/b c'; expected letters.*; give 'a-b-c' for example$"),
        ({"name": 3}, "^name is int; expected text"),
        ({"seed": -1}, "^seed is -1; expected at least 0$"),
        ({"seed": 0.5}, "^seed is float '0.5'; expected a whole number$"),
        ({"seed": True}, "^seed is bool 'True'; expected a whole number$"),
        ({"folder": 3}, "^folder is int; expected the path of a folder$"),
    ],
)
def test_names_and_seeds(data, given, message):
    with pytest.raises(ParamsError, match=message):
        dk.distill(data, RandomSubset(1), **given)


def test_a_folder_that_is_a_file(data, tmp_path):
    (tmp_path / "runs").write_text("")
    small = dk.distill(data, "random", 1, network=NETWORK)
    for call in (
        lambda: dk.distill(data, "random", 1, folder=tmp_path / "runs"),
        lambda: dk.train_experts(data, **EXPERTS, folder=tmp_path / "runs" / "deeper"),
        lambda: small.save(tmp_path / "runs" / "set.safetensors"),
        lambda: data.save(tmp_path / "runs" / "set.safetensors"),
        lambda: dk.save_package(
            tmp_path / "runs", data, {"random-ipc1": (small, dk.evaluate(small, data, **TRAINING))}
        ),
    ):
        with pytest.raises(ParamsError, match=r"^\w+ is .*, but runs is a file; expected a folder; choose another$"):
            call()
    assert check_folder("folder", "~/runs") == Path.home() / "runs"
    assert json.dumps([path.name for path in tmp_path.iterdir()]) == '["runs"]', "and nothing is written"
