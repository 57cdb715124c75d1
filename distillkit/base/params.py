"""Strict reading of params.yaml: every unknown, missing, mistyped or out-of-range entry gives one clear line."""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from distillkit.base.errors import ParamsError
from distillkit.base.names import check_recipe_names, hint
from distillkit.base.outside import UnreadableError, content, read_yaml, shown

T = TypeVar("T")
FILE = Path("params.yaml")


def load(path: Path = FILE) -> dict[str, Any]:
    """Read the whole file as plain data.

    Raises ParamsError when it is missing, is not a YAML mapping, or has a recipe with an invalid name.
    """
    try:
        data = read_yaml(content(path))
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist; run from the folder that holds dvc.yaml and {path.name}") from None
    except UnreadableError as error:
        where = f" line {error.line}" if error.line else ""
        raise ParamsError(f"{path}{where} is not valid YAML: {error}; correct it") from None
    if not isinstance(data, dict):
        raise ParamsError(f"{path} holds {shown(data)}; expected a mapping of sections")
    if isinstance(recipes := data.get("recipes"), dict):
        try:
            check_recipe_names(recipes)
        except ParamsError as error:
            raise ParamsError(f"{path}: {error}") from None
    return data


def entries(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A top-level section of named entries. Raises ParamsError when it is missing, empty or not a mapping."""
    found: dict[str, Any] = section(data, name, dict)
    if not found:
        raise ParamsError(f"{FILE}: {name} is empty; expected at least one entry")
    return found


def shards_of(data: Mapping[str, Any]) -> list[int]:
    """The numbers in the list ``expert_shards``. Raises ParamsError unless they are distinct and at least 0."""
    shards = section(data, "expert_shards", list[int])
    if not shards or len(set(shards)) != len(shards) or min(shards) < 0:
        expected = "expected distinct numbers from 0 on, at least one; write expert_shards: [0], for example"
        raise ParamsError(f"{FILE}: expert_shards is {shards}; {expected}")
    return shards


def audited(data: Mapping[str, Any]) -> list[str]:
    """The recipes in the list ``audit.recipes``; empty without this list."""
    spec: dict[str, Any] = section(data, "audit", dict) if "audit" in data else {}
    return read(spec.get("recipes", []), list[str], "audit.recipes")


def section(data: Mapping[str, Any], name: str, kind: type[T], file: Path = FILE) -> T:
    """Section ``name`` as an object of type ``kind``. Raises ParamsError, which names ``file``, if it is missing or
    invalid.
    """
    if name not in data:
        close = difflib.get_close_matches(name, map(str, data), n=1)
        remedy = f"found {close[0]!r}; rename it" if close else "add it"
        raise ParamsError(f"{file} has no section {name!r}; {remedy}")
    return read(data[name], kind, name, file)


def read(value: Any, kind: type[T], where: str, file: Path = FILE) -> T:
    """Convert plain data to ``kind`` strictly. Raises ParamsError, which names the entry ``where.key`` and ``file``."""
    try:
        converted: T = convert(value, kind, where)
    except ParamsError as error:
        raise ParamsError(f"{file}: {error}") from None
    return converted


def convert(value: Any, kind: Any, where: str) -> Any:
    """Convert ``value`` to ``kind``: a dataclass, a plain type, or a union, whose member is chosen by ``value``.

    This module converts dataclasses and unions itself, because pydantic's messages do not say which member was meant or
    which range check failed. pydantic converts plain types.
    """
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    mappings = [option for option in options if is_dataclass(option)]
    others = [option for option in options if option not in mappings and option is not NoneType]
    if value is None and NoneType in options:
        return None
    if others and not (mappings and isinstance(value, Mapping)):
        keys = ", ".join(field.name for mapping in mappings for field in fields(mapping))
        if len(others) > 1 and not any(fits(value, option) for option in others):
            expected = " or ".join(option.__name__ for option in others)
            raise ParamsError(f"{where} is {shown(value)}; expected {expected}")
        kind = next((option for option in others if fits(value, option)), others[0])
        return plain(value, kind, where, f" or a mapping of {keys}" if keys else "")
    if not isinstance(value, Mapping):
        raise ParamsError(f"{where} is {shown(value)}; expected a mapping")
    return build(value, mappings[0] if len(mappings) == 1 else by_kind(value, mappings, where), where)


def by_kind(value: Mapping[str, Any], options: Iterable[Any], where: str) -> Any:
    """Choose the dataclass whose field ``kind`` allows ``value["kind"]``.

    Where the dataclasses have no field ``kind``, choose the first whose required fields are all in ``value``, or else
    the first.
    """
    options = list(options)
    if not all("kind" in get_type_hints(option) for option in options):
        required = {option: {field.name for field in fields(option) if is_required(field)} for option in options}
        return next((option for option, names in required.items() if names <= value.keys()), options[0])
    kinds = {name: option for option in options for name in get_args(get_type_hints(option)["kind"])}
    expected = f"expected one of {', '.join(kinds)}"
    if "kind" not in value:
        raise ParamsError(f"{where}.kind is missing; {expected}")
    chosen = value["kind"]
    if not isinstance(chosen, str) or chosen not in kinds:
        raise ParamsError(f"{where}.kind is {shown(chosen)}{hint(str(chosen), kinds)}; {expected}")
    return kinds[chosen]


def is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def build(value: Mapping[str, Any], kind: Any, where: str) -> Any:
    """Make the dataclass ``kind`` from a mapping of its fields. Raises ParamsError for unknown and missing fields."""
    known = {field.name: field for field in fields(kind)}
    for key in value:
        if key not in known:
            expected = ", ".join(known) or "none"
            raise ParamsError(f"{where}.{key} is not a parameter{hint(str(key), known)}; expected {expected}")
    for name, field in known.items():
        if name not in value and is_required(field):
            raise ParamsError(f"{where}.{name} is missing; add it")
    types = get_type_hints(kind)
    parts = {key: convert(part, types[key], f"{where}.{key}") for key, part in value.items()}
    try:
        return kind(**parts)
    except ParamsError as error:
        raise ParamsError(placed(str(error), where, known)) from None


def placed(message: str, where: str, known: Iterable[str]) -> str:
    """The message of a range check, which begins with a field's name, with the field's full path."""
    name = message.removeprefix(where.rsplit(".", maxsplit=1)[-1] + ".")
    return f"{where}.{name}" if name.split()[0].split(".")[0] in known else f"{where}: {message}"


def fits(value: Any, kind: Any) -> bool:
    """Whether ``value`` is valid for the plain type ``kind``."""
    try:
        plain(value, kind, "")
    except ParamsError:
        return False
    return True


def plain(value: Any, kind: Any, where: str, alternative: str = "") -> Any:
    """Convert ``value`` to a number, text, literal, or a sequence or mapping of these."""
    try:
        return TypeAdapter(kind, config={"strict": True, "allow_inf_nan": False}).validate_json(json.dumps(value))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        if problem["type"] in ("missing", "too_long"):
            raise ParamsError(f"{where} is {shown(value)}; expected {len(get_args(kind))} entries") from None
        place = ".".join([where, *map(str, problem["loc"])])
        expected = problem["msg"].removeprefix("Input should be ")
        expected = {"an object": "a mapping", "a valid array": "a list"}.get(expected, expected)
        raise ParamsError(f"{place} is {shown(problem['input'])}; expected {expected}{alternative}") from None
    except (TypeError, ValueError) as error:
        raise ParamsError(f"{where} is {shown(value)}, which cannot be read: {error}") from None
