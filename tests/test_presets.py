"""The presets: read strictly, and the published numbers, which are written here a second time on purpose."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from distillkit.base import params
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.methods.learning.att import AutomaticTrajectories
from distillkit.methods.learning.mtt import TrajectoryMatching
from distillkit.methods.learning.selmatch import SelMatch
from distillkit.pipeline.packaging import PackageSpec
from distillkit.pipeline.recipes import read_recipe
from distillkit.sources.fetch import ZCA, DataSpec
from distillkit.training.expert_files import shard_paths
from distillkit.training.score_file import ScoreSpec
from distillkit.training.trajectories import ExpertsSpec

PRESETS = Path(__file__).parents[1] / "presets"

# ipc, alpha, beta, image rate; SelMatch's scripts/, as in Lee & Chung's repository at ce63f76
PUBLISHED = {
    "cifar10": [(250, 0.6, 0.5, 1e3), (500, 0.2, 0.3, 1e3), (1000, 0.1, 0.2, 1e4), (1500, 0.1, 0.2, 1e4)],
    "cifar100": [(25, 0.8, 0.8, 1e3), (50, 0.6, 0.7, 1e3), (100, 0.3, 0.6, 1e3), (150, 0.2, 0.4, 1e3)],
    "tiny-imagenet": [(50, 0.6, 0.8, 1e3), (100, 0.5, 0.7, 1e3)],
}
NAMES = (
    "att",
    "baselines",
    "ccfs",
    "coresets",
    "datm",
    "dc",
    "dd",
    "diffusion",
    "dm",
    "dsa",
    "dual",
    "mtt",
    "rded",
    "sdc",
)
OTHERS = {f"{name}-cifar10" for name in NAMES}  # of other methods
CLASS_SIZE = {"cifar10": 5000, "cifar100": 500, "tiny-imagenet": 500}


@pytest.fixture(params=PUBLISHED)
def preset(request):
    return request.param, params.load(PRESETS / f"selmatch-{request.param}.yaml")


def test_every_preset_is_known():
    assert {path.name for path in PRESETS.glob("*.yaml")} == {
        *(f"selmatch-{name}.yaml" for name in PUBLISHED),
        *(f"{name}.yaml" for name in OTHERS),
    }


@pytest.mark.parametrize("path", [PRESETS.parent / "params.yaml", *PRESETS.glob("*.yaml")], ids=lambda path: path.name)
def test_no_number_stands_for_another(path):
    """``dvc exp run -S`` sets a number where it stands: with YAML's anchors it would set others too, or none."""
    events = list(YAML().parse(path.read_text(encoding="utf-8")))
    assert len(events) > 50
    assert [event for event in events if getattr(event, "anchor", None)] == []


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_section_of_the_others_reads_and_has_its_baselines(name, tmp_path):
    data = params.load(PRESETS / f"{name}.yaml")
    for section, kind in (("data", DataSpec), ("score", ScoreSpec), ("experts", ExpertsSpec)):
        params.section(data, section, kind)
    params.section(data, "evaluation", EvaluationRecipe)
    shard_paths(data, tmp_path)
    recipes = [read_recipe(data, recipe) for recipe in data["recipes"]]
    assert params.section(data, "package", PackageSpec).default in data["recipes"]
    assert "full" in data["recipes"]
    for recipe in recipes:
        ipc = getattr(recipe.method, "ipc", 1)
        assert ipc == 1 or f"random-ipc{ipc}" in data["recipes"]


