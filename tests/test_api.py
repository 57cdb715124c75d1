"""``import distillkit as dk``: the same bytes as the stages, any torch dataset, any network, and clear errors."""

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import own_networks
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from ruamel.yaml import YAML
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

import distillkit as dk
from distillkit.api.settings import network_of, visiting
from distillkit.base.errors import ParamsError, SourceError
from distillkit.data.files.real_images import load_real
from distillkit.data.images import ImageSet
from distillkit.evaluation.others import USUAL
from distillkit.evaluation.rounding import stored
from distillkit.matching.optim import Optim
from distillkit.methods import METHODS
from distillkit.methods.learning.mtt import Matching, TrajectoryMatching
from distillkit.networks import factories
from distillkit.pipeline import checkpoints
from distillkit.process import interruption
from distillkit.process.interruption import HEARD, guest
from distillkit.setup.defaults import RECIPES, Facts
from distillkit.training.expert_files import ExpertFiles

ROOT = Path(__file__).parents[1]
EXPERTS = {
    "network": {"name": "convnet", "depth": 1, "width": 4, "norm": "batch"},
    "epochs": 3,
    "batch": 64,
    "lr": 0.05,
}
TRAINING = {"steps": 10, "batch": 20, "lr": 0.05}
NETWORK = {"name": "convnet", "depth": 1, "width": 4}
RECIPE = {
    "random": {"method": "random", "ipc": 2},
    "selmatch": {
        "method": "selmatch",
        "ipc": 4,
        "window_start": {"candidates": [0.0, 0.4], "holdout": 0.2, "runs": 1, "training": TRAINING},
        "distill_fraction": 0.5,
        "matching": {"student_steps": 2, "student_batch": 20, "expert_epochs": 1, "max_start_epoch": 2},
        "optim": {"steps": 3, "image_lr": 5, "max_move": 0.2, "student_lr_init": 0.05, "student_lr_lr": 0.01},
    },
    "dm": {
        "method": "dm",
        "ipc": 1,
        "augmentation": {"kind": "none"},
        "optim": {"steps": 2, "image_lr": 1.0, "momentum": 0.5},
    },
}


@pytest.fixture(scope="module")
def data() -> dk.Data:
    return dk.fetch("digits", per_class=20, test_per_class=10)


@pytest.fixture(scope="module")
def experts(data):
    return dk.train_experts(data, count=2, seed=3, **EXPERTS)


def distilled(data, experts, name):
    settings = {key: value for key, value in RECIPE[name].items() if key not in ("method", "ipc")}
    ipc = RECIPE[name]["ipc"]
    return dk.distill(data, RECIPE[name]["method"], ipc, experts=experts, seed=3, name=name, **settings)


@pytest.fixture(scope="module")
def sets(data, experts):
    return {name: distilled(data, experts, name) for name in RECIPE}


# The same as the pipeline


