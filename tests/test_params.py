"""params.yaml is read strictly: whatever is wrong with it comes out as one line that names the place."""

import copy
from pathlib import Path
from typing import Any

import pytest

from distillkit.base import params
from distillkit.base.errors import ParamsError
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.matching.attack import Attack
from distillkit.methods import METHODS
from distillkit.pipeline.packaging import PackageSpec
from distillkit.pipeline.recipes import read_recipe
from distillkit.selection.window import WindowScan, WindowSubset
from distillkit.sources.fetch import DataSpec
from distillkit.sources.readers import FolderSource, HuggingFaceSource, TorchvisionSource
from distillkit.training.expert_files import shard_paths
from distillkit.training.score_file import ScoreSpec
from distillkit.training.trajectories import ExpertsSpec

KINDS = {
    "data": DataSpec,
    "experts": ExpertsSpec,
    "score": ScoreSpec,
    "evaluation": EvaluationRecipe,
    "package": PackageSpec,
    "seed": int,
}
NETWORK = {"name": "convnet", "depth": 1, "width": 4}
TRAINING = {"steps": 5, "batch": 10, "lr": 0.05}
SCAN = {"candidates": [0.2, 0.4], "holdout": 0.2, "runs": 2, "training": TRAINING}
MATCHING = {"student_steps": 4, "student_batch": 20, "expert_epochs": 1, "max_start_epoch": 2}
OPTIM = {"steps": 7, "image_lr": 30, "student_lr_init": 0.05, "student_lr_lr": 0.01}
GOOD: dict[str, Any] = {
    "seed": 0,
    "data": {"source": {"kind": "digits"}},
    "expert_shards": [0, 1],
    "experts": {"per_shard": 2, "recipe": {"network": NETWORK, "epochs": 3, "batch": 60, "lr": 0.05}},
    "score": {"name": "confidence"},
    "recipes": {
        "full": {"method": "full"},
        "random-ipc5": {"method": "random", "ipc": 5},
        "window-ipc5": {"method": "window", "ipc": 5, "window_start": 0.4},
        "scan-ipc5": {"method": "window", "ipc": 5, "window_start": SCAN},
        "mtt-ipc5": {"method": "mtt", "ipc": 5, "matching": MATCHING, "optim": OPTIM},
        "selmatch-ipc5": {
            "method": "selmatch",
            "ipc": 5,
            "window_start": SCAN,
            "distill_fraction": 0.6,
            "matching": MATCHING,
            "optim": OPTIM,
        },
    },
    "evaluation": {"network": NETWORK, "training": TRAINING, "runs": 3},
    "package": {"name": "tiny", "default": "mtt-ipc5"},
}
GONE = object()


def changed(place: str, value: Any) -> dict[str, Any]:
    """GOOD with ``value`` at a dotted place, or without that place."""
    data = copy.deepcopy(GOOD)
    *path, key = place.split(".")
    inner = data
    for step in path:
        inner = inner[step]
    if value is GONE:
        del inner[key]
    else:
        inner[key] = value
    return data


def read(data: dict[str, Any], place: str) -> Any:
    """What a stage reads of the section, or the recipe, at ``place``."""
    top, *rest = place.split(".")
    if top == "recipes":
        return read_recipe(data, rest[0])
    return params.section(data, top, KINDS[top])


def problem(place: str, value: Any) -> str:
    """The one line for GOOD with ``value`` at ``place``, without the file's name."""
    with pytest.raises(ParamsError) as caught:
        read(changed(place, value), place)
    line = str(caught.value)
    assert "\n" not in line
    return line.removeprefix("params.yaml: ")


def yaml_problem(tmp_path: Path, text: str | bytes) -> str:
    """The one line for a whole file, with its path left out."""
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ParamsError) as caught:
        params.load(path)
    line = str(caught.value).replace(str(path), "params.yaml")
    assert "\n" not in line
    return line


def test_the_project_s_own_file_is_read_in_full():
    data = params.load(Path(__file__).parents[1] / "params.yaml")
    for name, kind in KINDS.items():
        assert isinstance(params.section(data, name, kind), kind)
    assert {read_recipe(data, name).method_name for name in data["recipes"]} <= set(METHODS)
    assert len(shard_paths(data, Path())) == len(data["expert_shards"])


