"""The texts about a method and its options that are shown to users. They need no import of the method."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, get_type_hints


class About(NamedTuple):
    """The texts about a method that the card, the tables and the plots show.

    ``summary`` is Markdown that names parameters in backticks. ``paper`` is BibTeX, or empty. ``builds_on`` names other
    methods, whose papers are cited as well. ``experts`` says whether the method needs experts or the difficulty that
    they give; where this depends on a setting, the method has a property ``uses_experts``. ``ordered`` says whether its
    sets contain the order in which they must be trained on.
    """

    title: str
    summary: str
    paper: str = ""
    builds_on: tuple[str, ...] = ()
    experts: bool = True
    ordered: bool = False


class Option(NamedTuple):
    """The texts about a setting that comes from a paper: its BibTeX, and a Markdown sentence about its effect.

    A settings class lists its options as ``options``. One value of a setting has an option through :class:`Means` in
    the type.
    """

    paper: str
    sentence: str


class Means(NamedTuple):
    """Metadata of an ``Annotated`` type: the setting uses ``option`` when it has this ``value``."""

    value: object
    option: Option


def options_of(settings: Any) -> Iterator[Option]:
    """Yield the options that ``settings``, and all settings nested in them, use."""
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
