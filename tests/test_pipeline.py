"""The pipeline with the real ``dvc``, in temporary repositories: what runs, what is restored, which bytes come out."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from interpreter import BIN, PYTHON, path, start
from ruamel.yaml import YAML

from distillkit.data.files.artifact import load_synthetic
from distillkit.data.files.real_images import load_real
from distillkit.data.leftovers import FOLDERS, LEFT_OVER

ROOT = Path(__file__).parents[1]
MATCHING = {"student_steps": 2, "student_batch": 20, "expert_epochs": 1, "max_start_epoch": 2}
OPTIM = {"steps": 4, "image_lr": 5, "student_lr_init": 0.05, "student_lr_lr": 0.01}
SELMATCH = {"method": "selmatch", "ipc": 2, "window_start": 0.2, "distill_fraction": 0.5}
PARAMS = {
    "seed": 0,
    "data": {"source": {"kind": "digits"}, "per_class": 15, "test_per_class": 6},
    "expert_shards": [0, 1],
    "experts": {
        "per_shard": 1,
        "recipe": {
            "network": {"name": "convnet", "norm": "batch", "depth": 1, "width": 4},
            "epochs": 3,
            "batch": 32,
            "lr": 0.05,
        },
    },
    "score": {"name": "confidence"},
    "recipes": {
        "full": {"method": "full"},
        "random-ipc2": {"method": "random", "ipc": 2},
        "selmatch-ipc2": {**SELMATCH, "matching": MATCHING, "optim": OPTIM},
    },
    "evaluation": {
        "network": {"name": "convnet", "norm": "batch", "depth": 1, "width": 4},
        "training": {"steps": 10, "batch": 20, "lr": 0.1},
        "runs": 2,
    },
    "audit": {"recipes": [], "shadows": 4},
    "package": {"name": "tiny", "default": "selmatch-ipc2", "storage": "float32"},
}
EVERYTHING = {
    *(
        "code",
        "fetch",
        "experts@0",
        "experts@1",
        "shards",
        "score",
        "inputs",
        "reference",
        "results",
        "report",
        "package",
    ),
    *(f"{stage}@{recipe}" for stage in ("distill", "evaluate") for recipe in PARAMS["recipes"]),
}
UP_TO_DATE = "Data and pipelines are up to date.\n"
TOGETHER = {"inputs", "results", "report", "package"}  # stages that look at all recipes


def environment(commands: Path = BIN) -> dict[str, str]:
    known = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": "", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, "PATH": path(commands), **known}


def dvc(project: Path, *arguments: str) -> str:
    """The output of a dvc command that must succeed."""
    command = [PYTHON, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def repro(project: Path) -> set[str]:
    """Reproduce, and say which stages ran."""
    return set(re.findall(r"^Running stage '([^']+)'", dvc(project, "repro"), re.MULTILINE))


def new_project(folder: Path) -> Path:
    """This repository's pipeline with tiny parameters, as a Git and DVC repository of its own."""
    folder.mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("stages", "distillkit"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    write_params(folder, PARAMS)
    return folder


def write_params(project: Path, params: dict) -> None:
    YAML(typ="safe").dump(params, project / "params.yaml")


def lock(project: Path) -> dict:
    return YAML(typ="safe").load(project / "dvc.lock")


def files(project: Path) -> set[str]:
    """All that lies in the folders that stages depend on."""
    paths = (path for folders in FOLDERS.values() for folder in folders for path in (project / folder).rglob("*"))
    return {path.relative_to(project).as_posix() for path in paths}


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project reproduced once, and the stages that ran."""
    project = new_project(tmp_path_factory.mktemp("pipeline") / "first")
    return project, repro(project)


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished project, cache and all."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy", symlinks=True))


def test_everything_runs_once_and_nothing_is_left_over(finished):
    project, ran = finished
    assert ran == EVERYTHING
    assert not list(project.rglob("*.tmp"))
    assert not list((project / ".distillkit").rglob("*.safetensors")), "checkpoints go when a stage ends well"


def test_metrics_and_plots_show(finished):
    project, _ = finished
    shown = json.loads(dvc(project, "metrics", "show", "--json"))[""]["data"]
    assert shown["metrics/selmatch-ipc2.json"]["data"]["images"] == {"learned": 10, "real": 10, "total": 20}
    accuracy = shown["metrics/full.json"]["data"]["accuracy"]
    right = [60 * accuracy[f"run_{run}"] for run in (1, 2)]
    assert right == pytest.approx([round(images) for images in right], abs=1e-4), "shares of 60 test images"
    assert accuracy["mean"] == pytest.approx(sum(right) / 120, abs=1e-6) and accuracy["runs"] == 2
    plots = json.loads(dvc(project, "plots", "show", "--json"))
    assert any("loss/selmatch-ipc2.csv" in name for name in plots["data"])
    assert any("training/random-ipc2.csv" in name for name in plots["data"])
    assert any("classes/random-ipc2.json" in name for name in plots["data"])


def test_distilled_set_is_what_the_recipe_says(finished):
    synthetic, provenance = load_synthetic(finished[0] / "artifacts/distilled/selmatch-ipc2.safetensors")
    assert synthetic.images_per_class == [2] * 10
    assert synthetic.learned.tolist() == [False, True] * 10
    assert provenance["source"]["id"] == "scikit-learn/digits"
    assert provenance["params"]["matching"] == MATCHING


def test_package_records_the_checksums_of_dvc_lock(finished):
    stages = YAML(typ="safe").load(finished[0] / "dvc.lock")["stages"].values()
    outs = {out["path"]: out["md5"] for stage in stages for out in stage["outs"] if "md5" in out}
    used = ["experts/shard-0", "experts/shard-1", "difficulty", "distilled/selmatch-ipc2"]
    recipe = json.loads((finished[0] / "artifacts/hub/tiny/selmatch-ipc2/recipe.json").read_text())
    images = "artifacts/real/real.safetensors"  # in a folder, of which dvc.lock has the checksum of the list
    expected = {path: outs[path] for path in (f"artifacts/{name}.safetensors" for name in used)}
    expected[images] = hashlib.md5((finished[0] / images).read_bytes()).hexdigest()
    assert recipe["inputs"] == expected


def test_nothing_changed_runs_nothing(project):
    assert repro(project) == set()


@pytest.mark.long
def test_a_change_runs_what_it_changes_and_taking_it_back_leaves_nothing(project):
    """A new and a changed recipe run only themselves; a new shard runs what uses experts: not the full set, nor the
    random one. What is left over counts nowhere; DVC has it in its cache.
    """
    before = (project / "dvc.lock").read_bytes(), files(project)
    new, changed = {"method": "window", "ipc": 2, "window_start": 0.3}, {"method": "random", "ipc": 1}
    more = {**PARAMS, "recipes": {**PARAMS["recipes"], "window-ipc2": new, "random-ipc2": changed}}
    write_params(project, more)
    assert repro(project) == made("window-ipc2", "random-ipc2") | TOGETHER
    write_params(project, {**more, "expert_shards": [0, 1, 2]})
    assert repro(project) == {"experts@2", "shards", "score"} | made("selmatch-ipc2", "window-ipc2") | TOGETHER
    write_params(project, PARAMS)
    assert repro(project) == {"shards", "results"}, "which move files away; the run-cache restores the rest"
    assert ((project / "dvc.lock").read_bytes(), files(project)) == before
    assert (project / LEFT_OVER / "artifacts/experts/shard-2.safetensors").exists()
    assert dvc(project, "status") == UP_TO_DATE


@pytest.mark.long
def test_a_change_of_the_size_alone_is_fetched(project):
    """The keys of DVC's run-cache leave out every parameter called size: it would bring images of another size."""
    for side in (6, 5, 6):
        write_params(project, {**PARAMS, "data": {**PARAMS["data"], "size": [side, side]}})
        assert "Running stage 'fetch'" in dvc(project, "repro", "fetch")
        assert load_real(project / "artifacts/real").train.image_shape == (1, side, side)


def made(*recipes: str) -> set[str]:
    """The stages of these recipes."""
    return {f"{stage}@{recipe}" for stage in ("distill", "evaluate") for recipe in recipes}


@pytest.mark.long
def test_clones_have_what_params_name_and_nothing_else(project, tmp_path):
    """A shard and a recipe go, the package's name changes, all comes back: who clones and pulls finds nothing to do."""
    dvc(project, "remote", "add", "-d", "store", str(tmp_path / "store"))
    before = lock(project), files(project)
    fewer = {name: recipe for name, recipe in PARAMS["recipes"].items() if name != "random-ipc2"}
    other = {
        "expert_shards": [0],
        "recipes": fewer,
        "package": {"name": "other", "default": "selmatch-ipc2", "storage": "float32"},
    }
    for name, change in {"fewer": other, "again": {}}.items():
        write_params(project, {**PARAMS, **change})
        ran = repro(project)
        dvc(project, "push")
        git(project, "add", "-A")
        git(project, "commit", "-qm", "Changed")
        git(tmp_path, "clone", "-q", str(project), name)
        assert dvc(tmp_path / name, "repro", "--dry", "--allow-missing").endswith(UP_TO_DATE)
        dvc(tmp_path / name, "pull")
        assert dvc(tmp_path / name, "status") == UP_TO_DATE
        assert files(tmp_path / name) == files(project)
    assert ran == set(), "the run-cache has all that was there before"
    assert (lock(project), files(project)) == before


@pytest.mark.long
def test_two_runs_give_the_same_bytes(finished, tmp_path):
    """Another folder and hash seed, an empty cache: the same dvc.lock, output hashes and all.

    tests/test_engines.py has stages side by side.
    """
    again, seed = new_project(tmp_path / "second"), {"PYTHONHASHSEED": "7"}
    commands = start(**seed)
    command = [str(commands / "python"), "-m", "dvc", "repro"]
    done = subprocess.run(command, cwd=again, env=environment(commands) | seed, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(re.findall(r"^Running stage '(\S+)'", done.stdout, re.MULTILINE)) == EVERYTHING
    assert (again / "dvc.lock").read_text() == (finished[0] / "dvc.lock").read_text()


@pytest.mark.long
def test_every_stage_goes_through_zca_whitening(project):
    """All of them but the list of the code run again: the images that networks see are others."""
    whitened = {**PARAMS["data"], "normalisation": {"kind": "zca", "eps": 0.1}}
    recipes = {"selmatch-ipc2": PARAMS["recipes"]["selmatch-ipc2"]}
    write_params(project, {**PARAMS, "data": whitened, "expert_shards": [0], "recipes": recipes})
    gone = {"code", "experts@1", *(name for name in EVERYTHING if name.endswith(("@full", "@random-ipc2")))}
    assert repro(project) == EVERYTHING - gone
    made = load_synthetic(project / "artifacts/distilled/selmatch-ipc2.safetensors")[0]
    real = load_real(project / "artifacts/real")
    assert torch.equal(made.normalisation.whitening.basis_DD, real.normalisation.whitening.basis_DD)
    assert torch.equal(made.images[~made.learned], real.train.take(made.source_row[~made.learned]).pixels())
    assert "**ZCA-whitened**" in (project / "artifacts/hub/tiny/README.md").read_text(encoding="utf-8")
