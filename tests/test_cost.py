"""The work of every method by hand, the page about it, and the arithmetic of its benchmark."""

from pathlib import Path

import pytest

from distillkit.estimates.duration import made_seconds
from distillkit.estimates.resources import Images
from distillkit.estimates.speeds import Speeds
from distillkit.estimates.work import CROPPED, Work, work_of
from distillkit.methods import METHODS
from distillkit.networks.specs import NetworkSpec
from distillkit.pipeline.recipes import read_recipe

ROOT = Path(__file__).parents[1]
TRAINING = {"steps": 5, "batch": 10, "lr": 0.05}
SCAN = {"candidates": [0.2, 0.4], "holdout": 0.2, "runs": 3, "training": TRAINING}
MATCHING = {"student_steps": 4, "student_batch": 20, "expert_epochs": 1, "max_start_epoch": 2}
STUDENT = {"steps": 7, "image_lr": 30, "student_lr_init": 0.05, "student_lr_lr": 0.01}
PLAIN = {"steps": 7, "image_lr": 0.1}
IMAGES, SPEC = Images((3, 8, 8), 10, 600, 300), NetworkSpec("convnet", "batch", depth=1, width=4)


@pytest.mark.parametrize(
    ("recipe", "work"),
    [
        ({"method": "random", "ipc": 5}, Work()),
        ({"method": "window", "ipc": 5, "window_start": 0.2}, Work()),
        # two candidates, three networks each: 5 updates of 10 images, and 120 held-out images as a third of one
        ({"method": "window", "ipc": 5, "window_start": SCAN}, Work(2 * 3 * (50 + 40))),
        # 7 steps of 4 batches of 20
        ({"method": "mtt", "ipc": 5, "matching": MATCHING, "optim": STUDENT}, Work(0, 560)),
        ({"method": "mtt", "ipc": 1, "matching": MATCHING, "optim": STUDENT}, Work(0, 280)),  # batches of 10
        # of ten classes 5 images forward and back, and the 60 that there are forward
        ({"method": "dm", "ipc": 5, "optim": PLAIN}, Work(pytest.approx(7 * 10 * (2 * 5 + 60) / 3))),
        # gradients of 5 images three times as dear as of 50 real ones; every other step four epochs of all 50 images;
        # of each class one step with real images, and one that counts three times
        (
            {
                "method": "dc",
                "ipc": 5,
                "matching": {"updates": 2, "inner_epochs": 4, "real_batch": 50},
                "optim": PLAIN,
            },
            Work(7 * (10 * (3 * 5 + 50) + 50 * 4 // 2), steps=7 * 10 * 4),
        ),
        # two networks pass twice over 50 images in five steps, each as dear as four, then see 30 real ones
        (
            {"method": "dd", "ipc": 5, "steps": 5, "epochs": 2, "networks": 2, "real_batch": 30, "optim": PLAIN},
            Work(7 * 2 * 30, 7 * 2 * 2 * 50, 0, 7 * 2 * 2 * 5 * 4),
        ),
        # three sets, two networks each, tested on half of the images
        (
            {"method": "optimised", "ipc": 5, "sets": 3, "runs": 2, "holdout": 0.5, "training": TRAINING},
            Work(3 * 2 * (50 + 100)),
        ),
        ({"method": "herding", "ipc": 5, "experts": 2}, Work(400)),  # all images forward
        ({"method": "rded", "ipc": 5, "pool": 30, "crops": 4}, Work(400, 0, CROPPED * 1200)),
        # 20 learned images in 3 steps; two networks and an expert say what all images are
        (
            {
                "method": "ccfs",
                "ipc": 4,
                "distill_fraction": 0.5,
                "matching": MATCHING,
                "learning": {**STUDENT, "steps": 3},
                "training": TRAINING,
                "rounds": 2,
            },
            Work(2 * (5 * 10 + 200) + 200, 3 * 4 * 20),
        ),
    ],
)
def test_work_by_hand(recipe, work):
    assert work_of(read_recipe({"recipes": {"it": recipe}}, "it"), IMAGES, SPEC) == work


def test_a_network_of_the_recipe_counts_by_its_flop():
    """Twice the width on grey images of one block: convolution and linear layer take twice the FLOP."""
    wide = {"name": "convnet", "norm": "batch", "depth": 1, "width": 8}
    recipe = {"method": "dm", "ipc": 5, "optim": PLAIN}
    plain, wider = (
        work_of(read_recipe({"recipes": {"it": {**recipe, **more}}}, "it"), IMAGES, SPEC)
        for more in ({}, {"network": wide})
    )
    assert wider.trained == pytest.approx(2 * plain.trained)


def test_seconds_are_work_over_speed():
    assert made_seconds(Work(100, 50, 3, 8), Speeds(1, 1, 20, 10, 0.25)) == 100 / 20 + 50 / 10 + 3 + 2


def test_the_page_has_every_method():
    page = (ROOT / "docs/cost.md").read_text(encoding="utf-8").split("## Measured")[0]
    assert [name for name in METHODS if f"`{name}`" not in page and name not in ("full", "imported")] == []


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import cost

    return cost


def test_an_exponent_is_the_slope_in_logarithms(benchmark):
    assert benchmark.slope([1, 2, 4], [3.0, 12.0, 48.0]) == pytest.approx(2)
    assert benchmark.slope([1, 2, 4], [5.0, 5.0, 5.0]) == pytest.approx(0)


def test_every_method_is_measured_from_its_own_settings(benchmark):
    """The first value of a variable is that of the settings, so that it need not be measured twice."""
    assert set(METHODS) - set(benchmark.CASES) == {"full", "imported"}
    for case in benchmark.CASES.values():
        for variable, values in case.grows.items():
            grown = benchmark.with_value(case, variable, values[0])
            assert (grown.settings, grown.images, grown.width) == (case.settings, case.images, case.width), variable