@pytest.mark.parametrize("place", [*KINDS, *(f"recipes.{name}" for name in GOOD["recipes"])])
def test_good_sections_are_read(place):
    assert read(GOOD, place) is not None


def test_yaml_numbers_are_those_of_yaml_1_2(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: 1e-3\nb: 010\nc: no\nd: 1_000\n")
    assert params.load(path) == {"a": 0.001, "b": 10, "c": "no", "d": 1000}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1\n", "params.yaml line 2 is not valid YAML: expected ',' or ']'"),
        ("a: 1\nb: 2\na: 3\n", 'params.yaml line 3 is not valid YAML: found duplicate key "a"'),
        ("a:\n\tb: 1\n", "params.yaml line 2 is not valid YAML: found character '\\t'"),
        ("a: *b\n", "params.yaml line 1 is not valid YAML: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2\n", "params.yaml line 2 is not valid YAML: but found another document"),
        ("a: !!python/object:os.system x\n", "params.yaml line 1 is not valid YAML: could not determine a constructor"),
        (b"a: \xe9\n", "params.yaml is not valid YAML: unacceptable character #x00e9"),
        ("- 1\n", "params.yaml holds [1]; expected a mapping of sections"),
        ("hello\n", 'params.yaml holds "hello"; expected a mapping of sections'),
        ("", "params.yaml holds null; expected a mapping of sections"),
    ],
)
def test_a_file_that_is_no_yaml_mapping(tmp_path, text, expected):
    assert yaml_problem(tmp_path, text).startswith(expected)


def test_a_missing_file(tmp_path):
    with pytest.raises(ParamsError, match=r"nope.yaml does not exist; run from the folder that holds dvc.yaml"):
        params.load(tmp_path / "nope.yaml")


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("data", GONE, "params.yaml has no section 'data'; add it"),
        ("recipes.mtt-ipc5.matching.student_steps", GONE, "recipes.mtt-ipc5.matching.student_steps is missing; add it"),
        ("recipes.scan-ipc5.window_start", GONE, "recipes.scan-ipc5.window_start is missing; add it"),
        ("recipes.scan-ipc5.window_start.holdout", GONE, "recipes.scan-ipc5.window_start.holdout is missing; add it"),
        ("evaluation.network.name", GONE, "evaluation.network.name is missing; add it"),
    ],
)
def test_a_missing_key_is_named_in_full(place, value, expected):
    assert problem(place, value) == expected


def test_a_misspelt_section_is_found_under_its_wrong_name():
    data = copy.deepcopy(GOOD)
    data["evaluatoin"] = data.pop("evaluation")
    with pytest.raises(ParamsError, match=r"^params.yaml has no section 'evaluation'; found 'evaluatoin'; rename it$"):
        read(data, "evaluation")


@pytest.mark.parametrize(
    ("place", "meant", "known"),
    [
        ("recipes.mtt-ipc5.matching.student_stepz", "student_steps", "student_steps, student_batch, expert_epochs"),
        ("recipes.selmatch-ipc5.matchin", "matching", "method, ipc, distill_fraction, matching, window_start"),
        ("recipes.selmatch-ipc5.optim.stepz", "steps", "steps, image_lr, student_lr_init, student_lr_lr"),
        ("recipes.selmatch-ipc5.window_start.candidatez", "candidates", "candidates, holdout, runs, training"),
        ("recipes.selmatch-ipc5.window_start.training.batsh", "batch", "steps, batch, lr, momentum"),
        ("data.test_fractoin", "test_fraction", "source, size, test_fraction, split_seed, per_class"),
        ("experts.recipe.epoch", "epochs", "network, epochs, batch, lr"),
        ("evaluation.network.widht", "width", "name, norm, depth, width, stem_stride"),
        ("score.flie", "file", "name, epochs, window, file, larger_means"),
        ("package.nam", "name", "name, default, recipes"),
    ],
)
def test_a_misspelt_key_is_named_in_full_with_what_was_meant(place, meant, known):
    expected = f"{place} is not a parameter (did you mean {meant!r}?); expected {known}"
    assert problem(place, 1).startswith(expected)


