"""benchmarks/paper_scale.py at toy size: the same phases on a pack of digits, resumed, refused, beside hand numbers."""

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import click
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from distillkit.base import params
from distillkit.base.errors import DistillkitError, ParamsError
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.pipeline.recipes import read_recipe
from distillkit.training.expert_files import shard_paths
from distillkit.training.trajectories import ExpertsSpec

ROOT = Path(__file__).parents[1]
PRESET = ROOT / "presets/selmatch-cifar10.yaml"
ABSENT = [
    "pydantic",
    "pydantic_core",
    "ruamel",
    "datasets",
    "dvc",
    "huggingface_hub",
    "pyarrow",
    "matplotlib",
    "sklearn",
]
MATCHING = {"student_steps": 3, "student_batch": 30, "expert_epochs": 1, "max_start_epoch": 2}
OPTIM = {"steps": 6, "image_lr": 5, "student_lr_init": 0.05, "student_lr_lr": 0.01}
NETWORK = {"name": "convnet", "norm": "batch", "depth": 1, "width": 4}
LEARNING = {"ipc": 4, "matching": MATCHING | {"augmentation": {"kind": "dsa"}}, "optim": OPTIM}
TOY = {
    "seed": 0,
    "expert_shards": [0, 1],
    "experts": {"per_shard": 1, "recipe": {"network": NETWORK, "epochs": 3, "batch": 64, "lr": 0.05}},
    "score": {"name": "forgetting"},
    "recipes": {
        "full": {"method": "full"},
        "random-ipc4": {"method": "random", "ipc": 4},
        "window-ipc4": {"method": "window", "ipc": 4, "window_start": 0.5},
        "mtt-ipc4": {"method": "mtt", **LEARNING},
        "selmatch-ipc4": {"method": "selmatch", "window_start": 0.5, "distill_fraction": 0.5, **LEARNING},
    },
    "evaluation": {
        "network": NETWORK,
        "training": {"steps": 20, "batch": 16, "lr": 0.05, "augmentation": {"kind": "combined"}},
        "runs": 5,
    },
}
SETS = {"random-ipc4", "window-ipc4", "window-ipc4-unit-ipc", "mtt-ipc4", "selmatch-ipc4"}


