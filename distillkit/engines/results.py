"""What a stage needs and what it gives, in DVC's own cache, run-cache and remote; the only state that jobs share.

The controller and its jobs use the same functions. The run-cache knows results by content (command, inputs and
parameters), so it does not matter who has made one, nor how often.
"""

import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from distillkit.base.errors import DistillkitError


class State(NamedTuple):
    """How a stage stands. ``key`` is what DVC's run-cache knows it by; it has none where DVC cannot keep its result."""

    done: bool
    key: str = ""


def settle(address: str, remote: str | None) -> State:
    """Bring a stage up to date without running it, if its result is in the run-cache, here or on the ``remote``.

    Its outputs are then checked out and dvc.lock has it, as after ``dvc repro``.
    """
    from dvc.stage.cache import RunCacheNotFoundError, _can_hash, _get_stage_hash

    with opened(address, remote) as (repo, stage), reaching(remote):
        if not stage.changed():
            return State(done=True)
        if stage.frozen:
            return State(done=False)
        if not _can_hash(stage) or any(not (out.use_cache or out.is_metric or out.is_plot) for out in stage.outs):
            return State(done=False)
        locked = [dep.hash_info for dep in stage.deps]
        stage.save_deps()
        key = _get_stage_hash(stage)
        for dep, known in zip(stage.deps, locked, strict=True):
            dep.hash_info = known  # of dvc.lock, by which DVC tells below whether the stage has changed
        if remote is not None:
            copy_entry(remote_of(repo, remote), repo.cache.legacy, key)
        stage.remove_outs(ignore_remove=False, force=False)  # as DVC does before it runs a stage
        try:
            repo.stage_cache.restore(stage, pull=remote is not None)
        except RunCacheNotFoundError:
            return State(done=False, key=key)
        stage.save()
        stage.commit()
        stage.dump(update_pipeline=False)
        return State(done=True, key=key)


@contextmanager
def opened(address: str, remote: str | None = None) -> Iterator[tuple[Any, Any]]:
    """DVC's repository, locked, and one stage of it; ``remote`` is the default. DVC says nothing but warnings."""
    from dvc.repo import Repo, lock_repo

    logging.getLogger("dvc").setLevel(logging.WARNING)
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo), repo.scm_context(quiet=True):
        repo.config["core"] |= {"remote": remote} if remote else {}
        [stage] = repo.stage.collect(address)
        yield repo, stage


@contextmanager
def reaching(remote: str | None) -> Iterator[None]:
    """A block in which DVC works, perhaps with a remote. What it or the remote's library raises becomes one line."""
    from dvc.exceptions import DvcException

    try:
        yield
    except DistillkitError:
        raise
    except Exception as error:  # each kind of remote has errors of its own
        if remote is None and isinstance(error, DvcException):
            raise DistillkitError(str(error)) from error
        if remote is None:
            raise
        found = " ".join(str(error).split())[:300] or type(error).__name__
        raise DistillkitError(
            f"DVC remote {remote} fails: {found}; check it: dvc push -r {remote}; then run the same command again"
        ) from error


def remote_of(repo: Any, name: str) -> Any:
    """The part of a remote that has the run-cache."""
    return repo.cloud.get_remote_odb(name, "push --run-cache", hash_name="md5-dos2unix")


def copy_entry(source: Any, target: Any, key: str) -> None:
    """Copy what the run-cache of one store has under ``key`` to another store."""
    from dvc import fs

    folder = source.fs.join(source.path, "runs", key[:2], key)
    if not source.fs.exists(folder):
        return
    for path in source.fs.find(folder):
        name = source.fs.name(path)
        fs.generic.copy(source.fs, path, target.fs, target.fs.join(target.path, "runs", key[:2], key, name))


def publish(address: str, key: str, remote: str) -> None:
    """Push what a stage has given: first its files, then the entry of the run-cache that names them."""
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    with opened(address, remote) as (repo, stage), reaching(remote):
        value = _get_cache_hash(to_single_stage_lockfile(stage))
        for hashes in repo.stage_cache.get_used_objs([(key, value)]).values():
            transferred(repo.cloud.push(hashes), remote)
        copy_entry(repo.cache.legacy, remote_of(repo, remote), key)


def transferred(result: Any, remote: str | None) -> None:
    """Raise unless DVC has copied everything."""
    if result.failed:
        raise DistillkitError(
            f"{len(result.failed)} files could not be copied to or from DVC remote {remote}; run the same command again"
        )


def needed(repo: Any, stage: Any) -> list[Any]:
    """Outputs under DVC that a stage reads and that are made: those of other stages, and data that somebody has added.

    What its command names counts as well as its dependencies: a stage may depend on a digest of what it reads.
    """

    def overlap(one: str, other: str) -> bool:
        return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")

    commands = [stage.cmd] if isinstance(stage.cmd, str) else stage.cmd or []
    named = [Path(stage.wdir, word) for command in commands for word in words(command)]
    read = [dep.fs_path for dep in stage.deps if dep.protocol == "local"] + [os.path.normpath(path) for path in named]
    known = (out for out in repo.index.outs if out.use_cache and out.protocol == "local" and out.hash_info)
    kept = [out for out in known if out.stage.addressing != stage.addressing]
    return [out for out in kept if any(overlap(out.fs_path, path) for path in read)]


def words(command: str) -> list[str]:
    """The words of a command line; those between spaces where a shell would understand more than we do."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def offer(repo: Any, stage: Any, remote: str, offered: set[str]) -> None:
    """Push what a stage needs, but what has been ``offered`` before."""
    for out in needed(repo, stage):
        if out.hash_info.value in offered:
            continue
        for odb, hashes in out.get_used_objs().items():
            transferred(repo.cloud.push(hashes, odb=odb), remote)
        offered.add(out.hash_info.value)


def supply(address: str, remote: str | None) -> None:
    """Check out what a stage needs, from the cache, or from the remote where there is one."""
    with opened(address, remote) as (repo, stage), reaching(remote):
        for out in needed(repo, stage):
            if remote is not None:
                for odb, hashes in out.get_used_objs().items():
                    transferred(repo.cloud.pull(hashes, odb=odb), remote)
            out.checkout(force=True)