def test_a_key_that_nothing_resembles_comes_without_a_guess():
    assert problem("recipes.full.ipc", 5) == "recipes.full.ipc is not a parameter; expected method, seed"
    assert problem("data.source.xyzzy", 5) == "data.source.xyzzy is not a parameter; expected kind"


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("seed", "0", '"0"; expected a valid integer'),
        ("seed", None, "null; expected a valid integer"),
        ("recipes.mtt-ipc5.ipc", "5", '"5"; expected a valid integer'),
        ("recipes.mtt-ipc5.ipc", True, "true; expected a valid integer"),
        ("recipes.mtt-ipc5.ipc", 5.0, "5.0; expected a valid integer"),
        ("recipes.mtt-ipc5.ipc", [5], "[5]; expected a valid integer"),
        ("recipes.mtt-ipc5.optim.image_lr", "30", '"30"; expected a valid number'),
        ("recipes.mtt-ipc5.optim.image_lr", [30], "[30]; expected a valid number"),
        ("recipes.mtt-ipc5.optim.image_lr", True, "true; expected a valid number"),
        ("recipes.mtt-ipc5.optim.image_lr", float("nan"), "NaN; expected a finite number"),
        ("experts.recipe.weight_decay", float("inf"), "Infinity; expected a finite number"),
        ("recipes.mtt-ipc5.matching", "x", '"x"; expected a mapping'),
        ("recipes.mtt-ipc5.matching", None, "null; expected a mapping"),
        ("recipes.mtt-ipc5.start", "windw", "\"windw\"; expected 'random', 'window' or 'confident'"),
        ("recipes.mtt-ipc5", None, "null; expected a mapping"),
        ("recipes.mtt-ipc5", [1], "[1]; expected a mapping"),
        ("evaluation.network.norm", "group", "\"group\"; expected 'batch', 'instance' or 'none'"),
        ("data", [1], "[1]; expected a mapping"),
        ("data.size", [8], "[8]; expected 2 entries"),
        ("data.size", [8, 8, 8], "[8, 8, 8]; expected 2 entries"),
        ("data.size", 8, "8; expected a list"),
    ],
)
def test_a_value_of_the_wrong_type(place, value, expected):
    assert problem(place, value) == f"{place} is {expected}"


def test_a_wrong_entry_of_a_list_is_named_by_its_position():
    assert problem("data.size", ["8", 8]) == 'data.size.0 is "8"; expected a valid integer'


def test_a_long_value_is_cut_short():
    line = problem("recipes.mtt-ipc5.ipc", list(range(1000)))
    assert line == "recipes.mtt-ipc5.ipc is " + str(list(range(1000)))[:80] + "…; expected a valid integer"


