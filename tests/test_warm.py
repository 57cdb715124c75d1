"""Stages that ``distillkit repro`` starts as forks of a process with torch."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from select import select

import pytest
from test_interrupted import background, until

from distillkit.process import warm
from distillkit.process.startup import SERVER

SCRIPT = """
from distillkit.process.startup import begin
begin()
import os, sys, time
print(sys.argv[1:], os.getcwd(), os.environ.get("DVC_MINE"), __name__, sys.path[0], "torch" in sys.modules)
if "wait" in sys.argv:
    print(os.getpid(), flush=True)
    time.sleep(60)
print(sys.stdin.read(), file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""
LEAVES = f"""
import os, socket
class Leaving(socket.socket):
    def recv(self, size):
        super().recv(size, socket.MSG_PEEK)
        os._exit(9)
socket.socket = Leaving
{SCRIPT}"""
START = """
import sys
from distillkit.process import warm
server = warm.start()
print(server.address, server.process.pid, flush=True)
sys.stdin.read()
"""


@contextmanager
def a_server():
    """The environment of a process that can use a server, the server's parent and the server's process ID."""
    environment = {name: value for name, value in os.environ.items() if name != SERVER}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", START], env=environment, **pipes) as parent:
        address, process = parent.stdout.readline().split()
        yield environment | {SERVER: address}, parent, int(process)


@pytest.fixture(scope="module")
def server():
    with a_server() as started:
        yield started


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("stage.py").write_text(SCRIPT)
    return "stage.py"


def ended(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(command, env=environment, input="from here", capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_a_stage_gives_what_it_gives_alone_and_has_torch(server, script):
    command = [sys.executable, script, "3"]
    theirs, ours = (ended(command, {**server[0], "DVC_MINE": "ü", SERVER: at}) for at in ("", server[0][SERVER]))
    assert theirs[0] == 3 and "['3']" in theirs[1] and "ü __main__" in theirs[1] and "from here" in theirs[2]
    assert ours == (3, theirs[1].replace("False", "True"), theirs[2]) != theirs


@pytest.mark.parametrize(
    "command, variables",
    [
        ([sys.executable], {"OMP_NUM_THREADS": "7"}),
        ([sys.executable, "-B"], {}),
        (["nice", sys.executable], {}),
        (["sh", "-c", f'ulimit -c 0; exec {sys.executable} "$@"', "sh"], {}),
        ([sys.executable], {SERVER: "/nowhere"}),
    ],
)
def test_a_process_that_inherits_something_else_runs_alone(server, script, command, variables):
    code, said, _ = ended([*command, script, "4"], server[0] | variables)
    assert code == 4 and said.rstrip().endswith("False")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals_reach_the_fork(server, script, number):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    with background([sys.executable, script, "0", "wait"], env=server[0], **options) as running:
        assert running.stdout.readline().endswith("True\n")
        fork = os.pidfd_open(int(running.stdout.readline()))
        running.send_signal(number)
        assert running.wait(30) == (-number if number == signal.SIGKILL else 128 + number)
        assert select([fork], [], [], 30)[0], "the fork has ended"
    os.close(fork)


def test_a_client_that_ends_before_it_reads_the_answer(server, script):
    """As one that is killed then: the system tells the server that the connection was reset."""
    Path("leaves.py").write_text(LEAVES)
    with background([sys.executable, "leaves.py", "0", "wait"], env=server[0], stdout=subprocess.PIPE) as running:
        running.communicate(timeout=30)  # until the fork has ended, too
    assert running.returncode == 9
    assert "True" in ended([sys.executable, script, "3"], server[0])[1], "the server goes on"


def test_the_server_ends_with_its_parent(server):
    environment, parent, _ = server
    folder = Path(environment[SERVER]).parent
    assert folder.is_dir()
    parent.communicate()
    deadline = time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_a_stage_says_that_its_server_was_killed(script):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with a_server() as (environment, _, process):
        with background([sys.executable, script, "0", "wait"], env=environment, **options) as running:
            running.stdout.readline()
            fork = int(running.stdout.readline())
            os.kill(process, signal.SIGKILL)
            assert running.wait(30) == warm.LOST and "run the same command again" in running.stderr.readline()
            os.kill(fork, signal.SIGKILL)
        assert not Path(environment[SERVER]).parent.exists()


@pytest.mark.parametrize(
    "variables, torch",
    [
        ({}, "True"),
        pytest.param(
            {"SHELL": shutil.which("bash"), "PS1": "(venv) $ "}, "True", marks=pytest.mark.long
        ),  # without PS1
        pytest.param({SERVER: ""}, "False", marks=pytest.mark.long),
        pytest.param({"TMPDIR": "long"}, "False", marks=pytest.mark.long),
    ],
)
def test_repro_uses_it(script, tmp_path, variables, torch):
    """A stage of a project, started by DVC, in a fork; not if the variable is empty or a socket's name is too long."""
    environment = {name: value for name, value in os.environ.items() if name != SERVER} | variables
    if "TMPDIR" in variables:
        environment["TMPDIR"] = str(tmp_path / ("long" * 30))
        Path(environment["TMPDIR"]).mkdir()
    Path("dvc.yaml").write_text(f"stages: {{one: {{cmd: '{sys.executable} {script} 0', always_changed: true}}}}")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    code, said, errors = ended([sys.executable, "-m", "distillkit", "repro"], environment)
    assert "one: done after " in said and " s, 1 of 1\n" in said
    first = next(line for line in said.splitlines() if line.startswith("one: ['0'] "))
    assert code == 0 and first.endswith(torch), (said, errors)


@pytest.mark.parametrize("pipeline", [True, pytest.param(False, marks=pytest.mark.long)])
def test_plain_dvc_uses_it_in_pipelines_of_ours(script, tmp_path, pipeline):
    """From the first stage on; it ends with dvc, and leaves nothing behind."""
    folder = tmp_path / "of_forks"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != SERVER} | {"TMPDIR": str(folder)}
    ours = "# artifacts/hub/" if pipeline else ""
    stages = "".join(
        f"  {name}: {{cmd: '{sys.executable} stages/{script} 0', always_changed: true}}\n" for name in "ab"
    )
    Path("stages").mkdir()
    Path(script).rename(f"stages/{script}")
    Path("dvc.yaml").write_text(f"stages:\n{stages}{ours}\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    code, said, errors = ended([sys.executable, "-m", "dvc", "repro"], environment)
    assert code == 0, errors
    assert [line.split()[-1] for line in said.splitlines() if line.startswith("['0'] ")] == [str(pipeline)] * 2
    until(lambda: not any(folder.glob("distillkit-*")), "the server has ended")
