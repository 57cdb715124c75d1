"""``distillkit repro -j N`` with the real dvc and stages that take no time: what runs beside what, and how it ends."""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import termios
import time
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from interpreter import BIN, SCRIPTS
from marks import long
from ruamel.yaml import YAML
from test_interrupted import background, until
from test_pipeline import dvc, environment

from distillkit.base.errors import ParamsError
from distillkit.cli import cli
from distillkit.engines.controller import Run, repro
from distillkit.engines.display import Board
from distillkit.engines.engine import Event, Job
from distillkit.engines.local import ONE_STAGE, PYTHON, Local, interrupt, visible_gpus
from distillkit.engines.plan import Plan, forget_the_dead, put_in_order
from distillkit.process import interruption
from distillkit.process.interruption import HEARD, Interrupted, hear
from distillkit.process.lockfile import is_broken, put_back

UNTIL = "timeout 60 sh -c 'until test -e {0}; do sleep 0.05; done'"


def project(folder: Path, stages: dict[str, dict]) -> Path:
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").touch()
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    YAML(typ="safe").dump({"stages": stages}, folder / "dvc.yaml")
    return folder


def copy(name: str, *needed: str) -> dict:
    """A stage that gathers files into one."""
    return {"cmd": f"cat /dev/null {' '.join(needed)} > {name}", "deps": list(needed), "outs": [name]}


COMMAND = ["-m", "distillkit", "repro"]


def start(
    folder: Path, *arguments: str, commands: Path = SCRIPTS, sigint=signal.default_int_handler, **options
) -> AbstractContextManager:
    """`distillkit repro` in the background; what it says is piped."""
    return background(
        [str(commands / "python"), *COMMAND, *arguments],
        **{
            "cwd": folder,
            "env": environment(commands),
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
        }
        | {"start_new_session": True, "preexec_fn": lambda: signal.signal(signal.SIGINT, sigint)}
        | options,
    )


