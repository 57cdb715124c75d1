"""Mistakes in Python: test images that were trained on, misspelt keywords, networks that cannot learn, used folders."""

import json

import numpy as np
import own_networks
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import distillkit as dk
from distillkit.api.settings import visiting
from distillkit.base.errors import ArtifactError, DistillkitError, ParamsError
from distillkit.methods import METHODS
from distillkit.networks import factories
from distillkit.networks import specs as networks

NETWORK = {"name": "convnet", "depth": 1, "width": 4, "norm": "none"}
QUICK = {"optim": {"steps": 1}, "matching": {"student_steps": 1, "expert_epochs": 1, "max_start_epoch": 1}}
TRAINING = {"runs": 1, "steps": 2}


@pytest.fixture(scope="module")
def data() -> dk.Data:
    return dk.fetch("digits", per_class=6, test_per_class=3)


@pytest.fixture(scope="module")
def experts(data):
    return dk.train_experts(data, network=NETWORK, epochs=2, count=1)


@pytest.fixture(scope="module")
def measured(data):
    small = dk.distill(data, "random", 1)
    return small, dk.evaluate(small, data.test, **TRAINING)


# Test images that were trained on


def with_leak(data, leaked=7, **options):
    """Test images of which the first are training images."""
    rows = torch.arange(leaked)
    images = torch.cat([data.train.images[rows], data.test.images[:]])
    labels = torch.cat([data.train.labels[rows], data.test.labels])
    return dk.from_arrays(data.train.images, data.train.labels, images, labels, **options)


def test_test_images_that_are_training_images_are_told(data, tmp_path, capsys):
    given = with_leak(data)
    told = capsys.readouterr().err
    assert "note: test images that are training images, too, kept (7), such as test row 0\n" in told
    assert "warning: 7 of the 37 test images are training images, too, so accuracies on them are too high; " in told
    assert repr(given).endswith(", 7 of the test images are training images, too")
    small = dk.distill(given, "random", 1)
    dk.save_package(tmp_path / "leaky", given, {"random-ipc1": (small, dk.evaluate(small, given, **TRAINING))})
    card = (tmp_path / "leaky/README.md").read_text()
    assert "**7 of them are training images, too**" in card and "They play no part" not in card
    assert "on 37 test images (**7 of them are training images, too**)" in card
    recipe = json.loads((tmp_path / "leaky/random-ipc1/recipe.json").read_text())
    assert recipe["test"]["in_train"] == 7
    assert "7 of the 37 test images are training images" in (tmp_path / "leaky/croissant.json").read_text()


def test_without_such_images_nothing_is_said(data, measured, tmp_path, capsys):
    given = with_leak(data, duplicates="drop")
    assert "too, dropped (7)" in capsys.readouterr().err and len(given.test) == len(data.test)
    assert repr(given).endswith(", arrays")
    dk.save_package(tmp_path / "clean", data, {"random-ipc1": measured})
    assert "They play no part in making the sets." in (tmp_path / "clean/README.md").read_text()
    assert "in_train" not in (tmp_path / "clean/random-ipc1/recipe.json").read_text()


def test_an_evaluation_on_the_training_images_is_told(data, measured, capsys):
    line = "warning: the test images are the training images that the set was made from"
    small, report = measured
    dk.evaluate(small, (data.train.images, data.train.labels), **TRAINING)
    assert line in capsys.readouterr().err
    assert dk.evaluate(small, data.test, **TRAINING) == report and line not in capsys.readouterr().err


def test_what_an_evaluation_shows(data, measured):
    small, report = measured
    assert repr(report).splitlines()[0] == f"Evaluation: accuracy {100 * report.mean:.2f} % (n = 1), on 30 test images"
    assert " ± " in repr(dk.evaluate(small, data.test, runs=2, steps=2))
    assert report.metrics["accuracy"]["std"] == 0.0


def test_copies_that_leave_no_test_images(data):
    train = data.train
    expected = r"^all test images of '0', .* are training images, too, and duplicates are dropped; expected some"
    with pytest.raises(DistillkitError, match=expected):
        dk.from_arrays(train.images, train.labels, train.images, train.labels, duplicates="drop")


# Arguments


class Flowers(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, row):
        raise NotImplementedError


