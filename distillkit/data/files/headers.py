"""The forms of the entries of an artifact's header that are checked when the artifact is opened.

Entries may be missing, except those of a :class:`Record`. Entries without a form here are allowed and not checked. This
module does without pydantic, so that artifacts can be read where it is not installed.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distillkit.base.outside import shown


@dataclass(frozen=True)
class Kind:
    """The form of a single value: ``words`` describe it, ``fits`` tests a value."""

    words: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Each:
    """A list or a mapping of any length whose values all have one form."""

    container: type
    form: "Form"


class Record(dict[str, "Form"]):
    """A mapping in which all the named entries must be present."""


Form = Kind | Each | Mapping[str, "Form"]

ANY = Kind("anything", lambda value: True)  # noqa: ARG005
TEXT = Kind("text", lambda value: isinstance(value, str))
PLAIN = Kind("a few plain words", lambda value: isinstance(value, str) and bool(re.fullmatch(r"[\w .+-]{0,80}", value)))
FILE = Kind("a file name", lambda value: isinstance(value, str) and bool(re.fullmatch(r"[\w-]+\.safetensors", value)))
NUMBER = Kind("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool))
COUNT = Kind("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0)
SHARE = Kind("a number from 0 to 1", lambda value: NUMBER.fits(value) and 0 <= value <= 1)

PARAMS = Each(dict, ANY)
SOURCE: Form = {
    "kind": PLAIN,
    "id": TEXT,
    "revision": TEXT,
    "licence": TEXT,
    "homepage": TEXT,
    "citation": TEXT,
    "params": PARAMS,
}
PROVENANCE: Form = {
    "recipe": TEXT,
    "method": TEXT,
    "params": PARAMS,
    "seed": COUNT,
    "source": SOURCE,
    "source_images": {"train": COUNT, "test": COUNT},
}
NOTES: Form = {
    "holdout_accuracy_by_window_start": Each(dict, SHARE),
    "attack": Record(attack_class=TEXT, target_class=TEXT, attack_label=COUNT, target_label=COUNT),
    "imported": {
        "files": Each(list, Record(name=TEXT, sha256=TEXT)),
        "saved_as": PLAIN,
        "labels": PLAIN,
        "mean": Each(list, NUMBER),
        "std": Each(list, NUMBER),
    },
}
SIDE = Kind("a number from 1 to 65535", lambda value: COUNT.fits(value) and 0 < value < 2**16)
PARQUET = Kind("a parquet file", lambda value: isinstance(value, str) and bool(re.fullmatch(r"[\w-]+\.parquet", value)))
STORAGE = Kind("float32, float16 or uint8", lambda value: value in ("float32", "float16", "uint8"))
SHARDS = Each(dict, Each(list, Record(file=FILE, rows=COUNT, sha256=TEXT)))
FORMS: Form = {
    "kind": PLAIN,
    "distillkit": PLAIN,
    "source": SOURCE,
    "shards": SHARDS,
    "images_in": Record(file=PARQUET, sha256=TEXT, shape=Each(list, SIDE), storage=STORAGE),
    "provenance": PROVENANCE,
    "notes": NOTES,
    "trained_on": TEXT,
}


def misfits(value: Any, form: Form, where: str) -> Iterator[str]:
    """Yield a message for each part of ``value`` that does not have its form; ``where`` is the path of ``value``."""
    if isinstance(form, Kind):
        if not form.fits(value):
            yield f"{where} {shown(value)}; expected {form.words}"
        return
    container = form.container if isinstance(form, Each) else dict
    if not isinstance(value, container) or not isinstance(value, list | dict):
        yield f"{where} {shown(value)}; expected a {'mapping' if container is dict else 'list'}"
        return
    if isinstance(form, Record) and (missing := form.keys() - set(value)):
        yield f"{where} without {min(missing)}; expected one"
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        inner = form.form if isinstance(form, Each) else form.get(str(key), ANY)
        yield from misfits(part, inner, f"{where}.{key}")
