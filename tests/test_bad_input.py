"""Stages given bad input: one line that says what to do, and nothing half-written.

Most stages run in this process, to their exit; the exit codes of some are those of a process of its own.
"""

import errno
import json
import re
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pytest
import torch
from interpreter import BIN, PYTHON

from distillkit.base.errors import WindowError
from distillkit.base.files import write_text
from distillkit.data.files import artifact
from distillkit.data.files.real_images import save_real
from distillkit.data.images import RealData, channel_statistics, real_subset
from distillkit.data.origin import SourceInfo
from distillkit.pipeline.unfinished import WORK
from distillkit.process.command import run
from distillkit.process.interruption import Interrupted
from distillkit.training.expert_files import save_experts
from distillkit.training.trajectories import Dynamics, Expert

STAGES = Path(__file__).parents[1] / "stages"
NETWORK = {"name": "convnet", "depth": 1, "width": 4}
MATCHING = {"student_steps": 2, "student_batch": 10, "expert_epochs": 1, "max_start_epoch": 2}
OPTIM = {"steps": 4, "image_lr": 30, "student_lr_init": 0.05, "student_lr_lr": 0.01}
MTT = {"method": "mtt", "ipc": 1, "matching": MATCHING, "optim": OPTIM}
PARAMS: dict[str, Any] = {
    "seed": 0,
    "data": {"source": {"kind": "digits"}, "per_class": 5, "test_per_class": 2},
    "expert_shards": [0],
    "experts": {"per_shard": 1, "recipe": {"network": NETWORK, "epochs": 3, "batch": 60, "lr": 0.05}},
    "score": {"name": "confidence"},
    "recipes": {
        "mtt": MTT,
        "diverging": MTT | {"optim": OPTIM | {"image_lr": 1e30}},
        "confident": {"method": "confident", "ipc": 1},
    },
    "evaluation": {"network": NETWORK, "training": {"steps": 3, "batch": 10, "lr": 0.05}, "runs": 1},
    "package": {"name": "tiny", "default": "mtt", "storage": "float32"},
}
DISTILL = ("real.safetensors", "experts", "difficulty.safetensors", "out/set.safetensors", "out/loss.csv")
INPUTS = {"params.yaml", "real.safetensors", "experts/shard-0.safetensors", "difficulty.safetensors"}


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def files(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found - {".distillkit/.gitignore"}


def mistake(ended: Ended) -> str:
    """The single line on stderr of a stage that failed by a user's mistake."""
    assert (ended.code, ended.out) == (1, "")
    assert re.fullmatch(r"error: .+\n", ended.err), ended.err
    return ended.err.removeprefix("error: ").removesuffix("\n")


def change(folder: Path, section: str, value: Any) -> None:
    data = PARAMS | {section: value}
    if section == "recipes":
        data |= {"package": PARAMS["package"] | {"default": next(iter(value))}}
    (folder / "params.yaml").write_text(json.dumps(data))


@pytest.fixture(scope="session")
def real_data(digits) -> RealData:
    info = SourceInfo("folder", "digits", "sha", "cc-by-4.0", params={})
    return RealData(digits, digits.take(torch.arange(60)), channel_statistics(digits.images), info)


@pytest.fixture
def work(tmp_path, digits, experts, material, real_data, monkeypatch) -> Path:
    """A folder as it is before the distill stage; 300 digits, two experts of four epochs."""
    trajectories, dynamics = experts
    trained = [
        Expert(trajectories.trajectories_ETP[row], Dynamics(*(part[row] for part in dynamics))) for row in range(2)
    ]
    save_real(tmp_path / "real.safetensors", real_data)
    save_experts(tmp_path / "experts" / "shard-0.safetensors", trained, trajectories.spec, {})
    scores = {"confidence": material.difficulty_N}
    artifact.save_difficulty(tmp_path / "difficulty.safetensors", material.difficulty_N, scores, {})
    (tmp_path / "params.yaml").write_text(json.dumps(PARAMS))
    monkeypatch.chdir(tmp_path)
    assert files(tmp_path) == INPUTS
    return tmp_path


@pytest.fixture
def stage(monkeypatch, capsys) -> Callable[..., Ended]:
    """Run a stage's script in this process, to its exit."""

    def stage(name: str, *arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        monkeypatch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(STAGES / f"{name}.py"), run_name="__main__")
        return Ended(ended.value.code, *capsys.readouterr())

    return stage


def process(folder: Path, *arguments: str) -> Ended:
    """Run a stage in a process of its own."""
    name, *rest = arguments
    command = [PYTHON, str(STAGES / f"{name}.py"), *rest]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def test_a_misspelt_parameter_stops_the_process(work):
    change(work, "recipes", {"misspelt": MTT | {"matching": {"student_stepz": 2}}})
    line = mistake(process(work, "distill", "misspelt", *DISTILL))
    assert line.startswith(
        "params.yaml: recipes.misspelt.matching.student_stepz is not a parameter (did you mean 'student_steps'?)"
    )
    assert files(work) == INPUTS


def test_a_window_past_its_class_stops_the_process(work):
    change(work, "recipes", {"window": {"method": "window", "ipc": 5, "window_start": 0.9}})
    line = mistake(process(work, "distill", "window", *DISTILL))
    expected = r"params.yaml: recipes.window: the window of class '\d' covers ranks (\d+) to (\d+), but it has (\d+) im"
    first, last, images = map(int, re.match(expected, line).groups())
    assert (first, last) == (round(0.9 * images), round(0.9 * images) + 4)
    assert last >= images
    assert files(work) == INPUTS


@pytest.mark.parametrize(
    "command",
    [
        ("distill", "mtt", *DISTILL),
        ("experts", "1", "real.safetensors", "experts/shard-1.safetensors"),
        ("reference", "real.safetensors", "reference.safetensors"),
    ],
    ids=lambda command: command[0],
)
def test_ipc_above_the_class_stops_whatever_trains_first(work, stage, digits, command):
    """Though the stage has nothing to do with that recipe."""
    change(work, "recipes", {"mtt": MTT, "large": {"method": "random", "ipc": 1000}})
    smallest = min(digits.class_counts)
    expected = rf"params.yaml: recipes.large: ipc is 1000, but class '\d' has {smallest} training images; lower ipc or "
    assert re.match(expected, mistake(stage(*command)))
    assert files(work) == INPUTS


def test_divergence_stops_the_process_and_keeps_the_last_good_set(work):
    line = mistake(process(work, "distill", "diverging", *DISTILL))
    assert "lower optim.image_lr (1e+30)" in line
    kept = re.search(rf"the set after step (\d) is kept in ({re.escape(str(WORK))}/\S+-last-good\.safetensors)$", line)
    curves = {name for name in files(work) if name.startswith(".distillkit/live/diverging/")}
    assert len(curves) == 3, "how it went stays to be looked at"
    assert files(work) == INPUTS | curves | {kept[2]}
    command = [str(BIN / "distillkit"), "show", kept[2]]
    shown = subprocess.run(command, cwd=work, capture_output=True, text=True, check=True).stdout
    assert "recipe diverging, method mtt, 10 images of 1x8x8 in 10 classes (10 learned, 0 real)" in shown


def test_truncated_images_stop_the_process(work):
    whole = (work / "real.safetensors").read_bytes()
    (work / "real.safetensors").write_bytes(whole[:-100])
    line = mistake(process(work, "distill", "mtt", *DISTILL))
    assert line.startswith("real.safetensors cannot be read (")
    assert line.endswith("expected a complete safetensors file; run its stage again")
    assert files(work) == INPUTS


def test_a_recipe_that_is_not_there(work, stage):
    expected = "params.yaml has no recipes.no; found mtt, diverging, "
    assert mistake(stage("distill", "no", *DISTILL)).startswith(expected)
    assert files(work) == INPUTS


COMMANDS = {
    "distill": ["mtt", *DISTILL],
    "fetch": ["out"],
    "experts": ["0", "real.safetensors", "out"],
    "score": ["real.safetensors", "experts", "out"],
    "reference": ["real.safetensors", "out"],
    "evaluate": ["set", "real.safetensors", "reference", "metrics", "classes", "curve", "confusion"],
    "report": ["a", "b", "c", "d", "e", "f"],
    "package": [*DISTILL[:3], "distilled", "metrics", "out"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_stage_refuses_what_the_last_one_would(work, stage, name):
    change(work, "package", {"name": "tiny", "default": "mmt", "storage": "float32"})
    expected = (
        "params.yaml: package: the default recipe is 'mmt', which is not packaged (did you mean 'mtt'?); expected"
    )
    assert mistake(stage(name, *COMMANDS[name])).startswith(expected)
    assert files(work) == INPUTS


def test_difficulty_of_other_images(work, stage):
    artifact.save_difficulty(work / "difficulty.safetensors", torch.zeros(299), {}, {})
    line = mistake(stage("distill", "mtt", *DISTILL))
    assert line.startswith("difficulty.safetensors: 'difficulty' is torch.float32 (299); expected torch.float32 (300)")


def test_confidence_that_nobody_recorded(work, stage):
    artifact.save_difficulty(work / "difficulty.safetensors", torch.zeros(300), {}, {})
    line = mistake(stage("distill", "confident", *DISTILL))
    assert line.startswith("this method ranks images by the experts' confidence, but none was recorded; run the score")


@pytest.mark.parametrize("name", sorted(INPUTS - {"params.yaml"}))
def test_a_missing_input(work, stage, name):
    (work / name).unlink()
    expected = f"{name} does not exist; expected a distillkit artifact; run the stage that writes it"
    assert mistake(stage("distill", "mtt", *DISTILL)) == expected


def test_missing_parameters(work, stage):
    (work / "params.yaml").unlink()
    expected = "params.yaml does not exist; run from the folder that holds dvc.yaml and params.yaml"
    for name, arguments in COMMANDS.items():
        assert mistake(stage(name, *arguments)) == expected


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("training/b.csv", "step,accuracy\n1,x\n", "training/b.csv is no table of step and accuracy"),
        ("loss/b.csv", "step\n", "loss/b.csv is no table of step and loss"),
        ("metrics/b.json", "{}", "metrics/b.json has no images"),
        ("distilled/b.safetensors", "", "distilled/b.safetensors"),
    ],
)
def test_a_report_that_fails_writes_nothing(work, stage, real_data, path, content, expected):
    """Although the first of two recipes is sound."""
    change(work, "recipes", {name: {"method": "random", "ipc": 1} for name in "ab"})
    synthetic = real_subset(real_data.train, torch.arange(10), real_data.normalisation)
    share, counts = {"mean": 0.5, "std": 0.0}, {"total": 10, "real": 10, "learned": 0}
    metrics = {"accuracy": {**share, "runs": 1}, "images": counts} | dict.fromkeys(("easy", "middle", "hard"), share)
    for name in "ab":
        provenance = artifact.provenance_of(name, "random", {"method": "random", "ipc": 1}, 0, real_data)
        artifact.save_synthetic(work / f"distilled/{name}.safetensors", synthetic, provenance)
        write_text(work / f"metrics/{name}.json", json.dumps(metrics))
        write_text(work / f"loss/{name}.csv", "step,loss\n")
        write_text(work / f"training/{name}.csv", "step,accuracy\n1,0.5\n")
    write_text(work / path, content)
    before = files(work)
    arguments = ("distilled", "loss", "training", "metrics", "previews", "reports")
    assert expected in mistake(stage("report", *arguments))
    assert files(work) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_missing_arguments_are_wrong_usage(work, stage, name):
    done = stage(name)
    assert (done.code, done.out) == (2, "")
    assert "Missing argument" in done.err


@pytest.mark.parametrize(
    ("section", "value", "command", "expected"),
    [
        (
            "data",
            {"source": {"kind": "digit"}},
            ("fetch", "out"),
            'params.yaml: data.source.kind is "digit" (did you mea',
        ),
        (
            "data",
            {"source": {"kind": "folder", "path": "no"}},
            ("fetch", "out"),
            "no folder no; expected one folder of",
        ),
        (
            "expert_shards",
            [],
            ("score", "real.safetensors", "experts", "out"),
            "params.yaml: expert_shards is []; expe",
        ),
        (
            "expert_shards",
            [0, 3],
            ("score", "real.safetensors", "experts", "out"),
            "experts/shard-3.safetensors does not",
        ),
        (
            "score",
            {"name": "el2n", "epochs": 5},
            ("score", "real.safetensors", "experts", "out"),
            "score.epochs is 5; exp",
        ),
        (
            "score",
            {"name": "file", "file": "no.npy"},
            ("score", "real.safetensors", "experts", "out"),
            "score.file no.npy d",
        ),
    ],
)
def test_parameters_that_other_stages_refuse(work, stage, section, value, command, expected):
    change(work, section, value)
    assert mistake(stage(*command)).startswith(expected)
    assert files(work) == INPUTS


def test_a_score_file_takes_the_place_of_a_score(work, stage):
    np.save(work / "mine.npy", np.arange(300))
    change(work, "score", {"name": "file", "file": "mine.npy", "larger_means": "easier"})
    assert stage("score", "real.safetensors", "experts", "out").code == 0
    difficulty, confidence = artifact.load_difficulty(work / "out", 300)
    assert difficulty.tolist() == [-row for row in range(300)]
    assert confidence is not None, "the experts' own scores are kept beside it"


def test_experts_of_other_images(work, stage, real_data):
    fewer = replace(real_data, train=real_data.train.take(torch.arange(200)))
    save_real(work / "real.safetensors", fewer)
    line = mistake(stage("score", "real.safetensors", "experts", "out"))
    assert line == "the experts saw 300 images, real.safetensors holds 200; train them again"


def test_expert_training_that_diverges(work, stage):
    experts = PARAMS["experts"]
    change(work, "experts", experts | {"recipe": experts["recipe"] | {"lr": 1e30}})
    line = mistake(stage("experts", "1", "real.safetensors", "experts/shard-1.safetensors"))
    assert re.match(r"expert training gave nan or infinity in epoch \d; lower lr \(1e\+30\)", line)
    assert files(work) == INPUTS


def test_a_network_too_deep_for_its_images(work, stage):
    experts = PARAMS["experts"]
    change(work, "experts", experts | {"recipe": experts["recipe"] | {"network": NETWORK | {"depth": 4}}})
    line = mistake(stage("experts", "1", "real.safetensors", "experts/shard-1.safetensors"))
    assert line.startswith(
        "params.yaml: experts: network.depth is 4, but images of 8x8 cannot be halved that often; use a smaller depth"
    )


def test_a_reference_that_diverges_is_not_written(work, stage):
    evaluation = PARAMS["evaluation"]
    change(work, "evaluation", evaluation | {"training": {"steps": 20, "batch": 10, "lr": 1e30}})
    line = mistake(stage("reference", "real.safetensors", "reference.safetensors"))
    assert "lower" in line
    assert files(work) == INPUTS


def test_evaluation_of_what_is_not_there(work, stage, real_data):
    measured = ("m.json", "classes.json", "curve.csv", "confusion.csv")
    arguments = ("set.safetensors", "real.safetensors", "reference.safetensors", *measured)
    assert mistake(stage("evaluate", *arguments)).startswith(
        "set.safetensors does not exist; expected a distillkit art"
    )
    artifact.save_synthetic(
        work / "set.safetensors", real_subset(real_data.train, torch.arange(20), real_data.normalisation), {}
    )
    artifact.save_reference(work / "reference.safetensors", torch.zeros(59), {})
    line = mistake(stage("evaluate", *arguments))
    assert line.startswith(
        "reference.safetensors: 'test_difficulty' is torch.float32 (59); expected torch.float32 (60)"
    )
    assert files(work) == INPUTS | {"set.safetensors", "reference.safetensors"}


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_package_without_metrics(work, stage, text):
    (work / "metrics").mkdir()
    if text is not None:
        (work / "metrics" / "mtt.json").write_text(text)
    expected = "metrics/mtt.json " + {None: "does not exist", "{": "is not valid JSON", "[]": "holds list"}[text]
    assert mistake(stage("package", *DISTILL[:3], "distilled", "metrics", "hub/tiny")).startswith(expected)
    assert not (work / "hub").exists()


def ends(error: BaseException, capsys, monkeypatch) -> Ended:
    """How a command ends that raises ``error``."""

    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["command"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("os._exit", sys.exit)
    with pytest.raises(SystemExit) as caught:
        run(command)
    return Ended(caught.value.code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (WindowError("what\nwas  found"), (1, "", "error: what was found\n")),
        (
            PermissionError(13, "Permission denied", "x"),
            (1, "", "error: x: Permission denied; check the path, its perm"),
        ),
        (OSError("odd"), (1, "", "error: a file: odd; check the path, its permissions and the disk\n")),
        (KeyboardInterrupt(), (130, "", "interrupted; run the same command again to go on\n")),
        (Interrupted("interrupted at step 3"), (130, "", "interrupted at step 3\n")),
    ],
)
def test_how_commands_end(error, expected, capsys, monkeypatch):
    done = ends(error, capsys, monkeypatch)
    assert done[:2] == expected[:2]
    assert done.err.strip("\n").startswith(expected[2].strip("\n"))
    assert len(done.err.split("\n")) <= 3, "one line, and click's empty one after ^C"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), "there is not enough memory"),
        (sqlite3.OperationalError("disk I/O error"), "a database of DVC cannot be used (disk I/O error); make room"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "there is not enough mem",
        ),
        (RuntimeError("can't start new thread"), "the system allows no more threads"),
        (OSError(errno.EMFILE, "Too many open files"), "too many files are open"),
        (ImportError("libx.so: Too many open files"), "too many files are open"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "x: No space left on device; make room, then run"),
    ],
    ids=["memory", "database", "allocator", "threads", "files", "library", "disk"],
)
def test_what_the_machine_refuses(error, expected, capsys, monkeypatch):
    assert mistake(ends(error, capsys, monkeypatch)).startswith(expected)


