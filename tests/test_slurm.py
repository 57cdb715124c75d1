"""``distillkit repro --on slurm`` on a real Slurm of this machine: one controller and two nodes of one core each.

Needs Debian's ``slurmctld``, ``slurmd``, ``slurm-client`` and ``munge``, root, and ``pip install -e '.[slurm]'``;
``pytest -m slow``.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from interpreter import SCRIPTS
from ruamel.yaml import YAML
from test_engines import FOUR, contents, four, plain, ran
from test_interrupted import until
from test_pipeline import environment
from test_repro import UNTIL, ended, start

__all__ = ["four"]  # a fixture
COMMANDS = ("slurmctld", "slurmd", "munged", "sbatch")
SEARCHED = f"{os.environ['PATH']}:/usr/sbin"
MISSING = [name for name in COMMANDS if shutil.which(name, path=SEARCHED) is None]
MISSING += [] if find_spec("submitit") else ["submitit"]
MISSING += [] if os.geteuid() == 0 else ["root"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}; see the top of this file"),
]
NODES = {"n1": 16821, "n2": 16822}
CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
AuthInfo=socket={0}/munge/socket,cred_expire=5
SlurmctldPort=16817
StateSaveLocation={0}/state
SlurmdSpoolDir={0}/spool.%n
SlurmctldPidFile={0}/slurmctld.pid
SlurmdPidFile={0}/slurmd.%n.pid
SlurmctldLogFile={0}/slurmctld.log
SlurmdLogFile={0}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
KillWait=5
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=60 State=UP
"""


def call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": SEARCHED}, check=False)
    assert done.returncode == 0, (command, done.stdout + done.stderr)
    return done.stdout


def both_idle() -> bool:
    return call("sinfo", "-h", "-o", "%D %t").split() == ["2", "idle"]


@pytest.fixture(scope="module")
def slurm():
    """A Slurm of its own on the loopback, without accounting; its folder."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    (folder / "munge").mkdir(mode=0o700)
    (folder / "munge/key").write_bytes(os.urandom(1024))
    (folder / "munge/key").chmod(0o600)
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir()
    lines = [
        f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=2000"
        for node, port in NODES.items()
    ]
    text = CONFIGURATION.format(folder).replace("PartitionName", "\n".join([*lines, "PartitionName"]))
    (folder / "slurm.conf").write_text(text)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    call("munged", "-f", *(f"--{option}={folder}/munge/{name}" for option, name in files.items()))
    call("slurmctld")
    for node in NODES:
        call("slurmd", "-N", node)
    until(both_idle, "the nodes have come up")
    yield folder
    call("scancel", "--state=RUNNING", "--partition=test")
    for path in (*folder.glob("*.pid"), folder / "munge/pid"):
        with suppress(psutil.Error, ValueError):
            psutil.Process(int(path.read_text())).terminate()
    del os.environ["SLURM_CONF"]
    shutil.rmtree(folder, ignore_errors=True)


def on_slurm(folder: Path, *arguments: str):
    return start(folder, "--on", "slurm", *arguments, env=environment(SCRIPTS) | {"RAN": os.environ["RAN"]})


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    with on_slurm(folder, *arguments) as running:
        return ended(running)


def test_the_same_files_on_two_nodes(slurm, four):
    meet = {
        name: FOUR[name] | {"cmd": f"touch $RAN.{name}; {UNTIL.format('$RAN.' + other)}; {FOUR[name]['cmd']}"}
        for name, other in (("b", "c"), ("c", "b"))
    }
    YAML(typ="safe").dump({"stages": FOUR | meet}, four / "dvc.yaml")
    code, said = run(four, "--partition", "test", "--memory", "0.5", "--minutes", "5")
    assert code == 0, said
    placed = dict(re.findall(r"^(\w): running on (\w+)$", said, re.M))
    assert {placed["b"], placed["c"]} == {"n1", "n2"}
    assert contents(four) == plain(four)
    assert not list((four / ".distillkit/jobs").iterdir())


def long(folder: Path, seconds: int) -> None:
    """One stage, which says by a line in $RAN that it has begun."""
    stages = {"b": {"cmd": f"echo x >> $RAN; sleep {seconds}; cat in > one", "deps": ["in"], "outs": ["one"]}}
    YAML(typ="safe").dump({"stages": stages}, folder / "dvc.yaml")


def test_a_node_fails_and_the_job_runs_on_the_other(slurm, four):
    """Slurm puts the job into its queue again, under its number."""
    long(four, 6)
    with on_slurm(four) as running:
        until(Path(os.environ["RAN"]).exists, "the stage has begun")
        node = call("squeue", "-h", "-o", "%N").strip()
        call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        code, said = ended(running)
    assert code == 0, said
    until(both_idle, "the node is back")
    assert ran(four) == 2
    assert (four / "one").read_text() == "in\n"


def test_a_job_that_somebody_cancels_is_submitted_again(slurm, four):
    long(four, 6)
    with on_slurm(four) as running:
        until(Path(os.environ["RAN"]).exists, "the stage has begun")
        call("scancel", call("squeue", "-h", "-o", "%i").split()[0])
        code, said = ended(running)
    assert code == 0, said
    assert re.search(r"^b: Slurm has ended job \d+; it is submitted again$", said, re.M)
    assert ran(four) == 2


def test_the_controller_is_killed_and_the_next_finds_the_job(slurm, four):
    command = f"echo x >> $RAN; {UNTIL.format('$RAN.go')}; cat in > one"
    YAML(typ="safe").dump({"stages": {"b": {"cmd": command, "deps": ["in"], "outs": ["one"]}}}, four / "dvc.yaml")
    with on_slurm(four) as running:
        until(Path(os.environ["RAN"]).exists, "the stage has begun")
        running.send_signal(signal.SIGKILL)
        assert ended(running)[0] == -signal.SIGKILL
    with on_slurm(four) as running:
        assert running.stdout.readline() in ("b: running on n1\n", "b: running on n2\n")
        Path(os.environ["RAN"] + ".go").touch()
        code, said = ended(running)
    assert code == 0, said
    assert ran(four) == 1


def test_ctrl_c_leaves_no_job(slurm, four):
    long(four, 60)
    with on_slurm(four) as running:
        until(Path(os.environ["RAN"]).exists, "the stage has begun")
        running.send_signal(signal.SIGINT)
        code, said = ended(running)
    assert code == 130, said
    assert said.endswith("interrupted; run the same command again to go on\n")
    until(lambda: not call("squeue", "-h"), "no job is left")


def test_what_slurm_refuses_is_one_line(slurm, four):
    for arguments, found in (
        (("--partition", "nope"), "invalid partition specified: nope"),
        (("--memory", "500"), "Requested node configuration is not available"),
        (("--gpus", "1"), "Invalid generic resource|Requested node configuration is not available"),
    ):
        began = time.monotonic()
        code, said = run(four, *arguments)
        assert code == 1
        assert re.fullmatch(rf"error: Slurm refuses a: .*({found}).*; correct the options and run it again\n", said), (
            said
        )
        assert time.monotonic() - began < 30