def test_an_integer_will_do_for_a_number():
    assert read(changed("recipes.window-ipc5.window_start", 0), "recipes.window-ipc5").method.window_start == 0


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (
            "data.test_fraction",
            1.5,
            "1.5; expected between 0.01 and 0.99; write 0.25 to set a quarter of each class aside",
        ),
        ("data.size", [8, 0], "[8, 0]; expected height and width of at least 1, as in [32, 32]"),
        ("data.per_class", 0, "0; expected at least 1"),
        ("data.split_seed", 10**400, "beyond 1e308; expected between 0 and 9.22337e+18"),
        ("data.split_seed", -(10**400), "below -1e308; expected between 0 and 9.22337e+18"),
        ("evaluation.runs", 2**63, "9.22337e+18; expected between 1 and 9.0072e+15"),
        ("evaluation.training.lr", 1e39, "1e+39; expected a finite number above 0 up to 3.40282e+38"),
        ("evaluation.training.weight_decay", 1e39, "1e+39; expected between 0 and 3.40282e+38"),
        ("data.split_seed", -1, "-1; expected between 0 and 9.22337e+18"),
        ("experts.per_shard", 0, "0; expected at least 1"),
        ("experts.recipe.epochs", 0, "0; expected at least 1"),
        ("experts.recipe.lr", 0, "0; expected a finite number above 0"),
        ("experts.recipe.network.depth", 0, "0; expected between 1 and 32"),
        ("experts.recipe.network.width", 8 * 10**9, "8e+09; expected between 1 and 8192"),
        ("evaluation.runs", 0, "0; expected at least 1"),
        ("evaluation.curve_points", -1, "-1; expected at least 0"),
        ("evaluation.training.batch", 1, "1; expected at least 2"),
        ("evaluation.network.stem_stride", 3, "3; expected between 1 and 2"),
        ("recipes.mtt-ipc5.matching.expert_epochs", 0, "0; expected at least 1"),
        ("recipes.mtt-ipc5.matching.min_start_epoch", 2, "2; expected between 0 and 1"),
        ("recipes.mtt-ipc5.optim.steps", 0, "0; expected at least 1"),
        ("recipes.mtt-ipc5.optim.image_lr", -1, "-1; expected a finite number above 0"),
        ("recipes.mtt-ipc5.optim.update_fraction", 1.5, "1.5; expected between 0 and 1"),
        ("recipes.selmatch-ipc5.distill_fraction", 2, "2; expected between 0 and 1"),
        ("recipes.window-ipc5.window_start", -0.5, "-0.5; expected between 0 and 1"),
        ("recipes.window-ipc5.window_start", 1.5, "1.5; expected between 0 and 1"),
        ("recipes.scan-ipc5.window_start.candidates", [0.5, 2], "2; expected between 0 and 1"),
        ("recipes.scan-ipc5.window_start.candidates", [], "empty; expected fractions such as [0.2, 0.5, 0.8]"),
        ("recipes.selmatch-ipc5.window_start.holdout", 0, "0; expected between 0.01 and 0.9"),
        ("recipes.selmatch-ipc5.window_start.runs", 0, "0; expected at least 1"),
        ("recipes.selmatch-ipc5.window_start.training.steps", 0, "0; expected at least 1"),
    ],
)
def test_a_value_out_of_range_is_named_in_full(place, value, expected):
    assert problem(place, value) == f"{place} is {expected}"


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("recipes.selmatch-ipc5.distill_fraction", 0.01, "distill_fraction 0.01 of ipc 5 is no image at all; raise it"),
        ("recipes.selmatch-ipc5.start", "confident", "start is confident, which has no window_start; remove it"),
        ("recipes.selmatch-ipc5.window_start", None, "start is window, but window_start is missing; expected a frac"),
        ("recipes.selmatch-ipc5.window_start", GONE, "start is window, but window_start is missing; expected a frac"),
        ("recipes.mtt-ipc5.window_start", 0.5, "start is random, which has no window_start; remove it or set start"),
        ("recipes.scan-ipc5.window_unit", "ipc", "window_unit is 'ipc', but a window scan works in fractions"),
    ],
)
def test_settings_that_contradict_each_other(place, value, expected):
    recipe = ".".join(place.split(".")[:2])
    assert problem(place, value).startswith(f"{recipe}.{expected}")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "file"}, "score.name is file and file is None; give a path exactly when name is file"),
        ({"file": "x.npy"}, "score.name is confidence and file is x.npy; give a path exactly when name is file"),
        (
            {"larger_means": "easier"},
            "score.larger_means is only for score files; confidence has its own end",
        ),
    ],
)
def test_score_settings_that_contradict_each_other(changes, expected):
    assert problem("score", GOOD["score"] | changes).startswith(expected)


def test_window_start_is_a_fraction_or_a_scan():
    assert read(GOOD, "recipes.window-ipc5").method == WindowSubset(5, 0.4)
    scan = read(GOOD, "recipes.scan-ipc5").method.window_start
    assert isinstance(scan, WindowScan)
    assert scan.candidates == (0.2, 0.4)


@pytest.mark.parametrize("value", ["hard", [0.5], True])
def test_a_window_start_that_is_neither_offers_both(value):
    offered = "expected a valid number or a mapping of candidates, holdout, runs, training"
    assert problem("recipes.selmatch-ipc5.window_start", value).endswith(offered)


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("holdout", "x", 'holdout is "x"; expected a valid number'),
        ("candidates", 0.4, "candidates is 0.4; expected a list"),
        ("candidates", ["a"], 'candidates.0 is "a"; expected a valid number'),
        ("training", None, "training is null; expected a mapping"),
        ("training.augmentation", {"kind": "sda"}, "training.augmentation.kind is \"sda\"; expected 'none', 'simple'"),
    ],
)
def test_a_mistake_in_a_scan_is_told_of_the_scan(place, value, expected):
    scan = "recipes.selmatch-ipc5.window_start"
    assert problem(f"{scan}.{place}", value).startswith(f"{scan}.{expected}")


