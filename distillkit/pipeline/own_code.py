"""The user's own code of networks and methods. Kept work is continued only if this code is unchanged."""

import hashlib
import inspect
import sys
from pathlib import Path
from typing import Any

from distillkit.base.errors import ParamsError
from distillkit.base.files import canonical_json, sha256
from distillkit.networks import factories


def own_code(names: str) -> list[tuple[str, str]]:
    """Names and SHA-256 of the user's code for the networks and methods in ``names``, a JSON text.

    For a package, all modules count. For code in a notebook, its text counts. Raises ParamsError when Python cannot
    read that text.
    """
    known: dict[str, Any] = {**factories.FACTORIES, **factories.OTHERS}
    used = {name: part for name, part in known.items() if canonical_json(name) in names}
    files = {name: files_of_module(part.__module__) for name, part in used.items()}
    typed = [(name, text_of(name, part)) for name, part in used.items() if not files[name]]
    found = sorted({path for paths in files.values() for path in paths})
    return [(path.name, sha256(path)) for path in found] + [
        (name, hashlib.sha256(text.encode()).hexdigest()) for name, text in typed
    ]


def files_of_module(name: str) -> list[Path]:
    """The module's file, or all files of its top-level package; empty for a notebook."""
    top = getattr(sys.modules.get(name.partition(".")[0]), "__file__", None)
    if top is not None and Path(top).name == "__init__.py":
        return list(Path(top).parent.rglob("*.py"))
    own = getattr(sys.modules.get(name), "__file__", None)
    return [Path(own)] if own is not None and Path(own).is_file() else []


def text_of(name: str, part: Any) -> str:
    """The source of a function or class, and of what it uses from its notebook: functions, classes, base classes,
    constants.
    """
    waiting, found, told = [part], {}, dict[str, str]()
    while waiting:
        used = waiting.pop()
        if inspect.isclass(used):
            waiting += [base for base in used.__bases__ if base.__module__ == part.__module__]
        for function in [used] if inspect.isfunction(used) else filter(inspect.isfunction, vars(used).values()):
            if function in found:
                continue
            found[function] = source_of(name, function)
            names = {key: function.__globals__.get(key) for key in function.__code__.co_names}
            told |= {key: repr(value) for key, value in names.items() if isinstance(value, int | float | str | tuple)}
            kinds = [value for value in names.values() if inspect.isclass(value) or inspect.isfunction(value)]
            waiting += [value for value in kinds if value.__module__ == part.__module__]
    return canonical_json([sorted(found.values()), told])


def source_of(name: str, function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        raise ParamsError(
            f"the code of {name} cannot be read, so distillkit cannot tell whether kept work still fits it; "
            "expected a module; put it into one, or leave folder= out"
        ) from None
