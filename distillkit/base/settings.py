"""Classes of settings in params.yaml: frozen dataclasses that are read strictly."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def settings(cls: type[T]) -> type[T]:
    """Make a frozen dataclass that :mod:`distillkit.base.params` reads strictly; its constructor checks ranges."""
    return read_strictly(dataclass(frozen=True)(cls))


@dataclass_transform(frozen_default=True, kw_only_default=True)
def keyword_settings(cls: type[T]) -> type[T]:
    """:func:`settings` with keyword-only fields, so that optional fields can come before required ones."""
    return read_strictly(dataclass(frozen=True, kw_only=True)(cls))


def read_strictly(cls: type[T]) -> type[T]:
    cls.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]
    return cls