def test_a_source_is_what_its_kind_says():
    def source(value):
        return read(changed("data.source", value), "data").source

    assert source({"kind": "huggingface", "id": "mnist"}) == HuggingFaceSource(id="mnist")
    assert source({"kind": "folder", "path": "x"}) == FolderSource(path="x")
    assert source({"kind": "torchvision", "name": "MNIST"}) == TorchvisionSource(name="MNIST")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"kind": "digit"}, ".kind is \"digit\" (did you mean 'digits'?); expected one of digits, huggingface, folder"),
        ({"kind": 3}, ".kind is 3; expected one of digits, huggingface, folder, torchvision"),
        ({"kind": ["hub"]}, '.kind is ["hub"]; expected one of digits, huggingface, folder, torchvision'),
        ({"path": "x"}, ".kind is missing; expected one of digits, huggingface, folder, torchvision"),
        ({"kind": "huggingface"}, ".id is missing; add it"),
        ({"kind": "huggingface", "id": 3}, ".id is 3; expected a valid string"),
        ({"kind": "huggingface", "id": "x", "revison": "y"}, ".revison is not a parameter (did you mean 'revision'?)"),
        ({"kind": "folder", "name": "x"}, ".name is not a parameter; expected kind, path"),
        ({"kind": "folder", "path": None}, ".path is null; expected a valid string"),
        ({"kind": "torchvision", "name": "MNIST", "download": "yes"}, '.download is "yes"; expected a valid boolean'),
        (None, " is null; expected a mapping"),
        ("digits", ' is "digits"; expected a mapping'),
    ],
)
def test_a_mistake_in_a_source_is_told_of_its_kind(source, expected):
    assert problem("data.source", source).startswith(f"data.source{expected}")


@pytest.mark.parametrize("value", ["selmach", None, 3, ["ipc"], {"ipc": 1}])
def test_an_unknown_method(value):
    line = problem("recipes.selmatch-ipc5.method", value)
    guess = " (did you mean 'selmatch'?)" if value == "selmach" else ""
    assert line == f"recipes.selmatch-ipc5.method is {value!r}{guess}; expected one of {', '.join(METHODS)}"


def test_a_missing_method_and_an_unknown_recipe():
    expected = f"expected one of {', '.join(METHODS)}"
    assert problem("recipes.full.method", GONE) == f"recipes.full.method is missing; {expected}"
    with pytest.raises(ParamsError, match=r"no recipes.mtt-ipc6 \(did you mean 'mtt-ipc5'\?\); found full, random"):
        read_recipe(GOOD, "mtt-ipc6")
    with pytest.raises(ParamsError, match=r"no recipes.full; found none"):
        read_recipe({"recipes": {}}, "full")


def test_optim_is_given_exactly_to_methods_that_learn():
    missing = problem("recipes.mtt-ipc5.optim", GONE)
    assert missing.startswith("recipes.mtt-ipc5.optim is missing; expected steps, image_lr")
    superfluous = problem("recipes.random-ipc5.optim", OPTIM)
    assert superfluous == "recipes.random-ipc5.optim is given, but method random learns nothing; remove it"
    assert problem("recipes.mtt-ipc5.optim", None) == "recipes.mtt-ipc5.optim is null; expected a mapping"


def test_optim_and_method_are_known_to_who_misspells_them():
    line = problem("recipes.mtt-ipc5.optm", OPTIM)
    assert line.startswith("recipes.mtt-ipc5.optm is not a parameter (did you mean 'optim'?); expected method, ipc, ")
    assert line.endswith(", optim, seed")
    data = changed("recipes.mtt-ipc5.metod", "mtt")
    del data["recipes"]["mtt-ipc5"]["method"]
    with pytest.raises(
        ParamsError, match=r"recipes.mtt-ipc5.method is missing; found 'metod'; rename it; expected one"
    ):
        read_recipe(data, "mtt-ipc5")


