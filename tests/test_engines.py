"""Jobs in workspaces of their own: what travels, what comes back, and what is said; on submitit's local processes."""

import copy
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from threading import Thread

import psutil
import pytest
from click.testing import CliRunner
from interpreter import BIN, PYTHON, SCRIPTS
from marks import long
from ruamel.yaml import YAML
from test_interrupted import until
from test_pipeline import PARAMS, dvc, environment, git, new_project, write_params
from test_repro import ended, project, start

from distillkit.base.errors import DistillkitError, ParamsError
from distillkit.cli import cli
from distillkit.engines import local, order
from distillkit.engines.controller import Away, Run, told
from distillkit.engines.display import Board, Events, Table
from distillkit.engines.engine import Demand, Event, Job
from distillkit.engines.order import LARGEST, Places, differences, pack, token, versions
from distillkit.engines.plan import Plan, plan_for, put_in_order
from distillkit.engines.ray import LOST, Ray
from distillkit.engines.results import settle
from distillkit.engines.slurm import Slurm, last_word
from distillkit.engines.start import GIB, Options, check_params, demands
from distillkit.engines.worker import TAR

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a library that DVC uses
FOUR = {
    "a": {"cmd": "cat in > one", "deps": ["in"], "outs": ["one"]},
    "b": {"cmd": "cat one one > two; echo x >> $RAN", "deps": ["one"], "outs": ["two"]},
    "c": {
        "cmd": "mkdir -p metrics; echo '{\"x\": 1}' > metrics/c.json; wc -c < one > three",
        "deps": ["one"],
        "params": ["word"],
        "outs": ["three"],
        "metrics": [{"metrics/c.json": {"cache": False}}],
    },
    "d": {"cmd": "cat two three metrics/* > four", "deps": ["two", "three", "metrics"], "outs": ["four"]},
}


