"""Stages and ``dvc repro``, interrupted and run again: what was done is kept, and the bytes are as if never stopped."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import forked
import psutil
import pytest
import torch
from forked import Ended, Moment
from interpreter import PYTHON, SCRIPTS
from marks import long
from ruamel.yaml import YAML
from test_pipeline import MATCHING, OPTIM, PARAMS, dvc, environment, new_project, repro, write_params

from distillkit.evaluation.evaluate import Runs
from distillkit.pipeline.stage import sole
from distillkit.pipeline.unfinished import WORK, remembering, unfinished, work_folder
from distillkit.process import interruption
from distillkit.process.interruption import HEARD, Interrupted, hear, listen, note, reacting
from distillkit.process.live_curves import LIVE
from distillkit.process.progress import Counter
from distillkit.training.compute import Compute
from distillkit.training.executors import side_by_side
from distillkit.training.trajectories import Dynamics, Expert

SCAN = {"candidates": [0.2, 0.4], "holdout": 0.2, "runs": 1, "training": {"steps": 5, "batch": 20, "lr": 0.1}}
SELMATCH = {"method": "selmatch", "ipc": 2, "window_start": SCAN, "distill_fraction": 0.5, "matching": MATCHING}
TINY = PARAMS | {
    "expert_shards": [0],
    "experts": PARAMS["experts"] | {"per_shard": 3},
    "recipes": {"selmatch": SELMATCH | {"optim": OPTIM | {"steps": 3}}},
    "package": {"name": "tiny", "default": "selmatch", "storage": "float32"},
}
LEARNING = {"experts", "distill"}  # which learn step by step, and keep what they have
STAGES = ("fetch", "experts", "score", "reference", "distill", "evaluate", "report", "package")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
NETWORK = re.compile(r"(1|expert-\d)-\d\.safetensors")  # the first tasks that a stage maps, an expert's epochs


def command(stage: str) -> list[str]:
    """The stage's command as dvc.yaml has it."""
    declared = YAML(typ="safe").load(Path(forked.__file__).parents[1] / "dvc.yaml")["stages"][stage]
    line = declared.get("do", declared)["cmd"]
    for name, value in {"item": "0", "key": "selmatch", "package.name": "tiny"}.items():
        line = line.replace(f"${{{name}}}", value)
    return line.split()[1:]


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Whole:
    """A project whose stages run without interruption, in their order, as soon as a test asks for one of them."""

    def __init__(self, project: Path):
        self.project, self.runs, self.states = project, dict[str, Ended](), {"": contents(project)}

    def run(self, stage: str) -> Ended:
        """How the stage ended."""
        for each in STAGES[: STAGES.index(stage) + 1]:
            if each not in self.runs:
                self.runs[each] = forked.run(self.project, command(each))
                assert self.runs[each].code == 0, self.runs[each].said
                self.states[each] = contents(self.project)
        return self.runs[stage]

    def after(self, stage: str) -> dict[str, str]:
        """What lies there after the stage."""
        self.run(stage)
        return self.states[stage]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Whole:
    project = tmp_path_factory.mktemp("interrupted") / "whole"
    shutil.copytree(Path(forked.__file__).parents[1] / "stages", project / "stages")
    write_params(project, TINY)
    return Whole(project)


@pytest.fixture
def before(whole, tmp_path) -> Callable[[str], Path]:
    """A project as it is before a stage."""

    def before(stage: str) -> Path:
        project = tmp_path / stage
        shutil.rmtree(project, ignore_errors=True)
        whole.run(stage)
        shutil.copytree(whole.project, project)
        for path in contents(project).keys() - whole.states[("", *STAGES)[STAGES.index(stage)]].keys():
            (project / path).unlink()
        if stage == "package":
            (project / "artifacts/hub/tiny/selmatch").rmdir()
            (project / "artifacts/hub/tiny").rmdir()
        return project

    return before


