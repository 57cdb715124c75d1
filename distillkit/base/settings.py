"""What may stand in params.yaml: frozen dataclasses that refuse unknown keys when they are read."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def settings(cls: type[T]) -> type[T]:
    """A frozen dataclass that :mod:`distillkit.base.params` reads strictly; ranges are checked on construction."""
    return read_strictly(dataclass(frozen=True)(cls))


@dataclass_transform(frozen_default=True, kw_only_default=True)
def keyword_settings(cls: type[T]) -> type[T]:
    """:func:`settings` whose fields are given by keyword only, so that optional ones may stand first."""
    return read_strictly(dataclass(frozen=True, kw_only=True)(cls))


def read_strictly(cls: type[T]) -> type[T]:
    cls.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]
    return cls
