"""Poisoning on purpose: labels that a set is distilled for although they are wrong (Wang et al. 2018)."""

from typing import Any

from torch import Tensor

from distillkit.base.errors import ParamsError
from distillkit.base.settings import settings


@settings
class Attack:
    """Images of ``attack_class`` shall be taken for ``target_class``, all others for what they are.

    Classes are given by name, or by number from 0 on.
    """

    attack_class: str | int
    target_class: str | int

    def numbers(self, class_names: tuple[str, ...]) -> tuple[int, int]:
        """The numbers of both classes. Raises ParamsError when there is none, or both are one."""
        attack, target = (
            number_of(name, getattr(self, name), class_names) for name in ("attack_class", "target_class")
        )
        if attack == target:
            raise ParamsError(f"attack.target_class is {self.target_class!r}, the attack_class; expected another class")
        return attack, target

    def relabelled(self, labels_N: Tensor, class_names: tuple[str, ...]) -> Tensor:
        """The labels (N,) as the attacker wants them."""
        attack, target = self.numbers(class_names)
        return labels_N.masked_fill(labels_N == attack, target)

    def notes(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """What the set says of itself, so that nobody takes it for a harmless one."""
        attack, target = self.numbers(class_names)
        return {
            "warning": "made to do harm in a test: networks trained on this set misclassify one class on purpose",
            "attack_class": class_names[attack],
            "target_class": class_names[target],
            "attack_label": attack,
            "target_label": target,
        }


def number_of(name: str, given: str | int, class_names: tuple[str, ...]) -> int:
    """The number of a class. Raises ParamsError when there is none of this name or number."""
    if isinstance(given, int) and 0 <= given < len(class_names):
        return given
    if given in class_names:
        return class_names.index(str(given))
    expected = f"the name of a class, such as {class_names[0]!r}, or its number, 0 to {len(class_names) - 1}"
    raise ParamsError(f"attack.{name} is {given!r}; expected {expected}")