@pytest.fixture
def four(tmp_path, monkeypatch) -> Path:
    """A repository with a commit, and an edit of params.yaml that is not committed; stages say when b has run."""
    folder = project(tmp_path / "four", FOUR)
    (folder / "in").write_text("in\n")
    (folder / "params.yaml").write_text("word: old\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "four stages")
    (folder / "params.yaml").write_text("word: new\n")
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    monkeypatch.chdir(folder)
    return folder


class Fork:
    """A worker as submitit would start it, but in no time."""

    def __init__(self, folder: Path):
        self.process = subprocess.Popen([PYTHON, "-P", "-m", "distillkit.engines.worker", str(folder)])
        self.job_id = self.process.pid

    def done(self) -> bool:
        return self.process.poll() is not None

    def cancel(self, check: bool) -> None:
        self.process.terminate()


class Forks(Slurm):
    """The engine of Slurm without Slurm and submitit."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.forks: list[Fork] = []

    def sent(self, job: Job, folder: Path) -> Fork:
        self.forks.append(Fork(folder))
        return self.forks[-1]


@pytest.fixture
def run(monkeypatch):
    """Runs the pipeline of this folder by jobs; what failed, and what was said."""
    monkeypatch.setenv("DISTILLKIT_SLURM", "local")
    monkeypatch.setenv("PATH", environment()["PATH"])
    monkeypatch.setattr(local, "PYTHON", [PYTHON, "-P"])  # for stages that run here

    def run(remote: str | None = None, kind: type[Board] = Board) -> tuple[dict[str, str], list[str]]:
        plan, said = plan_for([]), list[str]()
        away = Away(Forks(Path(".distillkit/jobs")), Places(remote, alone=remote is not None), lambda _: Demand())
        board = kind(said.append)
        with board.shown(plan):
            failed = Run(plan, 2, board, away).all()
        put_in_order(plan.locks)
        for fork in away.engine.forks:
            fork.process.wait(30)
        return failed, said

    return run


def on_slurm(folder: Path) -> AbstractContextManager:
    """The command, with submitit's own local processes, which a fork does not end with."""
    env = environment(SCRIPTS) | {"DISTILLKIT_SLURM": "local", "RAN": os.environ["RAN"]}
    return start(folder, "--on", "slurm", env=env)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a workspace that stages and DVC have written, but for the cache."""
    hidden = {".git", ".dvc", ".distillkit"}
    paths = [path for path in folder.rglob("*") if path.is_file() and not hidden & {*path.relative_to(folder).parts}]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def plain(folder: Path, *targets: str) -> dict[str, bytes]:
    """What plain ``dvc repro`` makes of the same sources."""
    twin = folder.with_name("plain")
    shutil.copytree(folder, twin, ignore=shutil.ignore_patterns("cache", "tmp", "dvc.lock"))
    dvc(twin, "repro", *targets)
    return contents(twin)


def ran(folder: Path) -> int:
    """How often stage b has run."""
    return len((folder.parent / "ran").read_text().splitlines())


@pytest.mark.parametrize("remote", [long(None), "shared"])
def test_the_same_files_as_plain_dvc(four, run, remote):
    """With the cache in place, and through a remote; a second clone finds the results there, and runs nothing."""
    dvc(four, "remote", "add", "shared", "../store")
    expected = plain(four)
    failed, said = run(remote)
    assert not failed
    assert contents(four) == expected
    assert "b: > cat one one > two; echo x >> $RAN" in said
    assert any(re.fullmatch(r"b: running on \S+", line) for line in said)
    assert sum(path.is_file() for path in (four.parent / "store").rglob("*")) == (9 if remote else 0), (
        "files and entries"
    )
    assert not list((four / ".distillkit").rglob(TAR)), "folders of jobs go"
    if remote:
        before = ran(four)
        (four / "dvc.lock").unlink()
        shutil.rmtree(four / ".dvc/cache")
        failed, said = run(remote, Events)
        assert [json.loads(line)["state"] for line in said] == ["done"] * 4
        assert contents(four) == expected
        assert ran(four) == before


@pytest.mark.long
def test_the_pipeline_has_the_same_bytes(tmp_path, monkeypatch, run):
    """Of this repository, made tiny; stages that only read and write files run here."""
    folder = new_project(tmp_path / "jobs")
    recipes = {"selmatch-ipc2": PARAMS["recipes"]["selmatch-ipc2"]}
    write_params(folder, PARAMS | {"expert_shards": [0], "recipes": recipes})
    stages = YAML(typ="safe").load(folder / "dvc.yaml")["stages"]
    for name in ("results", "report", "package"):  # they run here, as the lists before them do
        del stages[name]
    YAML(typ="safe").dump({"stages": stages}, folder / "dvc.yaml")
    expected = plain(folder)
    monkeypatch.chdir(folder)
    failed, said = run()
    assert not failed
    assert contents(folder) == expected
    placed = {line.partition(":")[0] for line in said if ": running on " in line}
    assert placed == {"experts@0", "score", "reference"} | {
        f"{stage}@{name}" for stage in ("distill", "evaluate") for name in recipes
    }


def test_a_stage_that_did_not_run_is_told_as_unchanged():
    lines: list[str] = []
    board = Board(lines.append)
    for stage in ("one", "two"):
        board.now(stage, "running")
    board.said("one", "Running stage 'one':")
    board.now("one", "done")
    board.now("two", "done")
    assert re.fullmatch(r"one: done after 0 s, 1 of 2", lines[1])
    assert re.fullmatch(r"two: unchanged after 0 s, 2 of 2", lines[2])


def test_a_stage_that_fails(four, run):
    """Its node and its one line are told; what runs beside it is kept, and then nothing else begins."""
    stages = FOUR | {"b": {"cmd": "echo no luck >&2; exit 3", "deps": ["one"], "outs": ["two"]}}
    YAML(typ="safe").dump({"stages": stages}, four / "dvc.yaml")
    failed, said = run()
    assert "b: no luck" in said
    assert re.fullmatch(
        r"b \(on \S+: failed to reproduce 'b': failed to run: .*, exited with 3\) failed, see above; .*", told(failed)
    )
    assert set(YAML(typ="safe").load(four / "dvc.lock")["stages"]) == {"a", "c"}
    stages["b"]["cmd"] = "kill -9 $$"
    YAML(typ="safe").dump({"stages": stages}, four / "dvc.yaml")
    assert "exited with -9: killed, perhaps because memory ran out)" in told(run()[0])
    YAML(typ="safe").dump({"stages": FOUR}, four / "dvc.yaml")
    failed, said = run()
    assert not failed
    assert not any(line.startswith("a: running") for line in said)


def test_a_job_that_is_killed_is_submitted_again(four, run):
    """As after the death of a node; one that is killed each time has failed."""
    stages = {"a": {"cmd": "test -e $RAN || { touch $RAN; sleep 60; }; cat in > one", "deps": ["in"], "outs": ["one"]}}
    YAML(typ="safe").dump({"stages": stages}, four / "dvc.yaml")

    def kill() -> None:
        until(Path(os.environ["RAN"]).exists, "the stage has begun")
        next(child for child in psutil.Process().children() if "distillkit.engines.worker" in child.cmdline()).kill()

    killer = Thread(target=kill)
    killer.start()
    failed, said = run()
    killer.join()
    assert not failed, said
    assert sum("it is submitted again" in line for line in said) == 1
    assert (four / "one").read_text() == "in\n"


@pytest.mark.long
def test_the_command_with_submitit(four):
    """Its local processes, by Ctrl-C first; then a run that goes on, and its last line."""
    stages = {"a": {"cmd": "touch $RAN.begun; sleep 60; cat in > one", "deps": ["in"], "outs": ["one"]}}
    YAML(typ="safe").dump({"stages": stages}, four / "dvc.yaml")
    with on_slurm(four) as running:
        until(Path(os.environ["RAN"] + ".begun").exists, "the stage has begun")
        below = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGINT)
        code, said = ended(running)
    assert code == 130, said
    assert said.splitlines()[-1] == "interrupted; run the same command again to go on"
    until(lambda: not any(process.is_running() for process in below), "the stage has ended")
    YAML(typ="safe").dump({"stages": {"a": FOUR["a"]}}, four / "dvc.yaml")
    with on_slurm(four) as running:
        code, said = ended(running)
    assert code == 0, said
    assert (four / "one").read_text() == "in\n"
    assert said.endswith("Data and pipelines are up to date.\n")


class Lost:
    """An engine whose jobs end well and leave nothing."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def poll(self, seconds: float):
        yield from (Event(job.stage, "done") for job in self.jobs)

    def cancel(self) -> None: ...


def test_a_job_without_a_result_has_failed(four):
    engine, said = Lost(), list[str]()
    plan = Plan({"a": frozenset(), "b": frozenset("a")}, frozenset("ab"), {})
    failed = Run(plan, 2, Board(said.append), Away(engine, Places(None), lambda _: Demand())).all()
    assert failed == {"a": "the job succeeded, but its result is not in DVC's cache or remote"}
    assert [job.stage for job in engine.jobs] == ["a"]
    assert re.fullmatch(r"a-[0-9a-f]{16}", engine.jobs[0].name)
    assert not (four / "dvc.lock").exists()


class Busy(Lost):
    """An engine whose jobs wait, and in the end have a place."""

    polls = 0

    def poll(self, seconds: float):
        self.polls += 1
        if self.polls == 9:
            yield Event("a", "failed", "enough")

    def reason(self, stage: str) -> str:
        return f"no core is free for {stage}"


class Refuses(Busy):
    """An engine that takes one job at a time."""

    def submit(self, job: Job) -> None:
        if self.jobs:
            raise DistillkitError("too many jobs; wait")
        super().submit(job)

    def poll(self, seconds: float):
        self.polls += 1
        if self.polls == 2:
            yield Event("a", "failed", "enough")


def test_an_engine_refuses_a_job(four):
    """What runs beside it goes on; where nothing does, the engine's line is all."""
    stages = {name: {"cmd": f"cat in > {name}", "deps": ["in"], "outs": [name]} for name in "ab"}
    YAML(typ="safe").dump({"stages": stages}, four / "dvc.yaml")
    plan, engine = Plan({"a": frozenset(), "b": frozenset()}, frozenset("ab"), {}), Refuses()
    failed = Run(plan, 2, Board(print), Away(engine, Places(None), lambda _: Demand())).all()
    assert failed == {"b": "too many jobs; wait", "a": "enough"}
    with pytest.raises(DistillkitError, match=r"^too many jobs; wait$"):
        Run(plan, 2, Board(print), Away(engine, Places(None), lambda _: Demand())).all()


class Silent:
    """An executor of submitit's whose Slurm answers from the third question on, and then refuses, or not."""

    def __init__(self, refuses: bool):
        self.asked, self.refuses = 0, refuses

    def __call__(self, folder: Path, cluster: str):
        return self

    def update_parameters(self, **_) -> None: ...

    def submit(self, _):
        self.asked += 1
        if self.asked < 3:
            raise OSError(
                "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
            )
        if self.refuses:
            raise OSError("Invalid account")
        return Lost()


@pytest.mark.parametrize("refuses", [True, False])
def test_a_controller_that_is_away_is_waited_for(tmp_path, monkeypatch, refuses):
    monkeypatch.setenv("DISTILLKIT_SLURM", "local")
    monkeypatch.setattr("distillkit.engines.slurm.BETWEEN", 0)
    monkeypatch.setattr(Lost, "job_id", "7", raising=False)
    engine = Slurm(tmp_path)
    monkeypatch.setattr(engine, "queue", lambda: {"7": "Resources"})
    monkeypatch.setattr(engine.submitit, "AutoExecutor", Silent(refuses))
    engine.submit(Job("a", "a-1"))
    assert engine.reason("a") == "Slurm's controller does not answer"
    assert not list(engine.poll(0))
    [*events] = engine.poll(0)
    if refuses:
        assert [event[:2] for event in events] == [("a", "failed")]
        assert events[0].text.startswith("Slurm refuses a: Invalid account; correct the options")
        return
    assert not events
    assert engine.reason("a") == "Slurm has not started job 7 yet (Resources)"


def test_why_jobs_wait_is_told_once(four, monkeypatch):
    monkeypatch.setattr("distillkit.engines.controller.PATIENCE", 0)
    said = list[str]()
    plan = Plan({"a": frozenset()}, frozenset("a"), {})
    failed = Run(plan, 2, Board(said.append), Away(Busy(), Places(None), lambda _: Demand())).all()
    assert failed == {"a": "enough"}
    assert said == ["a: waits: no core is free for a", "a: failed"]


def test_the_head_of_a_cluster_is_gone(monkeypatch):
    """Not at once: it may start again. Then no job is left to cancel."""
    engine = Ray.__new__(Ray)
    engine.head, engine.running = "127.0.0.1:9", {"a": None}
    engine.answered = time.monotonic() - LOST / 2
    assert not list(engine.poll(0)), "Ray is not asked"
    engine.answered = time.monotonic() - LOST
    with pytest.raises(
        DistillkitError, match=r"^the head of the Ray cluster, 127.0.0.1:9, no longer answers \(.*\); start"
    ):
        list(engine.poll(0))
    assert not engine.running


def test_the_reason_of_a_job_that_could_not_start(tmp_path):
    (tmp_path / "submitit").mkdir()
    log = tmp_path / "submitit/1_log.err"
    assert last_word(tmp_path) == "no reason given"
    log.write_text("srun: error: n1: task 0: Exited with exit code 1\n")
    assert last_word(tmp_path).startswith("srun: error")
    log.write_text("Error: no module\n\nsrun: error: n1: task 0: Exited with exit code 1\n")
    assert last_word(tmp_path) == "Error: no module"


def test_a_full_disk_of_a_node_is_one_line(tmp_path):
    """Of the folder for workspaces: the stage does not begin, and the job has ended."""
    full = "raise OSError(28, 'No space left on device', '/tmp/x')"
    text = f"import sys\nfrom pathlib import Path\nfrom distillkit.engines import worker\ndef run(*_): {full}\n"
    text += "worker.run = run\nsys.exit(worker.main(Path(sys.argv[1])))"
    command = [str(BIN / "python"), "-c", text, str(tmp_path)]
    assert subprocess.run(command, env=environment() | {"DISTILLKIT_NODE": "n1"}, check=False).returncode == 1
    said = (tmp_path / "said.txt").read_text()
    assert re.fullmatch(r"error: node n1 cannot run the job: No space left on device \(/tmp/x\); make room .*\n", said)
    assert json.loads((tmp_path / "ended.json").read_text()) == {"code": 1, "node": "n1"}


@pytest.mark.long
def test_a_full_disk_here_is_the_end_of_one_stage(four, run, monkeypatch):
    """The result of b cannot be checked out: c, which runs beside it, is kept, and the next run takes both."""
    real = settle

    def full(address: str, remote: str | None):
        state = real(address, remote) if address != "b" or not Path("one").exists() or not ran_file.exists() else None
        if state is None:
            raise OSError(errno.ENOSPC, "No space left on device", "two")
        return state

    ran_file = four.parent / "ran"
    monkeypatch.setattr("distillkit.engines.controller.settle", full)
    failed, _ = run()
    assert list(failed) == ["b"]
    assert re.fullmatch(r"on \S+: \[Errno 28\] No space left on device: 'two'", failed["b"])
    assert set(YAML(typ="safe").load(four / "dvc.lock")["stages"]) == {"a", "c"}
    monkeypatch.setattr("distillkit.engines.controller.settle", real)
    assert not run()[0]
    assert ran(four) == 1


def test_the_name_of_a_job_is_its_content(four):
    first = settle("a", None)
    assert (first.done, settle("a", None)) == (False, first)
    (four / "in").write_text("other\n")
    assert settle("a", None).key not in ("", first.key)
    dvc(four, "repro", "a")
    assert settle("a", None) == (True, "")


def test_what_dvc_cannot_keep_runs_here(four, run):
    """A stage without inputs, and one with an output that DVC keeps no copy of: no job, and no error."""
    stages = {
        "always": {"cmd": "echo here > always", "outs": ["always"]},
        "plain": {"cmd": "cat in > kept", "deps": ["in"], "outs": [{"kept": {"cache": False}}]},
    }
    YAML(typ="safe").dump({"stages": stages}, four / "dvc.yaml")
    assert settle("always", None) == settle("plain", None) == (False, "")
    failed, said = run()
    assert not failed
    assert not any("running on" in line for line in said)
    assert (four / "kept").read_text() == "in\n"


def unpacked(data: bytes) -> tuple[dict, tarfile.TarFile]:
    archive = tarfile.open(fileobj=BytesIO(data))  # noqa: SIM115
    return json.load(archive.extractfile("order.json")), archive


def test_what_travels(four, monkeypatch):
    """Files as they are, edits and new ones; not what Git ignores, unless the stage reads it; no settings of ours."""
    dvc(four, "remote", "add", "-d", "shared", "../store")
    dvc(four, "remote", "modify", "--local", "shared", "verify", "true")
    dvc(four, "repro", "a")
    stages = FOUR | {"b": FOUR["b"] | {"deps": ["one", "ignored"]}}
    YAML(typ="safe").dump({"stages": stages}, four / "dvc.yaml")
    (four / ".gitignore").write_text("ignored\nbuild\n/one\n")
    (four / "ignored").write_text("read by b")
    (four / "build").touch()
    (four / "new").touch()
    monkeypatch.setenv("DISTILLKIT_DEVICE", "cpu")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    told, archive = unpacked(pack("b", Places("shared"), set()))
    names = set(archive.getnames())
    assert names >= {"ignored", "new", "in", "dvc.yaml", "params.yaml", "dvc.lock", ".dvc/config"}
    assert not names & {"build", "one", ".dvc/config.local"}
    assert archive.extractfile("params.yaml").read() == b"word: new\n"
    config = archive.extractfile(".dvc/config").read().decode()
    assert f"url = {four.parent / 'store'}\n" in config
    assert "verify = True" in config
    assert told["environment"]["DISTILLKIT_DEVICE"] == "cpu"
    assert told["environment"]["MKL_NUM_THREADS"] is None, "an engine's own number of threads does not count"
    assert (four.parent / "store").exists(), "what b needs of DVC is on the remote"


def test_what_cannot_travel(four, tmp_path, monkeypatch):
    monkeypatch.setattr(order, "LARGEST", 1000)
    (four / "large").write_bytes(bytes(2000))
    with pytest.raises(
        DistillkitError, match=r"^files outside DVC have .* bytes \(large: 2,000\); expected at most 1,000"
    ):
        pack("a", Places(None), set())
    assert LARGEST > 2**20
    shutil.rmtree(four / ".git")
    (four / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    with pytest.raises(DistillkitError, match=r"is not in a Git repository; expected one, .*; run git init"):
        pack("a", Places(None), set())


def worker(folder: Path, data: bytes, change: dict, **given: str) -> tuple[int, str]:
    """Run an order with some of it changed."""
    told, archive = unpacked(data)
    folder.mkdir()
    with tarfile.open(folder / TAR, "w") as changed:
        for info in archive.getmembers():
            text = json.dumps(told | change).encode() if info.name == "order.json" else None
            content = archive.extractfile(info).read() if text is None else text
            info.size = len(content)
            changed.addfile(info, BytesIO(content))
    command = [str(BIN / "python"), "-P", "-m", "distillkit.engines.worker", str(folder)]
    done = subprocess.run(command, env=environment() | given, check=False)
    return done.returncode, (folder / "said.txt").read_text()


def test_what_a_node_lacks_is_one_line(four, tmp_path):
    data = pack("a", Places(None), set())
    nowhere = {"cache": "/nowhere", "token": "x"}
    wrong = [
        ({"versions": versions() | {"torch": "0.1"}}, r"has torch \S+ \(here 0.1\); expected the same everywhere; .*"),
        (nowhere, "cannot access /nowhere; name a DVC remote that it can access: --remote NAME"),
        (
            {"work": "/proc/no", "work_given": True},
            r"cannot use /proc/no \(.*\); expected a folder that all nodes can access",
        ),
        (nowhere | {"remote": "shared"}, r".*DVC remote shared fails: .*; check it: dvc push -r shared; .*"),
    ]
    for number, (change, line) in enumerate(wrong):
        code, said = worker(tmp_path / str(number), data, change, DISTILLKIT_NODE="n1")
        assert code == 1
        assert re.fullmatch(rf"error: (node n1 )?{line}\n", said), said
    assert differences({"a": "1", "b": "2"}, {"a": "1"}) == "b None (here 2)"


def test_unfinished_work_is_shared(four, tmp_path):
    """A stage's .distillkit is that of the pipeline, or the folder that --work names."""
    stages = {"a": {"cmd": "echo step >> .distillkit/work && cat in > one", "deps": ["in"], "outs": ["one"]}}
    YAML(typ="safe").dump({"stages": stages}, four / "dvc.yaml")
    for places, folder in ((Places(None), four / ".distillkit"), (Places(None, work=tmp_path / "w"), tmp_path / "w")):
        code, said = worker(tmp_path / f"job-{folder.name}", pack("a", places, set()), {})
        assert code == 0, said
        assert (folder / "work").read_text() == "step\n"
        shutil.rmtree(four / ".dvc/cache/runs")


def test_a_cache_is_known_by_its_token(tmp_path):
    assert token(tmp_path / "cache") == token(tmp_path / "cache") != token(tmp_path / "other")


def test_options_that_do_not_fit(four, monkeypatch):
    def said(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["repro", *arguments])
        assert result.exit_code != 0
        return str(result.exception) if isinstance(result.exception, DistillkitError) else result.output

    assert "--gpus is not for --on local; expected --on ray or --on slurm with it" in said("--gpus", "1")
    assert "--address is not for --on slurm; expected --on ray with it" in said("--on", "slurm", "--address", "x:1")
    assert "--minutes is not for --on ray; expected --on slurm with it" in said("--on", "ray", "--minutes", "1")
    assert "--remote is 'nope'; expected a DVC remote, but dvc remote list shows none; correct it" in said(
        "--on", "slurm", "--remote", "nope"
    )
    (four.parent / "bin").mkdir()
    (four.parent / "bin/git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(four.parent / "bin"))
    assert "sbatch is not on the PATH; expected Slurm's commands; run this on a login" in said("--on", "slurm")
    for name, text in (("sbatch", ""), ("squeue", ""), ("sinfo", "echo no luck >&2; echo sinfo: no host >&2; exit 1")):
        (four.parent / "bin" / name).write_text(f"#!{shutil.which('sh', path=os.defpath)}\n{text}\n")
        (four.parent / "bin" / name).chmod(0o755)
    found = said("--on", "slurm")
    assert found.startswith(
        "no Slurm cluster answers here (sinfo: no host); expected its controller to answer; run this on a "
    )
    assert found.endswith(" or set DISTILLKIT_SLURM=local to try it on this machine")
    for name, extra in (("ray", "ray"), ("submitit", "slurm")):
        monkeypatch.setitem(sys.modules, name, None)
        assert f"{name} is not installed; install it: pip install 'distillkit[{extra}]'" in said("--on", extra)


def mistaken(folder: Path, change) -> Path:
    """This repository's pipeline, of which nothing has run, with a mistake in params.yaml."""
    data = copy.deepcopy(PARAMS)
    change(data)
    write_params(new_project(folder), data)
    return folder


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda data: data.pop("score"), r"params.yaml has no section 'score'; add it"),
        (
            lambda data: data.update(scores=data.pop("score")),
            r"params.yaml has no section 'score'; found 'scores'; re.*",
        ),
        (
            lambda data: data["package"].pop("storage"),
            r"params.yaml has no package.storage, which dvc.yaml asks for; add it",
        ),
        (lambda data: data.pop("audit"), r"params.yaml has no section 'audit'; add it"),
        (lambda data: data.update(expert_shards=[]), r"params.yaml: expert_shards is \[\]; expected distinct .*"),
        (
            lambda data: data["recipes"]["random-ipc2"].update(method="randm"),
            r"params.yaml: recipes\.random-ipc2\.method is 'randm' .*did you mean 'random'.*",
        ),
        (
            lambda data: data["recipes"]["selmatch-ipc2"]["matching"].update(expert_epochs=9),
            r"params.yaml: recipes\.selmatch-ipc2: .*",
        ),
    ],
)
def test_a_mistake_in_params_is_told_before_anything_runs(tmp_path, monkeypatch, change, line):
    """On all engines, which are not even started; also of a pipeline in a folder, and of one stage."""
    folder = mistaken(tmp_path / "wrong", change)
    monkeypatch.setattr("distillkit.engines.controller.repro", lambda *_: pytest.fail("it runs"))
    for place, arguments in (
        (folder, ["-j", "1"]),
        (folder, ["-j", "2", "fetch"]),
        (folder, ["--on", "ray", "dvc.yaml:fetch"]),
        (tmp_path, ["--on", "slurm", "wrong/dvc.yaml"]),
    ):
        monkeypatch.chdir(place)
        ended = CliRunner().invoke(cli, ["repro", *arguments])
        assert isinstance(ended.exception, ParamsError), ended.output
        shown = line if place == folder else f"wrong/{line}"
        assert re.fullmatch(shown, str(ended.exception)), ended.exception


