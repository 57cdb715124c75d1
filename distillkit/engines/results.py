"""Inputs and results of stages in DVC's cache, run-cache and remote, which are the only state that jobs share.

The controller and its jobs use the same functions. The run-cache finds a result by the stage's command, inputs and
parameters, so it does not matter which machine made it, or how often.
"""

import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from distillkit.base.errors import DistillkitError
from distillkit.process import lockfile


class State(NamedTuple):
    """Whether a stage is up to date. ``key`` is its key in DVC's run-cache, empty if DVC cannot keep its result."""

    done: bool
    key: str = ""


def settle(address: str, remote: str | None) -> State:
    """Bring a stage up to date without running it, if its result is in the run-cache, here or on the ``remote``.

    Then its outputs are checked out and it is in dvc.lock, as after ``dvc repro``.
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
            dep.hash_info = known  # from dvc.lock: DVC compares with it below
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
    """DVC's repository, locked, with ``remote`` as its default, and one stage. DVC prints only warnings."""
    from dvc.repo import Repo, lock_repo

    logging.getLogger("dvc").setLevel(logging.WARNING)
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo), repo.scm_context(quiet=True):
        repo.config["core"] |= {"remote": remote} if remote else {}
        [stage] = repo.stage.collect(address)
        yield repo, stage


@contextmanager
def reaching(remote: str | None) -> Iterator[None]:
    """A block that uses DVC, perhaps with a remote. Errors of DVC or of the remote's library become one line."""
    from dvc.exceptions import DvcException

    try:
        yield
    except DistillkitError:
        raise
    except Exception as error:  # each kind of remote raises other errors
        if remote is None and isinstance(error, DvcException):
            raise DistillkitError(lockfile.words(error)) from error
        if remote is None:
            raise
        found = " ".join(str(error).split())[:300] or type(error).__name__
        raise DistillkitError(
            f"DVC remote {remote} fails: {found}; check it: dvc push -r {remote}; then run the same command again"
        ) from error


def remote_of(repo: Any, name: str) -> Any:
    """The object database of a remote that contains the run-cache."""
    return repo.cloud.get_remote_odb(name, "push --run-cache", hash_name="md5-dos2unix")


def copy_entry(source: Any, target: Any, key: str) -> None:
    """Copy the entries of ``key`` from the run-cache of one store to that of another."""
    from dvc import fs

    folder = source.fs.join(source.path, "runs", key[:2], key)
    if not source.fs.exists(folder):
        return
    for path in source.fs.find(folder):
        name = source.fs.name(path)
        fs.generic.copy(source.fs, path, target.fs, target.fs.join(target.path, "runs", key[:2], key, name))


def publish(address: str, key: str, remote: str) -> None:
    """Push the result of a stage: first its files, then the entry of the run-cache that names them."""
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    with opened(address, remote) as (repo, stage), reaching(remote):
        value = _get_cache_hash(to_single_stage_lockfile(stage))
        for hashes in repo.stage_cache.get_used_objs([(key, value)]).values():
            transferred(repo.cloud.push(hashes), remote)
        copy_entry(repo.cache.legacy, remote_of(repo, remote), key)


def transferred(result: Any, remote: str | None) -> None:
    """Raise DistillkitError unless DVC has copied everything."""
    if result.failed:
        raise DistillkitError(
            f"{len(result.failed)} files could not be copied to or from DVC remote {remote}; run the same command again"
        )


def needed(repo: Any, stage: Any) -> list[Any]:
    """The outputs under DVC that a stage reads: those of other stages that exist, and data of ``dvc add``.

    A stage reads its dependencies and all paths in its command: it may depend only on a digest of a file that it reads.
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
    """The words of a command line, split as a shell does, or at spaces if that fails."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def offer(repo: Any, stage: Any, remote: str, offered: set[str]) -> None:
    """Push the inputs of a stage, except those that have been ``offered`` before."""
    for out in needed(repo, stage):
        if out.hash_info.value in offered:
            continue
        for odb, hashes in out.get_used_objs().items():
            transferred(repo.cloud.push(hashes, odb=odb), remote)
        offered.add(out.hash_info.value)


def supply(address: str, remote: str | None) -> None:
    """Check out the inputs of a stage, from the cache, or from the remote if there is one."""
    with opened(address, remote) as (repo, stage), reaching(remote):
        for out in needed(repo, stage):
            if remote is not None:
                for odb, hashes in out.get_used_objs().items():
                    transferred(repo.cloud.pull(hashes, odb=odb), remote)
            out.checkout(force=True)
