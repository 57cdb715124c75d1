"""The ``distillkit`` command: what it prints, and how it ends."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import datasets
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from distillkit import __version__
from distillkit.base import files
from distillkit.base.arguments import ARTIFACT
from distillkit.check.show import describe
from distillkit.cli import cli, main
from distillkit.data.files import artifact, container
from distillkit.data.files.real_images import save_real
from distillkit.data.images import RealData, real_subset
from distillkit.package.build import Entry, build
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.sources.readers import DigitsSource
from distillkit.training.expert_files import save_experts
from distillkit.training.trajectories import Dynamics, Expert

ROOT = Path(__file__).parents[1]
STAGES = sorted((ROOT / "stages").glob("*.py"))
PARAMS = """
evaluation:
  network: {name: convnet, depth: 1, width: 4}
  training: {steps: 20, batch: 20, lr: 0.05}
  runs: 2
"""
EVALUATION = {
    "network": {"name": "convnet", "depth": 1, "width": 4},
    "training": {"steps": 20, "batch": 20, "lr": 0.05},
    "runs": 2,
}
RECIPE = {"method": "random", "ipc": 2}
CLAIMED = {"mean": 0.5, "std": 0.014142, "runs": 2, "run_1": 0.49, "run_2": 0.51}
ACCURACY = r"\d+\.\d\d ± \d+\.\d\d % \(n = 2\) test accuracy"
TRAINING = "training 2 networks for 20 updates of 20 images\n"


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def digits_data() -> RealData:
    """Eight digits a class to train, three to test, as the recorded source gives them again."""
    return fetch(DataSpec(DigitsSource(), per_class=8, test_per_class=3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits_data, experts) -> Path:
    """One artifact of every kind, and params.yaml."""
    folder = tmp_path_factory.mktemp("artifacts")
    trajectories, dynamics = experts
    expert = Expert(trajectories.trajectories_ETP[0], Dynamics(*(part[0] for part in dynamics)))
    provenance = artifact.provenance_of("random-ipc2", "random", RECIPE, 0, digits_data)
    rows = torch.cat([(digits_data.train.labels == label).nonzero()[:2, 0] for label in range(10)])
    subset = real_subset(digits_data.train, rows, digits_data.normalisation)
    save_real(folder / "real.safetensors", digits_data)
    save_experts(folder / "experts.safetensors", [expert], trajectories.spec, {"epochs": 4})
    artifact.save_difficulty(folder / "difficulty.safetensors", torch.arange(80.0), {}, {"score": {"name": "el2n"}})
    artifact.save_reference(folder / "reference.safetensors", torch.zeros(30), {})
    artifact.save_synthetic(folder / "synthetic.safetensors", subset, provenance)
    artifact.save_synthetic(folder / "homeless.safetensors", subset, {})
    container.save_state(folder / "checkpoint.safetensors", {"history": torch.zeros(1, 3)})
    (folder / "params.yaml").write_text(PARAMS)
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory, folder, digits_data) -> Path:
    """A package of one recipe, which no test may change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        third = {"mean": 0.5, "std": 0.0}
        metrics = {"accuracy": CLAIMED, "easy": third, "middle": third, "hard": third}
        entry = Entry("random-ipc2", folder / "synthetic.safetensors", metrics, RECIPE)
        built = tmp_path_factory.mktemp("hub") / "tiny"
        named = {"name": "tiny", "packaged": ["random-ipc2"], "default": "random-ipc2"}
        given = {"real": digits_data, "inputs": {}, "evaluation": EVALUATION, "pipeline": {}}
        build(built, entries=[entry], **given, **named)
    return built


@pytest.fixture
def command(monkeypatch, capsys):
    """Run ``distillkit`` with arguments, in this process, to its exit."""

    def command(*arguments: Any) -> Ended:
        monkeypatch.setattr(sys, "argv", ["distillkit", *map(str, arguments)])
        monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # by which click knows `python -m pytest`
        monkeypatch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(ended.value.code, *capsys.readouterr())

    return command


def mistake(ended: Ended) -> str:
    """The single line on stderr of a command that failed by a user's mistake, and printed nothing else."""
    assert (ended.code, ended.out) == (1, "")
    assert re.fullmatch(r"error: .+\n", ended.err), ended.err
    return ended.err.removeprefix("error: ").removesuffix("\n")


