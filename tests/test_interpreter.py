"""The quick ``python`` of tests does what ``python`` does."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from select import select

import pytest
from interpreter import BIN, PYTHON
from test_interrupted import background

SCRIPT = """
import os, sys
print(sys.argv, os.getcwd(), os.environ["MINE"], sys.path[0], __name__, sys.stdin.read())
sys.exit("no luck")
"""


@pytest.mark.parametrize("arguments", [("script.py", "a b"), ("-m", "script", "--b"), ("-P", "-m", "json.tool", "no")])
def test_a_command_gives_what_python_gives(tmp_path, arguments):
    """Its output, errors and exit code; in a folder and an environment of its own."""
    (tmp_path / "script.py").write_text(SCRIPT)
    ended = [
        subprocess.run(
            [python, *arguments],
            cwd=tmp_path,
            env=os.environ | {"MINE": "ü"},
            input="from here",
            capture_output=True,
            text=True,
        )
        for python in (PYTHON, sys.executable)
    ]
    ours, theirs = ([done.returncode, done.stdout, done.stderr] for done in ended)
    assert ours == theirs and theirs[0] != 0


def test_code_runs_in_a_fork_unless_python_itself_reads_a_variable():
    code = "import sys; print('torch' in sys.modules, 'huggingface_hub' in sys.modules, sys.flags.hash_randomization)"
    for variables, expected in {(): "True False 1", (("PYTHONHASHSEED", "0"),): "False False 0"}.items():
        done = subprocess.run([PYTHON, "-c", code], env=os.environ | dict(variables), capture_output=True, text=True)
        assert done.stdout == f"{expected}\n", done.stderr


def test_a_command_of_the_environment():
    shown, expected = (
        subprocess.run([folder / "distillkit", "--nope"], capture_output=True, text=True)
        for folder in (BIN, Path(sys.executable).parent)
    )
    assert (shown.returncode, shown.stderr) == (2, expected.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals_reach_the_fork(tmp_path, number):
    code = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    with background([PYTHON, "-c", code], **options) as running:
        fork = os.pidfd_open(int(running.stdout.readline()))
        running.send_signal(number)
        assert running.wait(30) == -number
        assert select([fork], [], [], 30)[0], "the fork has ended"
    os.close(fork)