@pytest.fixture
def paper(monkeypatch):
    """The two modules; the allocator of this process stays as it is."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import paper_files
    import paper_scale

    monkeypatch.setattr(paper_scale, "prepare_device", lambda: torch.device("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield paper_scale, paper_files
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A folder with a toy preset and a pack of 200 training and 60 test digits."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "toy.yaml").write_text(yaml.safe_dump(TOY))
    digits = load_digits()
    pixels = np.round(digits.images * 255 / 16).astype(np.uint8)
    arrays = {"class_names": np.array([str(digit) for digit in range(10)])}
    source = {"kind": "huggingface", "id": "digits-jpeg", "revision": "1", "licence": ""}
    arrays["source"] = np.array(json.dumps(source))
    for name, rows in (("train", slice(0, 200)), ("test", slice(200, 260))):
        encoded = [png(image) for image in pixels[rows]]
        arrays[f"{name}_bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays[f"{name}_ends"] = np.cumsum([len(part) for part in encoded])
        arrays[f"{name}_labels"] = digits.target[rows]
    np.savez(folder / "digits.npz", **arrays)
    return folder


def png(image: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def arguments(toy: Path, work: Path, *more: str) -> list[str]:
    return [str(work), "--data", str(toy / "digits.npz"), "--preset", str(toy / "toy.yaml"), "--ipc", "4", *more]


def call(paper, toy: Path, work: Path, *more: str) -> dict:
    paper[0].main(arguments(toy, work, "--runs", "2", *more), standalone_mode=False)
    return json.loads((work / "result.json").read_text())


def process(toy: Path, work: Path, *more: str) -> subprocess.CompletedProcess:
    """The script in a process of its own, where only what a GPU machine has can be imported."""
    script = ROOT / "benchmarks/paper_scale.py"
    code = f"import sys, runpy\nfor name in {ABSENT!r}: sys.modules[name] = None\n"
    code += f"sys.path.insert(0, {str(script.parent)!r}); sys.argv[0] = {str(script)!r}\n"
    code += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    command = [sys.executable, "-c", code, *arguments(toy, work, *more)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize("ipc", [250, 500, 1000, 1500])
def test_the_preset_is_read_as_params_reads_it(paper, ipc):
    _, files = paper
    preset, strict = files.read_preset(PRESET, []), params.load(PRESET)
    assert preset == strict
    assert files.build(ExpertsSpec, preset["experts"], "") == params.section(strict, "experts", ExpertsSpec)
    assert files.build(EvaluationRecipe, preset["evaluation"], "") == params.section(
        strict, "evaluation", EvaluationRecipe
    )
    entries = files.read_entries(preset, [ipc], full=True)
    assert set(entries) == {f"{kind}-ipc{ipc}" for kind in ("random", "window", "mtt", "selmatch")} | {
        f"window-ipc{ipc}-unit-ipc",
        "full",
    }
    for name, entry in entries.items():
        if not name.endswith("unit-ipc"):
            recipe = read_recipe(strict, name)
            assert (entry.method, entry.optim, entry.method_name) == (recipe.method, recipe.optim, recipe.method_name)
    assert entries[f"window-ipc{ipc}-unit-ipc"].method.window_unit == "ipc"
    assert len(preset["expert_shards"]) * preset["experts"]["per_shard"] == 10 * len(shard_paths(strict, Path())) == 100


def test_a_change_is_of_one_recipe_only_and_mistakes_are_one_line(paper):
    _, files = paper
    changed = files.read_preset(PRESET, ["recipes.mtt-ipc250.matching.student_steps=7", "experts.recipe.lr=1e-3"])
    assert changed["recipes"]["mtt-ipc250"]["matching"]["student_steps"] == 7
    assert changed["recipes"]["selmatch-ipc250"]["matching"]["student_steps"] == 55
    assert files.build(ExpertsSpec, changed["experts"], "experts").recipe.lr == 1e-3
    for change in ("seed=1", "nowhere.x=1", "experts.recipe", "experts.recipe.lr.x=1"):
        with pytest.raises(ParamsError, match=r"expected section\.entry=value"):
            files.read_preset(PRESET, [change])
    for change, expected in {
        "experts.recipe.epocs=3": "epocs is unknown or missing",
        "experts.recipe.epochs=many": "experts.recipe.epochs is 'many'; expected int",
        "experts.recipe.lr=fast": "experts.recipe.lr is 'fast'; expected float",
        "experts.recipe.precision=fp8": "expected fp32, bf16",
        "experts.recipe.network=convnet": "expected a section",
    }.items():
        with pytest.raises(ParamsError, match=expected):
            files.build(ExpertsSpec, files.read_preset(PRESET, [change])["experts"], "experts")


@pytest.mark.long
def test_a_toy_run_needs_few_packages_and_a_second_one_does_nothing(paper, toy, tmp_path, monkeypatch, capsys):
    work = tmp_path / "work"
    first = process(toy, work, "--runs", "2", "--full", "--out", str(tmp_path / "out.json"))
    assert first.returncode == 0, first.stderr
    text = (tmp_path / "out.json").read_text()
    found = json.loads(text)
    assert str(tmp_path) not in text and str(toy) not in text
    assert set(found["sets"]) == SETS | {"full"}
    assert found["experts"]["count"] == 2
    assert found["evaluation"]["updates"] == found["evaluation"]["training"]["steps"] == 20
    for name, entry in found["sets"].items():
        assert len(entry["accuracy"]["runs"]) == 2
        assert entry["accuracy"]["mean"] == pytest.approx(sum(entry["accuracy"]["runs"]) / 2, abs=1e-6)
        assert entry["images"] == (200 if name == "full" else 40)
        assert entry["published"] is None  # these are not the published images
        assert f"| {name} " in first.stdout
    assert found["sets"]["selmatch-ipc4"]["learned"] == 20
    assert found["sets"]["mtt-ipc4"]["steps"] == 6

    times = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.name != "result.json"}
    again = arguments(toy, work, "--runs", "2", "--full", "--out", str(tmp_path / "again.json"))
    monkeypatch.setattr(sys, "argv", ["benchmarks/paper_scale.py", *again])
    paper[0].main(again, standalone_mode=False)
    assert capsys.readouterr().err == ""
    assert (tmp_path / "again.json").read_text() == text
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.name != "result.json"} == times

    with pytest.raises(ParamsError) as refused:
        paper[0].main(arguments(toy, work, "--runs", "3", "--full"), standalone_mode=False)
    assert "was begun with runs 2, now it is 3" in str(refused.value)
    assert "\n" not in str(refused.value)


class Interrupt:
    """Raises KeyboardInterrupt instead of the call of that number."""

    def __init__(self, function, at: int):
        self.function, self.left = function, at

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.function(*args, **kwargs)


@pytest.mark.long
def test_interrupted_anywhere_it_goes_on_to_the_same_bytes(paper, toy, tmp_path, monkeypatch):
    scale, _ = paper
    monkeypatch.setattr(scale, "CHECKPOINT_SECONDS", 0)
    whole = call(paper, toy, tmp_path / "whole")
    advance, steps = scale.Distillation.advance, []
    monkeypatch.setattr(scale.Distillation, "advance", lambda run: steps.append(run) or advance(run))
    stops = {"record_expert": 1, "save_state": 4, "save_synthetic": 1, "evaluate": 3}
    for name, at in stops.items():
        with monkeypatch.context() as patch:
            patch.setattr(scale, name, Interrupt(getattr(scale, name), at))
            with pytest.raises((KeyboardInterrupt, click.Abort)):
                call(paper, toy, tmp_path / "parts")
            assert not (tmp_path / "parts/result.json").exists()
    parts = call(paper, toy, tmp_path / "parts")
    assert len(steps) < 2 * 2 * OPTIM["steps"]  # not from the start each time
    for path in sorted((tmp_path / "whole").rglob("*.safetensors")):
        assert (tmp_path / "parts" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes(), path
    for name, entry in whole["sets"].items():
        assert parts["sets"][name]["accuracy"] == entry["accuracy"]
    assert not list((tmp_path / "parts/checkpoints").iterdir())


def test_budgets_of_no_minutes_leave_the_least_of_everything(paper, toy, tmp_path):
    none = ["--experts-minutes", "0", "--distil-minutes", "0", "--evaluation-minutes", "0"]
    found = call(paper, toy, tmp_path / "work", *none)
    assert found["experts"]["count"] == 1
    assert found["sets"]["mtt-ipc4"]["steps"] == found["sets"]["selmatch-ipc4"]["steps"] == 1
    assert found["evaluation"]["updates"] == 1
    assert all(len(entry["accuracy"]["runs"]) == 1 for entry in found["sets"].values())
    assert "1, of 3 epochs each" in found["differences"][1]


def test_updates_are_those_that_fit_the_budget_and_settled_once(paper, toy, tmp_path, monkeypatch):
    scale, _ = paper
    monkeypatch.setattr(scale, "seconds_per_update", lambda job: 0.9)
    changes = ["--set", "evaluation.training.steps=1000", "--evaluation-minutes", "1"]
    monkeypatch.setattr(scale, "evaluate_sets", lambda job: scale.plan_updates(job) and 0)
    with pytest.raises(Exception, match="mean requires"):  # nothing was evaluated
        call(paper, toy, tmp_path / "work", *changes)
    plan = json.loads((tmp_path / "work/plan.json").read_text())
    assert plan["updates"] == 5  # 0.9 x 60 s over 5 sets x 2 runs x 0.9 s = 6, less the probe's own time
    monkeypatch.setattr(scale, "seconds_per_update", lambda job: pytest.fail("probed again"))
    with pytest.raises(Exception, match="mean requires"):
        call(paper, toy, tmp_path / "work", *changes)


def test_what_would_fail_late_fails_at_once_with_nothing_written(paper, toy, tmp_path):
    for change, expected in {
        "experts.recipe.epochs=2": "matching reaches epoch",
        "recipes.random-ipc4.ipc=30": "ipc is 30, but class",
        "score.name=file": "score.name is 'file'",
        "score.epochs=9": "score.epochs is 9",
        "recipes.mtt-ipc4.method=mmt": "no recipes.mtt-ipc4 with a known method",
    }.items():
        change = change.replace("epochs=2", "epochs=1")
        with pytest.raises(DistillkitError, match=expected):
            call(paper, toy, tmp_path / "work", "--set", change)
        assert not (tmp_path / "work").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(ParamsError, match="holds other files"):
        call(paper, toy, tmp_path / "other")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all"])
def test_a_broken_pack_is_one_line(paper, tmp_path, content):
    (tmp_path / "broken.npz").write_bytes(content)
    with pytest.raises(DistillkitError, match=r"broken\.npz is no pack of images"):
        paper[1].load_images(str(tmp_path / "broken.npz"))


def test_a_packed_dataset_holds_the_images_of_the_dataset(paper, tmp_path):
    import datasets

    _, files = paper
    rows = {"train": 6, "test": 4}
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3), dtype=np.uint8)
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["b", "a"])})
    for name, count in rows.items():
        images = [{"bytes": png(image), "path": None} for image in noise[:count]]
        table = datasets.Dataset.from_dict({"img": images, "label": [0, 1] * (count // 2)}, features=features)
        table.to_parquet(tmp_path / f"data/{name}-00000-of-00001.parquet")
    files.write_pack(tmp_path / "pack.npz", files.pack_dataset(str(tmp_path / "data")))
    packed, direct = files.load_images(str(tmp_path / "pack.npz")), files.load_images(str(tmp_path / "data"))
    assert packed.train.class_names == direct.train.class_names == ("b", "a")
    assert torch.equal(packed.train.images.permute(0, 2, 3, 1), torch.from_numpy(noise))
    assert files.digest(packed) == files.digest(direct)
    assert packed.info.revision == direct.info.revision


def test_the_reading_is_the_one_that_was_measured_nearer(paper):
    _, files = paper

    def found(random, window, window_of_ipc):
        kinds = {"random": random, "window": window, "window_of_ipc": window_of_ipc}
        return files.reading({kind: {"accuracy": {"mean": mean}} for kind, mean in kinds.items()}, 250)

    class_like = found(0.70, 0.77, 0.35)  # published: 73.4 and 79.3, so a lead of 5.9
    assert class_like["off_published"] == {"window": -2.3, "window_of_ipc": -44.3}
    assert class_like["lead_off_published"] == {"window": 1.1, "window_of_ipc": -40.9}
    assert "a fraction of the class fits better" in class_like["conclusion"]
    assert "a fraction of ipc fits better" in found(0.70, 0.35, 0.77)["conclusion"]
    assert "neither is settled" in found(0.60, 0.70, 0.67)["conclusion"]


def test_published_figures_are_given_for_the_published_images_only(paper):
    _, files = paper
    entry = {"ipc": 250, "kind": "window_of_ipc", "accuracies": [0.5, 0.7]}
    assert files.described(entry, True)["published"] == {"mean": 0.793, "std": 0.007}
    assert files.described(entry, False)["published"] is None
    assert files.described(entry, True)["accuracy"] == {"mean": 0.6, "std": 0.141421, "runs": [0.5, 0.7]}
