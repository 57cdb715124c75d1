"""Whose classes an imported set has: none is ever taken for another."""

import pytest

from distillkit.base.errors import ParamsError
from distillkit.selection.imported import Imported

IMPORTED = Imported(1, "x", 64 * "0")
SORTED = ("0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9")  # as folders are


def numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


@pytest.mark.parametrize(
    "classes",
    [
        numbers(12),
        tuple(f"{number:02}" for number in range(12)),
        tuple(map(str, range(1, 10))),
        ("1990", "2000", "2010"),
        ("cat", "dog"),
        ("dog", "cat"),  # as the features of a dataset list them
        ("class1", "class2", "class10"),
        ("n01443537", "n01629819"),
        ("16x16", "8x8", "4x4"),
    ],
)
def test_numbers_can_mean_these(classes):
    IMPORTED.check_classes(numbers(len(classes)), classes)


@pytest.mark.parametrize(
    "classes",
    [
        SORTED,
        ("1", "10", "2", "3", "4", "5", "6", "7", "8", "9"),
        ("2", "0", "1"),
        ("class1", "class10", "class2"),
        ("10", "9"),
    ],
)
def test_numbers_may_mean_others_of_these(classes):
    with pytest.raises(
        ParamsError, match=r"^x has numbers for its classes, and the data's are '.*; expected names; bring"
    ):
        IMPORTED.check_classes(numbers(len(classes)), classes)


@pytest.mark.parametrize("classes", [SORTED, ("class1", "class10", "class2"), ("cat", "dog")])
def test_names_are_taken_at_their_word(classes):
    IMPORTED.check_classes(classes, classes)
    with pytest.raises(
        ParamsError, match=f"^x calls a class '{classes[-1]}'; expected '{classes[0]}', in the order of"
    ):
        IMPORTED.check_classes(classes[::-1], classes)