def test_help_and_version():
    run = CliRunner().invoke
    assert run(cli, ["--help"]).output == run(cli, ["-h"]).output
    assert re.findall(r"^  (\w+)  ", run(cli, ["-h"]).output, re.MULTILINE) == sorted(
        [
            "audit",
            "clean",
            "diff",
            "doctor",
            "evaluate",
            "generator",
            "import",
            "init",
            "look",
            "pull",
            "push",
            "repro",
            "sample",
            "show",
            "table",
            "verify",
        ]
    )
    assert run(cli, ["--version"]).output == f"distillkit, version {__version__}\n"
    assert "--json" in run(cli, ["show", "-h"]).output
    assert "--recipe" in run(cli, ["evaluate", "--help"]).output


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], ["show", "-h"]])
def test_help_and_version_end_well(command, arguments):
    ended = command(*arguments)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["shwo"],
            "No such command 'shwo' (did you mean 'show'?); expected distillkit [OPTIONS] COMMAND [ARGS]...; see "
            "distillkit --help",
        ),
        (["show"], "Missing argument 'PATH'; expected distillkit show [OPTIONS] PATH; see distillkit show --help"),
        (
            ["show", "x", "--jsn"],
            "No such option '--jsn' (did you mean '--json'?); expected distillkit show [OPTIONS] "
            "PATH; see distillkit show --help",
        ),
        (
            ["evaluate", "x", "--runs", "0"],
            "Invalid value for '--runs': 0 is not in the range x>=1; expected distillkit "
            "evaluate [OPTIONS] PATH [RECIPE]; see distillkit evaluate --help",
        ),
        (
            ["diff", "a", "b", "--picture", "x.jpg"],
            "--picture is x.jpg; expected a file name that ends in .png; choose one",
        ),
        (["init", "--ipc"], "Option '--ipc' requires an argument; see --help"),
    ],
)
def test_wrong_usage_is_explained_and_ends_with_2(command, arguments, expected):
    ended = command(*arguments)
    assert (ended.code, ended.out, ended.err) == (2, "", f"error: {expected}\n")


def test_the_command_alone_shows_its_help(command):
    ended = command()
    assert ended.code == 2 and ended.err.startswith("Usage: distillkit [OPTIONS] COMMAND [ARGS]...\n")


@pytest.mark.parametrize("script", STAGES, ids=lambda path: path.stem)
def test_a_stage_is_used_as_it_should_be_in_one_line(script, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [str(script), "--nope"])
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert re.fullmatch(
        rf"error: No such option '--nope'; expected {script.name} .+; see {script.name} --help\n", shown
    )


@pytest.mark.parametrize(
    "script", [path for path in STAGES if path.stem not in ("gather", "list_code")], ids=lambda path: path.stem
)
def test_an_import_that_fails_in_a_stage_is_one_line(script, tmp_path):
    """torch is here, and damaged."""
    (tmp_path / "torch.py").write_text("raise ImportError('libc10.so is missing')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, script, "x"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 70, ran.stderr
    assert re.fullmatch(r"error: ImportError: libc10\.so is missing; expected .*; activate its .*\n", ran.stderr)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("real", "  train_images: U8 (80, 1, 8, 8)\n"),
        ("experts", "  trajectories: F32 (1, 5, "),
        ("difficulty", "  difficulty: F32 (80,)\n"),
        ("reference", "  test_difficulty: F32 (30,)\n"),
        ("checkpoint", "  history: F32 (1, 3)\n"),
        ("synthetic", "method random, 20 images of 1x8x8 in 10 classes (0 learned, 20 real), pixels 0 to 1\n"),
    ],
)
def test_show_says_what_an_artifact_of_any_kind_holds(folder, kind, expected):
    path = folder / f"{kind}.safetensors"
    shown = CliRunner().invoke(cli, ["show", str(path)])
    assert shown.exit_code == 0
    assert shown.output.startswith(f"{path}: {kind}, {path.stat().st_size:,} bytes\n")
    assert expected in shown.output


@pytest.mark.parametrize("kind", ["real", "experts", "difficulty", "reference", "checkpoint", "synthetic"])
def test_show_json_is_one_object(folder, kind):
    path = folder / f"{kind}.safetensors"
    shown = json.loads(CliRunner().invoke(cli, ["show", str(path), "--json"]).output)
    assert shown == json.loads(json.dumps(describe(path)))
    assert (shown["kind"], shown["bytes"]) == (kind, path.stat().st_size)
    assert shown["header"]["distillkit"] == __version__


def test_show_json_of_a_distilled_set(folder):
    shown = json.loads(CliRunner().invoke(cli, ["show", str(folder / "synthetic.safetensors"), "--json"]).output)
    assert shown["images"] == {"total": 20, "learned": 0, "real": 20}
    assert (shown["recipe"], shown["method"]) == ("random-ipc2", "random")
    assert (shown["image_shape"], shown["classes"], shown["images_per_class"]) == ([1, 8, 8], 10, 2)
    assert shown["tensors"]["learned"] == {"dtype": "BOOL", "shape": [20]}