@pytest.mark.parametrize("inside", [True, False])
def test_what_nobody_foresaw_is_one_line_that_says_where_the_details_are(capsys, monkeypatch, tmp_path, inside):
    """A defect of ours is no user's mistake, and does not look like one: another exit code, and a traceback kept."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = Path(".distillkit") if inside else tmp_path
    if inside:
        kept.mkdir()
    done = ends(ZeroDivisionError("by\x1b[31m\nhttps://me:secret@host/"), capsys, monkeypatch)
    assert (done.code, done.out) == (70, "")
    line = r"error: ZeroDivisionError: by�\[31m https://host/; this error is unexpected; "
    line += "please report it: the details are in "
    details = Path(re.fullmatch(line + r"(.+)\n", done.err)[1])
    assert details.parent == kept
    assert details.read_text().startswith("Traceback (most recent call last):")
    assert "raise error" in details.read_text()
    assert "secret" not in details.read_text()


def test_a_line_is_not_endless(capsys, monkeypatch):
    line = mistake(ends(WindowError("a" * 10**6 + "; mend it"), capsys, monkeypatch))
    assert len(line) < 2000
    assert line.endswith("; mend it")


def test_a_recipe_with_a_seed_makes_the_set_that_a_project_with_this_seed_makes(work, stage):
    random = {"method": "random", "ipc": 5}
    change(work, "recipes", {"random": random, "again": random | {"seed": 1}})
    rows = []
    for name, seed in (("random", 0), ("again", 0), ("random", 1)):
        data = json.loads((work / "params.yaml").read_text())
        (work / "params.yaml").write_text(json.dumps(data | {"seed": seed}))
        assert stage("distill", name, *DISTILL).code == 0
        synthetic, provenance = artifact.load_synthetic(work / DISTILL[3])
        rows.append(synthetic.source_row.tolist())
        assert provenance["seed"] == (1 if name == "again" else seed)
    assert rows[1] == rows[2] != rows[0]
