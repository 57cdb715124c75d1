"""Which stages ``dvc repro`` would run, by DVC's own graph; and the order of stages in dvc.lock."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distillkit.base.files import write_text
from distillkit.process.lockfile import keep_stages, put_back, read_rwlock


class Plan(NamedTuple):
    """``before`` gives, for each stage in DVC's order, the stages that it waits for. ``stale`` stages may have to run.

    ``locks`` gives, for each dvc.lock, the names of its stages in the order in which ``dvc repro`` would write them.
    """

    before: Mapping[str, frozenset[str]]
    stale: frozenset[str]
    locks: Mapping[Path, Sequence[str]]


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
                if path not in locks:
                    locks[path] = list(load_yaml(path).get("stages", ())) if path.exists() else []
                locks[path] += [name] * (name not in locks[path])
    return Plan(before, frozenset(stale), locks)


def forget_the_dead(say: Callable[[str], None]) -> None:
    """Repair what killed processes left and DVC would ask the user to repair.

    These are an incomplete dvc.lock or rwlock, and entries of the rwlock whose process ID another program has now.
    """
    from dvc.lock import make_lock
    from dvc.repo import Repo, lock_repo
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        put_back(Path(repo.root_dir), say)
        path, guard = Path(repo.tmp_dir, RWLOCK_FILE), Path(repo.tmp_dir, RWLOCK_LOCK)
        with make_lock(str(guard), tmp_dir=repo.tmp_dir, hardlink_lock=repo.config["core"].get("hardlink_lock", False)):
            if (in_use := read_rwlock(path)) is None:
                path.unlink()
                say(f"removed {os.path.relpath(path)}, which a killed process left unreadable")
                return
            kept = {
                "write": {at: info for at, info in in_use["write"].items() if may_live(info)},
                "read": {at: own for at, infos in in_use["read"].items() if (own := [*filter(may_live, infos)])},
            }
            if kept != in_use:
                write_text(path, json.dumps(kept))


def may_live(entry: Mapping[str, Any]) -> bool:
    """Whether the process of an entry of the rwlock may still run. True if no process has its ID: DVC handles that."""
    import psutil

    try:
        command = " ".join(psutil.Process(entry["pid"]).cmdline())
    except psutil.Error:
        return True
    return "dvc" in command or any(word in command for word in entry["cmd"].split()[-1:] or [""])


def put_in_order(locks: Mapping[Path, Sequence[str]]) -> None:
    """Sort the stages of each dvc.lock as ``dvc repro`` would, so that it does not matter which stage ended first."""
    from dvc.repo import Repo, lock_repo
    from dvc.utils.serialize import load_yaml

    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        for path, order in locks.items():
            found = list(load_yaml(path).get("stages", ())) if path.exists() else []
            wanted = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
            if found != wanted:
                keep_stages(path, wanted)