DM = {"method": "dm", "ipc": 1, "optim": {"steps": 1, "image_lr": 1}}
DD = {"method": "dd", "ipc": 1, "steps": 1, "optim": {"steps": 1, "image_lr": 1}}


@pytest.mark.parametrize(
    ("recipe", "more", "expected"),
    [
        (DM, {"label_lr": 2}, "label_lr is 2, but the method learns no labels; remove it"),
        (DD, {"label_lr": 2}, "label_lr is 2, but labels is hard; remove it, or set labels: learned"),
        (DM, {"student_lr_lr": 0.1}, "student_lr_lr is 0.1, but the method learns no step size; remove it"),
        (DM, {"decay": 0.5}, "decay is 0.5, but decay_every is missing; add it, or remove decay"),
    ],
)
def test_rates_of_what_is_not_learned(recipe, more, expected):
    data = changed("recipes.x", recipe | {"optim": recipe["optim"] | more})
    with pytest.raises(ParamsError) as caught:
        read_recipe(data, "x")
    assert str(caught.value) == f"params.yaml: recipes.x.optim.{expected}"


def test_rates_of_what_is_learned():
    """Step sizes by a method without a student, and labels."""
    more = {"student_lr_lr": 0.1, "label_lr": 2}
    recipe = DD | {"labels": "learned", "optim": DD["optim"] | more}
    assert read_recipe(changed("recipes.x", recipe), "x").optim.label_lr == 2


@pytest.mark.parametrize("eps", [1e-300, 1e-9, 0, 1e30])
def test_whitening_that_leaves_nothing(eps):
    place = "data.normalisation"
    line = problem(place, {"kind": "zca", "eps": eps})
    assert line == f"{place}.eps is {eps:g}; expected between 1e-08 and 1000"


@pytest.mark.parametrize("shards", [[], [0, 0], [-1, 0]])
def test_expert_shards_are_distinct_numbers_from_0_on(shards):
    with pytest.raises(ParamsError) as caught:
        shard_paths({"expert_shards": shards}, Path())
    expected = "expected distinct numbers from 0 on, at least one; write expert_shards: [0], for example"
    assert str(caught.value) == f"params.yaml: expert_shards is {shards}; {expected}"


def test_expert_shards_name_their_files():
    assert shard_paths({"expert_shards": [2, 0]}, Path("x")) == [
        Path("x/shard-2.safetensors"),
        Path("x/shard-0.safetensors"),
    ]
    with pytest.raises(ParamsError, match=r"^params.yaml: expert_shards.1 is \"1\"; expected a valid integer$"):
        shard_paths({"expert_shards": [0, "1"]}, Path())
    with pytest.raises(ParamsError, match=r"^params.yaml: expert_shards is 3; expected a list$"):
        shard_paths({"expert_shards": 3}, Path())


@pytest.mark.parametrize("text", ["seed: 2024-01-01", "seed: !!set {a}", "seed: {[1, 2]: 3}"])
def test_values_that_only_yaml_has(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=r"^params.yaml: seed is .*, which cannot be read"):
        params.section(params.load(path), "seed", int)


def test_errors_name_the_file_that_was_read():
    with pytest.raises(ParamsError, match=r"^other.yaml: evaluation.runs is 0; expected at least 1$"):
        params.section(changed("evaluation.runs", 0), "evaluation", EvaluationRecipe, Path("other.yaml"))
    with pytest.raises(ParamsError, match=r"^other.yaml has no section 'evaluation'; add it$"):
        params.section({}, "evaluation", EvaluationRecipe, Path("other.yaml"))


@pytest.mark.parametrize("value", ["cat", 3])
def test_plain_types_in_a_union(value):
    assert params.read({"attack_class": value, "target_class": 0}, Attack, "attack").attack_class == value


@pytest.mark.parametrize("value", [True, 1.5, None, ["cat"]])
def test_no_type_of_a_union_fits(value):
    with pytest.raises(ParamsError, match=r"^params.yaml: attack.attack_class is .*; expected str or int$"):
        params.read({"attack_class": value, "target_class": 0}, Attack, "attack")
