"""``dvc repro`` with independent stages side by side.

Each stage that is not up to date runs as a ``dvc repro --single-item`` of its own, as soon as the stages before it in
DVC's graph are done. DVC lets go of its lock while a stage's command runs, refuses paths that another process has in
use, and reads dvc.lock anew, under its lock, before it writes to it; so the processes do not disturb one another. At
the end this process becomes an ordinary ``dvc repro``, which has nothing left to do, or does it.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple, NoReturn

from distillkit.errors import DistillkitError
from distillkit.interruption import end_with_parent

PYTHON = [sys.executable, "-P"]  # a folder named dvc in the user's repository is not DVC
ONE_STAGE = "import sys; from distillkit.repro import one_stage; one_stage(sys.argv[1])"
TOLD = ("dvc.cli", "dvc.stage.run", "dvc.stage.cache")  # DVC's loggers: errors, what runs, what is restored


class Plan(NamedTuple):
    """``before``: for each stage, in dvc's order, those it waits for; ``stale``: those that may have to run.

    ``locks`` has, for each dvc.lock, the names of its stages in the order in which ``dvc repro`` would leave them.
    """

    before: Mapping[str, frozenset[str]]
    stale: frozenset[str]
    locks: Mapping[Path, Sequence[str]]


def repro(targets: Sequence[str], jobs: int, say: Callable[[str], None]) -> NoReturn:
    """Bring ``targets``, by default all of dvc.yaml, up to date, ``jobs`` stages at a time; this process ends."""
    from dvc.exceptions import DvcException

    if jobs > 1:
        try:
            plan = plan_for(targets)
            failed = run_all(plan, jobs, say)
            put_in_order(plan.locks)
        except DvcException as error:
            raise DistillkitError(str(error)) from error
        if failed:
            beside = "what ran beside it is done and kept; mend it and run the same command again"
            raise DistillkitError(f"{', '.join(failed)} failed, see above; {beside}")
    sys.stdout.flush()
    os.execv(PYTHON[0], [*PYTHON, "-m", "dvc", "--wait-for-lock", "repro", *targets])


def plan_for(targets: Sequence[str]) -> Plan:
    from dvc.repo import Repo, lock_repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
    from dvc.utils.serialize import load_yaml

    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        graph = get_active_graph(repo.index.graph)
        stages = plan_repro(graph, collect_stages(repo, targets or ["dvc.yaml"]))
        changed = repo.status(list(targets) or ["dvc.yaml"], with_deps=True, check_updates=False)
        before, stale, locks = {}, set[str](), dict[Path, list[str]]()
        for stage in stages:
            before[stage.addressing] = frozenset(upstream.addressing for upstream in graph.successors(stage))
            if stage.addressing in changed or before[stage.addressing] & stale:
                stale.add(stage.addressing)
            if name := getattr(stage, "name", None):
                path = Path(stage.path).with_suffix(".lock")
                order = locks.setdefault(path, list(load_yaml(path).get("stages", ())) if path.exists() else [])
                order += [name] * (name not in order)
    return Plan(before, frozenset(stale), locks)


def run_all(plan: Plan, jobs: int, say: Callable[[str], None]) -> list[str]:
    """Run what is stale; the stages that failed. After a failure none is begun, and those that run are waited for."""
    waiting = [stage for stage in plan.before if stage in plan.stale]
    done = set(plan.before) - plan.stale
    failed: list[str] = []
    running: dict[str, subprocess.Popen[str]] = {}
    ended: SimpleQueue[str] = SimpleQueue()
    try:
        while running or (waiting and not failed):
            ready = [stage for stage in waiting if plan.before[stage] <= done and not failed]
            for stage in ready[: jobs - len(running)]:
                waiting.remove(stage)
                running[stage] = begin(stage, ended, say)
            stage = ended.get()
            if running.pop(stage).wait():
                failed.append(stage)
            done.add(stage)
    except BaseException:
        interrupt(running.values())
        raise
    return failed


def begin(stage: str, ended: SimpleQueue[str], say: Callable[[str], None]) -> subprocess.Popen[str]:
    """Start one stage, in a process group of its own; its lines are said under its name, its end is queued."""
    process = subprocess.Popen(
        [*PYTHON, "-c", ONE_STAGE, stage],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    )

    def listen() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if line.strip():
                    say(f"{stage}: {line.rstrip()}")
        ended.put(stage)

    Thread(target=listen, daemon=True).start()
    return process


def interrupt(processes: Iterable[subprocess.Popen[str]]) -> None:
    """Ctrl-C for all of them; they are waited for, because stages end in order and keep what they have."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    for process in processes:
        process.wait()


def one_stage(address: str) -> NoReturn:
    """``dvc repro --single-item``, saying only what is worth reading; this process ends, at latest with its parent."""
    try:
        end_with_parent()
        from dvc.cli import main

        for name in TOLD:
            logging.getLogger(name).setLevel(logging.INFO)
        sys.exit(main(["--wait-for-lock", "repro", "--quiet", "--single-item", address]))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def put_in_order(locks: Mapping[Path, Sequence[str]]) -> None:
    """Sort the stages of each dvc.lock as ``dvc repro`` would have: the same file, whichever stage ended first."""
    from dvc.repo import Repo, lock_repo
    from dvc.utils.serialize import modify_yaml

    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        for path, order in locks.items():
            if not path.exists():
                continue
            with modify_yaml(path) as data:
                stages = data["stages"]
                names = [name for name in order if name in stages]
                data["stages"] = {name: stages[name] for name in [*names, *(stages.keys() - set(names))]}
