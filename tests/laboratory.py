"""A pipeline that can be stopped in the middle, on each engine, and the means to break what it runs on.

Its stage takes no time. It counts four steps in the folder for unfinished work, and stops at the second while it is
held. For tests and benchmarks/faults.py.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
from clusters import RAY_HEAD, RAY_NODE, SLURM_NODES, SOON, both_idle, call, ray_cluster, slurm_cluster, until
from ruamel.yaml import YAML

STAGE = """
echo >> {0}/starts
mkdir -p .distillkit
steps=.distillkit/steps
while test $(cat $steps 2>/dev/null | wc -l) -lt 4; do
    echo >> $steps
    if test $(cat $steps | wc -l) -eq 2; then
        echo $$ > {0}/pid && mv {0}/pid {0}/begun
        while test -e {0}/hold; do sleep 0.05; done
        if test -e {0}/trouble; then . {0}/trouble; fi
    fi
done
cat in > made && cat $steps | wc -l >> made || exit 5
rm $steps
"""
WORK = {"cmd": "sh work.sh", "deps": ["in", "work.sh"], "outs": ["made"]}
BESIDE = {"cmd": "cat in > beside", "deps": ["in"], "outs": ["beside"]}
LATER = {"cmd": "cat made > beside", "deps": ["made"], "outs": ["beside"]}
HIDDEN = {".git", ".dvc", ".distillkit"}
KNOWN = {"DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
PYTHON = [sys.executable, "-P", "-m"]


PLAIN: dict[str, dict[str, bytes]] = {}  # by their sources, the files of pipelines after plain dvc repro


class Command:
    """``distillkit repro``, running; ``lines`` are those that it has said so far."""

    def __init__(self, folder: Path, arguments: list[str], environment: dict[str, str]):
        self.process = subprocess.Popen(
            [*PYTHON, "distillkit", "repro", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # also in a shell's background
        )
        self.lines: list[str] = []
        self.reader = Thread(target=lambda: self.lines.extend(self.process.stdout or ()), daemon=True)
        self.reader.start()

    def until(self, text: str) -> str:
        """The first line that has ``text``."""
        until(lambda: any(text in line for line in self.lines) or self.process.poll() is not None, text)
        found = [line for line in self.lines if text in line]
        assert found, f"it ended without {text!r}: {''.join(self.lines)}"
        return found[-1]

    def node(self) -> str:
        return self.until("work: running on ").split()[-1]

    def ended(self) -> tuple[int, str]:
        """Its exit code, and all that it has said."""
        until(lambda: self.process.poll() is not None, f"the command has ended: {''.join(self.lines)}", 200)
        code = self.process.returncode
        self.reader.join(5)
        return code, "".join(self.lines)


class Lab:
    """The pipeline on this machine alone, in a folder of its own."""

    options: tuple[str, ...] = ("-j", "2")

    def __init__(self, home: Path):
        self.home, self.folder, self.signals, self.store = home, home / "project", home / "signals", home / "at/store"
        self.environment: dict[str, str] = {}
        self.extra: list[str] = []
        (self.folder / ".dvc").mkdir(parents=True)
        self.signals.mkdir()
        self.store.parent.mkdir()
        (self.folder / ".dvc/config").write_text(f"['remote \"store\"']\n    url = {self.store}\n")
        (self.folder / "in").write_text("in\n")
        (self.folder / "work.sh").write_text(STAGE.format(self.signals))
        self.declare(work=WORK)
        subprocess.run(["git", "init", "-q"], cwd=self.folder, check=True)

    def declare(self, **stages: Any) -> None:
        YAML(typ="safe").dump({"stages": stages}, self.folder / "dvc.yaml")

    # The command

    @contextmanager
    def start(self, *arguments: str) -> Iterator[Command]:
        """The command; it goes on after the block, unless the block fails."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        known = KNOWN | {"PATH": path}
        running = Command(self.folder, [*self.options, *self.extra, *arguments], os.environ | known | self.environment)
        try:
            yield running
        except BaseException:
            running.process.kill()
            raise

    def run(self, *arguments: str) -> tuple[int, str]:
        with self.start(*arguments) as running:
            return running.ended()

    def plain(self) -> dict[str, bytes]:
        """All files after plain ``dvc repro`` of the same sources; it runs once for each."""
        sources = (self.folder / "dvc.yaml").read_text() + (self.folder / "work.sh").read_text()
        if sources not in PLAIN:
            PLAIN[sources] = self.reproduced(self.home / "plain")
        return PLAIN[sources]

    def reproduced(self, twin: Path) -> dict[str, bytes]:
        shutil.copytree(
            self.folder,
            twin,
            ignore=shutil.ignore_patterns("cache", "tmp", "dvc.lock", ".distillkit", "made", "beside"),
        )
        subprocess.run([*PYTHON, "dvc", "repro", "-q"], cwd=twin, env=os.environ | KNOWN, check=True)
        return contents(twin)

    # The stage

    @contextmanager
    def held(self) -> Iterator[None]:
        (self.signals / "hold").touch()
        try:
            yield
        finally:
            (self.signals / "hold").unlink()

    def begun(self) -> None:
        until((self.signals / "begun").exists, "the stage has begun")

    @contextmanager
    def trouble(self, command: str) -> Iterator[None]:
        """A block in which the stage runs a further command in its middle."""
        (self.signals / "trouble").write_text(command)
        yield
        (self.signals / "trouble").unlink()

    def starts(self) -> int:
        """How often the stage has begun."""
        return len((self.signals / "starts").read_text().splitlines()) if (self.signals / "starts").exists() else 0

    def kept(self) -> None:
        """Wait until the stage's result is in the run-cache, here or on the remote."""
        places = (self.folder / ".dvc/cache/runs", self.store / "runs")
        until(lambda: any(path.is_file() for place in places for path in place.rglob("*")), "the result is kept")

    def worker(self) -> psutil.Process:
        """The process that runs the job of the stage, which has begun."""
        above = psutil.Process(int((self.signals / "begun").read_text())).parents()
        self.worker_seen = next(process for process in above if "distillkit.engines.worker" in process.cmdline())
        return self.worker_seen

    def ended_stage(self) -> None:
        """Wait until the process that DVC runs for the stage has gone."""
        worker = self.worker_seen
        until(lambda: not [child for child in worker.children() if child.status() != psutil.STATUS_ZOMBIE], "it ended")

    def settled(self) -> None:
        """Wait until a stage whose command was killed has ended, where it ends with the command."""
        until(lambda: not psutil.pid_exists(int((self.signals / "begun").read_text())), "the stage has ended")

    # What breaks

    def site(self, package: str, files: dict[str, str]) -> None:
        """A package that stands in the way of the right one, for :meth:`spoiled`."""
        for name, text in files.items():
            path = self.signals / "site" / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def close(self) -> None:
        """Leave nothing behind."""

    @contextmanager
    def small_disk(self, folder: Path) -> Iterator[Path]:
        """A block in which a folder of ours has a disk of 8 MB to itself: a file that fills it, once it is written."""
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], check=True)
        try:
            yield folder / "filler"
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

    @contextmanager
    def away(self) -> Iterator[None]:
        """A block in which the remote cannot be reached: it has gone, and a file is in its place."""
        aside = self.home / "aside"
        self.store.parent.rename(aside)
        self.store.parent.touch()
        try:
            yield
        finally:
            self.store.parent.unlink()
            aside.rename(self.store.parent)


