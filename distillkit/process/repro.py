"""``dvc repro`` with independent stages side by side.

Each stage that is not up to date runs as a ``dvc repro --single-item`` of its own, as soon as the stages before it in
DVC's graph are done. DVC lets go of its lock while a stage's command runs, refuses paths that another process has in
use, and reads dvc.lock anew, under its lock, before it writes to it; so the processes do not disturb one another. At
the end this process becomes an ordinary ``dvc repro``, which has nothing left to do, or does it.
"""

import json
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
from typing import Any, NamedTuple, NoReturn

from distillkit.base.errors import DistillkitError
from distillkit.base.files import write_text
from distillkit.process.interruption import check, end_with_parent, note, reacting
from distillkit.process.lockfile import keep_stages, put_back

PYTHON = [sys.executable, "-P"]  # a folder named dvc in the user's repository is not DVC
ONE_STAGE = "import sys; from distillkit.process.repro import one_stage; one_stage(int(sys.argv[1]), sys.argv[2])"
TOLD = ("dvc.cli", "dvc.stage.run", "dvc.stage.cache")  # DVC's loggers: errors, what runs, what is restored
LAST_LINES = (
    0.5  # seconds: what a stage has said when it ends is there; what it leaves in the background may hold the pipe
)


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

    try:
        forget_the_dead(say)
    except DvcException as error:
        raise DistillkitError(str(error)) from error
    if jobs > 1:
        try:
            plan = plan_for(targets)
            try:
                failed = run_all(plan, jobs, say)
            finally:
                put_in_order(plan.locks)
        except DvcException as error:
            raise DistillkitError(str(error)) from error
        if failed:
            beside = "what ran beside it is done and kept; mend it and run the same command again"
            raise DistillkitError(f"{', '.join(failed)} failed, see above; {beside}")
    sys.stdout.flush()
    check()
    os.execv(PYTHON[0], [*PYTHON, "-m", "dvc", "--wait-for-lock", "repro", *targets])


def forget_the_dead(say: Callable[[str], None]) -> None:
    """Mend what DVC would ask a person to: half a dvc.lock or rwlock, and pids in it that have another owner now."""
    from dvc.lock import make_lock
    from dvc.repo import Repo, lock_repo
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, SCHEMA
    from voluptuous import Invalid

    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        put_back(Path(repo.root_dir), say)
        path, guard = Path(repo.tmp_dir, RWLOCK_FILE), Path(repo.tmp_dir, RWLOCK_LOCK)
        with make_lock(str(guard), tmp_dir=repo.tmp_dir, hardlink_lock=repo.config["core"].get("hardlink_lock", False)):
            try:
                in_use = SCHEMA(json.loads(path.read_text(encoding="utf-8")))
            except FileNotFoundError:
                return
            except (ValueError, Invalid):
                path.unlink()
                say(f"removed {os.path.relpath(path)}, which a process that was killed has left unreadable")
                return
            kept = {
                "write": {at: info for at, info in in_use["write"].items() if may_live(info)},
                "read": {at: own for at, infos in in_use["read"].items() if (own := [*filter(may_live, infos)])},
            }
            if kept != in_use:
                write_text(path, json.dumps(kept))


def may_live(entry: Mapping[str, Any]) -> bool:
    """Whether the process of an entry of the rwlock may run still; of pids that nobody has, DVC knows better."""
    import psutil

    try:
        command = " ".join(psutil.Process(entry["pid"]).cmdline())
    except psutil.Error:
        return True
    return "dvc" in command or any(word in command for word in entry["cmd"].split()[-1:] or [""])


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
    ended: SimpleQueue[str | Exception] = SimpleQueue()
    try:
        while running or (waiting and not failed):
            ready = [stage for stage in waiting if plan.before[stage] <= done and not failed]
            for stage in ready[: jobs - len(running)]:
                waiting.remove(stage)
                with reacting(note):  # what is begun is known to be running
                    running[stage] = begin(stage, ended, say)
            event = ended.get()
            if isinstance(event, Exception):
                raise unheard(event)
            if running.pop(event).wait():
                failed.append(event)
            done.add(event)
    except BaseException:
        interrupt(running.values())
        raise
    return failed


def begin(stage: str, ended: SimpleQueue[str | Exception], say: Callable[[str], None]) -> subprocess.Popen[str]:
    """Start one stage, in a session of its own; its lines are said under its name, its end is queued.

    So is what keeps its lines from being said; they are read all the same.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until one_stage can end in order
    try:
        process = subprocess.Popen(
            [*PYTHON, "-c", ONE_STAGE, str(os.getpid()), stage],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # without our terminal, which would stop whoever reads from it
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def listen() -> None:
        assert process.stdout is not None
        heard = True
        with process.stdout as lines:
            for line in lines:
                if heard and line.strip():
                    try:
                        say(f"{stage}: {line.rstrip()}")
                    except (OSError, ValueError) as error:
                        heard = False
                        ended.put(error)

    def wait() -> None:
        process.wait()
        listener.join(LAST_LINES)
        ended.put(stage)

    listener = Thread(target=listen, daemon=True)
    listener.start()
    Thread(target=wait, daemon=True).start()
    return process


def unheard(error: Exception) -> DistillkitError:
    """The error for lines that cannot be said, as in ``| head``; what stdout still holds is dropped."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    reason = error.strerror if isinstance(error, OSError) else error
    return DistillkitError(
        f"what the stages say cannot be written ({reason}); they have ended in order; run the same command to go on"
    )


def interrupt(processes: Iterable[subprocess.Popen[str]]) -> None:
    """Ctrl-C for all of them, stopped or not; they are waited for: stages end in order and keep what they have."""
    for process in processes:
        for number in (signal.SIGINT, signal.SIGCONT):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
    for process in processes:
        process.wait()


def one_stage(parent: int, address: str) -> NoReturn:
    """``dvc repro --single-item``, saying only what is worth reading; this process ends, at latest with its parent.

    Ctrl-C works here even where a script has started us in the background, which ignores it: our parent asks so.
    """
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        end_with_parent()
        if os.getppid() != parent:
            sys.exit(128 + signal.SIGTERM)
        from dvc.cli import main

        for name in TOLD:
            logging.getLogger(name).setLevel(logging.INFO)
        sys.exit(main(["--wait-for-lock", "repro", "--quiet", "--single-item", address]))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def put_in_order(locks: Mapping[Path, Sequence[str]]) -> None:
    """Sort the stages of each dvc.lock as ``dvc repro`` would have: the same file, whichever stage ended first."""
    from dvc.repo import Repo, lock_repo
    from dvc.utils.serialize import load_yaml

    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        for path, order in locks.items():
            found = list(load_yaml(path).get("stages", ())) if path.exists() else []
            wanted = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
            if found != wanted:
                keep_stages(path, wanted)
