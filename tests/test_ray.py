"""``distillkit repro --on ray`` on a real cluster: a head and nodes of one core each, some of which die.

Needs ``pip install -e '.[ray]'``.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from clusters import RAY_NODE, SOON, ray_cluster
from interpreter import SCRIPTS
from pages import follow
from ruamel.yaml import YAML
from test_engines import FOUR, contents, four, plain, ran
from test_interrupted import until
from test_pipeline import MATCHING, OPTIM, PARAMS, SELMATCH, dvc, environment, git, new_project, write_params
from test_repro import UNTIL, ended, start

from distillkit.base.errors import DistillkitError
from distillkit.engines.controller import Run
from distillkit.engines.display import Board, Events
from distillkit.engines.plan import plan_for, put_in_order
from distillkit.engines.ray import NAMESPACE, SILENT
from distillkit.engines.runner import Runner
from distillkit.engines.start import Options, on_ray

ray = pytest.importorskip("ray", reason="ray is not installed; pip install -e '.[ray]'")
__all__ = ["four"]  # a fixture
pytestmark = [
    pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Ray's processes
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    """A head that runs no jobs, and the means to add nodes; each test has nodes of its own."""
    with ray_cluster(_system_config=SOON) as cluster:
        yield cluster


@pytest.fixture
def nodes(cluster):
    """Adds nodes by name; they go with the test."""
    added = {}

    def add(*names: str, cpus: int = 1, **options):
        for name in names:
            added[name] = cluster.add_node(num_cpus=cpus, node_name=name, **RAY_NODE, **options)
        cluster.wait_for_nodes()
        return added

    yield add
    ray.shutdown()
    for node in added.values():
        if node in cluster.worker_nodes:
            cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def run(cluster, monkeypatch):
    """Runs the pipeline of this folder on the cluster; what failed, and what was said."""
    monkeypatch.setenv("PATH", environment(SCRIPTS)["PATH"])
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")  # Ray sets another, for good, and each later start would be a slow one

    def run(*targets: str, kind: type[Board] = Board, heard=lambda line: None, **options):
        plan, said = plan_for(targets), list[str]()

        def hear(line: str) -> None:
            said.append(line)
            heard(line)

        board = kind(hear)
        try:
            with board.shown(plan):
                failed = Run(plan, 4, board, on_ray(Options(cluster.address, **options), hear)).all()
        finally:
            ray.shutdown()
        put_in_order(plan.locks)
        return failed, said

    return run


def test_the_same_files_through_a_remote_and_in_place(four, nodes, run):
    """On two nodes at once: stages b and c, which wait for each other."""
    nodes("one", "two")
    meet = {
        name: FOUR[name] | {"cmd": f"touch $RAN.{name}; {UNTIL.format('$RAN.' + other)}; {FOUR[name]['cmd']}"}
        for name, other in (("b", "c"), ("c", "b"))
    }
    YAML(typ="safe").dump({"stages": FOUR | meet}, four / "dvc.yaml")
    dvc(four, "remote", "add", "-d", "shared", "../store")
    failed, said = run(remote="shared", kind=Events)
    assert not failed, said
    events = [json.loads(line) for line in said]
    placed = {event["stage"]: event["node"] for event in events if event.get("state") == "running"}
    assert {placed["b"], placed["c"]} == {"one", "two"}
    assert list((four.parent / "store").rglob("*"))
    monkeypatched = contents(four)
    for path in ("one", "two", "three", "four", "dvc.lock"):
        (four / path).unlink()
    assert run(kind=Events)[0] == {}, "all is in the run-cache"
    assert contents(four) == monkeypatched
    assert ran(four) == 1
    assert monkeypatched == plain(four)


def dying(name: str, killed: list[str], nodes: dict, cluster, begun: Path):
    """Kills the node on which a stage has begun, once."""

    def kill(line: str) -> None:
        if not killed and (found := re.match(rf"{name}: running on (\w+)", line)):
            until(begun.exists, "the stage has begun")
            killed.append(found[1])
            cluster.remove_node(nodes[found[1]], allow_graceful=False)

    return kill


def test_a_node_dies_in_the_middle(four, nodes, run, cluster):
    """The stage counts in the folder for unfinished work: it goes on from there on the other node."""
    (four / "count.sh").write_text(
        "while test $(cat .distillkit/n 2>/dev/null | wc -l) -lt 12; do echo >> .distillkit/n; sleep 0.5; done\n"
        "wc -l < .distillkit/n > one; rm .distillkit/n\n"
    )
    stages = {"b": {"cmd": "echo x >> $RAN; sh count.sh", "deps": ["in", "count.sh"], "outs": ["one"]}}
    YAML(typ="safe").dump({"stages": stages}, four / "dvc.yaml")
    killed: list[str] = []
    kill = dying("b", killed, nodes("one", "two"), cluster, four / ".distillkit/n")
    failed, said = run(heard=kill)
    assert not failed, said
    other = ({"one", "two"} - {*killed}).pop()
    assert f"b: {killed[0]} or the job's process there has died; the job starts again" in said
    assert any(line.startswith(f"b: done on {other} ") for line in said), said
    assert (four / "one").read_text() == "12\n"
    assert ran(four) == 2


@pytest.mark.slow
def test_a_node_dies_and_a_distillation_goes_on_elsewhere(tmp_path, nodes, run, monkeypatch, cluster):
    """From its checkpoint, on the other node, to the same bytes."""
    folder = new_project(tmp_path / "dying")
    recipe = SELMATCH | {"matching": MATCHING, "optim": OPTIM | {"steps": 400}}
    recipes = {"selmatch": recipe}
    package = PARAMS["package"] | {"default": "selmatch"}
    write_params(folder, PARAMS | {"expert_shards": [0], "recipes": recipes, "package": package})
    git(folder, "add", "-A")
    dvc(folder, "repro", "inputs")
    twin = folder.with_name("twin")
    shutil.copytree(folder, twin, ignore=shutil.ignore_patterns("runs"))
    dvc(twin, "repro", "distill@selmatch")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    killed: list[str] = []
    live = folder / ".distillkit/live/selmatch/metrics.json"
    kill = dying("distill@selmatch", killed, nodes("one", "two"), cluster, live)
    failed, said = run("distill@selmatch", heard=kill, memory=0.01)
    assert not failed, said
    other = ({"one", "two"} - {*killed}).pop()
    assert f"distill@selmatch: {killed[0]} or the job's process there has died; the job starts again" in said
    assert any(line.startswith(f"distill@selmatch: done on {other} ") for line in said), said
    assert any(re.match(r"distill@selmatch: resumed at step \d+ of 400 ", line) for line in said), said
    assert contents(folder) == contents(twin)


def test_the_controller_is_killed_and_the_next_finds_the_job(four, nodes, run, cluster):
    """The job goes on meanwhile; nothing runs twice, and no actor stays."""
    nodes("one")
    command = f"echo x >> $RAN; {UNTIL.format('$RAN.go')}; cat in > one"
    YAML(typ="safe").dump({"stages": {"b": {"cmd": command, "deps": ["in"], "outs": ["one"]}}}, four / "dvc.yaml")
    env = environment(SCRIPTS) | {"RAN": os.environ["RAN"]}
    with start(four, "--on", "ray", "--address", cluster.address, env=env) as running:
        until(Path(os.environ["RAN"]).exists, "the stage has begun")
        running.send_signal(signal.SIGKILL)
        assert ended(running)[0] == -signal.SIGKILL
    failed, said = run(heard=lambda line: Path(os.environ["RAN"] + ".go").touch() if "running on" in line else None)
    assert not failed
    assert ran(four) == 1
    assert "b: running on one" in said
    assert (four / "one").read_text() == "in\n"
    ray.init(cluster.address, namespace=NAMESPACE, **SILENT)
    until(lambda: not ray.util.list_named_actors(), "the actor has gone")


def test_an_actor_that_nobody_asks_ends(nodes, cluster):
    """As after the end of a controller whose job still waited for a place: it keeps no core for ever."""
    nodes("one")
    ray.init(cluster.address, namespace=NAMESPACE, **SILENT)
    ray.remote(Runner).options(name="idle", lifetime="detached", num_cpus=1).remote(1)
    until(lambda: ray.available_resources().get("CPU", 0) == 0, "it has its core")
    until(lambda: not ray.util.list_named_actors(), "it has ended")


def test_the_page(four, nodes, cluster):
    nodes("one")
    YAML(typ="safe").dump({"stages": {"a": FOUR["a"]}}, four / "dvc.yaml")
    here = environment(SCRIPTS) | {"RAY_ADDRESS": cluster.address}
    assert "a: done on one" in follow("many-machines.md", four, here, only="A Ray cluster")


def test_what_is_told_before_any_work(four, nodes, run, tmp_path):
    """What no node has, and nodes on which other versions are installed, or none."""
    nodes("one")
    for options, line in (
        ({"gpus": 1}, r"a asks for 1 GPUs, and the largest node has 0; add a node, or lower --gpus"),
        ({"cores": 5}, r"a asks for 5 cores, and the largest node has 1; add a node, or lower --cores"),
        ({"memory": 10**5}, r"a asks for .* bytes of memory, and the largest node has .*; .* --memory"),
    ):
        with pytest.raises(DistillkitError, match=rf"^{line}$"):
            run(**options)
    wrong = tmp_path / "wrong"
    (wrong / "torch-0.1.dist-info").mkdir(parents=True)
    (wrong / "torch-0.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
    nodes("old", env_vars={"PYTHONPATH": str(wrong)})
    with pytest.raises(DistillkitError, match=r"^node old has torch 0\.1 \(here .*\); expected the same environment"):
        run()
    (wrong / "distillkit").mkdir()
    (wrong / "distillkit/__init__.py").touch()
    with pytest.raises(DistillkitError, match=r"^node old cannot run distillkit \(.*No module named .*\); expected"):
        run()
    assert not Path(os.environ["RAN"]).exists()


def test_no_cluster_is_one_line(four, monkeypatch):
    with pytest.raises(
        DistillkitError, match=r"^no Ray cluster answers at 127.0.0.1:9 \(.*\); expected HOST:PORT of its head"
    ):
        on_ray(Options("127.0.0.1:9"), print)


@pytest.fixture
def machine(monkeypatch):
    """A machine without a cluster and without a token of Ray's; what is started on it ends with the test."""
    folder = tempfile.mkdtemp(prefix="ray-")  # a short name, as for any socket
    for name, value in {"HOME": folder, "RAY_TMPDIR": folder, "PATH": environment(SCRIPTS)["PATH"]}.items():
        monkeypatch.setenv(name, value)
    yield partial(kill_all, folder)
    kill_all(folder)
    shutil.rmtree(folder, ignore_errors=True)