def test_importing_imports_nothing_heavy():
    code = "import sys, distillkit as dk; assert 'distill' in dir(dk) and dk.__version__\n"
    code += "assert not {'torch', 'numpy', 'datasets', 'pydantic'} & set(sys.modules)\n"
    code += "assert set(dk.WHERE) == set(dk.__all__) and callable(dk.NetworkSpec)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_notebook_and_the_stages_give_the_same_bytes(data, experts, sets, tmp_path, monkeypatch):
    evaluation = {"network": NETWORK, "training": TRAINING, "runs": 2}
    params = {
        "seed": 3,
        "data": {"source": {"kind": "digits"}},
        "expert_shards": [0, 1],
        "experts": {"per_shard": 1, "recipe": EXPERTS},
        "score": {"name": "confidence"},
        "recipes": RECIPE,
        "evaluation": evaluation,
    }
    monkeypatch.chdir(tmp_path)
    YAML().dump(params, Path("params.yaml"))
    data.save("real.safetensors")

    def stage(name, *arguments, command=None):
        ended = CliRunner().invoke(runpy.run_path(str(ROOT / f"stages/{name}.py"))[command or name], arguments)
        assert ended.exit_code == 0, ended.output or ended.exception

    for shard in "01":
        stage("experts", shard, "real.safetensors", f"experts/shard-{shard}.safetensors")
    files = ExpertFiles([Path(f"experts/shard-{shard}.safetensors") for shard in (0, 1)])
    for number in range(2):
        for snapshot in range(4):
            assert torch.equal(files.read(number, snapshot), experts.read(number, snapshot))
    stage("score", "real.safetensors", "experts", "difficulty.safetensors")
    stage("reference", "real.safetensors", "reference.safetensors")
    for name, small in sets.items():
        stage("distill", name, "real.safetensors", "experts", "difficulty.safetensors", "out.safetensors", "loss.csv")
        small.save(f"{name}.safetensors")
        assert Path("out.safetensors").read_bytes() == Path(f"{name}.safetensors").read_bytes()
        Path("out.safetensors").rename(f"{name}.safetensors")
    measured = ("m.json", "c.json", "curve.csv", "confusion.csv")
    stage("evaluate", "dm.safetensors", "real.safetensors", "reference.safetensors", *measured)
    found = dk.evaluate(sets["dm"], data.test, network=NETWORK, runs=2, seed=3, **TRAINING)
    assert found.metrics["accuracy"] == json.loads(Path("m.json").read_text())["accuracy"]
    assert [{"class": k, "accuracy": v} for k, v in found.per_class.items()] == json.loads(Path("c.json").read_text())


# A set is a dataset


def test_a_set_is_a_dataset(sets, data):
    small = sets["selmatch"]
    image, label = small[3]
    assert len(small) == 40 and image.shape == (1, 8, 8) and label == small.labels[3]
    assert len(list(small)) == 40, "iteration ends"
    images, labels = next(iter(DataLoader(small, batch_size=40)))
    assert torch.equal(images, small.images) and torch.equal(labels, small.labels)
    normalised, _ = next(iter(DataLoader(small.as_dataset(), batch_size=40)))
    assert torch.equal(normalised, small.normalisation.apply(small.images))
    assert torch.equal(small.as_dataset(normalised=False).tensors[0], small.images)
    assert torch.equal(data.as_dataset("test").tensors[1], data.test.labels)
    hf = small.to_hf().with_format("torch")
    assert torch.equal(hf["pixels"][:], small.images) and hf.features["label"].names == list(small.class_names)


def test_what_is_shown_of_a_set(sets, data, experts):
    small = sets["selmatch"]
    lines = repr(small).splitlines()
    assert lines[0] == "DistilledSet by selmatch: 40 images of 1x8x8 in 10 classes, 20 learned and 20 real"
    assert "  distill_fraction: 0.5" in lines
    assert repr(data) == "Data: 200 training and 100 test images of 1x8x8 in 10 classes, scikit-learn/digits"
    assert repr(experts) == "2 experts: ConvNetBN-1-4, 3 epochs"
    assert small._repr_html_().startswith(f"<div>{lines[0]}</div><img") and isinstance(small.show(), Image.Image)
    assert "20 real" not in data._repr_html_() and len(small.history) == 3


def test_saving_and_loading(sets, tmp_path):
    small = sets["selmatch"]
    small.save(tmp_path / "mine.safetensors")
    again = dk.load(tmp_path / "mine.safetensors")
    assert isinstance(again, dk.DistilledSet) and repr(again) == repr(small) and torch.equal(again.images, small.images)
    with pytest.raises(dk_error("ArtifactError"), match=r"mine\.safetensors exists"):
        small.save(tmp_path / "mine.safetensors")
    small.save(tmp_path / "mine.safetensors", overwrite=True)
    with pytest.raises(ParamsError, match=r"ends in \.safetensors"):
        small.save(tmp_path / "mine.pt")


def dk_error(name):
    return getattr(__import__("distillkit.base.errors", fromlist=[name]), name)


