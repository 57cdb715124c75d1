"""Names of recipes and packages: one rule for params.yaml, the pipeline, the package and ``distillkit import``."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from distillkit.base.errors import ParamsError

LETTERS = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
DEVICES = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.ASCII)  # no file of Windows, whatever follows the first dot
LONGEST = 200  # characters; most file systems take 255 bytes, and temporary names are longer
TAKEN = "default"  # the config that datasets looks for


def is_plain(name: str) -> bool:
    """Whether every system takes ``name`` for a file or folder of that name, and for no other."""
    safe = LETTERS.fullmatch(name) and not name.endswith(".") and len(name) <= LONGEST
    return bool(safe) and not DEVICES.fullmatch(name.partition(".")[0].casefold())


def is_recipe_name(name: str) -> bool:
    """Whether ``name`` is plain and none that DVC takes for a path in params.yaml, a command for an option, or
    ``datasets`` for no config."""
    return is_plain(name) and "." not in name and name[0] != "-" and name.casefold() != TAKEN


def check_package_name(name: str) -> None:
    """Raise ParamsError unless a package can be called so."""
    if not is_plain(name):
        expected = "letters, digits, '-', '_' and '.', not beginning or ending with '.', and no device of Windows"
        raise ParamsError(f"package name is {name!r}; expected {expected}; rename it")


def check_recipe_names(names: Iterable[Any]) -> None:
    """Raise ParamsError unless recipes can be called so, side by side."""
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str):
            raise ParamsError(f"recipes has the name {name!r}, which YAML reads as no text; write it in quotes")
        if not is_recipe_name(name):
            raise ParamsError(
                f"recipes has the name {name[:LONGEST]!r}; expected letters, digits, '-' and '_', not beginning with "
                f"'-', and neither {TAKEN!r} nor a device of Windows; rename it, to {recipe_name(name)!r} for example"
            )
        if (other := seen.setdefault(name.casefold(), name)) != name:
            found = f"the names {other!r} and {name!r}, one file for some systems"
            raise ParamsError(f"recipes has {found}; expected names that differ, whatever the case; rename one")


def recipe_name(text: str) -> str:
    """``text`` as recipes can be called: accents dropped, and hyphens for what is no letter, digit or ``_``."""
    if is_recipe_name(text):
        return text
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_]+", "-", ascii_text).strip("-")[: LONGEST // 2].rstrip("-") or "imported"
    return name if is_recipe_name(name) else f"imported-{name}"


def hint(name: str, known: Iterable[str]) -> str:
    """ ", did you mean …?" when something close to ``name`` is known, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def check_recipe(data: Mapping[str, Any], name: str) -> None:
    """Raise ParamsError unless params.yaml has a recipe called so, if it has recipes."""
    recipes = data.get("recipes")
    if isinstance(recipes, Mapping) and name not in recipes:
        found = ", ".join(recipes) or "none"
        raise ParamsError(f"params.yaml has no recipes.{name}{hint(name, recipes)}; found {found}")