def test_ccs_numbers_are_the_published_ones():
    """At 90 % pruned; Zheng et al.'s repository."""
    data = params.load(PRESETS / "coresets-cifar10.yaml")
    ccs = read_recipe(data, "ccs-ipc500").method
    assert (ccs.ipc, ccs.hardest_dropped, ccs.strata) == (5000 // 10, 0.3, 50)
    training = params.section(data, "evaluation", EvaluationRecipe).training
    assert (training.steps, training.batch, training.lr, training.weight_decay) == (40_000, 256, 0.1, 5e-4)
    assert (training.momentum, training.nesterov, training.lr * training.final_lr_fraction) == (0.9, True, 1e-4)
    assert params.section(data, "score", ScoreSpec).name == "probability-margin"
    assert read_recipe(data, "ccs-ipc500-unbalanced").method.balanced is False


def test_numbers_of_ccfs_are_the_published_ones():
    """Alpha, rounds and trainings; epochs of the final set as updates; Chen et al.'s repository at 025593e."""
    data = params.load(PRESETS / "ccfs-cifar10.yaml")
    for ipc, alpha, epochs, batch in (
        (250, 0.2, 500, 32),
        (500, 0.1, 500, 64),
        (1000, 0.3, 250, 128),
        (1500, 0.3, 200, 128),
    ):
        method = read_recipe(data, f"ccfs-ipc{ipc}").method
        assert (method.distill_fraction, method.rounds, method.labels) == (alpha, 3, "hard")
        training = method.training
        assert (training.steps, training.batch) == (epochs * ipc * 10 // batch, batch)
        assert (training.lr, training.momentum, training.weight_decay, training.final_lr_fraction) == (
            0.2,
            0.9,
            1e-4,
            0,
        )
    assert params.section(data, "score", ScoreSpec).name == "forgetting"


def test_numbers_of_rded_are_the_published_ones():
    """Five crops of 300 images a class, 300 epochs of batch 50 at 10; Sun et al.'s repository at 3f6453d."""
    data = params.load(PRESETS / "rded-cifar10.yaml")
    for ipc in (1, 10, 50):
        method = read_recipe(data, f"rded-ipc{ipc}").method
        assert (method.ipc, method.factor, method.crops, method.pool) == (ipc, 1, 5, 300)
    evaluation = params.section(data, "evaluation", EvaluationRecipe)
    assert (evaluation.training.steps, evaluation.training.batch) == (300 * 100 // 50, 50)
    assert (evaluation.network.depth, evaluation.network.width, evaluation.network.norm) == (3, 128, "batch")


def test_numbers_of_dual_are_the_published_ones():
    """30 epochs in runs of 10; at 10 % kept 200 epochs of batch 32; Cho et al.'s repository at 4ab525d."""
    data = params.load(PRESETS / "dual-cifar10.yaml")
    spec = params.section(data, "score", ScoreSpec)
    assert (spec.name, spec.epochs, spec.window) == ("dual", 30, 10)
    spec.check_against(params.section(data, "experts", ExpertsSpec).recipe.epochs)
    dual = read_recipe(data, "dual-ipc500").method
    assert (dual.ipc, dual.exponent) == (5000 // 10, 4)
    assert read_recipe(data, "dual-ipc500-unbalanced").method.balanced is False
    training = params.section(data, "evaluation", EvaluationRecipe).training
    assert (training.steps, training.batch, training.lr, training.weight_decay) == (200 * 5000 // 32, 32, 0.1, 5e-4)
    assert (training.momentum, training.nesterov, training.final_lr_fraction) == (0.9, True, 0)


def test_numbers_of_the_baselines_are_the_published_ones():
    """Ten steps of an image a class, three passes; fifty sets and twenty networks; Wang et al.'s repository."""
    data = params.load(PRESETS / "baselines-cifar10.yaml")
    for name in ("random", "optimised", "kmeans"):
        method = read_recipe(data, f"{name}-ipc10-replay").method
        assert (method.ipc, method.replay.steps, method.replay.epochs) == (10, 10, 3)
    optimised = read_recipe(data, "optimised-ipc10-replay").method
    assert (optimised.sets, optimised.runs) == (50, 20)
    average = read_recipe(data, "average-replay").method.replay
    assert average.steps * average.epochs == 30


def test_numbers_of_dataset_distillation_are_the_published_ones():
    """Ten steps, three passes, 400 epochs in batches of 1,024, Adam; Wang et al.'s repository."""
    data = params.load(PRESETS / "dd-cifar10.yaml")
    outer = 400 * -(-50_000 // 1024)
    for name, lr, networks, step_size in (
        ("dd", 0.01, 1, 0.001),
        ("dd-fixed", 0.01, 1, 0.001),
        ("dd-attack", 0.02, 4, 0.02),
    ):
        recipe = read_recipe(data, f"{name}-ipc10")
        method, optim = recipe.method, recipe.optim
        assert (method.steps, method.epochs, method.ipc, method.real_batch) == (10, 3, 10, 1024)
        assert (method.networks, method.step_size) == (networks, step_size)
        assert (optim.rule, optim.steps, optim.image_lr, optim.student_lr_lr) == ("adam", outer, lr, lr)
        assert (optim.decay, optim.decay_every) == (0.5, 40 * outer // 400)
    assert "dd-attack-ipc10" not in params.section(data, "package", PackageSpec).chosen(data["recipes"])


@pytest.mark.parametrize("name", ["dc", "dsa"])
def test_numbers_of_gradient_matching_are_the_published_ones(name):
    """1,000 networks; updates and epochs in between by images a class; Zhao & Bilen's repository at 53f63a6."""
    data = params.load(PRESETS / f"{name}-cifar10.yaml")
    for ipc, loop in ((1, (1, 1)), (10, (10, 50)), (50, (50, 10))):
        recipe = read_recipe(data, f"{name}-ipc{ipc}")
        matching, optim = recipe.method.matching, recipe.optim
        assert (matching.loop(ipc), optim.steps) == (loop, 1000 * loop[0])
        assert (matching.real_batch, matching.network_lr, matching.network_batch) == (256, 0.01, 256)
        assert (optim.image_lr, optim.momentum) == (0.1, 0.5)
        assert recipe.method.start == {"dc": "noise", "dsa": "random"}[name]


def test_numbers_of_distribution_matching_are_the_published_ones():
    data = params.load(PRESETS / "dm-cifar10.yaml")
    found = {
        (recipe.method.ipc, recipe.optim.image_lr, recipe.optim.steps, recipe.optim.momentum)
        for recipe in (read_recipe(data, name) for name in data["recipes"] if name.startswith("dm-"))
    }
    assert found == {(ipc, 10 if ipc >= 100 else 1, 20_000, 0.5) for ipc in (1, 10, 50, 100, 200, 500, 1000, 1250)}


# ipc, N, M, max start, image rate, step size, its rate, outer steps: FTD's README for MTT, and ATT's repository
AVERAGES = {"mtt": {}, "att": {1: 0.9999, 10: 0.9999, 50: 0.999}}
EXPERT_BATCH = {"mtt": 256, "att": 512}
TRAJECTORIES = {
    "mtt": [
        (1, 50, 2, 2, 1e2, 0.01, 1e-7, 5000),
        (10, 30, 2, 20, 1e2, 0.001, 1e-5, 5000),
        (50, 30, 2, 40, 1e3, 0.01, 1e-5, 5000),
    ],
    "att": [
        (1, 80, 4, 2, 1e2, 0.01, 1e-7, 6000),
        (10, 30, 2, 20, 1e4, 0.01, 1e-4, 60_000),
        (50, 50, 2, 40, 1e2, 0.001, 1e-5, 1_000_000),
    ],
}


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_numbers_of_trajectory_matching_are_the_published_ones(name):
    data = params.load(PRESETS / f"{name}-cifar10.yaml")
    assert params.section(data, "data", DataSpec).normalisation == ZCA("zca", 0.1)
    for ipc, steps, expert_epochs, max_start, image_lr, step_size, step_size_lr, outer in TRAJECTORIES[name]:
        recipe = read_recipe(data, f"{name}-ipc{ipc}")
        matching, optim = recipe.method.matching, recipe.optim
        assert (matching.student_steps, matching.student_batch) == (steps, 10 * ipc)
        assert (matching.expert_epochs, matching.max_start_epoch) == (expert_epochs, max_start)
        assert (optim.steps, optim.image_lr, optim.momentum) == (outer, image_lr, 0.5)
        assert optim.student_lr_init == step_size
        assert optim.student_lr_lr * step_size**2 == pytest.approx(step_size_lr)
        assert optim.image_average == AVERAGES[name].get(ipc)
    assert params.section(data, "experts", ExpertsSpec).recipe.batch == EXPERT_BATCH[name]


def test_numbers_of_datm_are_the_published_ones():
    """Guo et al.'s repository, configs/CIFAR-10/ConvIN; the range is lowest start, first and last upper end."""
    data = params.load(PRESETS / "datm-cifar10.yaml")
    assert params.section(data, "data", DataSpec).normalisation == ZCA("zca", 0.1)
    for ipc, steps, image_lr, label_lr, batch, span, widen, step_size_lr, skip in (
        (1, 80, 100, 5, 10, (0, None, 4), None, 1e-7, 1.1),
        (10, 80, 100, 2, 100, (0, 10, 20), 1000, 1e-5, 1),
        (50, 80, 1000, 2, 500, (0, 20, 40), 2000, 1e-5, 1),
        (500, 40, 50, 10, 1000, (40, None, 60), None, 1e-5, 1),
        (1000, 100, 50, 10, 1000, (40, None, 60), None, 1e-5, 1),
    ):
        recipe = read_recipe(data, f"datm-ipc{ipc}")
        matching, optim = recipe.method.matching, recipe.optim
        assert recipe.method.labels == "learned"
        assert (matching.student_steps, matching.student_batch, matching.expert_epochs) == (steps, batch, 2)
        assert (matching.min_start_epoch, matching.first_max_start_epoch, matching.max_start_epoch) == span
        assert matching.widen_steps == widen
        assert (optim.steps, optim.image_lr, optim.label_lr, optim.label_momentum) == (10_000, image_lr, label_lr, 0.9)
        assert (optim.skip_above, optim.student_lr_init) == (skip, 0.01)
        assert optim.student_lr_lr * 0.01**2 == pytest.approx(step_size_lr)


def test_each_method_of_the_sdc_preset_is_there_with_and_without_the_correction():
    data = params.load(PRESETS / "sdc-cifar10.yaml")
    for name in ("dc", "dsa", "mtt"):
        own, corrected = (read_recipe(data, f"{name}{part}-ipc10") for part in ("", "-sdc"))
        assert corrected.method.matching.difficulty_correction is not None
        assert replace(corrected.method.matching, difficulty_correction=None) == own.method.matching
        assert corrected.optim == own.optim


def test_experts_reach_as_far_as_recipes_want():
    for name in (*TRAJECTORIES, "datm", "sdc"):
        data = params.load(PRESETS / f"{name}-cifar10.yaml")
        epochs = params.section(data, "experts", ExpertsSpec).recipe.epochs
        for recipe in (read_recipe(data, key) for key in data["recipes"]):
            if isinstance(recipe.method, TrajectoryMatching | AutomaticTrajectories):
                recipe.method.matching.check_against(epochs + 1)


def test_selmatch_numbers_are_the_published_ones(preset):
    name, data = preset
    recipes = [read_recipe(data, recipe) for recipe in data["recipes"]]
    found = [
        (r.method.ipc, r.method.distill_fraction, r.method.window_start, r.optim.image_lr)
        for r in recipes
        if isinstance(r.method, SelMatch)
    ]
    assert found == PUBLISHED[name]
    for recipe in recipes:
        if isinstance(recipe.method, SelMatch):
            method, optim = recipe.method, recipe.optim
            assert (method.matching.student_steps, method.matching.student_batch) == (20 if name[0] == "t" else 55, 125)
            assert (method.matching.expert_epochs, method.matching.max_start_epoch) == (2, 80)
            assert (optim.steps, optim.momentum, optim.student_lr_init) == (10_000, 0.5, 1e-3)
            assert optim.student_lr_lr * optim.student_lr_init**2 == pytest.approx(1e-5)


def test_every_section_reads_and_every_ipc_has_its_baselines(preset, tmp_path):
    name, data = preset
    params.section(data, "data", DataSpec)
    params.section(data, "score", ScoreSpec)
    experts = params.section(data, "experts", ExpertsSpec)
    assert len(shard_paths(data, tmp_path)) * experts.per_shard == 100
    assert (experts.recipe.epochs, experts.recipe.lr, experts.recipe.batch) == (100, 0.01, 256)
    evaluation = params.section(data, "evaluation", EvaluationRecipe)
    assert (evaluation.training.lr, evaluation.training.final_lr_fraction, evaluation.runs) == (0.1, 0.01, 5)
    package = params.section(data, "package", PackageSpec)
    assert package.default in package.chosen(data["recipes"])
    for ipc, *_ in PUBLISHED[name]:
        assert {f"{method}-ipc{ipc}" for method in ("random", "window", "mtt", "selmatch")} <= set(data["recipes"])


def test_windows_lie_inside_the_class(preset):
    name, _ = preset
    for ipc, _, beta, _ in PUBLISHED[name]:
        assert round(beta * CLASS_SIZE[name]) + ipc <= CLASS_SIZE[name]


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_a_preset_learns_when_it_is_made_small(path, monkeypatch):
    """Losses fall, step sizes stay near where they start, images move; see the head of benchmarks/presets.py."""
    monkeypatch.syspath_prepend(str(PRESETS.parent / "benchmarks"))
    rows = list(importlib.import_module("presets").rows_of(path.stem))
    assert len(rows) == len(params.load(path)["recipes"])
    assert {row["recipe"]: row["faults"] for row in rows if row["faults"]} == {}
