"""``hf://`` in plain ``dvc``: what is added to DVC's modules, each right after it was imported.

DVC has no entry point for filesystems. Three places of it are touched, all or none of them from the user's view: the
table of filesystems, the check of remote addresses, and ``push``, so that a whole push goes into few commits. Where a
place looks other than expected, DVC stays as it is and refuses ``hf://`` itself.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
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
    """Whether uploads wait for more: ``depth`` counts the pushes that run here; ``finish`` sends what waits."""

    depth = 0
    finish: Callable[[], None] = staticmethod(lambda: None)  # the filesystem puts its own here once it is used


def after_import(module: ModuleType) -> None:
    """Add our part to a module of DVC that has just been imported."""
    ADDITIONS[module.__name__](module)


def add_scheme(module: ModuleType) -> None:
    """``dvc_objects.fs``: which class speaks ``hf://``."""
    module.known_implementations.setdefault(SCHEME, IMPLEMENTATION)


def accept_addresses(module: ModuleType) -> None:
    """``dvc.config_schema``: an ``hf://`` address is valid, with these options. A token is none of them."""
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
    """Whether DVC would find our filesystem; without it, it would take the address for a local path."""
    try:
        from dvc_objects.fs import get_fs_cls

        return bool(get_fs_cls({"url": f"{SCHEME}://"}).protocol == SCHEME)
    except Exception:
        return False


def gather_pushes(module: ModuleType) -> None:
    """``dvc.repo.push``: all that one push uploads is gathered."""
    push = module.push

    @wraps(push)
    def gathered(*arguments: Any, **options: Any) -> Any:
        with gathering():
            return push(*arguments, **options)

    setattr(module, "push", gathered)  # noqa: B010  mypy knows no such attribute


@contextmanager
def gathering() -> Iterator[None]:
    """Let uploads wait for more, and send the rest at the end, also when some of them failed for DVC."""
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
    """Send what still waits, at the end of the outermost push."""
    if Gathering.depth == 1:
        Gathering.finish()


ADDITIONS: dict[str, Callable[[ModuleType], None]] = {
    "dvc_objects.fs": add_scheme,
    "dvc.config_schema": accept_addresses,
    "dvc.repo.push": gather_pushes,
}