@pytest.fixture
def ctrl_c():
    """Python's own Ctrl-C, which a process that was started in the background may not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_a_folder_is_taken_up_again(data, tmp_path, monkeypatch, capsys):
    """Interrupted in the middle of experts and of a distillation, to the same bytes; what is done is not done again."""
    recipe = {key: value for key, value in RECIPE["selmatch"].items() if key not in ("method", "ipc")}

    def run(folder):
        experts = dk.train_experts(data, count=2, seed=3, folder=folder, **EXPERTS)
        return dk.distill(data, "selmatch", 4, experts=experts, seed=3, folder=folder, **recipe)

    def interrupting_after(steps):
        calls = iter(range(steps))

        def check():
            if next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGINT)
            interruption.check()

        monkeypatch.setattr(checkpoints, "check", check)

    for steps in (3, 2):  # which is before the experts' end, and then before the set's
        interrupting_after(steps)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    monkeypatch.undo()
    resumed = run(tmp_path)
    told = capsys.readouterr().err
    assert "resumed at step" in told and torch.equal(resumed.images, run(None).images)
    assert torch.equal(run(tmp_path).images, resumed.images) and capsys.readouterr().err.count("reused from") == 2


# Numbers that nobody gave


@pytest.mark.parametrize("method", [*RECIPES, "random", "herding", "confident", "kmeans", "average"])
@pytest.mark.parametrize("ipc", [1, 10])
def test_each_method_has_numbers_to_begin_with(method, ipc):
    from distillkit.api.settings import recipe_for

    if method == "average" and ipc > 1:
        pytest.skip("a class has one average")
    recipe = recipe_for(method, ipc, None, Facts((32, 32), 10, 5000), {})
    assert recipe.method_name == method and recipe.params["ipc"] == ipc


@pytest.mark.parametrize(("ipc", "starts"), [(50, [0.6, 0.7, 0.8, 0.9]), (100, [0.2, 0.4, 0.6, 0.8])])
def test_small_shares_of_a_source_start_with_easier_images(ipc, starts):
    """500 and 1,000 of 50,000 images: under 2 %, and not."""
    from distillkit.api.settings import recipe_for

    recipe = recipe_for("window", ipc, None, Facts((32, 32), 10, 50_000), {})
    assert recipe.params["window_start"]["candidates"] == starts


def test_numbers_that_are_taken_are_told_and_some_can_be_given(data, experts, capsys):
    small = dk.distill(data, "mtt", 2, experts=experts, optim={"steps": 1}, matching={"student_steps": 1})
    told = capsys.readouterr().err
    assert "mtt-ipc2 takes " in told and "image_lr: 30" in told and "student_steps" not in told
    assert small.params["optim"] == {**small.params["optim"], "steps": 1, "image_lr": 30}
    assert small.params["matching"] == {
        "student_steps": 1,
        "student_batch": 20,
        "expert_epochs": 2,
        "max_start_epoch": 2,
    }, "which fits the three epochs of these experts"
    dk.distill(data, "dm", 1, network=NETWORK, optim={"steps": 1})
    assert "dm-ipc1 takes augmentation: {kind: none}" in capsys.readouterr().err


def test_a_method_as_an_object(data, experts):
    matching = Matching(student_steps=1, student_batch=10, expert_epochs=1, max_start_epoch=1)
    optim = Optim(steps=1, image_lr=5.0, student_lr_init=0.05)
    small = dk.distill(data, TrajectoryMatching(2, matching=matching), experts=experts, optim=optim)
    assert small.params["ipc"] == 2 and small.params["matching"]["student_batch"] == 10
    assert small.params["optim"]["image_lr"] == 5.0 and small.provenance["recipe"] == "mtt-ipc2"
    with pytest.raises(ParamsError, match="method is Optim; expected a name"):
        dk.distill(data, optim, 2)
    assert dk.distill(data, METHODS["random"](ipc=2), 2).params["ipc"] == 2
    with pytest.raises(ParamsError, match=r"^ipc is 3, but the method's is 2; expected one number; leave ipc= out$"):
        dk.distill(data, METHODS["random"](ipc=2), 3)


def test_usual_networks_have_the_learning_rate_of_the_pipeline(data):
    small, numbers = dk.distill(data, "random", 1), {"network": "mlp", "runs": 1, "steps": 1}
    assert dk.evaluate(small, data, **numbers).recipe.training.lr == USUAL["mlp"].lr
    assert dk.evaluate(small, data, lr=0.2, **numbers).recipe.training.lr == 0.2


def test_a_score_of_ones_own(data, experts):
    hardest = torch.arange(len(data.train)).float()
    small = dk.distill(data, "window", 1, experts=experts, difficulty=hardest, window_start=0.0)
    last = [int((data.train.labels == label).nonzero()[-1]) for label in range(10)]
    assert sorted(small.source_row.tolist()) == sorted(last)
    alone = dk.distill(data, "window", 1, difficulty=hardest, window_start=0.0, network=NETWORK)
    assert alone.source_row.equal(small.source_row) and "count" not in alone.experts, "no expert was trained"
    with pytest.raises(ParamsError, match=r"difficulty is of shape \(3,\); expected one number for each of the 200"):
        dk.distill(data, "window", 1, experts=experts, difficulty=torch.zeros(3))
    with pytest.raises(ParamsError, match="difficulty is 'hard'; expected one of forgetting"):
        dk.distill(data, "window", 1, experts=experts, difficulty="hard")


class NoArguments(nn.Module):
    pass


def one(data):
    return dk.distill(data, "random", 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, e: dk.distill(d, "mmt", 1), r"^method is 'mmt' \(did you mean 'mtt'\?\); expected one of full"),
        (lambda d, e: dk.distill(d, "random", 99), "99"),
        (
            lambda d, e: dk.distill(d, "mtt", 1, experts=e, optim={"stepz": 1}),
            r"^optim.stepz is not a parameter",
        ),
        (lambda d, e: dk.train_experts(d, epochs=0), "^epochs is 0; expected at least 1"),
        (lambda d, e: dk.train_experts(d, count=0), "^count is 0; expected at least 1"),
        (lambda d, e: dk.train_experts(d, network="resnet"), r"^network is 'resnet' \(did you mean 'resnet18'\?\)"),
        (lambda d, e: dk.distill(d, "random", "5"), "^ipc is str '5'; expected a whole number of images per class"),
        (lambda d, e: dk.distill(d, "random", True), "^ipc is bool 'True'; expected a whole number"),
        (lambda d, e: dk.distill(d.train, "random", 1), "^data is ImageSet; expected the result of dk.from_torch"),
        (lambda d, e: dk.train_experts([d]), "^data is list; expected the result of dk.from_torch"),
        (
            lambda d, e: dk.distill(d, "mtt", 1, experts=[1]),
            "^experts is list; expected the result of dk.train_experts",
        ),
        (
            lambda d, e: dk.train_experts(d, network=NoArguments),
            r"cannot be built \(TypeError: .*; expected a function",
        ),
        (lambda d, e: dk.evaluate("a.safetensors", d.test), "^small is str; expected a set from dk.distill or dk.load"),
        (lambda d, e: dk.evaluate(one(d), d.test.images), "^test is Tensor; expected data.test"),
        (
            lambda d, e: dk.evaluate(one(d), d.test.take(torch.arange(9))),
            "^test has no images of class '0'; expected some",
        ),
        (
            lambda d, e: dk.evaluate(one(d), d.test, step=3),
            "^step is not a parameter",
        ),
    ],
)
def test_mistakes_are_one_line(data, experts, call, message):
    with pytest.raises(dk_error("DistillkitError"), match=message) as caught:
        call(data, experts)
    assert "\n" not in str(caught.value) and "params.yaml" not in str(caught.value)


def test_torch_is_left_as_it_was(data):
    torch.set_num_threads(2)
    try:
        dk.train_experts(data, count=1, **{**EXPERTS, "epochs": 1})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_a_notebook_ends_the_call_and_not_the_process():
    with pytest.raises(KeyboardInterrupt), guest():
        os.kill(os.getpid(), signal.SIGINT)
        assert HEARD.number == signal.SIGINT, "noted, not raised"
    assert HEARD.number == 0 and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt), guest():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second is raised at once")


# Own networks and methods


@pytest.mark.parametrize(
    "factory", [own_networks.Small, own_networks.timm_resnet], ids=lambda factory: factory.__name__
)
def test_an_own_network_from_images_to_accuracy(data, factory, tmp_path):
    if factory is own_networks.timm_resnet:
        pytest.importorskip("timm")
    few = dk.fetch("digits", per_class=6, test_per_class=2)
    experts = dk.train_experts(few, network=factory, epochs=2, count=1)
    small = dk.distill(few, "mtt", 1, experts=experts, optim={"steps": 1}, matching={"student_steps": 2})
    report = dk.evaluate(small, few.test, network=factory, runs=1, steps=2)
    name = f"own_networks:{factory.__name__}"
    assert str(experts.spec) == name and 0 <= report.mean <= 1 and name in repr(report)
    assert dk.train_experts(few, network=name, epochs=1, count=1).spec == experts.spec


def test_a_package_with_an_own_network_says_what_verify_needs(data, experts, sets, tmp_path, monkeypatch):
    from distillkit.check.verify import verify
    from distillkit.package.manifest import open_package

    report = dk.evaluate(sets["random"], data, network=own_networks.plain, runs=2, steps=5)
    dk.save_package(tmp_path / "small-digits", data, {"random-ipc2": (sets["random"], report)})
    card = (tmp_path / "small-digits/README.md").read_text()
    assert "`own_networks:plain`" in card and "by `distillkit.distill` with each config's parameters" in card
    monkeypatch.setattr(factories, "FACTORIES", {})
    package, data_file = open_package(tmp_path / "small-digits"), tmp_path / "real.safetensors"
    data.save(data_file)
    options = {"test": data_file, "runs": 2, "seed": 0}
    with pytest.raises(ParamsError, match=r"claims no accuracy of it .*; expected one of package.module:function; "):
        verify(package, "random-ipc2", network="mlp", **options)
    with pytest.raises(ParamsError, match="network is own_networks:plain, which is not distillkit's"):
        verify(package, None, **options)
    assert verify(package, None, **options, network="own_networks:plain").matches
    assert load_real(data_file).info == data.info


def test_networks_in_words():
    facts = Facts((8, 8), 10, 100)
    assert network_of("convnet", facts) == {"name": "convnet", "depth": 2, "width": 32, "norm": "batch"}
    assert network_of("lenet", facts) == {"name": "lenet", "norm": "none"}
    assert network_of("own_networks:plain", facts) == {"factory": "own_networks:plain"}
    assert network_of(own_networks.plain, facts) == {"factory": "own_networks:plain"}
    assert network_of(dk.NetworkSpec("resnet18"), facts)["name"] == "resnet18"


def test_a_package_says_what_its_publisher_states(data, tmp_path):
    small = dk.distill(data, "random", 2, network=NETWORK)
    report = dk.evaluate(small, data.test, network=NETWORK, runs=2, **TRAINING)
    told = {"rai": {"personal_information": "Nobody's."}, "publication": {"creators": ["A. Person"]}}
    dk.save_package(tmp_path / "told", data, {"random-ipc2": (small, report)}, **told)
    assert "| Personal data | the publisher states: Nobody's. |" in (tmp_path / "told/README.md").read_text()
    with pytest.raises(ParamsError, match=r"rai.biasses is not a parameter \(did you mean 'biases'\?\)"):
        dk.save_package(tmp_path / "told", data, {"random-ipc2": (small, report)}, rai={"biasses": "x"})


@pytest.mark.parametrize("storage", ["float32", "float16", "uint8"])
def test_a_package_keeps_what_was_evaluated(data, sets, tmp_path, storage):
    """The accuracy is of networks trained on the images as the package gives them back."""
    numbers = {"network": NETWORK, "runs": 2, "seed": 3, **TRAINING}
    small, folder = sets["dm"], tmp_path / "small"
    report = dk.evaluate(small, data.test, storage=storage, **numbers)
    plain = dk.evaluate(sets["random"], data, **numbers)
    dk.save_package(folder, data, {"dm": (small, report), "random-ipc2": (sets["random"], plain)}, storage=storage)
    loaded = dk.load(folder)  # the last one that is no baseline
    assert torch.equal(loaded.images, dk.load(folder, "dm").images)
    assert loaded.images.dtype == torch.float32 and torch.equal(loaded.images, stored(small, storage).images)
    assert torch.equal(loaded.images, small.images) == (storage == "float32")
    assert dk.evaluate(loaded, data.test, **numbers).runs == report.runs
    assert torch.equal(dk.load(folder, "random-ipc2").images, sets["random"].images)
    assert json.loads((folder / "dm/recipe.json").read_text())["results"]["accuracy"]["mean"] == report.mean


def test_a_package_keeps_nothing_that_was_not_evaluated(data, sets, tmp_path):
    report = dk.evaluate(sets["dm"], data.test, network=NETWORK, runs=1, **TRAINING)
    with pytest.raises(
        ParamsError, match=r"'dm' was evaluated with storage 'float32', but storage is 'uint8'; .* storage='uint8'$"
    ):
        dk.save_package(tmp_path / "small", data, {"dm": (sets["dm"], report)}, storage="uint8")
    with pytest.raises(ParamsError, match="storage"):
        dk.save_package(tmp_path / "small", data, {"dm": (sets["dm"], report)}, storage="int4")
    with pytest.raises(ParamsError, match="storage"):
        dk.evaluate(sets["dm"], data.test, storage="int4")
    assert not (tmp_path / "small").exists()


# Any torch dataset


class Pictures:
    """As torchvision's datasets are without a transform: PIL images and whole numbers."""

    classes = ("cat", "dog")

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.images[row], row % 2


