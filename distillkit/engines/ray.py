"""Jobs on a Ray cluster: each is a named actor that runs the worker's command. It survives a killed controller.

Ray stores only the order; results are in DVC's cache or remote. If a node dies, its job is submitted again and runs on
another node. An actor that no controller asks about its job ends some time after the job.
"""

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from urllib.parse import urlsplit

from distillkit.base.errors import DistillkitError
from distillkit.engines import runner
from distillkit.engines.engine import Demand, Event, Job
from distillkit.engines.order import differences, versions
from distillkit.process.interruption import interrupt, reacting

NAMESPACE = "distillkit"
AGAIN = 3  # times that a job is started again after its node died
KEPT = 60.0  # seconds that an actor waits for a controller to ask how its job has ended
ENDING = 20.0  # seconds that a cancelled job has to end safely
CONNECTING = 10.0  # seconds to connect to the cluster
ANSWER = 60.0  # seconds for a node to start Python
LOST = 20.0  # seconds without an answer of the head, after which we give up
RESOURCES = {"CPU": ("cores", "--cores"), "GPU": ("GPUs", "--gpus"), "memory": ("bytes of memory", "--memory")}
CURRENT = "ray/ray_current_cluster"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
SILENT: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "include_dashboard": False}


class Running:
    """The state of one job in the controller."""

    def __init__(self, job: Job, actor: Any, order: Any, again: int):
        self.job, self.actor, self.order, self.again = job, actor, order, again
        self.ended, self.said = actor.run.remote(order), actor.said.remote(0)
        self.node, self.read, self.rest, self.asked = "", 0, b"", time.monotonic()


