"""A set made elsewhere, by any method's code, taken through this pipeline beside our own."""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Generator

from distillkit.errors import ParamsError, check_range, check_sha256
from distillkit.images import ImageSet, SyntheticSet
from distillkit.protocol import About, Material
from distillkit.settings import settings

ABOUT = About(
    title="Imported",
    summary="Images made elsewhere, by other code, imported as they are from the files named here. Who made them "
    "and under which licence is not recorded: look it up before you share them.",
    experts=False,
)


@settings
class Imported:
    """The set in ``file``, an artifact of ``distillkit import`` with ``ipc`` images of every class, as it is.

    ``sha256`` says which file is meant; because it is a parameter, DVC notices when another takes its place.
    """

    about: ClassVar = ABOUT
    ipc: int
    file: str
    sha256: str

    def __post_init__(self) -> None:
        check_range("ipc", self.ipc, 1)
        check_sha256("sha256", self.sha256, "as distillkit import told them")

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        """The pixels as imported. Class names and normalisation become the real data's, which all sets here share."""
        del generator
        imported, real = material.need_imported(), material.real
        self.check_against(imported, real)
        return replace(
            imported,
            class_names=real.class_names,
            normalisation=material.normalisation,
            source_row=torch.full_like(imported.source_row, -1),  # rows of another source, if of any
            notes=noted(imported),
        )

    def check_against(self, imported: SyntheticSet, real: ImageSet) -> None:
        """Raise ParamsError unless the set has ``ipc`` images of every class, shaped as the real ones."""
        shape, names = tuple(imported.images.shape[1:]), imported.class_names
        if shape != real.image_shape:
            raise ParamsError(f"{self.file} has images of {shape}; expected {real.image_shape}; change data.size")
        if len(names) != len(real.class_names):
            raise ParamsError(
                f"{self.file} has {len(names)} classes; expected {len(real.class_names)}, as the data has; "
                "import the set of this dataset"
            )
        numbers = tuple(map(str, range(len(names))))
        pairs = zip(names, real.class_names, strict=True)
        if names != numbers and (other := next(((a, b) for a, b in pairs if a != b), None)):
            raise ParamsError(
                f"{self.file} calls a class {other[0]!r}; expected {other[1]!r}, in the order of the data's classes; "
                "import it again with classes in that order, or without names if the order is the same"
            )
        counts = imported.images_per_class
        if set(counts) != {self.ipc}:
            found = counts[0] if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
            raise ParamsError(f"ipc is {self.ipc}, but {self.file} has {found} images per class; expected the same")


def noted(imported: SyntheticSet) -> dict[str, Any]:
    """What the set says of itself, with the statistics it came with; those of its pixels' origin stay in the notes."""
    told = {"mean": imported.normalisation.mean.tolist(), "std": imported.normalisation.std.tolist()}
    return {**imported.notes, "imported": {**told, **imported.notes.get("imported", {})}}
