"""Sets whose images are averages, are replayed or are poisoned: package, card and report say so."""

import json
import re
from dataclasses import asdict, replace

import pytest
import torch
from packages import EVALUATION, digits_data

from distillkit.base.randomness import seeded
from distillkit.data.files.artifact import load_synthetic, provenance_of, save_synthetic
from distillkit.evaluation.evaluate import evaluate, start_accuracy
from distillkit.evaluation.metrics import metrics_of
from distillkit.matching.method import Material
from distillkit.networks.parameters import flatten
from distillkit.networks.specs import NetworkSpec, build_network
from distillkit.package.build import Entry, build
from distillkit.package.manifest import open_package
from distillkit.package.recipe_json import baselines
from distillkit.pipeline.recipes import read_recipe
from distillkit.report.page import write_report
from distillkit.report.results import rows
from distillkit.training.trajectories import ExpertsInMemory

NETWORK = {"name": "convnet", "norm": "none", "depth": 1, "width": 4}
REPLAY = {"steps": 1, "epochs": 2, "step_size": {"candidates": [0.1], "holdout": 0.2, "runs": 1}, "network": NETWORK}
OPTIM = {"steps": 1, "image_lr": 0.01}
RECIPES = {
    "a-replayed": {"method": "random", "ipc": 2, "replay": REPLAY},
    "random-ipc2": {"method": "random", "ipc": 2},
    "kmeans-ipc2": {"method": "kmeans", "ipc": 2, "tries": 1},
    "kmeans-ipc8": {"method": "kmeans", "ipc": 8, "tries": 1},
    "dd": {"method": "dd", "ipc": 1, "steps": 1, "network": NETWORK, "optim": OPTIM},
    "poisoned": {
        "method": "dd",
        "ipc": 1,
        "steps": 1,
        "initialisation": "fixed-pretrained",
        "pretrained": {"file": "shard.safetensors", "sha256": 64 * "0"},
        "attack": {"attack_class": 3, "target_class": "5"},
        "optim": OPTIM,
    },
    "average": {"method": "average", "ipc": 1, "replay": REPLAY},
}


@pytest.fixture(scope="module")
def real():
    return digits_data()


@pytest.fixture(scope="module")
def entries(real, tmp_path_factory):
    """Eight digits a class to train: with eight clusters a class every centre is an image."""
    spec = NetworkSpec(**NETWORK)
    weights_P = flatten(build_network(spec, real.train.image_shape, 10, seed=0))
    experts = ExpertsInMemory(spec, weights_P[None, None])
    folder, material = tmp_path_factory.mktemp("sets"), Material(real.train, real.normalisation, pretrained=experts)
    found = []
    for name, section in RECIPES.items():
        recipe = read_recipe({"recipes": RECIPES}, name)
        synthetic = recipe.method.init(material, seeded(0))
        provenance = provenance_of(name, section["method"], section, 0, real)
        save_synthetic(folder / f"{name}.safetensors", synthetic, provenance)
        report = evaluate(synthetic, real.test, EVALUATION, real.test.labels.float(), seeded(0))
        metrics = metrics_of(report, synthetic, real.test, 1)
        found.append(Entry(name, folder / f"{name}.safetensors", metrics, section))
    return found


@pytest.fixture(scope="module")
def package(entries, real, tmp_path_factory):
    folder = tmp_path_factory.mktemp("package") / "made"
    settings = {"name": "made", "default": "kmeans-ipc2", "packaged": list(RECIPES)}
    evaluation = asdict(EVALUATION)
    build(folder, entries=entries, real=real, inputs={}, evaluation=evaluation, pipeline={}, **settings)
    return open_package(folder)


def images_of(package, name):
    return json.loads((package.folder / name / "recipe.json").read_text())["images"]


def test_averages_are_learned_and_from_no_row(package):
    counts = {"per_class": 2, "total": 20, "learned": 20, "learned_from_source": 0, "real": 0, "real_verified": 0}
    assert images_of(package, "kmeans-ipc2") == counts
    assert images_of(package, "average")["learned_from_source"] == 0
    assert images_of(package, "random-ipc2")["real_verified"] == 20


