"""The user's own code behind networks and methods: kept work must not be taken up with another."""

import hashlib
import inspect
import sys
from pathlib import Path
from typing import Any

from distillkit.base.errors import ParamsError
from distillkit.base.files import canonical_json, sha256
from distillkit.data import factories


def own_code(names: str) -> list[tuple[str, str]]:
    """File names and SHA-256 of the user's code behind networks and methods that ``names``, a JSON text, mentions.

    Of a package, all modules count. What was typed into a notebook counts by its text; raises ParamsError where Python
    cannot read that.
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
    """The module's file, or those of the package that it is in; none in a notebook."""
    top = getattr(sys.modules.get(name.partition(".")[0]), "__file__", None)
    if top is not None and Path(top).name == "__init__.py":
        return list(Path(top).parent.rglob("*.py"))
    own = getattr(sys.modules.get(name), "__file__", None)
    return [Path(own)] if own is not None and Path(own).is_file() else []


def text_of(name: str, part: Any) -> str:
    """The source of a function, or of a class's functions."""
    functions = [part] if inspect.isfunction(part) else [f for f in vars(part).values() if inspect.isfunction(f)]
    try:
        return "".join(map(inspect.getsource, functions))
    except (OSError, TypeError):
        raise ParamsError(
            f"the code of {name} cannot be read, so that nobody could tell whether kept work still goes with it; "
            "expected a module; put it into one, or leave folder= out"
        ) from None