def test_right_params_are_let_through(tmp_path, monkeypatch):
    """Own networks are found beside dvc.yaml; what no stage asks for may be missing."""
    check_params([str(mistaken(tmp_path / "unaudited", lambda data: data["audit"].pop("shadows")) / "dvc.yaml")])

    def own(data):
        data["experts"]["recipe"]["network"] = {"factory": "beside_dvc_yaml:mine"}
        del data["audit"]

    folder = mistaken(tmp_path / "right", own)
    (folder / "beside_dvc_yaml.py").write_text("from torch.nn import Flatten as mine\n")
    declared = YAML(typ="safe").load(folder / "dvc.yaml")["stages"]
    del declared["audit"], declared["results"]
    YAML(typ="safe").dump({"stages": declared}, folder / "dvc.yaml")
    monkeypatch.chdir(tmp_path)
    check_params(["right/dvc.yaml:experts@0"])
    assert Path.cwd() == tmp_path
    (folder / "dvc.yaml").write_text("stages: [artifacts/hub/x\n")
    check_params(["right/dvc.yaml"])  # DVC tells


def test_what_a_stage_asks_for(tmp_path, monkeypatch):
    folder = new_project(tmp_path / "asking")
    monkeypatch.chdir(folder)
    demand = demands(Options(), largest=4, gpu=True)
    assert demand("experts@0")[:2] == (1, 1), "per_shard: 1"
    assert demand("evaluate@full")[:2] == (2, 1), "runs: 2"
    assert demand("score")[:2] == (1, 1)
    assert demand("inputs") == Demand(1, 1, 0, 0)
    assert demand("distill@selmatch-ipc2").memory > 300 * 2**20
    assert demand("distill@random-ipc2") == Demand(1, 1, 0, 0)
    assert demand("evaluate@full").memory >= demand("evaluate@random-ipc2").memory
    assert demands(Options(), largest=1)("evaluate@full")[:2] == (1, 0)
    assert demands(Options(cores=3, gpus=2, memory=5, minutes=7), largest=1)("score") == (3, 2, 5 * GIB, 7)
    assert demands(Options(), largest=4)("elsewhere/dvc.yaml:experts@0") == Demand(1, 0, 0, 0)


def test_the_table_and_the_events(monkeypatch, capsys):
    plan = Plan({name: frozenset() for name in "abcd"}, frozenset("abc"), {})
    board = Table()
    board.console.width = 60
    with board.shown(plan):
        board.now("a", "running", "node-1")
        board.now("b", "done", "node-2")
        board.said("a", "[red]a line[/red]")
        with board.console.capture() as drawn:
            board.console.print(board.table())
    rows = [line.split() for line in drawn.get().splitlines()]
    assert rows[1:4] == [["a", "running", "node-1", "0"], ["c", "waiting"], ["b", "done", "node-2", "0"]]
    assert rows[4] == ["1", "running,", "1", "waiting,", "1", "done"]
    assert "a: [red]a line[/red]\n" in capsys.readouterr().out

    lines = list[str]()
    events = Events(lines.append)
    with events.shown(plan):
        events.now("a", "running", "n")
        events.said("a", "a \x1b line")
        events.now("a", "failed", "n")
    assert [json.loads(line) for line in lines] == [
        {"stage": "a", "state": "running", "node": "n", "seconds": 0},
        {"stage": "a", "line": "a \x1b line"},
        {"stage": "a", "state": "failed", "node": "n", "seconds": 0.0},
    ]