def package(data, measured, folder, sets=None, **more):
    dk.save_package(folder / "small", data, {"a": measured} if sets is None else sets, **more)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, e, m, p: dk.distill(d, "mtt", 1, expert=e), r"^expert is not .* \(did you mean 'experts'\?\); exp"),
        (lambda d, e, m, p: dk.distill(d, "mtt", 1, netwrk=own_networks.plain), r"^netwrk is .* mean 'network'\?\)"),
        (lambda d, e, m, p: dk.distill(d, "random", 1, foo=torch.rand(3)), "^foo is not a parameter; expected ipc, "),
        (lambda d, e, m, p: dk.distill(d, "dm", 1, optim={"steps": iter}), "^steps is builtin.*; expected a number, t"),
        (lambda d, e, m, p: dk.evaluate(m[0], d.test, netwrk=3), r"^netwrk is not .* mean 'network'\?\); expected st"),
        (
            lambda d, e, m, p: dk.distill(d, "selmatch", 1, steps=3),
            r"^steps is not a parameter: give optim=\{'steps': …\}; expected ipc, ",
        ),
        (lambda d, e, m, p: dk.train_experts(d, cont=3), r"^cont is not a parameter \(did you mean 'count'\?\)"),
        (lambda d, e, m, p: dk.from_arrays(d.train.images, d.train.labels, foo=torch.rand(3)), "^foo is not a par"),
        (
            lambda d, e, m, p: dk.from_arrays(d.train.images, d.train.labels, test=(d.test.images, d.test.labels)),
            "^test is not a parameter; expected test_images= and test_labels=; give both$",
        ),
        (lambda d, e, m, p: package(d, m, p, default="mtt"), "^default is 'mtt'; expected the name of a set, one of a"),
        (lambda d, e, m, p: package(d, m, p, [m]), r"^sets is list; expected \{name: \(set, evaluation\)\}$"),
        (lambda d, e, m, p: package(d, m, p, {"a": m[::-1]}), r"^'a' is \(Evaluation, DistilledSet\); expected \(set,"),
        (lambda d, e, m, p: package(d, m, p, {"a": (m[0], 0.98)}), r"^'a' is \(DistilledSet, float\); expected \(set"),
        (lambda d, e, m, p: package(d, m, p, publication="me"), "^publication is str; expected a mapping$"),
        (lambda d, e, m, p: package(d, m, p, rai=3), "^rai is int; expected a mapping$"),
        (
            lambda d, e, m, p: dk.from_torch(Flowers),
            r"^the train dataset is the class Flowers; .*; give Flowers\(\.\.\.",
        ),
        (
            lambda d, e, m, p: dk.from_torch(d.train.images, d.train.labels),
            r"^the train .* give images and labels to dk",
        ),
        (
            lambda d, e, m, p: dk.evaluate(m[0], np.zeros((3, 8, 8))),
            "^test is ndarray; expected data.test, a map-style",
        ),
        (lambda d, e, m, p: dk.load(3), "^reference is int; expected a file, a folder, or owner/name"),
        (lambda d, e, m, p: m[0].save(3), "^path is int; expected a path$"),
        (lambda d, e, m, p: d.save(3), "^path is int; expected a path$"),
        (
            lambda d, e, m, p: dk.distill(d, "random", 1, difficulty="el2m"),
            r"^difficulty is 'el2m' \(did .* 'el2n'\?\)",
        ),
        (
            lambda d, e, m, p: dk.distill(d, "mtt", 1, experts=e, network=own_networks.plain),
            "^network is own_networks:plain, but the experts have network ConvNet-1-4; expected the same; leave",
        ),
        (
            lambda d, e, m, p: dk.from_arrays(d.train.images, d.train.labels + 1),
            "^the train labels start at 1, up to 10",
        ),
        (
            lambda d, e, m, p: dk.from_arrays(d.train.images, d.train.labels + 1, class_names=list("abcdefghij")),
            "^the train labels start at 1, up to 10; expected them from 0; subtract 1$",
        ),
        (
            lambda d, e, m, p: dk.from_arrays(d.train.images, d.train.labels - 1),
            r"^train row \d+ has label -1; expected",
        ),
        (
            lambda d, e, m, p: dk.evaluate(m[0], d.test, nesterov=True, momentum=0.0),
            "^nesterov is true, but momentum is 0; expected one above 0",
        ),
    ],
)
def test_mistakes(data, experts, measured, tmp_path, call, message):
    with pytest.raises(DistillkitError, match=message) as caught:
        call(data, experts, measured, tmp_path)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_the_network_of_the_experts_may_be_named(data, experts):
    assert len(dk.distill(data, "mtt", 1, experts=experts, network=NETWORK, **QUICK)) == 10
    assert repr(experts) == "1 expert: ConvNet-1-4, 2 epochs"


def test_the_methods_that_the_docstring_names():
    named = dk.distill.__doc__.partition("or a name: ")[2].partition("\n        ipc")[0]
    assert [name for name in named.rstrip(".\n").replace(",", " ").split() if name != "or"] == list(METHODS)


