"""JSON and YAML from other people, read as plain data within limits.

Both have limits on the size of a file and on nesting, and all text must be valid Unicode. JSON has a limit on the size
of numbers. YAML has a limit on the number of values, where an alias counts as all values that it refers to.
"""

import errno
import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

DEEPEST = 64  # levels
MOST = 100_000  # values in YAML; each use of an alias counts
LARGEST = 2.0**128  # just above the largest float32
LONGEST = 2**24  # bytes of a file


class UnreadableError(ValueError):
    """A text cannot be read or exceeds a limit; ``line`` counts from 1, and is None if unknown."""

    def __init__(self, problem: str, line: int | None = None):
        super().__init__(problem)
        self.line = line


def content(path: Path) -> bytes:
    """The bytes of a regular file. Raises UnreadableError for a file of more than ``LONGEST`` bytes, and OSError for
    anything that is not a regular file, because a pipe may never end.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file", str(path))
    if (size := path.stat().st_size) > LONGEST:
        raise UnreadableError(f"it has {size:,} bytes, more than {LONGEST:,}")
    return path.read_bytes()


def read_json(text: str | bytes) -> Any:
    """Parse JSON. Raises UnreadableError for invalid JSON, NaN, infinity, and data beyond the limits."""
    try:
        value = json.loads(text, parse_int=whole, parse_float=finite, parse_constant=finite)
    except RecursionError:
        raise too_deep() from None
    except UnicodeDecodeError:
        raise UnreadableError("it is no UTF-8") from None
    except json.JSONDecodeError as error:
        raise UnreadableError(f"{error.msg}, column {error.colno}", error.lineno) from None
    check_plain(value)
    return value


def whole(digits: str) -> int:
    finite(digits)
    return int(digits)


def finite(digits: str) -> float:
    value = float(digits)
    if not abs(value) < LARGEST:
        raise UnreadableError(f"it holds the number {digits if len(digits) <= 40 else f'{digits[:40]}…'}")
    return value


def check_plain(value: Any) -> None:
    """Raise UnreadableError for data that is nested too deep, or has lone surrogates, which UTF-8 cannot encode."""
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise too_deep()
        for text in (text for part in level for text in texts(part)):
            if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
                raise UnreadableError(f"it holds {text[:40]!a}, which is not valid Unicode")
        level, depth = [inner for part in level for inner in parts(part)], depth + 1


def parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    found = value if isinstance(value, Mapping) else [value]
    return [text for text in found if isinstance(text, str)]


def too_deep() -> UnreadableError:
    return UnreadableError(f"it is nested deeper than {DEEPEST} levels")


def read_yaml(text: bytes) -> Any:
    """Parse YAML as DVC does. Raises UnreadableError for invalid YAML and data beyond the limits."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        check_size(YAML(typ="safe", pure=True).parse(BytesIO(text)))
        value = YAML(typ="safe", pure=True).load(BytesIO(text))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UnreadableError(problem, mark.line + 1 if mark else None) from None
    except UnreadableError:
        raise
    except Exception as error:  # invalid numbers and dates raise errors of many types
        raise UnreadableError(" ".join(str(error).split())[:200]) from None
    check_plain(value)
    return value


def check_size(events: Any) -> None:
    """Raise UnreadableError when the YAML events have too many values. An alias counts as all values that it refers
    to.
    """
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = [(None, 0)]  # the enclosing values: their anchors and sizes
    for event in events:
        kind, anchor, size = type(event).__name__, getattr(event, "anchor", None), 0
        if kind.endswith(("SequenceStartEvent", "MappingStartEvent")):
            open_.append((anchor, 1))
        elif kind == "ScalarEvent":
            size = 1
        elif kind == "AliasEvent":
            if anchor in [name for name, _ in open_]:
                raise UnreadableError(f"what is called {anchor!r} holds itself", event.start_mark.line + 1)
            size = sizes.get(anchor or "", 1)
        elif kind.endswith(("SequenceEndEvent", "MappingEndEvent")):
            anchor, size = open_.pop()
            if anchor is not None:
                sizes[anchor] = size
        open_[-1] = (open_[-1][0], open_[-1][1] + size)
        if len(open_) > DEEPEST:
            raise too_deep()
        if open_[-1][1] > MOST:
            raise UnreadableError(f"it holds more than {MOST:,} values, with every alias written out")


def shown(value: Any, limit: int = 80) -> str:
    """A value as JSON if possible, shortened to ``limit`` characters."""
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # keys that JSON does not allow, or a mapping that contains itself
        text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
