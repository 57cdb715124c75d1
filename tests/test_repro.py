"""``distillkit repro -j N`` with the real dvc and stages that take no time: what runs beside what, and how it ends."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML
from test_interrupted import until
from test_pipeline import dvc, environment

UNTIL = "timeout 60 sh -c 'until test -e {0}; do sleep 0.05; done'"


def project(folder: Path, stages: dict[str, dict]) -> Path:
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    dvc(folder, "init", "-q")
    YAML(typ="safe").dump({"stages": stages}, folder / "dvc.yaml")
    return folder


def copy(name: str, *needed: str) -> dict:
    """A stage that gathers files into one."""
    return {"cmd": f"cat /dev/null {' '.join(needed)} > {name}", "deps": list(needed), "outs": [name]}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "distillkit", "repro", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def ended(running: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = running.communicate(timeout=120)
    return running.returncode, said


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
    code, said = ended(start(folder, "-j", "2"))
    assert code == 0, said
    assert "one: Running stage 'one':\n" in said
    assert said.endswith("Data and pipelines are up to date.\n")
    assert names(folder / "dvc.lock") == re.findall(r"^Stage '(\w+)' didn't", said, re.M) == ["one", "two", "zero"]
    code, said = ended(start(folder))
    assert code == 0
    assert "Running" not in said


def test_only_what_is_asked_for_in_a_folder_of_its_own(tmp_path):
    """As `distillkit init distill` makes it; nothing runs side by side with -j 1, and dvc speaks for itself."""
    folder = (
        project(tmp_path / "repository", {"a": copy("one"), "b": copy("two", "one"), "c": copy("three")}) / "distill"
    )
    folder.mkdir()
    (folder.parent / "dvc.yaml").rename(folder / "dvc.yaml")
    code, said = ended(start(folder.parent, "-j", "2", "distill/dvc.yaml:b"))
    assert code == 0, said
    assert names(folder / "dvc.lock") == ["a", "b"]
    code, said = ended(start(folder.parent, "-j", "1", "distill/dvc.yaml"))
    assert code == 0
    assert "Running stage 'distill/dvc.yaml:c':\n" in said
    assert names(folder / "dvc.lock") == ["a", "b", "c"]


def test_after_a_failure_nothing_is_begun(tmp_path):
    stages = {
        "bad": {"cmd": f"echo no luck >&2; {UNTIL.format('started')}; exit 3", "outs": ["bad"]},
        "good": {"cmd": "touch started; sleep 2; touch good", "outs": ["good"]},
        "idle": copy("idle"),
        "last": copy("all", "bad", "good", "idle"),
    }
    folder = project(tmp_path / "failing", stages)
    code, said = ended(start(folder))
    assert code == 1
    assert "bad: no luck\n" in said
    assert re.search(r"^bad: ERROR: failed to reproduce 'bad': .*exited with 3$", said, re.M), said
    assert said.splitlines()[-1].startswith("error: bad failed, see above; what ran beside it is done and kept; ")
    assert names(folder / "dvc.lock") == ["good"]
    assert not {"idle", "all"} & {path.name for path in folder.iterdir()}


def test_what_dvc_cannot_read_is_one_line(tmp_path):
    folder = project(tmp_path / "wrong", {"a": copy("one")})
    for target, found in {"b": "Stage 'b' not found", "nowhere/dvc.yaml": "nowhere/dvc.yaml' does not exist"}.items():
        code, said = ended(start(folder, target))
        assert code == 1
        assert re.fullmatch(rf"error: .*{found}.*\n", said), said


STAGE = """
import sys, time, click
from distillkit.interruption import Interruption
from distillkit.stage import run_stage

@click.command()
@click.argument("name")
@click.pass_obj
def stage(interruption: Interruption, name: str) -> None:
    with interruption.held_back() as stopping:
        open(f"{name}.begun", "w").close()
        for _ in range(600):
            time.sleep(0.1)
            if stopping():
                open(f"{name}.kept", "w").close()
                return

run_stage(stage)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_all_end_in_order(tmp_path, number):
    """Stages keep what they have; also when nobody is left to tell them. DVC takes the same up again."""
    stages = {name: {"cmd": f"python stage.py {name}", "outs": [name]} for name in ("one", "two")}
    folder = project(tmp_path / "long", stages)
    (folder / "stage.py").write_text(STAGE)
    running = start(folder)
    until(lambda: all((folder / f"{name}.begun").exists() for name in stages), "both have begun")
    below = psutil.Process(running.pid).children(recursive=True)
    assert len(below) >= 4
    os.kill(running.pid, number)
    code, said = ended(running)
    assert code == (-number if number == signal.SIGKILL else 128 + number), said
    until(lambda: not any(process.is_running() for process in below), "all have ended")
    assert all((folder / f"{name}.kept").exists() for name in stages)
    assert "Traceback" not in said
    (folder / "stage.py").write_text("import sys\nopen(sys.argv[1], 'w').close()\n")
    code, said = ended(start(folder))
    assert code == 0, said
    assert names(folder / "dvc.lock") == ["one", "two"]
