"""params.yaml, read strictly: an unknown, missing, mistyped or out-of-range entry is one clear line."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from distillkit.errors import ParamsError

T = TypeVar("T")
FILE = Path("params.yaml")


def load(path: Path = FILE) -> dict[str, Any]:
    """The whole file as plain data. Raises ParamsError when it is missing or no YAML mapping."""
    try:
        data = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist; run from the folder that holds dvc.yaml and {path.name}") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ParamsError(f"{path}{where} is not valid YAML: {problem}") from None
    if not isinstance(data, dict):
        raise ParamsError(f"{path} holds {type(data).__name__}; expected a mapping of sections")
    return data


def section(data: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """Section ``name`` as ``kind``."""
    if name not in data:
        raise ParamsError(f"params.yaml has no section {name!r}{hint(name, data)}; add it")
    return read(data[name], kind, name)


def read(value: Any, kind: type[T], where: str) -> T:
    """Plain data as ``kind``, strictly; errors name the place as ``where.key``."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise ParamsError(f"params.yaml: {explain(error, where, kind)}") from None
    except ParamsError as error:
        raise ParamsError(f"params.yaml: {where}: {error}") from None
    except (TypeError, ValueError) as error:
        raise ParamsError(f"params.yaml: {where} cannot be read: {error}") from None


def explain(error: ValidationError, where: str, kind: Any) -> str:
    """One line for the most telling of pydantic's errors."""
    problems = error.errors(include_url=False)
    problem = most_telling(problems)
    place = ".".join([where, *(str(part) for part in problem["loc"] if not is_branch(part))])
    found, kind_of_problem = problem["input"], problem["type"]
    if kind_of_problem in ("unexpected_keyword_argument", "extra_forbidden"):
        known = known_keys(kind, problem["loc"][:-1])
        return f"{place} is not a parameter{hint(str(problem['loc'][-1]), known)}; expected {', '.join(known)}"
    if kind_of_problem in ("missing", "missing_argument"):
        return f"{place} is missing; add it"
    message = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{place} is {json.dumps(found, default=str)}; expected {message}"


def most_telling(problems: Sequence[Any]) -> Any:
    """Of a union's branches, the one that got furthest: no wrong ``kind``, then the deepest place."""
    wrong = [problem["loc"] for problem in problems if problem["type"] == "literal_error"]

    def rank(problem: Any) -> tuple[bool, int]:
        sibling = any(len(problem["loc"]) >= len(loc) and problem["loc"][: len(loc) - 1] == loc[:-1] for loc in wrong)
        return (len(wrong) < len(problems) and sibling, -len(problem["loc"]))

    return min(problems, key=rank)


def is_branch(part: int | str) -> bool:
    """Whether a step of an error's place only names a branch of a union."""
    return isinstance(part, str) and (part in ("float", "int", "str", "none") or part[:1].isupper() or "[" in part)


def known_keys(kind: Any, loc: Sequence[int | str]) -> list[str]:
    """The keys of the dataclass at ``loc`` inside ``kind``."""
    for part in loc:
        options = [kind, *get_args(kind)]
        by_name = {getattr(option, "__name__", ""): option for option in options if is_dataclass(option)}
        if part in by_name:
            kind = by_name[str(part)]
            continue
        owner = next((option for option in options if is_dataclass(option)), None)
        kind = get_type_hints(owner).get(str(part)) if owner else None
    owner = next((option for option in [kind, *get_args(kind)] if is_dataclass(option)), None)
    return [field.name for field in fields(owner)] if owner else []


def hint(name: str, known: Any) -> str:
    """ ", did you mean …?" when something close to ``name`` is known, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
