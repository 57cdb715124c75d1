"""Sets that others published as pictures with labels: a folder for each class, parquet, or a dataset of the Hub.

They are read like sources: their code never runs, and no path in them leads outside their own files.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillkit.base import files as base_files
from distillkit.base.errors import ParamsError, counted
from distillkit.base.references import parse_reference
from distillkit.data.images import ImageSet, Normalisation, SyntheticSet, channel_statistics
from distillkit.data.origin import SourceInfo, Tally
from distillkit.foreign.labels import checked_classes
from distillkit.foreign.sets import imported_set
from distillkit.package.recipe_json import digest
from distillkit.process.progress import tell, track
from distillkit.sources.decoding import Reading, decode
from distillkit.sources.fetch import open_source
from distillkit.sources.readers import FolderSource, HuggingFaceSource, Source, Split

WHITE_GROUND = 255  # behind transparent pixels


@dataclass(frozen=True)
class Picked:
    """The part of a dataset to import; None means that it is found automatically."""

    size: tuple[int, int] | None = None
    config: str | None = None
    image: str | None = None
    label: str | None = None
    split: str | None = None


def import_pictures(
    place: str, picked: Picked, statistics: Normalisation | None, class_names: tuple[str, ...] | None
) -> SyntheticSet:
    """All images of one split as pixels, in the order that they have there, each class by its name.

    ``statistics`` are for normalisation, by default the images' own. Raises SourceError if images cannot be read, or if
    they have several sizes and ``size`` is not given. Raises ParamsError if names do not match.
    """
    with source_at(place, picked) as source:
        train, _, info, _ = open_source(source)
        notes: Tally = {}
        tensor = decode([train], Reading(picked.size, WHITE_GROUND, None, drop=False), track, notes)[0].images[:]
    for what, (times, where) in notes.items():
        tell(f"{counted(times, 'picture')}: {what}; the first is {where}")
    names = classes_of(train, class_names)
    checked_classes(place, train.labels, len(names), names)
    images = ImageSet(tensor, train.labels, names)
    normalisation = statistics or channel_statistics(tensor)
    if len(normalisation.mean) != tensor.shape[1]:
        given = counted(len(normalisation.mean), "channel")
        found = f"the statistics have {given}, but the images of {place} have {tensor.shape[1]}"
        raise ParamsError(f"{found}; expected the same number; correct --statistics")
    pixels = ImageSet(images.pixels(), images.labels, names)
    imported = {
        "files": [{"name": name_of(place, info), "sha256": checksum(place, info, images)}],
        "saved_as": "pixels",
        "statistics": "given" if statistics is not None else "of the images themselves",
        "labels": "hard",
        **({"licence": info.licence} if info.licence else {}),
    }
    return imported_set(pixels, normalisation, imported)


def classes_of(split: Split, given: tuple[str, ...] | None) -> tuple[str, ...]:
    """The class names of the data, or those given instead, in the same order."""
    if given is not None and len(given) != len(split.class_names):
        found = f"--classes has {len(given)} names, the data {len(split.class_names)} classes"
        raise ParamsError(f"{found}; expected the same number; correct --classes")
    return given or split.class_names


@contextmanager
def source_at(place: str, picked: Picked) -> Iterator[Source]:
    """The source at ``place``; for a parquet file, a folder that has only a copy of it."""
    path = Path(place)
    options: dict[str, Any] = {"config": picked.config, "image": picked.image, "label": picked.label}
    options |= {"train_split": picked.split or "train"}
    if path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            shutil.copyfile(path, Path(folder, "train.parquet"))
            yield HuggingFaceSource(id=folder, test_split=None, **options)
        return
    if not path.is_dir():
        reference = parse_reference(place)
        yield HuggingFaceSource(id=reference.repo, revision=reference.revision, test_split=None, **options)
    elif next(path.rglob("*.parquet"), None) is not None:
        yield HuggingFaceSource(id=place, test_split=None, **options)
    else:
        if wrong := [name for name in ("config", "image", "label") if options[name]]:
            raise ParamsError(f"--{wrong[0]} is given, but {place} has a folder for each class; drop it")
        yield FolderSource(path=place, train_split=picked.split or "train", test_split=None)


def name_of(place: str, info: SourceInfo) -> str:
    """The name of the place, without a path of this machine; on the Hub, with the commit that was read."""
    path = Path(place)
    return path.resolve().name if path.exists() else f"{info.id}@{info.revision}"


def checksum(place: str, info: SourceInfo, images: ImageSet) -> str:
    """SHA-256 of a file, of a folder's list of checksums, or, from the Hub, of the decoded images."""
    path = Path(place)
    if path.is_file():
        return base_files.sha256(path)
    return info.revision.removeprefix("sha256:") if path.is_dir() else digest(images)


def size_told(text: str | None) -> tuple[int, int] | None:
    """Height and width from ``64`` or ``64x48``. Raises ParamsError for anything else."""
    parts = text.split("x") if text is not None else []
    if not parts:
        return None
    if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) <= 4096 for part in parts):
        raise ParamsError(f"--size is {text!r}; expected the side of a square, such as 64, or height x width: 64x48")
    return int(parts[0]), int(parts[-1])


def check_pixels(saved_as: str | None, labels: str | None, index: int | None) -> None:
    """Raise ParamsError for options of files of tensors."""
    options = {"--saved-as": saved_as if saved_as == "normalised" else None, "--labels": labels, "--index": index}
    if wrong := [name for name, value in options.items() if value is not None]:
        raise ParamsError(f"{wrong[0]} is for files of tensors; pictures are pixels with one class each; drop it")
