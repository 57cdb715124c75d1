"""Other networks: their form, what sets are worth to them, and where that is told and checked."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from packages import EVALUATION, digits_data, rewritten
from torch import nn

from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.base.params import read
from distillkit.base.randomness import seed_for, seeded
from distillkit.check.evaluation import evaluate_again
from distillkit.check.verify import lines, verify
from distillkit.data.files.artifact import provenance_of, save_reference, save_synthetic
from distillkit.data.files.real_images import save_real
from distillkit.data.images import Schedule, channel_statistics, real_subset
from distillkit.data.selection import select_random
from distillkit.evaluation.evaluate import EvaluationRecipe, evaluate
from distillkit.evaluation.metrics import others_of
from distillkit.evaluation.others import USUAL, Other
from distillkit.evaluation.recovery import Figure, Measured, drop
from distillkit.networks.parameters import flatten
from distillkit.networks.specs import PLAIN, NetworkSpec, build_network, check_learnable
from distillkit.networks.usual import alexnet, mlp, vgg11, vit
from distillkit.package.card_tables import crossed
from distillkit.package.manifest import open_package
from distillkit.pipeline.checks import check_facts
from distillkit.pipeline.measure import measure_others
from distillkit.report.table import cross_table

ROOT = Path(__file__).parents[1]
RECIPE = replace(EVALUATION, runs=2, others=("mlp", Other(NetworkSpec("convnet", "none", 1, 4), 0.1)))
CLAIM = {"mean": 0.6, "std": 0.01, "runs": 2, "run_1": 0.592929, "run_2": 0.607071}


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        # of each convolution 9 in x out + out, of its normalisation 2 out, of the linear layer 512 x 10 + 10
        ("vgg11", (3, 32, 32), 9_231_114),
        # 128 (3 x 25 + 1), 192 (128 x 25 + 1), 256 (192 x 9 + 1), 192 (256 x 9 + 1), 192 (192 x 9 + 1), 10 (3072 + 1)
        ("alexnet", (3, 32, 32), 9728 + 614_592 + 442_624 + 442_560 + 331_968 + 30_730),
        ("alexnet", (1, 28, 28), 3328 + 614_592 + 442_624 + 442_560 + 331_968 + 30_730),
        ("mlp", (3, 32, 32), 128 * 3073 + 128 * 129 + 10 * 129),
        # 4 layers of 12 d² + ... with d = 128 and 256 within; 64 + 1 positions, a patch of 3 x 4 x 4
        (
            "vit",
            (3, 32, 32),
            4 * (4 * 128 * 129 + 2 * 128 * 256 + 256 + 128 + 4 * 128) + 65 * 128 + 128 + 49 * 128 + 256 + 1290,
        ),
    ],
)
def test_they_have_the_field_s_form(name, shape, parameters):
    spec = NetworkSpec(name, "none" if name in PLAIN else "batch")
    network = build_network(spec, shape, 10, seed=0)
    assert len(flatten(network)) == parameters
    assert network.eval()(torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize("name", USUAL)
def test_they_take_small_grey_images_and_learn(name):
    network = build_network(USUAL[name].network, (1, 8, 8), 10, seed=0).train()
    images = torch.rand(4, 1, 8, 8, generator=seeded(0))
    torch.nn.functional.cross_entropy(network(images), torch.arange(4)).backward()
    silent = [part for part in network.parameters() if part.grad is None]
    assert not silent


def test_pooling_stops_at_one_pixel():
    pools = [
        sum(isinstance(layer, nn.MaxPool2d) for layer in vgg11("batch", (1, side, side), 2)) for side in (28, 8, 4)
    ]
    assert pools == [5, 3, 3], "grey images are padded to side + 4"
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in alexnet((3, 4, 4), 2)) == 2
    assert mlp((1, 8, 8), 3)[1].in_features == 64


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_instance_normalisation_of_one_pixel_is_refused(name):
    with pytest.raises(
        ParamsError, match=rf"^network.norm is instance, but {name} makes one pixel of 8x8 images, .* batch"
    ):
        build_network(NetworkSpec(name, "instance"), (3, 8, 8), 10, seed=0)
    assert build_network(NetworkSpec(name, "instance"), (3, 32, 32), 10, seed=0)


def test_vit_cuts_into_equal_patches_or_refuses():
    assert [vit((1, side, side), 2).patch_size for side in (8, 28, 32, 64)] == [2, 4, 4, 8]
    for shape in ((3, 31, 31), (3, 32, 28)):
        with pytest.raises(ParamsError, match=r"^network.name is vit, but images are \d+x\d+; expected a square"):
            vit(shape, 2)
    with pytest.raises(ParamsError, match=r"^network.name is vit, whose attention cannot be differentiated twice"):
        check_learnable(NetworkSpec("vit", "none"), (3, 32, 32), 10, twice=True)


# The recipe


def test_only_network_and_rate_differ():
    mlp_recipe, plain = RECIPE.with_others()["mlp"], RECIPE.with_others()["ConvNet-1-4"]
    assert mlp_recipe.network == NetworkSpec("mlp", "none") and mlp_recipe.training.lr == USUAL["mlp"].lr
    assert plain.training == replace(RECIPE.training, lr=0.1) and plain.runs == 2


def test_a_recipe_without_others_is_told_as_before():
    assert "others" not in EVALUATION.plain() and EVALUATION.plain()["runs"] == 3
    told = json.loads(json.dumps(RECIPE.plain()))
    assert read(told, EvaluationRecipe, "evaluation") == RECIPE


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (["mlp", "mlp"], "evaluation.others has mlp twice; expected each network once; remove one"),
        ([{"network": {"name": "mlp", "norm": "none"}, "lr": 0.0}], "evaluation.others.lr is 0; expected"),
        (["vgg"], "expected 'vgg11', 'alexnet', 'resnet18', 'mlp' or 'vit'"),
    ],
)
def test_mistakes_are_told(others, message):
    with pytest.raises(ParamsError, match=message):
        read({**EVALUATION.plain(), "others": others}, EvaluationRecipe, "evaluation")


def test_others_are_built_for_the_images_before_anything_runs():
    told = {"evaluation": {**EVALUATION.plain(), "others": ["vit"]}}
    with pytest.raises(ParamsError, match=r"evaluation: network.name is vit, but images are 9x7"):
        check_facts(told, (1, 9, 7), {"a": 3, "b": 3})


def test_the_rates_are_those_that_the_benchmark_chose():
    results = ROOT / "benchmarks/results/networks_digits.json"
    chosen = json.loads(results.read_text(encoding="utf-8"))["chosen"]
    assert {name: USUAL[name].lr for name in chosen} == chosen
    assert {"vgg11", "alexnet", "mlp", "vit"} <= chosen.keys()  # resnet18: as the benchmark goes on


# The figures


@pytest.fixture(scope="module")
def subset(digits):
    rows = select_random(digits.labels, digits.class_names, 5, seeded(0))
    return real_subset(digits, rows, channel_statistics(digits.images))


def test_others_start_as_the_main_network_does_and_are_measured_like_it(subset, digits):
    found = measure_others(subset, digits, RECIPE, seed=3)
    recipe = replace(RECIPE.with_others()["mlp"])
    alone = evaluate(subset, digits, recipe, torch.zeros(len(digits)), seeded(seed_for(3, "evaluate")))
    assert found["mlp"].accuracy_R.tolist() == alone.accuracy_R.tolist() and list(found) == ["mlp", "ConvNet-1-4"]
    assert others_of(found)["others"]["mlp"]["accuracy"]["runs"] == 2
    assert others_of({}) == {}


def test_a_set_with_an_order_of_its_own_goes_with_one_network(subset, digits):
    schedule = Schedule(torch.zeros(len(subset), dtype=torch.int64), torch.full((1,), 0.1), EVALUATION.network)
    assert measure_others(replace(subset, schedule=schedule), digits, RECIPE, seed=0) == {}


MAIN, FEW = Measured(0.9, 0.04, 4), {"a": Measured(0.8, 0.02, 4), "b": Measured(0.7, 0.02, 4)}


def test_the_drop_by_hand():
    """0.9 − 0.75; √(0.02² + 0.01² / 4 + 0.01² / 4)."""
    assert drop(MAIN, list(FEW.values())) == Figure(pytest.approx(0.15), pytest.approx(0.0212132, abs=1e-6))
    assert drop(MAIN, []) is None


def test_the_table_has_a_dash_where_a_network_was_not_tested():
    columns, lines = cross_table("X", [("one", MAIN, FEW), ("two", MAIN, {"a": FEW["a"]}), ("no", MAIN, {})])
    assert columns == ["recipe", "X %", "a %", "b %", "drop"]
    assert lines == [
        ["one", "90.00 ± 4.00", "80.00 ± 2.00", "70.00 ± 2.00", "15.00 ± 2.12"],
        ["two", "90.00 ± 4.00", "80.00 ± 2.00", "–", "10.00 ± 2.24"],
    ]
    assert cross_table("X", [("no", MAIN, {})]) == ([], [])


def test_the_stage_measures_others_and_nothing_else_changes(tmp_path, monkeypatch):
    """By the script itself: the metrics with and without others agree in all but these."""
    spec = importlib.util.spec_from_file_location("evaluate_stage", ROOT / "stages/evaluate.py")
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)
    monkeypatch.chdir(tmp_path)
    real = digits_data()
    save_real(tmp_path / "real.safetensors", real)
    rows = select_random(real.train.labels, real.train.class_names, 2, seeded(0))
    small = real_subset(real.train, rows, real.normalisation)
    save_synthetic(tmp_path / "x.safetensors", small, provenance_of("x", "random", {}, 0, real))
    save_reference(tmp_path / "reference.safetensors", torch.zeros(len(real.test)), {})
    found = []
    for others in ((), ("mlp",)):
        evaluation = replace(EVALUATION, others=others).plain() | {"others": list(others)}
        Path("params.yaml").write_text(json.dumps({"seed": 0, "evaluation": evaluation}))
        names = [
            "x.safetensors",
            "real.safetensors",
            "reference.safetensors",
            "m.json",
            "c.json",
            "curve.csv",
            "confusion.csv",
        ]
        result = CliRunner().invoke(stage.evaluate, names)
        assert result.exit_code == 0, (result.output, result.exception)
        found.append(json.loads(Path("m.json").read_text()))
    assert found[1].pop("others")["mlp"]["accuracy"]["runs"] == 3
    assert found[0] == found[1]


# The claim


def with_others(content: bytes, **claims) -> bytes:
    record = json.loads(content)
    record["results"]["others"] = {name: {"accuracy": claim} for name, claim in claims.items()}
    return json.dumps(record).encode()


def test_a_claim_of_another_network_is_checked(first, tmp_path):
    """The MLP's accuracy on the set, as it is measured, and one that no MLP reaches."""
    name = "random-ipc2"
    nobody = evaluate_again(first, recipe=name, test=None, params_file=None, runs=None, seed=0, network="mlp")
    assert nobody["claimed"] is None
    options = {"test": None, "runs": None, "seed": 0}
    honest = rewritten(first, tmp_path / "a", f"{name}/recipe.json", lambda it: with_others(it, mlp=nobody["accuracy"]))
    verdict = verify(open_package(honest), name, network="mlp", **options)
    assert verdict.matches and verdict.found == nobody["accuracy"]
    assert any(line.endswith("with network mlp") for line in lines(verdict))
    record = json.loads((honest / name / "recipe.json").read_text())
    columns, ((_, _, own, _),) = crossed([record])
    assert columns[2] == "mlp %" and own.startswith(f"{100 * nobody['accuracy']['mean']:.2f}")
    high = {key: 0.99 if key != "runs" else 3 for key in nobody["accuracy"]} | {"std": 0.0}
    liar = rewritten(first, tmp_path / "b", f"{name}/recipe.json", lambda it: with_others(it, mlp=high))
    assert not verify(open_package(liar), name, network="mlp", **options).matches
    torn = rewritten(
        first, tmp_path / "c", f"{name}/recipe.json", lambda it: with_others(it, mlp=CLAIM | {"mean": 0.9})
    )
    with pytest.raises(ArtifactError, match=r"contradicts itself: random-ipc2/recipe.json, mlp: accuracy has mean"):
        verify(open_package(torn), name, network="mlp", **options)
    with pytest.raises(
        ParamsError, match=r"^--network is vit, but tiny claims no accuracy of it for .*; expected one of mlp; "
    ):
        verify(open_package(honest), name, network="vit", **options)
    with pytest.raises(ParamsError, match=r"^--network is vgg; expected package.module:function, or one of vgg11, "):
        verify(open_package(honest), name, network="vgg", **options)