def test_equal_sets(data, measured, tmp_path):
    small = measured[0]
    small.save(tmp_path / "small.safetensors")
    loaded, other = dk.load(tmp_path / "small.safetensors"), dk.distill(data, "random", 1, seed=1)
    assert loaded == small != other and small != 3 and {small: 1}[loaded] == 1
    again = dk.fetch("digits", per_class=6, test_per_class=3)
    assert again == data != dk.fetch("digits", per_class=6, test_per_class=2) and {data: 1}[again] == 1


def test_an_interruption_where_nothing_can_be_kept():
    with (
        pytest.raises(KeyboardInterrupt, match=r"^interrupted; nothing is kept; make the same call again$"),
        visiting(),
    ):
        raise KeyboardInterrupt


# Folders


@pytest.mark.parametrize("kind", ["experts", "random-ipc1"])
def test_finished_work_that_is_damaged(data, kind, tmp_path):
    def call():
        if kind == "experts":
            return dk.train_experts(data, network=NETWORK, epochs=1, count=1, folder=tmp_path)
        return dk.distill(data, "random", 1, folder=tmp_path)

    call()
    [file] = tmp_path.glob(f"{kind}-*.safetensors")
    file.write_bytes(b"none")
    with pytest.raises(ArtifactError, match=r"^.* cannot be reused \(.*\); delete it, and make the same call again$"):
        call()
    file.unlink()
    call()


def test_an_earlier_package_is_replaced_only_when_asked(data, measured, tmp_path):
    package(data, measured, tmp_path)
    with pytest.raises(ArtifactError, match=r"has a package; .*, or give overwrite=True$"):
        package(data, measured, tmp_path)
    package(data, measured, tmp_path, {"b": measured}, overwrite=True)
    folder = tmp_path / "small"
    assert (folder / "b").is_dir() and not (folder / "a").exists()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"has files that its manifest does not list, such as notes\.txt, which"):
        package(data, measured, tmp_path, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine" and (folder / "b").is_dir()


# Networks of one's own


class Fused(nn.Module):
    """Attention without a second derivative."""

    def __init__(self, image_shape, classes):
        super().__init__()
        self.rows, self.last = nn.Linear(8, 8), nn.Linear(64, classes)

    def forward(self, x):
        rows = self.rows(x)
        return self.last(F.scaled_dot_product_attention(rows, rows, rows).flatten(1))


class Detached(nn.Module):
    def __init__(self, image_shape, classes):
        super().__init__()
        self.last = nn.Linear(64, classes)

    def forward(self, x):
        return self.last(x.detach().flatten(1))


class InPlace(Detached):
    def forward(self, x):
        return self.last(x.mul_(2).flatten(1))


class TwoLinear(Detached):
    """The linear layer that comes last in the module is not the one that classifies."""

    def __init__(self, image_shape, classes):
        super().__init__(image_shape, classes)
        self.last, self.first = nn.Linear(32, classes), nn.Linear(64, 32)

    def forward(self, x):
        return self.last(self.first(x.flatten(1)))


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(factories, "FACTORIES", {})
    monkeypatch.setattr(factories, "CHECKED", set())
    monkeypatch.setattr(networks, "LEARNABLE", set())


@pytest.mark.parametrize(
    ("network", "method", "message"),
    [
        (Fused, "mtt", r"cannot learn images: it cannot be differentiated .*timm\.layers\.set_fused_attn\(False\)$"),
        (Fused, "dc", r"cannot learn images: it cannot be differentiated .*timm\.layers\.set_fused_attn\(False\)$"),
        (Detached, "mtt", "cannot learn images: its logits have no gradient by the images; expected no detach"),
        (Detached, "dm", "cannot learn images: its logits have no gradient by the images; expected no detach"),
        (InPlace, "dm", "changes its images in place"),
    ],
)
def test_networks_that_cannot_learn_images(data, network, method, message, monkeypatch):
    monkeypatch.setattr("distillkit.api.functions.train_experts", lambda *_, **__: pytest.fail("before any training"))
    with pytest.raises(ParamsError, match=rf"^network test_api_mistakes:{network.__name__} {message}") as caught:
        dk.distill(data, method, 1, network=network, optim={"steps": 1})
    assert "\n" not in str(caught.value)


def test_what_torch_says_later_names_the_network(data):
    expected = "^network test_api_mistakes:TwoLinear does not work with method dm .*last linear layer"
    with pytest.raises(ParamsError, match=expected):
        dk.distill(data, "dm", 1, network=TwoLinear, optim={"steps": 1})


def test_attention_with_one_derivative_is_enough_for_dm(data):
    assert len(dk.distill(data, "dm", 1, network=Fused, optim={"steps": 1})) == 10