def ended(running: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = running.communicate(timeout=60)
    return running.returncode, said


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit code of `distillkit repro`, and what it says."""
    with start(folder, *arguments, commands=BIN) as running:
        return ended(running)


def names(lock: Path) -> list[str]:
    return list(YAML(typ="safe").load(lock)["stages"])


def test_two_stages_meet(tmp_path):
    """Each waits for the other, so they end only side by side; dvc.lock is sorted as dvc sorts, not as they end."""
    stages = {
        "one": {"cmd": f"touch 1; {UNTIL.format('2')} && sleep 1 && touch slow", "outs": ["slow"]},
        "two": {"cmd": f"touch 2; {UNTIL.format('1')} && touch fast", "outs": ["fast"]},
        "zero": copy("all", "slow", "fast"),
    }
    folder = project(tmp_path / "meet", stages)
    code, said = run(folder, "-j", "2")
    assert code == 0, said
    assert "one: Running stage 'one':\n" in said
    assert said.endswith("Data and pipelines are up to date.\n")
    assert names(folder / "dvc.lock") == re.findall(r"^Stage '(\w+)' didn't", said, re.M) == ["one", "two", "zero"]
    code, said = run(folder)
    assert code == 0
    assert "Running" not in said


@pytest.mark.long
def test_only_what_is_asked_for_in_a_folder_of_its_own(tmp_path):
    """As `distillkit init distill` makes it; nothing runs side by side with -j 1, and dvc speaks for itself."""
    folder = (
        project(tmp_path / "repository", {"a": copy("one"), "b": copy("two", "one"), "c": copy("three")}) / "distill"
    )
    folder.mkdir()
    (folder.parent / "dvc.yaml").rename(folder / "dvc.yaml")
    code, said = run(folder.parent, "-j", "2", "distill/dvc.yaml:b")
    assert code == 0, said
    assert names(folder / "dvc.lock") == ["a", "b"]
    code, said = run(folder.parent, "-j", "1", "distill/dvc.yaml")
    assert code == 0
    assert "Running stage 'distill/dvc.yaml:c':\n" in said
    assert names(folder / "dvc.lock") == ["a", "b", "c"]


def test_after_a_failure_nothing_is_begun(tmp_path):
    stages = {
        "bad": {"cmd": f"echo no luck >&2; {UNTIL.format('started')}; exit 3", "outs": ["bad"]},
        "good": {"cmd": "touch started; sleep 1; touch good", "outs": ["good"]},
        "idle": copy("idle"),
        "last": copy("all", "bad", "good", "idle"),
    }
    folder = project(tmp_path / "failing", stages)
    code, said = run(folder)
    assert code == 1
    assert "bad: no luck\n" in said
    assert re.search(r"^bad: ERROR: failed to reproduce 'bad': .*exited with 3$", said, re.M), said
    assert said.splitlines()[-1].startswith(
        "error: bad failed, see above; the stages that were running have finished; "
    )
    assert names(folder / "dvc.lock") == ["good"]
    assert not {"idle", "all"} & {path.name for path in folder.iterdir()}


def test_what_dvc_cannot_read_is_one_line(tmp_path):
    folder = project(tmp_path / "wrong", {"a": copy("one")})
    for target, found in {"b": "Stage 'b' not found", "nowhere/dvc.yaml": "nowhere/dvc.yaml' does not exist"}.items():
        code, said = run(folder, target)
        assert code == 1
        assert re.fullmatch(rf"error: .*{found}.*\n", said), said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "shards: [0]",
            "shards: []",
            r"params.yaml: expert_shards is \[\]; expected distinct .*; write expert_shards: \[0\]",
        ),
        ("shards: [0]", "shards: 3", r"params.yaml: expert_shards is 3; expected a list"),
        ("expert", "\texpert", r"params.yaml line 1 is not valid YAML: found character .* cannot start .*; correct it"),
        ("recipes", "<<<<<<< ours\nrecipes", "params.yaml has a merge conflict at line 2; keep what you need of both"),
        ("recipes", "expert_shards", r"params.yaml line 2 is not valid YAML: found duplicate key .*; correct it"),
        ("{full: {method: full}}", "{}", "params.yaml: recipes is empty; expected at least one entry"),
    ],
)
@pytest.mark.parametrize("target", [(), ("fetch",), ("dvc.yaml:fetch",)])
def test_what_dvc_would_say_nothing_of_in_params_is_one_line(tmp_path, monkeypatch, old, new, message, target):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {package: {cmd: x, outs: [artifacts/hub/x]}}\n")
    (tmp_path / "params.yaml").write_text("expert_shards: [0]\nrecipes: {full: {method: full}}\n".replace(old, new))
    ended = CliRunner().invoke(cli, ["repro", *target])
    assert isinstance(ended.exception, ParamsError)
    assert re.match(message, str(ended.exception)), ended.exception


STAGE = """
import sys, time, click
from distillkit.process.interruption import asked
from distillkit.pipeline.stage import run_stage

@click.command()
@click.argument("name")
def stage(name: str) -> None:
    open(f"{name}.begun", "w").close()
    for _ in range(600):
        time.sleep(0.1)
        if asked():
            open(f"{name}.kept", "w").close()
            return

run_stage(stage, checked=False)
"""


@pytest.mark.parametrize(
    ("number", "sigint"),
    [
        (signal.SIGINT, signal.default_int_handler),
        long(signal.SIGTERM, signal.SIG_IGN),  # as a script starts what it puts into the background
        long(signal.SIGKILL, signal.default_int_handler),
    ],
)
def test_interrupted_all_end_in_order(tmp_path, number, sigint):
    """Stages keep what they have; also when nobody is left to tell them. DVC takes the same up again."""
    stages = {name: {"cmd": f"python stage.py {name}", "outs": [name]} for name in ("one", "two")}
    folder = project(tmp_path / "long", stages)
    (folder / "stage.py").write_text(STAGE)
    with start(folder, sigint=sigint) as running:
        until(lambda: all((folder / f"{name}.begun").exists() for name in stages), "both have begun")
        below = psutil.Process(running.pid).children(recursive=True)
        assert len(below) >= 4
        os.kill(running.pid, number)
        code, said = ended(running)
        assert code == (-number if number == signal.SIGKILL else 128 + number), said
    until(lambda: not any(process.is_running() for process in below), "all have ended")
    assert all((folder / f"{name}.kept").exists() for name in stages)
    assert "Traceback" not in said
    if number != signal.SIGKILL:
        return
    (folder / "stage.py").write_text("import sys\nopen(sys.argv[1], 'w').close()\n")
    code, said = run(folder)
    assert code == 0, said
    assert names(folder / "dvc.lock") == ["one", "two"]


def test_nobody_reads_what_is_said(tmp_path):
    """As with `| head -1`: one line, and nothing runs on."""
    talk = "echo begun; until ! echo more; do sleep 0.02; done"
    folder = project(tmp_path / "talking", {"a": {"cmd": talk, "outs": ["one"]}})
    with start(folder, stderr=subprocess.PIPE) as running:
        assert running.stdout.readline() == "a: Running stage 'a':\n"
        below = psutil.Process(running.pid).children(recursive=True)
        running.stdout.close()
        said = running.stderr.read()
        assert running.wait(60) == 1
    assert re.fullmatch(r"error: the output of the stages cannot be written \(Broken pipe\); .*\n", said), said
    assert len(below) >= 1
    assert psutil.wait_procs(below, timeout=20)[1] == []


@pytest.mark.long
def test_what_would_wait_for_ever(tmp_path):
    """A stage that leaves a process behind, which holds its pipe, and one that asks at our terminal."""
    stages = {
        "leaves": {"cmd": "echo done; (sleep 300 & echo $! > pid); touch one", "outs": ["one"]},
        "asks": {"cmd": "head -c 1 /dev/tty; touch two", "outs": ["two"]},
    }
    folder = project(tmp_path / "waiting", stages)
    ours, theirs = pty.openpty()
    try:
        with start(folder, stdin=theirs, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) as running:
            code, said = ended(running)
        assert code == 0, said
        assert "leaves: done\n" in said
        assert re.search("^asks: .*/dev/tty", said, re.M)
        assert psutil.pid_exists(int((folder / "pid").read_text()))
    finally:
        os.close(ours)
        os.close(theirs)
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("killed", ["kill -9 $$", pytest.param("sh -c 'kill -9 $$'; exit $?", marks=pytest.mark.long)])
def test_a_killed_stage_is_told(tmp_path, killed):
    """Whether DVC sees the signal, or its shell reports 137."""
    code, said = run(project(tmp_path / "killed", {"a": {"cmd": killed, "outs": ["one"]}}))
    assert code == 1
    assert "a (killed, perhaps because memory ran out) failed" in said


def test_ctrl_c_at_once_leaves_no_traceback(tmp_path, monkeypatch):
    """While Python starts, nothing is said; later on, DVC may have its own line."""
    monkeypatch.chdir(tmp_path)
    for seconds in (0, 0.02, 0.05):
        engine, said = Local(), list[Event]()
        monkeypatch.setattr(engine.events, "put", said.append)
        engine.submit(Job("a"))
        time.sleep(seconds)
        interrupt(engine.running.values())
        code = engine.running["a"].wait()
        assert (code, [event.text for event in said if event.kind == "said"]) in [
            (128 + signal.SIGINT, []),
            (252, []),  # DVC's code; its line may not be read yet
            (252, ["ERROR: interrupted by the user"]),
        ]


def test_who_is_begun_when_the_signal_comes_is_interrupted_too(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(HEARD, "number", 0)
    monkeypatch.setattr(HEARD, "react", interruption.interrupt)
    run = Run(Plan({"a": frozenset()}, frozenset("a"), {}), 1, Board(print))
    monkeypatch.setattr(run.here, "submit", lambda job: hear(signal.SIGINT, None))
    monkeypatch.setattr(run.here, "cancel", lambda: asked.extend(run.running))
    with pytest.raises(Interrupted):
        run.all()
    assert asked == ["a"]


def test_the_folder_of_a_pipeline_is_a_target(tmp_path, monkeypatch):
    asked: list[object] = []
    monkeypatch.chdir(project(tmp_path / "repository", {"a": copy("artifacts/hub/one")}).parent)
    monkeypatch.setattr("distillkit.engines.start.check_params", asked.append)
    monkeypatch.setattr("distillkit.engines.controller.repro", lambda targets, *_: asked.append(targets))
    assert CliRunner().invoke(cli, ["repro", "repository", "other"]).exit_code == 0
    assert asked == [("repository/dvc.yaml", "other")] * 2


def test_another_run_at_work_is_told():
    run = Run(Plan({"a": frozenset()}, frozenset("a"), {}), 1, Board(print))
    run.running["a"] = run.here
    run.hear(Event("a", "said", "ERROR: failed to reproduce 'a': 'one' is busy, it is being blocked by:"))
    run.hear(Event("a", "failed"))
    assert run.failed == {"a": "another dvc or distillkit is at work here; wait until it has ended"}


def test_after_an_interruption_the_lock_is_in_order(monkeypatch):
    def stopped(_: Run) -> dict[str, str]:
        raise Interrupted

    asked: list[object] = []
    plan = Plan({}, frozenset(), {Path("dvc.lock"): ["a"]})
    monkeypatch.setattr("distillkit.engines.controller.forget_the_dead", lambda _: None)
    monkeypatch.setattr("distillkit.engines.controller.plan_for", lambda _: plan)
    monkeypatch.setattr(Run, "all", stopped)
    monkeypatch.setattr("distillkit.engines.controller.put_in_order", asked.append)
    with pytest.raises(Interrupted):
        repro([], 2, Board(print))
    assert asked == [{Path("dvc.lock"): ["a"]}]


def test_the_lock_is_whole_whenever_somebody_looks(tmp_path, monkeypatch):
    """It is replaced, never written to, and left alone when the order is right."""
    folder = project(tmp_path / "locked", {name: copy(name) for name in ("c", "a", "b")})
    dvc(folder, "repro")
    monkeypatch.chdir(folder)
    lock = Path("dvc.lock")
    as_dvc_wrote_it, order = lock.read_bytes(), names(lock)
    with lock.open("rb") as reader:
        put_in_order({lock: order[::-1]})
        assert reader.read() == as_dvc_wrote_it
    assert names(lock) == order[::-1]
    put_in_order({lock: order})
    assert lock.read_bytes() == as_dvc_wrote_it
    before = lock.stat()
    put_in_order({lock: order, Path("elsewhere/dvc.lock"): ["a"]})
    assert (lock.stat().st_ino, lock.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_entries_of_the_dead_go_and_others_stay(tmp_path, monkeypatch):
    """What DVC asks a person to clear away: its rwlock names a pid that has another owner now, or is half a file."""
    folder = project(tmp_path / "used", {"a": copy("one")})
    monkeypatch.chdir(folder)
    rwlock, said = folder / ".dvc/tmp/rwlock", []
    forget_the_dead(said.append)
    assert not rwlock.exists()
    with background(["sleep", "100"]) as other:
        dead = {"pid": other.pid, "cmd": "/usr/bin/dvc repro"}
        live = {"pid": os.getpid(), "cmd": " ".join(psutil.Process().cmdline())}
        gone = {"pid": 2**22 + 1, "cmd": "/usr/bin/dvc repro"}  # above any pid: DVC tells of it and drops it
        used = {"write": {str(folder / "one"): dead, "b": live, "c": gone}, "read": {"d": [dead, live], "e": [dead]}}
        rwlock.write_text(json.dumps(used))
        forget_the_dead(said.append)
    assert json.loads(rwlock.read_text()) == {"write": {"b": live, "c": gone}, "read": {"d": [live]}}
    assert said == []
    for broken in ("", "[]"):
        rwlock.write_text(broken)
        forget_the_dead(said.append)
        assert not rwlock.exists()
    assert said == ["removed .dvc/tmp/rwlock, which a killed process left unreadable"] * 2


def test_after_a_kill_nobody_has_to_clear_up(tmp_path):
    folder = project(tmp_path / "killed", {"a": copy("one")})
    (folder / ".dvc/tmp").mkdir()
    (folder / ".dvc/tmp/rwlock").touch()
    code, said = run(folder, "-j", "1")
    assert code == 0, said
    assert (folder / "one").exists()


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory) -> Path:
    """Both have run, but dvc.lock was committed after the first."""
    folder = project(tmp_path_factory.mktemp("two") / "stages", {name: copy(name, "from") for name in ("a", "b")})
    (folder / "from").touch()
    dvc(folder, "repro", "a")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *author, "add", "-A"], cwd=folder, check=True)
    subprocess.run(["git", *author, "commit", "-qm", "a"], cwd=folder, check=True)
    dvc(folder, "repro")
    return folder


@pytest.mark.parametrize(
    ("kept", "committed"),
    [
        ("", True),
        long("", False),
        *(long(kept, True) for kept in ("schema: '2.0'\nstages:\n  a:", "      hash: md5\n")),
        ("      md5: ", True),
    ],
)
def test_half_a_lock_is_put_back_and_nothing_runs_again(two_stages, tmp_path, kept, committed):
    folder = Path(shutil.copytree(two_stages, tmp_path / "killed", symlinks=True))
    if not committed:
        shutil.rmtree(folder / ".git")
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    whole = (folder / "dvc.lock").read_bytes()
    cut = whole.index(kept.encode()) + len(kept) + kept.endswith(" ") * 9  # the last one within a hash
    (folder / "dvc.lock").write_bytes(whole[:cut] if kept else b"")
    code, said = run(folder, "-j", "1")
    assert code == 0, said
    now = "put back as it was committed" if committed else "removed"
    told = f"DVC cannot read dvc.lock, as after a killed dvc: {now}; DVC takes later results from its run-cache\n"
    assert (told in said) == (not kept.endswith("md5\n")), "what ends with a line, DVC itself makes whole"
    assert "Running stage" not in said
    assert (folder / "dvc.lock").read_bytes() == whole


def test_conflicts_in_a_lock_are_left_to_people(tmp_path):
    path = tmp_path / "dvc.lock"
    path.write_text("schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\n>>>>>>> other\n")
    assert not is_broken(path)
    path.write_text("")
    assert is_broken(path)
    put_back(tmp_path, lambda _: None)
    assert not path.exists()


def test_who_is_stopped_is_interrupted():
    """Also where the tests run in the background of a shell, which lets processes begin with SIGINT ignored."""

    def listening():
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with background(["sleep", "100"], start_new_session=True, preexec_fn=listening) as process:
        process.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, "it is stopped")
        interrupt([process])
        assert process.wait(10) == -signal.SIGINT


def test_a_stage_whose_parent_is_gone_is_not_begun(tmp_path):
    done = subprocess.run([*PYTHON, "-c", ONE_STAGE, "1", "a"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (128 + signal.SIGTERM, b"")


VISIBLE = "CUDA_VISIBLE_DEVICES"


@pytest.mark.long
def test_each_stage_has_a_gpu_of_its_own_where_there_are_several(tmp_path, monkeypatch):
    stages = {
        name: {
            "cmd": f"touch {name}.b; {UNTIL.format(other + '.b')}; echo $CUDA_VISIBLE_DEVICES > {name}",
            "outs": [name],
        }
        for name, other in (("one", "two"), ("two", "one"))
    }
    folder = project(tmp_path / "gpus", stages)
    with start(folder, commands=BIN, env=environment() | {"CUDA_VISIBLE_DEVICES": "3,5"}) as running:
        code, said = ended(running)
    assert code == 0, said
    assert {(folder / name).read_text() for name in stages} == {"3\n", "5\n"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: a'\necho '  MIG'\necho 'GPU 1: b'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("PATH", "/nowhere")
    assert visible_gpus() == []
