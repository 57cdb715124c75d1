"""Deliberate poisoning: a set is distilled for wrong labels of one class (Wang et al. 2018)."""

from typing import Any

from torch import Tensor

from distillkit.base.errors import ParamsError
from distillkit.base.settings import settings


@settings
class Attack:
    """The aim: networks classify images of ``attack_class`` as ``target_class``, and all other images correctly.

    A class is given by its name or its number from 0.
    """

    attack_class: str | int
    target_class: str | int

    def numbers(self, class_names: tuple[str, ...]) -> tuple[int, int]:
        """The numbers of both classes. Raises ParamsError when one does not exist, or both are the same."""
        attack, target = (
            number_of(name, getattr(self, name), class_names) for name in ("attack_class", "target_class")
        )
        if attack == target:
            raise ParamsError(f"attack.target_class is {self.target_class!r}, the attack_class; expected another class")
        return attack, target

    def relabelled(self, labels_N: Tensor, class_names: tuple[str, ...]) -> Tensor:
        """The labels (N,), with ``attack_class`` replaced by ``target_class``."""
        attack, target = self.numbers(class_names)
        return labels_N.masked_fill(labels_N == attack, target)

    def notes(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """Metadata of the set that warns of the attack."""
        attack, target = self.numbers(class_names)
        return {
            "warning": "made to do harm in a test: networks trained on this set misclassify one class on purpose",
            "attack_class": class_names[attack],
            "target_class": class_names[target],
            "attack_label": attack,
            "target_label": target,
        }


def number_of(name: str, given: str | int, class_names: tuple[str, ...]) -> int:
    """The number of the class ``given``. Raises ParamsError when there is no such name or number."""
    if isinstance(given, int) and 0 <= given < len(class_names):
        return given
    if given in class_names:
        return class_names.index(str(given))
    expected = f"the name of a class, such as {class_names[0]!r}, or its number, 0 to {len(class_names) - 1}"
    raise ParamsError(f"attack.{name} is {given!r}; expected {expected}")