class SlurmLab(Lab):
    """With a real Slurm of two nodes."""

    options = ("--on", "slurm", "--memory", "0.5")
    dead: str | None = None  # a node that stays away

    def __init__(self, home: Path):
        super().__init__(home)
        for node in SLURM_NODES:
            set_node(node, "RESUME")
        until(both_idle, "both nodes are idle")

    @contextmanager
    def full(self) -> Iterator[None]:
        """A block in which no job finds a place."""
        for node in SLURM_NODES:
            set_node(node, "DRAIN")  # a node that is DOWN comes back by itself
        try:
            yield
        finally:
            for node in {*SLURM_NODES} - {self.dead}:
                set_node(node, "RESUME")

    def node_dies(self, node: str = "n1") -> None:
        self.dead = node
        set_node(node, "DOWN")

    @contextmanager
    def spoiled(self) -> Iterator[Command]:
        """The command, on nodes with packages of :meth:`site`: they come when its job has been submitted."""
        site, aside = self.signals / "site", self.signals / "aside"
        site.rename(aside)
        self.environment["PYTHONPATH"] = str(site)
        with self.start() as running:
            with self.full():
                running.until("waits")
                aside.rename(site)
            yield running
            running.ended()
        shutil.rmtree(site)

    @contextmanager
    def disk_of_node(self, folder: Path) -> Iterator[None]:
        """A block in which jobs have their temporary files there."""
        self.environment["TMPDIR"] = str(folder)
        yield
        del self.environment["TMPDIR"]

    @contextmanager
    def headless(self) -> Iterator[None]:
        """A block in which Slurm's controller is away. Before it, it has time to save its state, as it does every five
        seconds: without that, it would give the number of a running job to the next one.
        """
        time.sleep(6)
        psutil.Process(int(Path(os.environ["SLURM_CONF"]).with_name("slurmctld.pid").read_text())).kill()
        yield
        call("slurmctld")


