"""Clusters on this machine, for tests and benchmarks: Ray's, and a real Slurm's.

Slurm needs Debian's ``slurmctld``, ``slurmd``, ``slurm-client`` and ``munge``, and root.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

RAY_NODE = {"object_store_memory": 80_000_000, "include_dashboard": False}
RAY_HEAD = {"num_cpus": 0, "node_name": "head", **RAY_NODE}
SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 2}
WITHOUT_HEAD = "RAY_gcs_rpc_server_reconnect_timeout_s"  # seconds after which a process whose head has died ends
SLURM_NODES = {"n1": 16821, "n2": 16822}  # their ports
SEARCHED = f"{os.environ['PATH']}:/usr/sbin"
MISSING = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name, path=SEARCHED) is None]
MISSING += [] if find_spec("submitit") else ["submitit"]
MISSING += [] if os.geteuid() == 0 else ["root"]
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
"""
PARTITION = "PartitionName=test Nodes=n1,n2 Default=YES MaxTime=UNLIMITED State=UP\n"


@contextmanager
def ray_cluster(nodes: int = 0, **head: Any) -> Iterator[Any]:
    """A Ray cluster whose head runs no jobs, with so many nodes of one core each."""
    os.environ[WITHOUT_HEAD] = "600"  # for this process, where it is the first to import ray
    from ray.cluster_utils import Cluster

    del os.environ[WITHOUT_HEAD]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(True, head_node_args=RAY_HEAD | head)
    try:
        for number in range(nodes):
            cluster.add_node(num_cpus=1, node_name=f"n{number + 1}", **RAY_NODE)
        yield cluster
    finally:
        cluster.shutdown()


@contextmanager
def slurm_cluster() -> Iterator[Path]:
    """A Slurm of two nodes with one core each, on the loopback, without accounting: its folder. SLURM_CONF names it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    (folder / "munge").mkdir(mode=0o700)
    (folder / "munge/key").write_bytes(os.urandom(1024))
    (folder / "munge/key").chmod(0o600)
    for name in ("state", *(f"spool.{node}" for node in SLURM_NODES)):
        (folder / name).mkdir()
    lines = [
        f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=2000\n"
        for node, port in SLURM_NODES.items()
    ]
    (folder / "slurm.conf").write_text("".join([CONFIGURATION.format(folder), *lines, PARTITION]))
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    try:
        call("munged", "-f", *(f"--{option}={folder}/munge/{name}" for option, name in files.items()))
        call("slurmctld")
        for node in SLURM_NODES:
            call("slurmd", "-N", node)
        until(both_idle, "the nodes have come up")
        yield folder
        call("scancel", "--state=RUNNING", "--partition=test")
    finally:
        for path in (*folder.glob("*.pid"), folder / "munge/pid"):
            with suppress(psutil.Error, ValueError, FileNotFoundError):
                psutil.Process(int(path.read_text())).terminate()
        del os.environ["SLURM_CONF"]
        shutil.rmtree(folder, ignore_errors=True)


def call(*command: str) -> str:
    """What a command of Slurm's says."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": SEARCHED}, check=False)
    assert done.returncode == 0, (command, done.stdout + done.stderr)
    return done.stdout


def both_idle() -> bool:
    with suppress(AssertionError):  # until Slurm's controller answers
        return call("sinfo", "-h", "-o", "%D %t").split() == ["2", "idle"]
    return False


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)
