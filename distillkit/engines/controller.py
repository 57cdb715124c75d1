"""``distillkit repro``: decides which stage runs when and on which engine, and gets results of jobs into dvc.lock.

A stage starts as soon as the stages before it in DVC's graph are done. Before a job is submitted, and after it has
ended, the controller looks up the result of the same command, inputs and parameters
(:func:`distillkit.engines.results.settle`). So it does not matter which run, or which machine, made the result.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from typing import NoReturn

from distillkit.base.errors import DistillkitError
from distillkit.engines.display import Board
from distillkit.engines.engine import Demand, Engine, Event, Job
from distillkit.engines.local import PYTHON, Local
from distillkit.engines.order import Places, pack
from distillkit.engines.plan import Plan, forget_the_dead, plan_for, put_in_order
from distillkit.engines.results import settle
from distillkit.process.interruption import check, note, reacting
from distillkit.process.lockfile import words

PAUSE = 0.2  # seconds to wait for something to happen
PATIENCE = 5.0  # seconds without a running job, after which one line says why
KILLED = tuple(f"exited with {code}" for code in (-signal.SIGKILL, 128 + signal.SIGKILL))  # ends of DVC's error
OUT_OF_MEMORY = "killed, perhaps because memory ran out"
BUSY = "another dvc or distillkit is at work here; wait until it has ended"
HERE = ("code", "fetch", "shards", "inputs", "results", "report", "package")  # our stages that train nothing


@dataclass
class Away:
    """An engine of other machines: where it exchanges results with this machine, and what each stage requests."""

    engine: Engine
    places: Places
    demand: Callable[[str], Demand]
    offered: set[str] = field(default_factory=set)


Starter = Callable[[Callable[[str], None]], Away]  # starts an engine; its argument prints a line


def repro(targets: Sequence[str], jobs: int, board: Board, away: Starter | None = None) -> NoReturn:
    """Run what is out of date of ``targets`` (default: all of dvc.yaml), ``jobs`` stages at a time; this process ends.

    Stages run on this machine, or on the engine that ``away`` starts. It is started only if a stage has to run.
    """
    from dvc.exceptions import DvcException

    try:
        forget_the_dead(board.note)
        if jobs > 1 or away is not None or board.quiet:
            plan = plan_for(targets)
            try:
                with board.shown(plan), redirect_stdout(StringIO()):  # hides what an engine's library prints
                    failed = Run(plan, jobs, board, away(board.note) if away and plan.stale else None).all()
            finally:
                put_in_order(plan.locks)
            if failed:
                raise DistillkitError(told(failed))
    except DvcException as error:
        raise DistillkitError(words(error)) from error
    sys.stdout.flush()
    check()
    quiet = ["--quiet"] if board.quiet else []
    os.execv(PYTHON[0], [*PYTHON, "-m", "dvc", "--wait-for-lock", "repro", *quiet, *targets])


def told(failed: dict[str, str]) -> str:
    """The message about the failed stages, with reasons as far as they are known."""
    beside = "the stages that were running have finished; correct the error and run the same command again"
    reasons = [f" ({reason})" if reason else "" for reason in failed.values()]
    names = ", ".join(name + reason for name, reason in zip(failed, reasons, strict=True))
    return f"{names} failed, see above; {beside}"


class Run:
    """One run of all stages of a plan that are out of date."""

    def __init__(self, plan: Plan, jobs: int, board: Board, away: Away | None = None):
        self.plan, self.jobs, self.board, self.away = plan, jobs, board, away
        self.here = Local()
        self.waiting = [stage for stage in plan.before if stage in plan.stale]
        self.done = set(plan.before) - plan.stale
        self.failed: dict[str, str] = {}
        self.running: dict[str, Engine] = {}
        self.last: dict[str, str] = {}
        self.nodes: dict[str, str] = {}  # the node of each stage that is running or has ended
        self.idle_since: float | None = None  # the time since which jobs wait and none is running
        self.explained = False

    def all(self) -> dict[str, str]:
        """Run all stages, and return those that failed. After a failure, running stages finish and no other starts."""
        if self.away is not None:  # report before any work that no machine has the resources
            for stage in filter(self.leaves, self.waiting):
                self.away.demand(stage)
        try:
            while self.running or (self.waiting and not self.failed):
                for stage in self.ready()[: self.jobs - len(self.running)][: 1 if self.away else None]:
                    self.waiting.remove(stage)
                    self.begin(stage)
                for engine in self.engines():
                    for event in engine.poll(PAUSE if self.running else 0):
                        self.hear(event)
                self.explain()
        except BrokenPipeError as error:
            self.cancel()
            raise unheard(error) from None
        except BaseException:
            self.cancel()
            raise
        finally:
            self.here.close()
        return self.failed

    def ready(self) -> list[str]:
        """The stages that can start now."""
        return [stage for stage in self.waiting if self.plan.before[stage] <= self.done and not self.failed]

    def leaves(self, stage: str) -> bool:
        """Whether the stage runs as a job on another machine."""
        return name_of(stage) not in HERE

    def engines(self) -> list[Engine]:
        """The engines that are running a stage."""
        return list({id(engine): engine for engine in self.running.values()}.values())

    def begin(self, stage: str) -> None:
        """Submit a stage, unless its result exists."""
        try:
            chosen = self.choose(stage)
        except (DistillkitError, OSError) as error:  # running stages continue
            self.end(stage, str(error))
            return
        if chosen is None:
            self.end(stage)
            return
        engine, job = chosen
        try:
            with reacting(note):  # a signal must not come between the start of a job and the entry in self.running
                engine.submit(job)
                self.running[stage] = engine
        except DistillkitError as error:
            if not self.running:
                raise
            self.end(stage, str(error))
            return
        self.board.now(stage, "running" if engine is self.here else "waiting")

    def choose(self, stage: str) -> tuple[Engine, Job] | None:
        """The engine and the job of a stage; None if its result exists."""
        if self.away is None or not self.leaves(stage):
            return self.here, Job(stage)
        state = settle(stage, self.away.places.remote)
        if state.done:
            return None
        if not state.key:
            return self.here, Job(stage)
        name = f"{re.sub('[^A-Za-z0-9_-]', '-', stage)}-{state.key[:16]}"
        order = pack(stage, self.away.places, self.away.offered)
        return self.away.engine, Job(stage, name, order, self.away.demand(stage))

    def explain(self) -> None:
        """Say once why jobs wait if none has been running for some time."""
        placed = (stage for stage, engine in self.running.items() if engine is self.here or stage in self.nodes)
        if not self.running or any(placed):
            self.idle_since, self.explained = None, False
        elif self.idle_since is None:
            self.idle_since = time.monotonic()
        elif not self.explained and time.monotonic() - self.idle_since > PATIENCE:
            self.explained = True
            stage, engine = next(iter(self.running.items()))
            self.board.said(stage, f"waits: {engine.reason(stage)}")

    def hear(self, event: Event) -> None:
        """Handle an event of a job."""
        stage = event.stage
        if event.kind == "said":
            self.last[stage] = event.text if "error: " in event.text.lower() else self.last.get(stage, "")
            self.board.said(stage, event.text)
        elif event.kind == "placed":
            self.nodes[stage] = event.text
            self.board.now(stage, "running", event.text)
        elif self.running.pop(stage) is self.here:  # the stage has printed the reason itself, unless it was killed
            last = self.last.get(stage, "")
            reason = OUT_OF_MEMORY if last.endswith(KILLED) else BUSY if "it is being blocked by" in last else ""
            self.end(stage, reason if event.kind == "failed" else None)
        elif event.kind == "failed":
            reason = event.text or self.last.get(stage, "").partition(":")[2].strip() or "no reason given"
            self.end(stage, f"{reason}: {OUT_OF_MEMORY}" if reason.endswith(KILLED) else reason)
        else:
            self.end(stage, self.missing(stage))

    def missing(self, stage: str) -> str | None:
        """Why the result of a job is missing here; None if it is not."""
        assert self.away is not None
        try:
            there = settle(stage, self.away.places.remote).done
        except (DistillkitError, OSError) as error:
            return str(error)
        return None if there else "the job succeeded, but its result is not in DVC's cache or remote"

    def end(self, stage: str, why: str | None = None) -> None:
        """Record that a stage is done, or ``why`` it has failed."""
        node = self.nodes.get(stage, "")
        if why is None:
            self.done.add(stage)
        else:
            self.failed[stage] = f"on {node}: {why}" if node and why else why
        self.board.now(stage, "done" if why is None else "failed", node)

    def cancel(self) -> None:
        for engine in self.engines():
            engine.cancel()
        with suppress(BrokenPipeError):  # nobody reads it
            for stage in self.running:
                self.board.now(stage, "stopped")


def name_of(stage: str) -> str:
    """``experts`` of ``folder/dvc.yaml:experts@0``."""
    return stage.rpartition(":")[2].partition("@")[0]


def unheard(error: OSError) -> DistillkitError:
    """The error for output that cannot be written, as in ``| head``. What stdout still holds is dropped."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # sys.stdout is redirected here
    return DistillkitError(
        f"the output of the stages cannot be written ({error.strerror}); they have stopped safely; "
        "run the same command again to continue"
    )