def test_the_card_says_what_they_are(package):
    card = (package.folder / "README.md").read_text(encoding="utf-8")
    assert "\n- **k-means.** For every class the centres of `ipc` clusters" in card
    assert "\n- **Average.** One image for every class" in card
    assert (
        "| Config | Unchanged source images | Learned from a source image | Made from the source, no single image |"
        in card
    )
    assert "| `kmeans-ipc2` | 0 | 0 | 20 |" in card
    assert (
        "\nImages of `kmeans-ipc2`, `kmeans-ipc8`, `dd`, `poisoned`, `average` that come from no single image" in card
    )
    assert "A generator can remember training images" not in card
    assert "`kmeans-ipc8` has 80 learned images that equal a training image." in card
    assert "whether the image was optimised, or averaged; the others are real" in card
    assert card.count("arXiv:1811.10959") == 1, "the paper that all of them come from"
    assert "\n\n| Config | `step_size`, as chosen |\n" in card
    assert "\n- **Replayed:** `a-replayed`" in card
    assert "`average`: networks were not trained as above but with the `replay` parameters" in card


def test_the_card_warns_of_a_poisoned_set(package):
    card = (package.folder / "README.md").read_text(encoding="utf-8")
    assert "\n> **Warning: `poisoned` is poisoned.** It was made to do harm in a test" in card
    assert "should classify `3` as `5`" in card
    assert "Warning: `dd`" not in card
    figures = json.loads((package.folder / "poisoned/recipe.json").read_text())["results"]
    taken, right = (
        f"{100 * figures['attack'][key]['mean']:.2f} %" for key in ("taken_for_target", "modified_accuracy")
    )
    assert (
        f" `5`. In the test, networks did so with {taken} of the images of that class; their accuracy by the attacker's"
        in card
    )
    assert f" labels was {right}. Do not" in card
    assert "\n- **In their own order:** `dd`, `poisoned`: networks were not trained as above" in card
    record = json.loads((package.folder / "poisoned/recipe.json").read_text())
    assert record["notes"]["attack"]["warning"].startswith("made to do harm in a test")


def test_the_card_compares_only_what_was_trained_on_alike(package):
    card = (package.folder / "README.md").read_text(encoding="utf-8")
    cells = {
        row.split("`")[1]: row.split(" | ") for row in card.splitlines() if row.startswith("| `") and "(n =" in row
    }
    over_random = {name: row[5] for name, row in cells.items()}
    assert over_random.pop("kmeans-ipc2") != "–"
    assert over_random == dict.fromkeys(set(RECIPES) - {"kmeans-ipc2"}, "–")
    assert cells["poisoned"][1] == "DD (starts trained, poisoned)" and cells["dd"][1] == "DD"
    assert "a dash if networks were trained in another way (`a-replayed`, `dd`, `poisoned`, `average`)." in card
    start = json.loads((package.folder / "poisoned/recipe.json").read_text())["results"]["start"]["accuracy"]["mean"]
    assert f"real images ({100 * start:.2f} % before they see the set). Their accuracy" in card
    assert card.count("**Starts trained:**") == 1


def test_accuracy_before_training_is_that_of_the_weights_alone(entries, real):
    """Weights of 0 take every image for a 0, one in ten; sets without weights have no such figure."""
    sets = {entry.name: load_synthetic(entry.artifact)[0] for entry in entries}
    poisoned = sets["poisoned"]
    zeros_RP = torch.zeros_like(poisoned.schedule.starts_RP).repeat(2, 1)
    blank = replace(poisoned, schedule=replace(poisoned.schedule, starts_RP=zeros_RP))
    assert start_accuracy(blank, real.test).tolist() == pytest.approx([0.1, 0.1])
    assert start_accuracy(sets["dd"], real.test) is None
    assert start_accuracy(sets["random-ipc2"], real.test) is None


def test_random_images_in_an_order_of_their_own_are_no_baseline(entries):
    assert baselines(2, entries)["random"]["recipe"] == "random-ipc2"


def test_the_report_shows_them(entries, tmp_path):
    among = rows({entry.name: entry.metrics for entry in entries}, RECIPES)
    assert [row.recipe for row in among if row.ipc == 2] == ["a-replayed", "random-ipc2", "kmeans-ipc2"]
    arguments = {"evaluation": asdict(EVALUATION), "source": {}, "previews": {}, "scans": {}}
    write_report(tmp_path, rows=among, loss_curves={}, training_curves={}, **arguments)
    assert "1-NN %" in (tmp_path / "report.html").read_text(encoding="utf-8")
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert re.search(
        r"and tested after the last one; but average, dd, poisoned, a-replayed: plain gradient steps in the set", table
    )
    assert re.search(r"; starts trained \(poisoned, [\d.]+ % before\): its networks were trained on real images", table)
    assert "1-NN" not in table
