"""``hf://`` and forked stages in the ordinary ``dvc`` command: additions to DVC's modules, each made after the module's
import.

DVC has no entry points for them. Three places are changed for ``hf://``: the table of filesystems, the check of remote
addresses, and ``push``, so that a whole push makes few commits. If a place is not as expected, DVC stays unchanged and
rejects ``hf://`` itself. One more is changed for stages: the environment that they get.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

SCHEME = "hf"
IMPLEMENTATION = {
    "class": "distillkit.hub.dvc.filesystem.HubFileSystem",
    "err": "hf:// needs distillkit in the environment of dvc",
}
OPTIONS = ("url", "jobs", "checksum_jobs")
TESTED = "DVC 3.66 and 3.67"


class Gathering:
    """Whether uploads wait for more: ``depth`` is the number of nested pushes; ``finish`` sends the waiting uploads."""

    depth = 0
    finish: Callable[[], None] = staticmethod(lambda: None)  # replaced when the filesystem is imported


def after_import(module: ModuleType) -> None:
    """Add our part to a DVC module that has just been imported."""
    ADDITIONS[module.__name__](module)


def add_scheme(module: ModuleType) -> None:
    """``dvc_objects.fs``: register the class for ``hf://``."""
    module.known_implementations.setdefault(SCHEME, IMPLEMENTATION)


def accept_addresses(module: ModuleType) -> None:
    """``dvc.config_schema``: make ``hf://`` addresses valid, with the options OPTIONS. A token is not an option."""
    check = module.SCHEMA["remote"][str]
    check_ours = module.Schema({option: module.REMOTE_COMMON[option] for option in OPTIONS})

    def checked(data: Mapping[str, Any]) -> Any:
        if not str(data.get("url", "")).startswith(f"{SCHEME}://"):
            return check(data)
        if not is_ready():
            sys.stderr.write(f"distillkit: hf:// does not fit this version of DVC; tested are {TESTED}\n")
            return check(data)
        return check_ours(data)

    module.SCHEMA["remote"] = {str: checked}


def is_ready() -> bool:
    """Whether DVC finds our filesystem. Otherwise it would treat the address as a local path."""
    try:
        from dvc_objects.fs import get_fs_cls

        return bool(get_fs_cls({"url": f"{SCHEME}://"}).protocol == SCHEME)
    except Exception:
        return False


def gather_pushes(module: ModuleType) -> None:
    """``dvc.repo.push``: collect all uploads of a push."""
    push = module.push

    @wraps(push)
    def gathered(*arguments: Any, **options: Any) -> Any:
        with gathering():
            return push(*arguments, **options)

    setattr(module, "push", gathered)  # noqa: B010  mypy does not know this attribute


@contextmanager
def gathering() -> Iterator[None]:
    """A block in which uploads wait for more. At its end the rest is sent, also after an error of DVC."""
    Gathering.depth += 1
    try:
        yield
    except Exception:
        finish()
        raise
    else:
        finish()
    finally:
        Gathering.depth -= 1


def finish() -> None:
    """At the end of the outermost push, send the waiting uploads."""
    if Gathering.depth == 1:
        Gathering.finish()


def fork_stages(module: ModuleType) -> None:
    """``dvc.stage.run``: stages of our pipelines that import torch run as forks, see :mod:`distillkit.process.warm`."""
    prepare = module.prepare_kwargs

    @wraps(prepare)
    def prepared(stage: Any, *arguments: Any, **options: Any) -> Any:
        kwargs = prepare(stage, *arguments, **options)
        with suppress(Exception):  # a stage runs without a server, too
            from distillkit.base.arguments import is_pipeline
            from distillkit.process.startup import SERVER
            from distillkit.process.warm import LIGHT, of_this_process

            ours = "stages/" in str(stage.cmd) and not any(script in str(stage.cmd) for script in LIGHT)
            if ours and is_pipeline(Path(stage.wdir)):
                kwargs["env"].setdefault(SERVER, of_this_process().address)
        return kwargs

    setattr(module, "prepare_kwargs", prepared)  # noqa: B010


ADDITIONS: dict[str, Callable[[ModuleType], None]] = {
    "dvc_objects.fs": add_scheme,
    "dvc.config_schema": accept_addresses,
    "dvc.repo.push": gather_pushes,
    "dvc.stage.run": fork_stages,
}