def pictures(count, size=(8, 6), mode="RGB"):
    values = np.random.default_rng(0).integers(0, 256, (count, size[1], size[0], 3), dtype=np.uint8)
    return [Image.fromarray(value).convert(mode) for value in values]


def test_pil_images_without_a_transform():
    train, test = Pictures(pictures(12)), Pictures(pictures(4))
    data = dk.from_torch(train, test, licence="mit")
    assert data.class_names == ("cat", "dog") and data.train.image_shape == (3, 6, 8)
    assert torch.equal(data.train.images[5], torch.tensor(np.asarray(train.images[5])).permute(2, 0, 1))
    assert data.info.kind == "python" and data.info.id == "Pictures" and data.info.licence == "mit"
    assert dk.from_torch(Subset(train, range(10)), test).class_names == ("cat", "dog")
    alone = dk.from_torch(train, test_fraction=0.5, name="pets")
    assert (len(alone.train), len(alone.test), alone.info.id) == (6, 6, "pets")
    other = dk.from_torch(train, Pictures(pictures(5)), licence="mit")
    assert data.info.revision == dk.from_torch(train, test).info.revision != other.info.revision


def test_images_of_different_sizes():
    train = Pictures([*pictures(4), *pictures(4, (9, 9))])
    with pytest.raises(SourceError, match=r"is 9x9 \(height x width\).*expected one size"):
        dk.from_torch(train)
    assert dk.from_torch(train, size=(4, 4)).train.image_shape == (3, 4, 4)


