"""A set made by other code, which this pipeline evaluates and packages as its own sets."""

import re
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Generator

from distillkit.base.about import About
from distillkit.base.errors import ParamsError, check_range, check_sha256
from distillkit.base.settings import settings
from distillkit.data.images import SyntheticSet
from distillkit.matching.method import Material

ABOUT = About(
    title="Imported",
    summary="Images made elsewhere, by other code, imported as they are from the files named here. Look up "
    "who made them, and under which licence, before you share them.",
    experts=False,
)


@settings
class Imported:
    """The set in ``file``, an artifact of ``distillkit import`` with ``ipc`` images of every class, unchanged.

    ``sha256`` is the checksum of the file. It is a parameter, so that DVC notices another file of the same name.
    """

    about: ClassVar = ABOUT
    ipc: int
    file: str
    sha256: str

    def __post_init__(self) -> None:
        check_range("ipc", self.ipc, 1)
        check_sha256("sha256", self.sha256, "as distillkit import told them")

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        """The imported images, with the class names and the normalisation of the real data. Raises ParamsError if the
        set does not have the data's classes and image shape, and ``ipc`` images of every class.
        """
        del generator
        imported, real = material.need_imported(), material.real
        self.check_against(imported, real.image_shape, real.class_names)
        return replace(
            imported,
            class_names=real.class_names,
            normalisation=material.normalisation,
            source_row=torch.full_like(imported.source_row, -1),  # its rows, if any, are those of another source
            notes=noted(imported),
        )

    def check_against(self, imported: SyntheticSet, shape: tuple[int, int, int], class_names: tuple[str, ...]) -> None:
        """Raise ParamsError unless the set has images of this shape (C, H, W), these classes, and ``ipc`` of each."""
        if (own := tuple(imported.images.shape[1:])) != shape:
            raise ParamsError(f"{self.file} has images of {own}; expected {shape}; change data.size")
        self.check_classes(imported.class_names, class_names)
        counts = imported.images_per_class
        if set(counts) != {self.ipc}:
            found = counts[0] if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
            raise ParamsError(f"ipc is {self.ipc}, but {self.file} has {found} images per class; expected the same")

    def check_classes(self, names: tuple[str, ...], expected: tuple[str, ...]) -> None:
        """Raise ParamsError unless ``names`` are the data's classes, ``expected``, in their order.

        A set without class names has the numbers 0, 1, ... as names. They are accepted if the order of the data's
        classes :func:`is_clear`.
        """
        if len(names) != len(expected):
            wanted = f"expected {len(expected)}, as the data has; import the set of this dataset"
            raise ParamsError(f"{self.file} has {len(names)} classes; {wanted}")
        numbers = tuple(map(str, range(len(names))))
        if names == numbers:
            if not is_clear(expected):
                raise ParamsError(
                    f"{self.file} has numbers for its classes, and the data's are {listed(expected)}, in another order "
                    "than that of their numbers, so that nobody can tell which is which; expected names; bring its "
                    "labels into the data's order, and import it with --classes in that order"
                )
        elif other := next(((a, b) for a, b in zip(names, expected, strict=True) if a != b), None):
            raise ParamsError(
                f"{self.file} calls a class {other[0]!r}; expected {other[1]!r}, in the order of the data's classes; "
                "import it again with classes in that order, or without names if the order is the same"
            )


def is_clear(class_names: tuple[str, ...]) -> bool:
    """Whether number k can only mean the k-th class.

    True if the names are in :func:`natural` order. If not, false if all names are numbers, or if the names are sorted
    as text: '10' is then before '2', but other code may have numbered the classes with '2' first.
    """
    by_number = tuple(sorted(class_names, key=natural))
    by_letter = tuple(sorted(class_names))
    counted = all(name.isdecimal() for name in class_names)
    return class_names == by_number or not (counted or class_names == by_letter)


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A sort key for names that compares runs of digits as numbers and everything else as text."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(not part[0].isdigit(), int(part) if part[0].isdigit() else 0, part) for part in parts]


def listed(names: tuple[str, ...], most: int = 4) -> str:
    return ", ".join(map(repr, names[:most])) + " …" * (len(names) > most)


def noted(imported: SyntheticSet) -> dict[str, Any]:
    """The notes of the imported set, with ``mean`` and ``std`` of its own normalisation if the notes lack these."""
    told = {"mean": imported.normalisation.mean.tolist(), "std": imported.normalisation.std.tolist()}
    return {**imported.notes, "imported": {**told, **imported.notes.get("imported", {})}}