def test_show_what_is_no_artifact(command, tmp_path):
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "empty.safetensors").touch()
    Image.new("L", (2, 2)).save(tmp_path / "moving.gif")
    for name, expected in [
        ("none.safetensors", "does not exist; expected a package or an artifact; correct the path"),
        ("text.safetensors", "cannot be read ("),
        ("empty.safetensors", "cannot be read ("),
        ("", f"has no manifest.json; expected a packaged folder or {ARTIFACT}"),
        ("moving.gif", f"is no .safetensors file; expected {ARTIFACT}"),
    ]:
        assert mistake(command("show", tmp_path / name)).startswith(f"{tmp_path / name} {expected}")


def test_evaluate_an_artifact(command, folder):
    ended = command(
        *("evaluate", folder / "synthetic.safetensors"),
        *("--test", folder / "real.safetensors", "--params", folder / "params.yaml"),
    )
    assert (ended.code, ended.err) == (0, TRAINING)
    assert re.fullmatch(ACCURACY + "\n", ended.out)


def test_evaluate_takes_params_and_source_from_where_it_is(command, folder, monkeypatch):
    """The recorded source gives the very test images of real.safetensors."""
    monkeypatch.chdir(folder)
    given = command("evaluate", "synthetic.safetensors", "--test", "real.safetensors", "--json")
    found = command("evaluate", "synthetic.safetensors", "--json")
    assert (found.code, found.out) == (given.code, given.out)
    assert (given.err, found.err) == (TRAINING, "test images: scikit-learn's digits\n" + TRAINING)
    other = command("evaluate", "synthetic.safetensors", "--json", "--seed", "1")
    assert json.loads(other.out)["accuracy"] != json.loads(found.out)["accuracy"]


def test_evaluate_json_is_one_object(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = json.loads(command("evaluate", "synthetic.safetensors", "--runs", "1", "--json").out)
    accuracy = found["accuracy"]
    assert (accuracy["runs"], accuracy["std"], accuracy["mean"]) == (1, 0, accuracy["run_1"])
    assert (found["recipe"], found["claimed"]) == ("random-ipc2", None)


def test_one_network_has_no_deviation(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    ended = command("evaluate", "synthetic.safetensors", "--runs", 1)
    assert re.fullmatch(r"\d+\.\d\d % \(n = 1\) test accuracy\n", ended.out)
    assert "training 1 network for 20 updates" in ended.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.safetensors"], "none.safetensors does not exist; expected a package or an artifact"),
        (["real.safetensors"], "real.safetensors holds 'real'; expected an artifact of kind 'synthetic'"),
        (["."], ". has no manifest.json; expected a package"),
        (["synthetic.safetensors", "--recipe", "x"], "--recipe is 'x', but synthetic.safetensors is a single artifact"),
        (
            ["synthetic.safetensors", "--params", "no.yaml"],
            "--params is no.yaml, which does not exist; expected a params.yaml",
        ),
        (["synthetic.safetensors", "--params", "bad.yaml"], "bad.yaml: evaluation.rnus is not a parameter (did you"),
        (["synthetic.safetensors", "--test", "no"], "--test is no, which does not exist; expected a real.safet"),
        (["synthetic.safetensors", "--test", "synthetic.safetensors"], "synthetic.safetensors holds 'synthetic'"),
        (
            ["synthetic.safetensors", "--test", "other.safetensors"],
            "test images are (1, 8, 8) in 11 classes, distilled",
        ),
        (["homeless.safetensors"], "homeless.safetensors does not record its source; expected one to fetch test"),
    ],
)
def test_evaluate_what_cannot_be(command, folder, digits_data, monkeypatch, arguments, expected):
    monkeypatch.chdir(folder)
    Path("bad.yaml").write_text(PARAMS.replace("runs", "rnus"))
    names = (*digits_data.train.class_names, "ten")
    splits = {
        name: type(part)(part.images, part.labels, names)
        for name, part in vars(digits_data).items()
        if name in ("train", "test")
    }
    save_real(
        Path("other.safetensors"), RealData(**splits, normalisation=digits_data.normalisation, info=digits_data.info)
    )
    assert mistake(command("evaluate", *arguments)).startswith(expected)