def check_interrupted(project: Path, whole, stage: str, moment: Moment) -> None:
    """Interrupt the stage and run it again: nothing done is done again, and all that is left is what it should be."""
    first = forked.run(project, command(stage), moment)
    assert first.code == (-moment.signal if moment.signal == signal.SIGKILL else 128 + moment.signal), first.said
    if moment.signal != signal.SIGKILL:
        assert re.fullmatch(r"(resumed .*\n)?interrupted.*; run the same command again to go on\n", first.said)
        left = [path for path in contents(project) if path.endswith((".tmp", ".lock"))]
        assert all(path.startswith(str(WORK)) for path in left), "only a thread that is left behind leaves half a file"
    done = {path.name for path in (project / WORK).rglob("*") if NETWORK.fullmatch(path.name)}
    second = forked.run(project, command(stage))
    assert second.code == 0, second.said
    assert contents(project) == whole.after(stage)
    assert not done & set(second.named)
    if stage != "experts":
        assert (f"going on with {len(done)} of " in second.said) == bool(done)
    steps = [run.named.count("distillation.safetensors") for run in (first, second, whole.run(stage))]
    assert steps[0] + steps[1] == steps[2]
    assert (f"resumed at step {steps[0]} of 3" in second.said) == bool(steps[0])


@pytest.mark.parametrize("stage", [stage if stage in LEARNING else long(stage) for stage in STAGES])
def test_a_stage_interrupted_here_and_there(whole, before, stage):
    """Early, in the middle and at the end; killed, terminated and by Ctrl-C."""
    last = len(whole.run(stage).named) - 1
    for number, at in dict(zip(SIGNALS, sorted({0, last // 2, last}), strict=False)).items():
        check_interrupted(before(stage), whole, stage, Moment(number, at))


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_interrupted_everywhere(whole, before, stage, number):
    for at in range(len(whole.run(stage).named)):
        check_interrupted(before(stage), whole, stage, Moment(number, at))


@pytest.mark.long
def test_what_is_named_are_networks_steps_and_outputs(whole):
    """The moments above are worth their name."""
    named = {stage: sorted(whole.run(stage).named) for stage in STAGES}
    epochs = [f"expert-{member}-{epoch}.safetensors" for member in range(3) for epoch in range(3)]
    assert named["experts"] == [*epochs, "shard-0.safetensors"]
    assert named["reference"] == ["1-0.safetensors", "1-1.safetensors", "reference.safetensors"]
    scan = ["1-0.safetensors", "1-1.safetensors"]
    assert named["distill"] == [*scan, *["distillation.safetensors"] * 3, "selmatch.csv", "selmatch.safetensors"]
    assert named["evaluate"] == [*scan, *["selmatch.csv"] * 2, *["selmatch.json"] * 2]
    assert named["package"] == ["distilled.safetensors", "preview.png", "tiny"]


def test_a_stage_killed_again_and_again_gets_done(whole, before):
    """Each time one more epoch at least, until none is left; a damaged one is told and trained again."""
    project = before("experts")
    for _ in range(3):  # three experts at most are at the first three moments
        assert forked.run(project, command("experts"), Moment(signal.SIGKILL, 3)).code == -signal.SIGKILL
    assert contents(project).keys() >= {"artifacts/real/real.safetensors"}
    kept = {path.name: path for path in (project / WORK).rglob("*") if NETWORK.fullmatch(path.name)}
    assert len(kept) >= 3
    assert len({path.stat().st_size for path in kept.values()}) == 1, "an epoch is written once"
    damaged = kept.pop(max(kept))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    again = forked.run(project, command("experts"))
    assert again.said.count("cannot be resumed (") == 1
    assert sorted([*again.named, *kept]) == sorted(whole.run("experts").named)
    assert contents(project) == whole.after("experts")


def test_damaged_work_is_told_and_done_again(whole, before):
    project = before("distill")
    forked.run(project, command("distill"), Moment(signal.SIGKILL, 4))
    work = sorted((project / WORK).rglob("*.safetensors"))
    assert [path.name for path in work] == ["1-0.safetensors", "1-1.safetensors", "distillation.safetensors"]
    for path in work:
        path.write_bytes(path.read_bytes()[:-1])
    again = forked.run(project, command("distill"))
    assert len(re.findall(r"^warning: .* cannot be reused \(.*\); computing it again$", again.said, re.M)) == 2
    assert len(re.findall(r"^warning: .* cannot be resumed \(.*\); starting again$", again.said, re.M)) == 1
    assert contents(project) == whole.after("distill")


def test_other_inputs_do_not_take_up_the_work(whole, before):
    project = before("evaluate")
    forked.run(project, command("evaluate"), Moment(signal.SIGKILL, 2))
    write_params(project, TINY | {"seed": 1})
    assert len(forked.run(project, command("evaluate")).named) == 6
    write_params(project, TINY)
    assert len(forked.run(project, command("evaluate")).named) == 4
    assert contents(project) == whole.after("evaluate")


def test_git_ignores_our_work_in_a_clone(tmp_path, monkeypatch):
    """``init`` writes such a file, but it ignores itself, so Git does not have it."""
    monkeypatch.chdir(tmp_path)
    with sole(["x"]):
        assert Path(".distillkit/.gitignore").read_text() == "*\n"


def test_one_process_at_a_time_runs_a_stage(whole, before, monkeypatch):
    project = before("score")
    monkeypatch.chdir(project)
    with sole(command("score")):
        running = forked.begin(project, command("score"))
        until(lambda: "waiting" in project.with_name("score.said").read_text(), "it waits")
        assert running.poll() is None
        assert contents(project).keys() - whole.after("reference").keys()  # the lock
    ended = forked.end(project, running)
    line = f"waiting for the end of another process that runs the same: {' '.join(command('score'))}\n"
    assert (ended.code, ended.said) == (0, line)
    assert not list(project.rglob("*.lock"))


@contextmanager
def background(command: Sequence[str], **options) -> Iterator[subprocess.Popen]:
    """A process that is gone, with all that it has started, when the block ends, however it does."""
    with subprocess.Popen(command, **options) as running:
        try:
            yield running
        finally:
            with suppress(psutil.NoSuchProcess):
                for process in [*psutil.Process(running.pid).children(recursive=True), running]:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()


def until(condition: Callable[[], object], what: str) -> None:
    waited = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < waited, f"a minute has passed, but not yet: {what}"
        time.sleep(0.02)


@pytest.fixture
def long_project(tmp_path) -> Path:
    """A short pipeline with a long distillation, not run yet."""
    project = new_project(tmp_path / "long")
    declared = YAML(typ="safe").load(project / "dvc.yaml")
    kept = {
        name: declared["stages"][name] for name in ("code", "fetch", "experts", "shards", "score", "inputs", "distill")
    }
    YAML(typ="safe").dump({"stages": kept}, project / "dvc.yaml")
    write_params(project, TINY | {"recipes": {"selmatch": SELMATCH | {"optim": OPTIM | {"steps": 300}}}})
    return project


def interrupt(project: Path, number: int, everybody: bool, shell: str = "/bin/sh", python: str = PYTHON) -> str:
    """Start ``dvc repro``, send a signal to it, or to its stage as well, in the middle of distilling; what was said.

    A fork is in the group of the forks' server; those of its group that it has started get the signal one by one, dvc
    first: as long as it waits for the stage, it writes no file that a kill could leave incomplete.
    """
    with (project.with_name("said")).open("w+") as said:
        options = {"stdout": said, "stderr": said, "start_new_session": True}
        options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
        command = [python, "-m", "dvc", "repro"]
        with background(command, cwd=project, env=environment() | {"SHELL": shell}, **options) as running:
            folders, kept = project / WORK, "distill-*/distillation.safetensors"
            if not list(folders.glob(kept)):
                until((project / LIVE / "selmatch/metrics.json").exists, "the first step is done")
            else:
                until(lambda: "resumed at" in project.with_name("said").read_text(), "the distillation is resumed")
            stage, *above = distilling(project)
            assert len({os.getpgid(process.pid) for process in (stage, *above)}) == 1, "a terminal reaches them all"
            if everybody and python == PYTHON:
                for process in (*reversed(above), stage):
                    process.send_signal(number)
            else:
                (os.killpg if everybody else os.kill)(running.pid, number)
            assert running.wait(60) != 0
            until(lambda: not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE, "the stage has ended")
            said.seek(0)
            return said.read()


def distilling(project: Path) -> list[psutil.Process]:
    """The stage that distils, the shell that waits for it, if one does, and the dvc that has started them."""
    told = (
        process
        for process in psutil.process_iter(["cmdline"])
        if "stages/distill.py" in (process.info["cmdline"] or ())
    )
    (stage,) = (process for process in told if process.cwd() == str(project))
    shells = [process for process in stage.parents()[:1] if "-c" in process.cmdline()]
    return [stage, *shells, stage.parents()[len(shells)]]


def steps(said: str, word: str) -> int:
    found = re.search(rf"{word} at step (\d+) of 300", said)
    assert found, said
    return int(found[1])


@pytest.mark.long
def test_dvc_repro_interrupted(long_project, tmp_path):
    """By Ctrl-C; then dvc alone is terminated, a shell in between or not; then all are killed: nobody helps."""
    dvc(long_project, "repro", "-q", "inputs")
    uninterrupted = Path(shutil.copytree(long_project, tmp_path / "uninterrupted"))
    assert repro(uninterrupted) == {"distill@selmatch"}

    ctrl_c = steps(interrupt(long_project, signal.SIGINT, everybody=True, python=sys.executable), "interrupted")
    said = interrupt(long_project, signal.SIGTERM, everybody=False)
    assert steps(said, "resumed") == ctrl_c
    waited_for = steps(said, "interrupted")
    said = interrupt(long_project, signal.SIGTERM, everybody=False, shell=shutil.which("bash") or "/bin/sh")
    assert steps(said, "resumed") == waited_for
    terminated = steps(said, "interrupted")
    assert steps(interrupt(long_project, signal.SIGKILL, everybody=True), "resumed") == terminated
    assert 0 < ctrl_c < waited_for < terminated < 300

    assert repro(long_project) == {"distill@selmatch"}
    assert (long_project / "dvc.lock").read_text() == (uninterrupted / "dvc.lock").read_text()
    assert contents(long_project / ".distillkit").keys() == {".gitignore"}

    shutil.rmtree(long_project / "artifacts")
    (long_project / "dvc.lock").unlink()
    assert repro(long_project) == {"fetch"}, "the run-cache restores what was made in parts"
    assert "up to date" in dvc(long_project, "status")


SLOW_TO_IMPORT = """
import os, sys, time
open("importing", "w").write(str(os.getpid()))
while not os.path.exists("killed"):
    time.sleep(0.02)
import click
from distillkit.pipeline.stage import run_stage

run_stage(click.command()(lambda: open("ran", "w").close()))
"""


LOSES_SIGNALS = """
import os, time
open("importing", "w").close()
try:
    time.sleep(60)
except BaseException as error:
    raise ImportError("torch is broken") from error
"""
REFERENCE = str(Path(forked.__file__).parents[1] / "stages/reference.py")


@pytest.mark.parametrize(
    ("command", "number"),
    [((REFERENCE, "a", "b"), signal.SIGINT), (("-m", "distillkit", "show", "a.safetensors"), signal.SIGTERM)],
)
def test_interrupted_while_torch_is_imported(tmp_path, command, number):
    """By a stage at its top, and by a command inside: one line, although the exception would be lost in between."""
    (tmp_path / "torch.py").write_text(LOSES_SIGNALS)
    (tmp_path / "a.safetensors").touch()
    options = {"cwd": tmp_path, "env": environment(SCRIPTS) | {"PYTHONPATH": str(tmp_path)}, "text": True}
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    with background([sys.executable, *command], stderr=subprocess.PIPE, **options) as running:
        until((tmp_path / "importing").exists, "torch is imported")
        running.send_signal(number)
        said = running.communicate(timeout=60)[1]
    assert (running.returncode, said) == (128 + number, "interrupted; run the same command again to go on\n")


@pytest.mark.parametrize("shell", ["/bin/sh", pytest.param("bash", marks=pytest.mark.long)])
def test_dvc_killed_while_a_stage_is_imported(tmp_path, shell):
    """The stage finds itself without the dvc that started it, whether a shell stands in between or not."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\nno_scm = true\n")
    (tmp_path / "stage.py").write_text(SLOW_TO_IMPORT)
    YAML(typ="safe").dump({"stages": {"a": {"cmd": "python stage.py"}}}, tmp_path / "dvc.yaml")
    said = tmp_path / "said"
    options = {"cwd": tmp_path, "env": environment(SCRIPTS) | {"SHELL": shutil.which(shell) or "/bin/sh"}}
    with (
        said.open("w") as file,
        background([sys.executable, "-m", "dvc", "repro"], **options, stderr=file, start_new_session=True) as running,
    ):
        until(lambda: (tmp_path / "importing").exists() and (tmp_path / "importing").read_text(), "the stage has begun")
        stage = psutil.Process(int((tmp_path / "importing").read_text()))
        running.kill()
        running.wait()
    (tmp_path / "killed").touch()
    until(lambda: not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE, "the stage has ended")
    assert not (tmp_path / "ran").exists()
    assert said.read_text() == "the dvc that started this process has ended; run the same command again to go on\n"


@pytest.mark.parametrize("mapper", [map, side_by_side])
def test_results_come_back_as_they_were(tmp_path, mapper):
    numbers = torch.arange(6.0).view(2, 3)
    dynamics = Dynamics(numbers > 2, *(numbers.half() for _ in Dynamics._fields[1:]))
    for kind, value in {
        Expert: Expert(numbers, dynamics),
        Runs: Runs(numbers.long(), torch.zeros(0, dtype=torch.float64)),
        torch.Tensor: torch.tensor(0.5),
    }.items():
        folder = tmp_path / kind.__name__
        done = list(remembering(Compute(mapper), folder, kind).run(lambda _, value=value: value, range(3)))
        again = list(remembering(Compute(mapper), folder, kind).run(refuse, range(3)))
        assert [str(result) for result in again] == [str(result) for result in done] == [str(value)] * 3
        assert all(type(result) is type(value) for result in again)


def test_what_is_kept_of_an_interruption_is_told(tmp_path):
    def third(item: int) -> torch.Tensor:
        if item == 2:
            raise Interrupted
        return torch.tensor(item)

    with pytest.raises(Interrupted, match=r"^interrupted with 2 of 5 parts done, kept; run the same command again"):
        list(remembering(Compute(), tmp_path, torch.Tensor).run(third, range(5)))
    assert len(list(tmp_path.glob("1-*.safetensors"))) == 2


def refuse(item: int) -> torch.Tensor:
    raise AssertionError(f"{item} is computed again")


def test_only_what_is_missing_is_computed(tmp_path, capsys):
    """A second map of the same stage keeps its results apart."""
    for missing in ([0, 1, 2], [1]):
        ran: list[int] = []
        run = remembering(Compute(), tmp_path, torch.Tensor).run
        assert [int(x) for x in run(lambda item, ran=ran: ran.append(item) or torch.tensor(item), range(3))] == [
            0,
            1,
            2,
        ]
        assert [int(x) for x in run(lambda item: torch.tensor(-item), range(2))] == [0, -1]
        assert ran == missing
        (tmp_path / "1-1.safetensors").unlink()
    assert f"going on with 2 of 3 parts from {tmp_path}\n" in capsys.readouterr().err


def test_updates_of_what_is_kept_count_as_earlier(tmp_path):
    """Two tasks of three updates each; the second is there already the second time."""
    for done in ((6, 0), (6, 3)):
        count = Counter("updates", 6)
        compute = remembering(Compute(), tmp_path, torch.Tensor, count, lambda _: 3)
        list(compute.run(lambda item, compute=compute: [compute.on_update() for _ in range(3)] and item, torch.ones(2)))
        assert (count.done, count.earlier) == done
        (tmp_path / "1-0.safetensors").unlink()


def test_the_folder_tells_settings_inputs_and_machines_apart(tmp_path, monkeypatch):
    path = tmp_path / "input"
    path.write_text("1")
    first = work_folder("a", [1], [path])
    os.utime(path, (0, 0))
    assert work_folder("a", [1], [path]) == first, "what counts is what is in a file"
    assert first.parent == WORK
    others = {work_folder("b", [1], [path]), work_folder("a", [2], [path]), work_folder("a", [1], [])}
    path.write_text("2")
    others.add(work_folder("a", [1], [path]))
    monkeypatch.setenv("DISTILLKIT_COMPILE", "1")
    others.add(work_folder("a", [1], [path]))
    assert len(others | {first}) == 6


def test_work_stays_when_going_on_makes_sense(tmp_path, monkeypatch):
    from distillkit.base.errors import ArtifactError, DivergedError

    monkeypatch.chdir(tmp_path)
    for error, stays in {None: False, Interrupted: True, ArtifactError: True, DivergedError: False}.items():
        try:
            with unfinished("a", [], []) as folder:
                folder.mkdir(parents=True, exist_ok=True)
                if error is not None:
                    raise error("x")
        except (Interrupted, ArtifactError, DivergedError):
            pass
        assert folder.exists() == stays


@pytest.mark.parametrize("error", [Interrupted, ValueError])
def test_tasks_at_work_are_waited_for(error):
    """Where one fails or is interrupted: they end in order, and keep what they have."""
    ended: list[int] = []
    begun = threading.Event()

    def task(item: int) -> int:
        if item == 0:
            begun.wait()
            raise error
        begun.set()
        time.sleep(0.2)
        ended.append(item)
        return item

    with pytest.raises(error):
        list(side_by_side(task, range(2)))
    assert ended == [1]


@pytest.fixture
def heard(monkeypatch) -> interruption.Heard:
    """No signal yet, whatever comes in the test."""
    for name, value in vars(interruption.Heard()).items():
        monkeypatch.setattr(HEARD, name, value)
    return HEARD


def test_the_first_signal_is_noted_and_a_later_one_ends_at_once(heard, monkeypatch):
    exits: list[int] = []
    now = iter([10.0, 10.5, 11.5])
    monkeypatch.setattr("os._exit", exits.append)
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    interruption.check()
    hear(signal.SIGTERM, None)
    assert interruption.exit_code() == 143
    with pytest.raises(Interrupted):
        interruption.check()
    hear(signal.SIGTERM, None)
    assert exits == [], "the group's signal, and the one for the end of the parent, are one request"
    hear(signal.SIGINT, None)
    assert exits == [130]


def test_what_waits_is_interrupted_and_no_library_can_lose_that(heard):
    """It is raised in the block, and where something in between has caught it, at the block's end."""
    with pytest.raises(Interrupted), reacting(interruption.interrupt):
        hear(signal.SIGINT, None)
        raise AssertionError("not reached")
    assert heard.react is note
    heard.number = 0
    with pytest.raises(Interrupted), reacting(interruption.interrupt), suppress(BaseException):
        hear(signal.SIGINT, None)
    with pytest.raises(Interrupted), reacting(interruption.interrupt):
        raise AssertionError("not reached")


def test_signals_that_are_ignored_stay_ignored(heard):
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        listen()
        found = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        assert found == [signal.SIG_IGN, hear]
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
