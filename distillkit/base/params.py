"""params.yaml, read strictly: an unknown, missing, mistyped or out-of-range entry is one clear line."""

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
    """The whole file as plain data. Raises ParamsError when it is missing, no YAML mapping or has names that none can
    have."""
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
    """A top-level section of named entries, of which there must be one at least."""
    found: dict[str, Any] = section(data, name, dict)
    if not found:
        raise ParamsError(f"{FILE}: {name} is empty; expected at least one entry")
    return found


def shards_of(data: Mapping[str, Any]) -> list[int]:
    """The numbers that ``expert_shards`` lists."""
    shards = section(data, "expert_shards", list[int])
    if not shards or len(set(shards)) != len(shards) or min(shards) < 0:
        expected = "expected distinct numbers from 0 on, at least one; write expert_shards: [0], for example"
        raise ParamsError(f"{FILE}: expert_shards is {shards}; {expected}")
    return shards


def audited(data: Mapping[str, Any]) -> list[str]:
    """The recipes that ``audit`` lists; none where there is no such section."""
    spec: dict[str, Any] = section(data, "audit", dict) if "audit" in data else {}
    return read(spec.get("recipes", []), list[str], "audit.recipes")


def section(data: Mapping[str, Any], name: str, kind: type[T], file: Path = FILE) -> T:
    """Section ``name`` as ``kind``; errors name ``file``."""
    if name not in data:
        close = difflib.get_close_matches(name, map(str, data), n=1)
        mend = f"found {close[0]!r}; rename it" if close else "add it"
        raise ParamsError(f"{file} has no section {name!r}; {mend}")
    return read(data[name], kind, name, file)


def read(value: Any, kind: type[T], where: str, file: Path = FILE) -> T:
    """Plain data as ``kind``, strictly; errors name the place as ``where.key`` in ``file``."""
    try:
        converted: T = convert(value, kind, where)
    except ParamsError as error:
        raise ParamsError(f"{file}: {error}") from None
    return converted


def convert(value: Any, kind: Any, where: str) -> Any:
    """``value`` as ``kind``, which may be a dataclass, a union of which ``value`` decides the branch, or a plain type.

    Dataclasses and unions are ours, because pydantic's messages do not say which branch was meant or whose range check
    failed; plain types are pydantic's.
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
    """The dataclass whose field ``kind`` admits what ``value`` says; without kinds, the first that it can fill."""
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
    """The dataclass ``kind`` from a mapping of its fields, no more and no fewer."""
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
    """A range check's message, which begins with a field's name, under the field's whole path."""
    name = message.removeprefix(where.rsplit(".", maxsplit=1)[-1] + ".")
    return f"{where}.{name}" if name.split()[0].split(".")[0] in known else f"{where}: {message}"


def fits(value: Any, kind: Any) -> bool:
    """Whether ``value`` can be read as the plain type ``kind``."""
    try:
        plain(value, kind, "")
    except ParamsError:
        return False
    return True


def plain(value: Any, kind: Any, where: str, alternative: str = "") -> Any:
    """``value`` as a number, text, literal, or a sequence or mapping of them."""
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