def kill_all(folder: str) -> None:
    """Ray's processes that have their files there; its workers end with them."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if folder in " ".join(process.cmdline()):
                process.kill()


def ray_start(*arguments: str, **given: str) -> None:
    few = ["--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"]
    command = [str(Path(sys.executable).with_name("ray")), "start", *few, *arguments]
    done = subprocess.run(command, env=os.environ | given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_on_a_machine_without_a_cluster_and_with_ray_start(four, machine):
    """One is started, which is told; then the one of `ray start`, with a token; then that one is killed."""
    YAML(typ="safe").dump({"stages": {"a": FOUR["a"]}}, four / "dvc.yaml")

    def said(*arguments: str, **given: str) -> str:
        (four / "in").write_text(f"{arguments} {time.monotonic()}")
        with start(four, "--on", "ray", *arguments, env=os.environ | given) as running:
            out, _ = running.communicate(timeout=150)
        assert running.returncode == 0, out
        assert "a: done on " in out
        return out

    started = "no Ray cluster runs on this machine: starting one, for this run\n"
    assert said().startswith(started)
    assert (Path.home() / ".ray/auth_token").is_file(), "Ray asks for it from now on"
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    ray_start("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")
    ray_start(f"--address=127.0.0.1:{port}", "--num-cpus=1", RAY_AUTH_MODE="token")
    assert started not in said()
    assert started not in said("--address", f"127.0.0.1:{port}", RAY_AUTH_MODE="token")
    machine()
    assert said().startswith(started), "the address that it has left counts no more"


def test_each_job_has_a_gpu_of_its_own(four, nodes, run):
    """Ray counts GPUs that nobody has, too."""
    nodes("two-gpus", cpus=2, num_gpus=2)
    stages = {
        name: {
            "cmd": f"touch $RAN.{name}; {UNTIL.format('$RAN.' + other)}; cat in; echo $CUDA_VISIBLE_DEVICES > {name}",
            "deps": ["in"],
            "outs": [name],
        }
        for name, other in (("x", "y"), ("y", "x"))
    }
    YAML(typ="safe").dump({"stages": stages}, four / "dvc.yaml")
    failed, said = run(gpus=1)
    assert not failed, said
    assert {(four / name).read_text() for name in stages} == {"0\n", "1\n"}