def test_show_a_package(command, package):
    ended = command("show", package)
    assert (ended.code, ended.err) == (0, "")
    first, second, recipe = ended.out.splitlines()
    assert re.fullmatch(rf"{re.escape(str(package))}: package, [\d,]+ bytes", first)
    assert second == "6 files, all as the manifest says; default recipe random-ipc2"
    assert recipe.startswith("  random-ipc2: method random, 20 images of 1x8x8 in 10 classes (0 learned, 20 real)")
    assert recipe.endswith("accuracy 50.00 ± 1.41 % (n = 2)")


def test_show_a_package_as_json(command, package):
    shown = json.loads(command("show", package, "--json").out)
    assert (shown["kind"], shown["name"], shown["default"], shown["files"]) == ("package", "tiny", "random-ipc2", 6)
    assert shown["recipes"]["random-ipc2"]["images"] == {"total": 20, "learned": 0, "real": 20}
    assert shown["bytes"] == sum(path.stat().st_size for path in package.rglob("*.*") if path.name != "manifest.json")


def test_evaluate_a_package_beside_its_claim(command, folder, package):
    ended = command("evaluate", package, "--test", folder / "real.safetensors")
    assert (ended.code, ended.err) == (0, TRAINING)
    assert re.fullmatch(ACCURACY + r"; claimed 50\.00 ± 1\.41 % \(n = 2\)\n", ended.out)
    single = command("evaluate", folder / "synthetic.safetensors", "--params", folder / "params.yaml", "--json")
    found = json.loads(command("evaluate", package, "--recipe", "random-ipc2", "--json").out)
    assert found["claimed"] == CLAIMED
    assert found["accuracy"] == json.loads(single.out)["accuracy"], "the packaged recipe is that of params.yaml"


def test_evaluate_a_recipe_that_is_not_packaged(command, package):
    line = mistake(command("evaluate", package, "--recipe", "random-ipc3"))
    expected = "package 'tiny' has no recipe 'random-ipc3' (did you mean 'random-ipc2'?); expected one of random-ipc2"
    assert line == expected


def test_a_damaged_package(command, package, tmp_path):
    damaged = tmp_path / "tiny"
    shutil.copytree(package, damaged)
    (damaged / "README.md").unlink()
    for arguments in (["show", damaged], ["evaluate", damaged]):
        assert mistake(command(*arguments)).startswith(f"{damaged} lacks README.md; expected the files of its manifest")


def console_script(*arguments: str, cwd: Path) -> Ended:
    command = [str(Path(sys.executable).parent / "distillkit"), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def test_the_installed_command(folder):
    version = console_script("--version", cwd=folder)
    assert version == (0, f"distillkit, version {__version__}\n", "")
    usage = console_script("show", cwd=folder)
    assert (usage.code, usage.out) == (2, "")
    shown = console_script("show", "synthetic.safetensors", "--json", cwd=folder)
    assert (shown.code, shown.err) == (0, "")
    assert json.loads(shown.out)["kind"] == "synthetic"


# import and diff


@pytest.fixture
def foreign(tmp_path) -> tuple[Path, Path]:
    """Images and labels as MTT's code leaves them."""
    images, labels = tmp_path / "images_best.pt", tmp_path / "labels_best.pt"
    torch.save(torch.linspace(-1, 2, 4 * 4).view(4, 1, 2, 2), images)
    torch.save(torch.tensor([0, 0, 1, 1]), labels)
    return images, labels


def test_import_prints_a_recipe(command, foreign, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = Path("mtt.safetensors")
    ended = command("import", *foreign, "--saved-as", "normalised", "--statistics", "0.25/0.25", "-o", out)
    assert (ended.code, ended.err) == (0, "")
    assert f"{out}: 4 images of 1x2x2 in 2 classes, pixels 0 to 0.75" in ended.out
    assert f"sha256: {files.sha256(out)}" in ended.out and "  mtt:\n    method: imported\n    ipc: 2" in ended.out
    assert describe(out)["method"] == "imported"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--saved-as is missing; expected pixels, which are from 0 to 1, or normalised"),
        (
            ["--saved-as", "normalised"],
            "--statistics is missing; expected those that the images were normalised with: a name such",
        ),
    ],
)
def test_import_wants_to_be_told_the_space(command, foreign, tmp_path, options, message, monkeypatch):
    monkeypatch.setattr("sys.stdin", StringIO())
    ended = command("import", *foreign, *options, "-o", tmp_path / "mtt.safetensors")
    assert ended.code == 2 and message in ended.err
    assert not (tmp_path / "mtt.safetensors").exists()