def set_node(node: str, state: str) -> None:
    with suppress(AssertionError):  # RESUME of a node that is idle
        call("scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test")


class RayLab(Lab):
    """With a Ray cluster of a head, which runs no jobs, and two nodes of one core each."""

    def __init__(self, home: Path, cluster: Any):
        super().__init__(home)
        self.cluster, self.nodes = cluster, dict[str, Any]()
        self.add("n1", "n2")
        self.meet()

    def meet(self) -> None:
        """Name the head as it is now."""
        self.options = ("--on", "ray", "--cores", "1", "--memory", "0.05", "--address", self.cluster.address)

    def add(self, *names: str, **options: Any) -> None:
        for name in names:
            self.nodes[name] = self.cluster.add_node(num_cpus=1, node_name=name, **RAY_NODE, **options)
        self.cluster.wait_for_nodes()

    def node_dies(self, node: str = "n1") -> None:
        self.cluster.remove_node(self.nodes.pop(node), allow_graceful=False)

    def close(self) -> None:
        for node in [*self.nodes]:
            self.node_dies(node)

    @contextmanager
    def headless(self) -> Iterator[None]:
        """A block in which the head has gone for good; after it there is a new cluster."""
        self.cluster.remove_node(self.cluster.head_node, allow_graceful=False)
        yield
        self.close()
        self.cluster.global_state.disconnect()  # from the old one
        self.cluster.add_node(**RAY_HEAD, _system_config=SOON)
        self.add("n1", "n2")
        self.meet()

    @contextmanager
    def disk_of_node(self, folder: Path) -> Iterator[None]:
        """A block in which nodes have their temporary files there."""
        self.close()
        self.add("n3", env_vars={"TMPDIR": str(folder)})
        yield
        self.close()
        self.add("n1")

    @contextmanager
    def full(self) -> Iterator[None]:
        """A block in which no job finds a place: somebody else's have them all."""
        import ray

        @ray.remote
        class Other:
            def here(self) -> bool:
                return True

        ray.init(self.cluster.address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        try:
            gpus = 1 if ray.cluster_resources().get("GPU") else 0
            others = [Other.options(num_cpus=1, num_gpus=gpus).remote() for _ in self.nodes]
            ray.get([other.here.remote() for other in others], timeout=60)
            yield
        finally:
            ray.shutdown()

    @contextmanager
    def spoiled(self) -> Iterator[Command]:
        """The command, on a node with packages of :meth:`site`."""
        self.close()
        self.add("n3", env_vars={"PYTHONPATH": str(self.signals / "site")})
        with self.start() as running:
            yield running
            running.ended()
        self.close()
        self.add("n1")


@contextmanager
def local_labs() -> Iterator[Any]:
    yield Lab


@contextmanager
def slurm_labs() -> Iterator[Any]:
    with slurm_cluster():
        yield SlurmLab


@contextmanager
def ray_labs() -> Iterator[Any]:
    """Each lab has nodes of its own, in one cluster."""
    with ray_cluster(_system_config=SOON) as cluster:
        yield lambda home: RayLab(home, cluster)


LABS = {"local": local_labs, "ray": ray_labs, "slurm": slurm_labs}


def contents(folder: Path) -> dict[str, bytes]:
    """All files that stages and DVC have written, and what they were made from."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not HIDDEN & {*path.relative_to(folder).parts}]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
