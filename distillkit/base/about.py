"""What people read of a method and of its options, without the method itself."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, get_type_hints


class About(NamedTuple):
    """What people read of a method: in the card, in tables and plots.

    ``summary`` is Markdown that names parameters in backticks; ``paper`` is BibTeX, or empty; ``builds_on`` are other
    methods whose papers are cited as well; ``experts`` says whether it works from experts or the difficulty they give
    (where a setting decides, the method has a property ``uses_experts``), ``ordered`` whether its sets carry the order
    that they are to be trained on in.
    """

    title: str
    summary: str
    paper: str = ""
    builds_on: tuple[str, ...] = ()
    experts: bool = True
    ordered: bool = False


class Option(NamedTuple):
    """What people read of a setting that comes from a paper: its BibTeX, and a sentence of Markdown on what it does.

    Settings have theirs as ``options``; a value of a setting has its own through :class:`Means` in the type.
    """

    paper: str
    sentence: str


class Means(NamedTuple):
    """In an ``Annotated`` type: a setting of this ``value`` is this ``option``."""

    value: object
    option: Option


def options_of(settings: Any) -> Iterator[Option]:
    """Those that the settings, and all settings in them, use."""
    if not is_dataclass(settings):
        return
    yield from getattr(settings, "options", ())
    types = get_type_hints(type(settings), include_extras=True)
    values = {part.name: getattr(settings, part.name) for part in fields(settings)}
    for name, value in values.items():
        for note in getattr(types[name], "__metadata__", ()):
            if isinstance(note, Means) and note.value == value:
                yield note.option
    for value in values.values():
        yield from options_of(value)