def test_import_asks_a_person(foreign, tmp_path, monkeypatch):
    monkeypatch.setattr("distillkit.cli.sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("click.prompt", lambda question, **_: "normalised" if "saved" in question else "0.25/0.25")
    out = tmp_path / "mtt.safetensors"
    cli.main(["import", *map(str, foreign), "-o", str(out)], standalone_mode=False)
    assert describe(out)["pixel_range"] == [0.0, 0.75]


def test_evaluate_wants_a_recipe_of_the_evaluation(command, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert mistake(command("evaluate", folder / "synthetic.safetensors")).endswith("give --params")


def test_a_recipe_of_a_package_is_an_argument(command, package):
    ended = command("evaluate", package, "mtt")
    assert "no recipe 'mtt'" in mistake(ended) and ended == command("evaluate", package, "--recipe", "mtt")


def test_the_folder_of_a_pipeline_is_no_package(command, package, tmp_path):
    (tmp_path / "dvc.yaml").write_text("artifacts/hub/")
    assert "is the folder of a pipeline; expected a package; name the one in" in mistake(command("table", tmp_path))


def test_diff_of_two_recipes_by_name(command, folder, tmp_path, monkeypatch):
    """With their accuracies, if their pipeline has measured them."""
    distilled = tmp_path / "artifacts/distilled"
    distilled.mkdir(parents=True)
    for name in ("one", "two"):
        shutil.copy(folder / "synthetic.safetensors", distilled / f"{name}.safetensors")
    monkeypatch.chdir(tmp_path)
    ended = command("diff", "one", "two", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["not_known"] == ["accuracy"]
    (tmp_path / "metrics").mkdir()
    for name, mean in {"one": 0.9, "two": 0.92}.items():
        (tmp_path / f"metrics/{name}.json").write_text(json.dumps({"accuracy": {"mean": mean, "std": 0.01, "runs": 2}}))
    found = json.loads(command("diff", "one", "two", "--json").out)
    assert found["accuracy"]["points"] == pytest.approx(2.0) and found["not_known"] == []
    (tmp_path / "two").mkdir()  # a path goes before a name
    assert "manifest.json" in command("diff", "one", "two").err


def test_diff_of_artifacts_and_packages(command, folder, package, tmp_path):
    one = folder / "synthetic.safetensors"
    ended = command("diff", one, package, "random-ipc2")
    assert ended.code == 0 and "are the same: 20 images, parameters" in ended.out
    ended = command("diff", package, package)
    assert ended == Ended(0, "every recipe is the same: random-ipc2\n", "")
    synthetic, provenance = artifact.load_synthetic(one)
    other = tmp_path / "other.safetensors"
    artifact.save_synthetic(other, replace(synthetic, images=synthetic.images + 0.25), provenance)
    ended = command("diff", one, other, "--picture", tmp_path / "diff.png", "--json")
    found = json.loads(ended.out)
    assert not found["same"] and len(found["images"]["changed"]) == 20
    assert (tmp_path / "diff.png").stat().st_size > 1000


def test_diff_says_what_cannot_be_compared(command, folder, package, tmp_path):
    assert "nowhere is no path here; expected an artifact, a package, or " in mistake(
        command("diff", package, "nowhere")
    )
    assert "no recipe 'mtt'" in mistake(command("diff", package, package, "mtt"))
    artifact = folder / "synthetic.safetensors"
    assert "are single artifacts; leave the recipe out" in mistake(command("diff", artifact, artifact, "random-ipc2"))
    ended = command("diff", package, package, "--picture", tmp_path / "diff.png")
    assert ended.code == 2 and "a picture shows one recipe" in ended.err


def test_what_was_imported_is_never_garbage():
    """Nothing is collected during the imports, and what they leave is set apart before a command runs."""
    code = """
import gc
from distillkit.process.startup import begin
begin()
assert not gc.isenabled()
from distillkit.process.command import run

def command(standalone_mode):
    print(gc.isenabled(), gc.get_freeze_count() > 1000)

run(command)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr


@pytest.mark.parametrize("code", [0, 3])
def test_the_end_of_a_process(code, tmp_path):
    """All that is registered with atexit runs, and all that is printed arrives; objects are not deleted one by one."""
    script = f"""
from distillkit.process.startup import begin
begin()
import atexit, tempfile, threading, time
from click.exceptions import Exit
from distillkit.process.command import run

class Deleted:
    def __del__(self, open=open):
        open({str(tmp_path / "deleted")!r}, "w").close()

left, folder = Deleted(), tempfile.TemporaryDirectory(dir={str(tmp_path)!r})
atexit.register(print, "atexit")

def command(standalone_mode):
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    print("x" * 100_000)
    raise Exit({code})

run(command)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.split() == ["x" * 100_000, "thread", "atexit"]
    assert not list(tmp_path.iterdir())