class Ray:
    """The engine of a cluster: the one at ``address``, or this machine's, or a new one, which ``say`` reports."""

    def __init__(self, address: str | None, say: Callable[[str], None]):
        os.environ |= QUIET
        try:
            import ray
        except ImportError:
            raise DistillkitError("ray is not installed; install it: pip install 'distillkit[ray]'") from None
        address = address or os.environ.get("RAY_ADDRESS")
        try:
            with reacting(interrupt):
                if address is None and not runs_here():
                    say("no Ray cluster runs on this machine: starting one, for this run")
                    address = "local"
                knock(address)
                ray.init(address or "auto", namespace=NAMESPACE, **SILENT)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            where = f"at {address}" if address else "on this machine"
            found = f"no Ray cluster answers {where} ({' '.join(str(error).split())[:200]})"
            expected = "expected HOST:PORT of its head, and RAY_AUTH_MODE=token where it asks for a token"
            raise DistillkitError(f"{found}; {expected}; start one: ray start --head") from None
        self.ray, self.running = ray, dict[str, Running]()
        ray.cloudpickle.register_pickle_by_value(runner)
        self.actors, self.ask = ray.remote(runner.Runner), ray.remote(num_cpus=0, max_retries=0)(runner.ask)
        self.head, self.answered = ray.get_runtime_context().gcs_address, time.monotonic()

    # The cluster

    def nodes(self) -> dict[str, Mapping[str, Any]]:
        """The nodes that are alive: Ray's description of each, by its ID."""
        return {node["NodeID"]: node for node in self.ray.nodes() if node["Alive"]}

    def name_of(self, node: str) -> str:
        found: Mapping[str, Any] = next((known for known in self.ray.nodes() if known["NodeID"] == node), {})
        return str(found.get("NodeName") or found.get("NodeManagerAddress") or node)

    def largest(self, resource: str) -> float:
        """The largest amount of ``CPU``, ``GPU`` or ``memory`` that a single node has."""
        return max((node["Resources"].get(resource, 0) for node in self.nodes().values()), default=0)

    def check(self, cache: str, token: str, timeout: float = ANSWER) -> bool:
        """Whether all nodes that can run jobs can access the cache. Raises DistillkitError if versions differ."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        able = {name: node for name, node in self.nodes().items() if node["Resources"].get("CPU")}
        answers = {
            name: self.ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False)).remote(cache)
            for name in able
        }
        tokens = []
        for name, answer in answers.items():
            try:
                with reacting(interrupt):
                    found, seen = self.ray.get(answer, timeout=timeout)
            except self.ray.exceptions.RayError as error:
                raise DistillkitError(
                    f"node {self.name_of(name)} does not answer ({brief(error)}); restart it"
                ) from None
            self.compare(self.name_of(name), found)
            tokens.append(seen)
        return all(seen == token for seen in tokens)

    def compare(self, name: str, answer: str) -> None:
        """Raise DistillkitError unless a node has our versions. An answer that begins with a line feed is an error."""
        if answer.startswith("\n"):
            found = f"node {name} cannot run distillkit ({(answer.strip() or 'no reason given').splitlines()[-1]})"
        elif differ := differences(versions(), json.loads(answer)):
            found = f"node {name} has {differ}"
        else:
            return
        raise DistillkitError(f"{found}; expected the same environment on all nodes; install it there")

    # Jobs

    def submit(self, job: Job) -> None:
        while not self.answers():
            time.sleep(1)
        self.begin(job, self.ray.put(job.order), AGAIN)

    def begin(self, job: Job, order: Any, again: int) -> None:
        """Start the actor of a job, or find it. If it is lost, the job starts again, at most ``again`` times."""
        demand = job.demand
        actor = self.actors.options(
            name=job.name,
            lifetime="detached",
            get_if_exists=True,
            max_concurrency=4,  # so that it answers ``said`` while the job runs
            num_cpus=demand.cores,
            num_gpus=demand.gpus,
            memory=demand.memory or None,
        ).remote(KEPT)
        self.running[job.stage] = Running(job, actor, order, again)

    def able(self, demand: Demand, stage: str) -> Demand:
        """The same demand. Raises DistillkitError if no node is large enough for the stage."""
        for resource, count in wanted(demand).items():
            if count > (most := self.largest(resource)):
                of, option = RESOURCES[resource]
                found = f"{stage} asks for {count:,} {of}, and the largest node has {most:,.0f}"
                raise DistillkitError(f"{found}; add a node, or lower {option}")
        return demand

    def reason(self, stage: str) -> str:
        free = self.ray.available_resources()
        asked = wanted(self.running[stage].job.demand).items()
        each = [f"{count:,} {RESOURCES[name][0]} (free: {free.get(name, 0):,.0f})" for name, count in asked if count]
        return f"no node has {', '.join(each)}"

    def poll(self, seconds: float) -> Iterator[Event]:
        if time.monotonic() - self.answered > 1 and not self.answers():
            time.sleep(seconds)  # without a head, most calls of Ray block, and end this process after a minute
            return
        with reacting(interrupt):
            self.ray.wait([job.ended for job in self.running.values()], timeout=seconds)
        for stage, job in list(self.running.items()):
            ready, _ = self.ray.wait([job.ended], timeout=0)
            yield from self.heard(stage, job, last=bool(ready))
            if ready:
                yield from self.end_of(stage, job)

    def answers(self) -> bool:
        """Whether the cluster's head answers. Raises DistillkitError if it has not answered for LOST seconds."""
        now = time.monotonic()
        try:
            knock(self.head)
        except OSError as error:
            if now - self.answered < LOST:
                return False
            self.running.clear()  # without the head, they cannot be cancelled
            found = f"the head of the Ray cluster, {self.head}, no longer answers ({error.strerror or error})"
            raise DistillkitError(f"{found}; start the cluster again, and run the same command again") from None
        self.answered = now
        return True

    def heard(self, stage: str, job: Running, last: bool) -> Iterator[Event]:
        """Events with the node of a job and with its new whole lines; about once a second, and when it has ended."""
        if last:
            self.ray.wait([job.said], timeout=1)
            self.take(job)
            self.ray.wait([job.said], timeout=1)
        elif time.monotonic() - job.asked < 1:
            return
        before = job.node
        self.take(job)
        if job.node != before:
            yield Event(stage, "placed", self.name_of(job.node))
        *lines, job.rest = [*job.rest.split(b"\n"), b""] if last else job.rest.split(b"\n")
        yield from (Event(stage, "said", line.decode(errors="replace").rstrip()) for line in lines if line.strip())

    def take(self, job: Running) -> None:
        """Read the new output of a job if it has arrived, and ask for more."""
        if not self.ray.wait([job.said], timeout=0)[0]:
            return
        with suppress(self.ray.exceptions.RayError):  # end_of reports it
            job.node, found = self.ray.get(job.said)
            job.read, job.rest = job.read + len(found), job.rest + found
        job.asked, job.said = time.monotonic(), job.actor.said.remote(job.read)

    def end_of(self, stage: str, job: Running) -> Iterator[Event]:
        """Events for a job that has ended. If its node or process has died, it starts again."""
        try:
            code = self.ray.get(job.ended)
        except self.ray.exceptions.ActorUnavailableError:  # until Ray knows whether the node lives
            job.ended = job.actor.run.remote(job.order)
            return
        except self.ray.exceptions.RayTaskError as error:  # such as a full disk
            del self.running[stage]
            yield Event(stage, "failed", f"the node cannot accept the job ({brief(error)})")
            return
        except self.ray.exceptions.RayError as error:
            del self.running[stage]
            where = self.name_of(job.node) if job.node else "a node"
            if job.again:
                yield Event(stage, "said", f"{where} or the job's process there has died; the job starts again")
                self.begin(job.job, job.order, job.again - 1)
            else:
                yield Event(stage, "failed", f"its node or process has died {AGAIN + 1} times ({brief(error)})")
            return
        del self.running[stage]
        with suppress(Exception):  # the actor may have ended
            self.ray.wait([job.actor.end.remote(0)], timeout=5)
            self.ray.kill(job.actor)
        yield Event(stage, "failed" if code else "done")

    def cancel(self) -> None:
        ending = [job.actor.end.remote(ENDING) for job in self.running.values()]
        with suppress(Exception):  # jobs that do not run yet do not answer
            self.ray.wait(
                ending, num_returns=len(ending), timeout=ENDING if any(j.node for j in self.running.values()) else 0
            )
        for job in self.running.values():
            with suppress(Exception):
                self.ray.kill(job.actor)
        self.running.clear()


def wanted(demand: Demand) -> dict[str, int]:
    """The resources that a job requests, by Ray's names."""
    return {"CPU": demand.cores, "GPU": demand.gpus, "memory": demand.memory}


def runs_here() -> bool:
    """Whether this machine has a cluster of ``ray start`` that answers."""
    with suppress(OSError, ValueError):
        knock("auto")
        return True
    return False


def knock(address: str | None) -> None:
    """Raise OSError or ValueError if nothing listens at HOST:PORT. Ray itself would try for minutes.

    ``auto`` is the address that ``ray start`` wrote to a file on this machine. A killed cluster leaves the file there.
    """
    if address == "auto":
        address = Path(os.environ.get("RAY_TMPDIR", gettempdir()), CURRENT).read_text(encoding="utf-8").strip()
    if address and address != "local":
        where = urlsplit(address if "//" in address else f"//{address}")
        socket.create_connection((where.hostname or "", where.port or 0), timeout=CONNECTING).close()


def brief(error: Exception) -> str:
    """The last line of an error of Ray, which has many lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
