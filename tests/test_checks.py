"""params.yaml as a whole: what the last stage would refuse, the first one does, and doctor."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from test_params import GOOD, MATCHING, OPTIM, SCAN, TRAINING, changed

from distillkit.base import files
from distillkit.base.errors import DistillkitError
from distillkit.base.params import load
from distillkit.data.files import artifact
from distillkit.data.files.real_images import save_real
from distillkit.data.images import RealData, channel_statistics
from distillkit.data.origin import SourceInfo
from distillkit.pipeline.checks import check_facts, check_images, check_params
from distillkit.setup.doctor import pipeline

ROOT = Path(__file__).parents[1]
PLAIN = {"name": "convnet", "norm": "instance", "depth": 1, "width": 4}
DD = {"method": "dd", "ipc": 1, "steps": 1, "optim": {"steps": 1, "image_lr": 1}}
PRETRAINED = DD | {"initialisation": "random-pretrained"}
OPTIMISED = {"method": "optimised", "ipc": 5, "sets": 1, "runs": 1, "holdout": 0.5, "training": TRAINING}
REPLAY = {"steps": 1, "epochs": 1, "step_size": {"candidates": [0.1], "holdout": 0.5, "runs": 1}}
MODEL = {"network": {"kind": "unet", "widths": [8], "layers": 1}, "training": TRAINING}
SHAPE, COUNTS = (1, 8, 8), {"cat": 9, "dog": 8}


def with_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    return changed("recipes.mine", recipe)


def refused(check: Any, *arguments: Any) -> str:
    with pytest.raises(DistillkitError) as caught:
        check(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_what_is_right_is_let_through(digits):
    before = copy.deepcopy(GOOD)
    check_params(GOOD)
    check_images(GOOD, digits)
    check_params({"seed": 0})
    check_params({key: value for key, value in GOOD.items() if key != "expert_shards"})
    assert before == GOOD


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (
            "package.default",
            "mtt-ipc6",
            "package: the default recipe is 'mtt-ipc6', which is not packaged (did",
        ),
        (
            "package.default",
            "full",
            "package: the default recipe is 'full', which is not packaged; expected",
        ),
        ("package.name", "../x", "package: package name is '../x'; expected letters"),
        (
            "package.recipes",
            ["mtt-ipc5", "mtt-ipc6"],
            "package: recipe 'mtt-ipc6' should be packaged, but does",
        ),
        (
            "package.recipes",
            ["mtt-ipc5", "mtt-ipc5"],
            "package: recipes to package are mtt-ipc5, mtt-ipc5; expect",
        ),
        (
            "package.recipes",
            [],
            "package: the default recipe is 'mtt-ipc5', which is not packaged; expected",
        ),
        ("package.colour", 1, "package.colour is not a parameter"),
        (
            "experts.recipe.epochs",
            1,
            "recipes.mtt-ipc5: matching reaches epoch 2 (max_start_epoch 2",
        ),
        ("score.epochs", 4, "score.epochs is 4; expected 1 to 3, the epochs the experts are trained for"),
        ("evaluation.runs", 0, "evaluation.runs is 0; expected at least 1"),
        ("data.source", {"kind": "digit"}, 'data.source.kind is "digit" (did you mean'),
        ("seed", "0", 'seed is "0"; expected a valid integer'),
        ("expert_shards", [], "expert_shards is []; expected distinct"),
        ("recipes", {}, "recipes is empty; expected at least one entry"),
        ("recipes", None, "recipes is null; expected"),
        ("recipes.full", None, "recipes.full is null; expected a mapping"),
    ],
)
def test_the_whole_file_is_looked_at(place, value, expected):
    line = refused(check_params, changed(place, value))
    assert line.removeprefix("params.yaml: ").startswith(expected)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"method": "herding", "ipc": 1, "experts": 5}, "experts is 5, but 4 are trained; expected 1 to 4, or add"),
        (PRETRAINED, "the experts are ConvNetBN-1-4, with batch normalisation"),
        (PRETRAINED | {"kept_apart": 4, "norm": PLAIN}, "kept_apart is 4; expected between 1 and 3"),
    ],
)
def test_a_recipe_asks_for_no_more_than_the_experts_give(recipe, expected):
    recipe = dict(recipe)
    data = with_recipe(recipe)
    if norm := recipe.pop("norm", None):
        data["experts"]["recipe"]["network"] = norm
        data["recipes"]["mine"] = recipe
    assert refused(check_params, data).startswith(f"params.yaml: recipes.mine: {expected}")


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"method": "random", "ipc": 9}, "ipc is 9, but class 'dog' has 8 training images"),
        ({"method": "kmeans", "ipc": 9}, "ipc is 9, but class 'dog'"),
        ({"method": "confident", "ipc": 0}, "ipc is 0; expected at least 1 image per class"),
        (
            {"method": "window", "ipc": 5, "window_start": 0.5},
            "the window of class 'dog' covers ranks 4 to 8, but it has 8",
        ),
        ({"method": "window", "ipc": 5, "window_start": SCAN | {"candidates": [0.4]}}, "no window of 5 images from"),
        ({"method": "rded", "ipc": 3, "factor": 2}, "ipc 3 images of 2 x 2 crops take 12 images"),
        (OPTIMISED, "ipc is 5, but class 'dog' has 4 training images"),
        ({"method": "random", "ipc": 5, "replay": REPLAY}, "ipc is 5, but class 'dog' has 4 training images"),
        ({"method": "dm", "ipc": 9, "optim": {"steps": 1, "image_lr": 1}}, "ipc is 9, but class 'dog'"),
        (PRETRAINED | {"attack": {"attack_class": "cow", "target_class": 0}}, "attack.attack_class is 'cow'; expected"),
    ],
)
def test_classes_that_are_too_small(recipe, expected):
    assert refused(check_facts, with_recipe(recipe), SHAPE, COUNTS).startswith(f"params.yaml: recipes.mine: {expected}")


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "dc", "ipc": 100, "start": "noise", "optim": {"steps": 1, "image_lr": 1}},
        {"method": "diffusion", "ipc": 100, "model": MODEL, "sampling": {"steps": 1}},
        {"method": "ccs", "ipc": 100, "balanced": False, "hardest_dropped": 0},
        {"method": "full"},
        {"method": "random", "ipc": 8},
        {"method": "window", "ipc": 8, "window_start": 0},
        {"method": "imported", "ipc": 100, "file": "not-here.safetensors", "sha256": 64 * "0"},
        {
            "method": "selmatch",
            "ipc": 4,
            "window_start": 1,
            "window_unit": "ipc",
            "distill_fraction": 0.5,
            "matching": MATCHING,
            "optim": OPTIM,
        },
    ],
    ids=lambda recipe: recipe["method"],
)
def test_what_the_classes_have_room_for(recipe):
    data = with_recipe(recipe)
    data["recipes"] = {"mine": recipe}
    check_facts(data, SHAPE, COUNTS)


@pytest.mark.parametrize("section", ["experts", "evaluation"])
def test_networks_that_images_are_too_small_for(section):
    place = {"experts": "experts.recipe.network", "evaluation": "evaluation.network"}[section]
    line = refused(check_facts, changed(place, PLAIN | {"depth": 4}), SHAPE, {"cat": 90, "dog": 80})
    assert line.startswith(f"params.yaml: {section}: network.depth is 4, but images of 8x8 cannot be halved that often")


def test_an_imported_set_of_other_classes(tmp_path, monkeypatch, imported, digits):
    monkeypatch.chdir(tmp_path)
    artifact.save_synthetic(tmp_path / "x.safetensors", imported, {})
    sha256 = files.sha256(tmp_path / "x.safetensors")
    recipe = {
        "method": "imported",
        "ipc": 5,
        "file": "x.safetensors",
        "sha256": sha256,
    }
    line = refused(check_images, with_recipe(recipe), digits)
    assert line == "params.yaml: recipes.mine: ipc is 5, but x.safetensors has 4 images per class; expected the same"
    check_images(with_recipe(recipe | {"sha256": 64 * "0"}), digits)  # another file is meant, which is not here yet


def test_doctor_tells_both(tmp_path, digits, monkeypatch):
    monkeypatch.setattr("distillkit.estimates.speeds.SECONDS", 0.05)
    data = changed("package.default", "no")
    YAML().dump(data, tmp_path / "params.yaml")
    assert "package: the default recipe is 'no'" in " ".join(finding.found for finding in pipeline(tmp_path))
    YAML().dump(with_recipe({"method": "random", "ipc": 1000}), tmp_path / "params.yaml")
    assert [finding for finding in pipeline(tmp_path) if finding.status == "failure"] == []
    test = digits.take(torch.arange(60))
    real = RealData(digits, test, channel_statistics(digits.images), SourceInfo("folder", "digits", "1", "cc-by-4.0"))
    save_real(tmp_path / "artifacts/real.safetensors", real)
    (failure,) = (finding for finding in pipeline(tmp_path) if finding.status == "failure")
    assert failure.found.startswith("recipes.mine: ipc is 1000, but class ")


@pytest.mark.parametrize(
    "file", ["params.yaml", *sorted(f"presets/{path.name}" for path in (ROOT / "presets").iterdir())]
)
def test_what_the_project_brings_is_let_through(file):
    data, digits = load(ROOT / file), file == "params.yaml"
    check_params(data)
    shape = (1, 8, 8) if digits else (3, *(data["data"].get("size") or (32, 32)))
    images = 130 if digits else 5000 if "cifar10." in file else 500
    check_facts(data, shape, {str(label): images for label in range(10)})
