"""Names of recipes and packages: one rule for params.yaml, the pipeline, the package and ``distillkit import``."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from distillkit.base.errors import ParamsError

LETTERS = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
DEVICES = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.ASCII)  # no file names on Windows, with any extension
LONGEST = 200  # characters; most file systems allow 255 bytes, and temporary names are longer
TAKEN = "default"  # the library datasets reserves this config name


def is_plain(name: str) -> bool:
    """Whether ``name`` is a valid file name on every system."""
    safe = LETTERS.fullmatch(name) and not name.endswith(".") and len(name) <= LONGEST
    return bool(safe) and not DEVICES.fullmatch(name.partition(".")[0].casefold())


def is_recipe_name(name: str) -> bool:
    """Whether ``name`` is a valid recipe name: plain, and without special meaning to DVC, commands and ``datasets``.

    DVC reads a "." in it as a path in params.yaml. Commands read a leading "-" as an option. ``datasets`` reserves
    "default".
    """
    return is_plain(name) and "." not in name and name[0] != "-" and name.casefold() != TAKEN


def check_package_name(name: str) -> None:
    """Raise ParamsError unless ``name`` is a valid package name."""
    if not is_plain(name):
        expected = "letters, digits, '-', '_' and '.', not beginning or ending with '.', and no device of Windows"
        raise ParamsError(f"package name is {name!r}; expected {expected}; rename it")


def check_recipe_names(names: Iterable[Any]) -> None:
    """Raise ParamsError unless all names are valid recipe names and no two differ only in case."""
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str):
            raise ParamsError(f"recipes has the name {name!r}, which YAML does not read as text; write it in quotes")
        if not is_recipe_name(name):
            raise ParamsError(
                f"recipes has the name {name[:LONGEST]!r}; expected letters, digits, '-' and '_', not beginning with "
                f"'-', and neither {TAKEN!r} nor a device of Windows; rename it, to {recipe_name(name)!r} for example"
            )
        if (other := seen.setdefault(name.casefold(), name)) != name:
            found = f"the names {other!r} and {name!r}, the same file on some systems"
            raise ParamsError(f"recipes has {found}; expected names that differ, whatever the case; rename one")


def recipe_name(text: str) -> str:
    """``text`` as a valid recipe name: unchanged if it is one, else shortened, without accents, and with hyphens for
    all characters but A-Z, a-z, 0-9 and ``_``.
    """
    if is_recipe_name(text):
        return text
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_]+", "-", ascii_text).strip("-")[: LONGEST // 2].rstrip("-") or "imported"
    return name if is_recipe_name(name) else f"imported-{name}"


def hint(name: str, known: Iterable[str]) -> str:
    """ " (did you mean …?)" when a known name is close to ``name``, else an empty text."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def check_recipe(data: Mapping[str, Any], name: str) -> None:
    """Raise ParamsError if params.yaml has recipes, but none of this name."""
    recipes = data.get("recipes")
    if isinstance(recipes, Mapping) and name not in recipes:
        found = ", ".join(recipes) or "none"
        raise ParamsError(f"params.yaml has no recipes.{name}{hint(name, recipes)}; found {found}")
