"""Other people's evaluators on a package of ours, fed as docs/trust.md shows; skipped where they are missing.

Neither installs beside distillkit as it stands: ``ddranking`` asks for numpy 1, ``rethinkdc`` for wandb and torchaudio.
``pip install --no-deps ddranking rethinkdc kornia kornia_rs`` installs what is tested here.
"""

import json
import re
import warnings
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from packages import digits_data
from pages import DOCS
from PIL import Image

import distillkit
from distillkit.evaluation.evaluate import accuracy
from distillkit.networks.specs import NetworkSpec, build_network
from distillkit.package.card_tables import over_random, worth

pytestmark = pytest.mark.filterwarnings("ignore")
RECIPE = "random-ipc2"


@pytest.fixture
def ranking(monkeypatch, tmp_path):
    """DD-Ranking's score of hard labels, on digits where it would fetch CIFAR-10."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("ddranking.metrics.hard_label")
    monkeypatch.chdir(tmp_path)
    data = digits_data()
    pairs = [  # as torchvision gives them: tensors and plain numbers
        list(zip(large(data.normalisation.apply(part.pixels())), part.labels.tolist(), strict=True))
        for part in (data.train, data.test)
    ]
    same = {label: label for label in range(10)}
    monkeypatch.setattr(
        module, "get_dataset", lambda *_: (3, (32, 32), None, None, 10, pairs[0], pairs[1], pairs[1], same, same)
    )
    return module


def large(images_NCHW: torch.Tensor) -> torch.Tensor:
    """As CIFAR-10's: three channels, 32 pixels wide."""
    return images_NCHW.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1).contiguous()


def score(ranking, **options):
    settings = {"dataset": "CIFAR10", "ipc": 2, "model_name": "ConvNet-3", "num_workers": 0, "device": "cpu"}
    return ranking.LabelRobustScoreHard(**settings, data_aug_func=None, step_size=5, eval_full_data=True, **options)


def test_the_recovery_figures_are_the_same_by_their_definition_and_ours(first, ranking, monkeypatch):
    """Given the accuracies that the package claims, they say what its card says, in points."""
    record = json.loads((first / RECIPE / "recipe.json").read_text())
    accuracies = {"syn": 0.9, "full": 0.98, "random": 0.75}
    record["results"]["accuracy"]["mean"] = accuracies["syn"]
    for which in ("random", "full"):
        record["baselines"][which] = {"recipe": which, "accuracy": {"mean": accuracies[which], "std": 0.0, "runs": 1}}
    given = iter([accuracies["syn"], accuracies["full"], accuracies["random"]])
    kind = ranking.LabelRobustScoreHard
    monkeypatch.setattr(kind, "_compute_hard_label_metrics_helper", lambda *_, **__: (100 * next(given), 0.1))
    monkeypatch.setattr(ranking, "save_results", lambda *_: None)
    found = score(ranking, num_eval=1).compute_metrics(image_tensor=torch.zeros(20, 3, 32, 32))
    assert over_random(record) == f"+{found['improvement_over_random_mean']:.2f}" == "+15.00"
    assert found["hard_label_recovery_mean"] == pytest.approx(100 * worth(record)[1].value) == pytest.approx(8)


def test_both_count_the_same_network_as_equally_accurate(ranking):
    from ddranking.utils import TensorDataset, validate

    data = digits_data()
    images, labels = data.normalisation.apply(data.test.pixels()), data.test.labels
    network = build_network(NetworkSpec("convnet", "instance", depth=1, width=8), (1, 8, 8), 10, seed=1)
    loader = torch.utils.data.DataLoader(TensorDataset(images, labels), batch_size=64)
    with torch.no_grad():
        own = 100 * accuracy(network.eval()(images).argmax(1), labels).item()
    assert validate(network, loader, device="cpu") == pytest.approx(own, abs=1e-4) and 0 < own < 100


@pytest.mark.slow
def test_a_package_goes_through_dd_ranking(first, ranking, monkeypatch):
    """By its own training; version 0.2.0 adds one column twice and cannot save its table, so that is left out."""
    monkeypatch.setattr(ranking, "save_results", lambda *_: None)
    small = distillkit.load(first, RECIPE)
    images = large(small.normalisation.apply(small.images))
    scored = score(ranking, num_eval=1, num_epochs=10, syn_batch_size=20, real_batch_size=80)
    found = scored.compute_metrics(image_tensor=images, hard_labels=small.labels, syn_lr=0.01)
    assert all(-100 <= found[key] <= 100 for key in ("hard_label_recovery_mean", "improvement_over_random_mean"))


def run_snippet(page: str, marker: str, **names) -> dict:
    """The Python block of the page that holds ``marker``, with some names replaced."""
    blocks = re.findall("```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    (block,) = [code for code in blocks if marker in code]
    for name, value in names.items():
        assert name in block
        block = block.replace(name, str(value))
    found: dict = {}
    exec(block, found)
    return found


def test_the_folder_that_rethinkdc_reads_holds_the_package(first, tmp_path, monkeypatch):
    """Its listing of folders, on what the page's lines write; its class around it fails with torchvision 0.29."""
    module = pytest.importorskip("rethinkdc.imagenet_ipc")
    monkeypatch.chdir(tmp_path)
    run_snippet("trust.md", "as_folder", **{"someone/digits-distilled": first, "selmatch-ipc10": RECIPE})
    assert len(list(Path("as_folder").iterdir())) == 10
    samples = module.make_dataset("as_folder", extensions=(".png",), image_number=2)
    small = distillkit.load(first, RECIPE)
    assert sorted(label for _, label in samples) == sorted(small.labels.tolist())
    shown = []
    for path, _ in samples:
        with Image.open(path) as image:
            shown.append(list(image.convert("L").getdata()))
    assert sorted(shown) == sorted((small.images.clamp(0, 1) * 255).round().int().flatten(1).tolist())


def test_its_adapter_reads_the_package_too(first):
    module = pytest.importorskip("rethinkdc.imagenet_ipc")
    data = load_dataset(str(first), RECIPE).rename_column("label", "class_id")
    read = module.HFDatasetAdapter(data)
    assert [label for _, label in read] == distillkit.load(first, RECIPE).labels.tolist()
    assert len(read) == 20
