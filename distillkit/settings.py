"""What may stand in params.yaml: frozen dataclasses that refuse unknown keys when they are read."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def settings(cls: type[T]) -> type[T]:
    """A frozen dataclass that :mod:`distillkit.params` reads strictly; ranges are checked on construction."""
    cls.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]
    return dataclass(frozen=True)(cls)