@pytest.mark.parametrize("as_float", [False, True])
def test_tensors(digits: ImageSet, as_float):
    images = digits.pixels() if as_float else digits.images
    data = dk.from_torch(TensorDataset(images, digits.labels), TensorDataset(images[:200], digits.labels[:200]))
    assert torch.equal(data.train.images, digits.images) and data.class_names == tuple("0123456789")
    again = dk.from_arrays(images.numpy()[:, 0], digits.labels.numpy(), images[:200, 0], digits.labels[:200].tolist())
    assert torch.equal(again.train.images, digits.images) and not again.found.notes.get("images of floats")


def test_floats_that_8_bits_do_not_hold_are_noted(digits):
    data = dk.from_arrays(digits.pixels() * 0.5, digits.labels)
    assert "images of floats, rounded to 8 bits" in data.found.notes


def rows(images, labels):
    return lambda: dk.from_arrays(images, labels)


ONES = torch.ones(4, 1, 2, 2, dtype=torch.uint8)


class Endless(IterableDataset):
    def __iter__(self):
        yield ONES[0], 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            rows(torch.ones(4, 2, 8, 8), [0, 1, 0, 1]),
            r"train row 0 has an image of shape \(2, 8, 8\); expected \(C, H, W\)",
        ),
        (rows(np.ones((4, 3, 8, 8)), [0, 1, 0, 1]), r"shape \(3, 8, 8\); expected \(H, W, C\) of 1 or 3 channels"),
        (rows(torch.ones(4, 1, 2, 2).long(), [0, 1, 0, 1]), "an image of int64; expected a PIL image"),
        (
            rows(torch.ones(4, 1, 2, 2) * 2.5, [0, 1, 0, 1]),
            "pixels from 2.5 to 2.5; expected 0 to 1; leave Normalize out",
        ),
        (
            rows(np.full((4, 2, 2), 255.0), [0, 1, 0, 1]),
            "pixels from 255 to 255; expected 0 to 1; divide by 255",
        ),
        (rows(np.ones((4, 12)), [0, 1, 0, 1]), r"shape \(12,\); expected \(H, W, C\) of 1 or 3 channels; reshape it$"),
        (
            rows(torch.full((4, 1, 2, 2), torch.nan), [0, 1, 0, 1]),
            "pixels from nan to nan; expected 0 to 1; leave out the image",
        ),
        (rows(ONES, [0, 1, 0]), "there are 4 images and 3 labels; expected equal numbers"),
        (rows(ONES, [0, 1, 0, -1]), "train row 3 has label -1; expected a whole number from 0"),
        (rows(ONES, [0, 2, 0, 2]), "no training images in '1'"),
        (rows(ONES, [0.0, 1.0, 0.0, 1.0]), "has label float '0.0'; expected a whole number from 0; convert"),
        (
            rows(ONES, torch.eye(4)),
            r"has a label of shape \(4,\); expected a number; give labels.argmax\(1\)",
        ),
        (rows(ONES, [0, 10**9, 0, 1]), "has label 1000000000; expected 0 to classes - 1"),
        (rows(ONES, [0, 0, 0, 0]), "the only class is '0'; expected at least 2"),
        (lambda: dk.from_arrays(ONES, [0, 1, 0, 1], class_names=["a"]), "label 1; expected 0 to 0 for 1 class;"),
        (lambda: dk.from_torch(Endless()), "is Endless, which has no __len__ or no __getitem__; expected a map-style"),
        (
            lambda: dk.from_torch([{"image": 1}]),
            r"train row 0 is dict; expected \(image, label\); wrap it: \[\(row\['image'",
        ),
        (lambda: dk.from_torch([("text", 1)]), "an image of type str; expected a PIL image"),
        (lambda: dk.from_torch(Pictures([None, None])), "has an image of type NoneType"),
        (lambda: dk.from_torch([]), "the train split holds no images"),
        (lambda: dk.fetch("digits", sise=3), "^sise is not a parameter"),
        (lambda: dk.fetch("nowhere"), "^source is 'nowhere', which is no folder here"),
    ],
)
def test_what_is_no_dataset(call, message):
    with pytest.raises(dk_error("DistillkitError"), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_source_in_python_cannot_be_fetched_by_others(data, tmp_path):
    from distillkit.check.held_out import held_out_images

    given = dk.from_arrays(data.train.images, data.train.labels, name="mine")
    small = dk.distill(given, "random", 1, network=NETWORK)
    with pytest.raises(SourceError, match="made from images in Python, mine, which nobody else can fetch"):
        held_out_images(tmp_path / "x.safetensors", small, small.provenance, None)


def test_an_evaluation_goes_with_its_own_set(data, sets, tmp_path):
    report = dk.evaluate(sets["random"], data.test, network=NETWORK, runs=1, **TRAINING)
    with pytest.raises(ParamsError, match="the evaluation of 'dm' is of another set"):
        dk.save_package(tmp_path / "wrong", data, {"dm": (sets["dm"], report)})
    with pytest.raises(ParamsError, match=r"'dm' is DistilledSet; expected \(set, evaluation\)"):
        dk.save_package(tmp_path / "wrong", data, {"dm": sets["dm"]})
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("kept", [True, False])
def test_an_interruption_says_whether_anything_is_kept(kept, tmp_path):
    said = "going on" if kept else "nothing is kept; give folder="
    with pytest.raises(KeyboardInterrupt, match=said), visiting(tmp_path if kept else None):
        raise KeyboardInterrupt("going on")
