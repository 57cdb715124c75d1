"""Images in Python objects: map-style torch datasets of (image, label), and arrays."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from distillkit.base.errors import SourceError
from distillkit.data.images import ImageSet, RealData
from distillkit.data.origin import Found, SourceInfo, Tally, count
from distillkit.data.rows import chunks
from distillkit.process.interruption import check
from distillkit.process.progress import tell
from distillkit.sources.decoding import Reading, Track, decode, remarks
from distillkit.sources.fetch import DataSpec, Splits, assembled, check_classes, split_off
from distillkit.sources.pictures import WHITE, picture_pixels, resized, unreadable
from distillkit.sources.readers import DigitsSource, Split, labelled, listed

KIND = "python"
MOST_CLASSES = 100_000
SHAPES = "a PIL image, a tensor (C, H, W) or an array (H, W, C) of uint8, or of floats from 0 to 1"


def from_datasets(
    train: Any, test: Any | None, class_names: Sequence[str] | None, name: str, spec: DataSpec, track: Track
) -> RealData:
    """The images of two torch datasets in the pipeline's form; without ``test``, a part of ``train`` is used for it.

    Every field of ``spec`` is used except ``source``. Raises SourceError unless the objects are map-style datasets of
    (image, label), and as :func:`~distillkit.sources.fetch.fetch` does.
    """
    notes: Tally = {}
    known = class_names or names_of(train)
    if known is not None and len(set(map(str, known))) != len(known):
        raise SourceError(f"class_names are {', '.join(map(str, known))}; expected a different name for each class")
    first = read_split(train, "train", None if known is None else tuple(map(str, known)), spec, notes, track)
    if test is None:
        first, second = split_off(first, spec.test_fraction, spec.split_seed)
    else:
        second = read_split(test, "test", first.class_names, spec, notes, track)
    check_classes(first, second)
    info, found = SourceInfo(KIND, name, "", ""), Found(test=None if test is None else "test", notes=notes)
    data = assembled(Splits(first, second, info, found), spec, track, {"kind": KIND, "name": name})
    hashed = hashlib.sha256()
    for images in (data.train, data.test):
        for part in chunks(images.images):
            hashed.update(part.numpy().data)
        hashed.update(images.labels.numpy().data)
    return replace(data, info=replace(data.info, revision=f"sha256-{hashed.hexdigest()[:16]}"))


def images_of(dataset: Any, name: str, class_names: tuple[str, ...], channels: int, track: Track) -> ImageSet:
    """The images of a torch dataset whose labels are indices of ``class_names``; grey images get ``channels`` channels.

    Raises SourceError if the dataset has other class names, and as :func:`from_datasets` does.
    """
    named = tuple(names_of(dataset) or class_names)
    if named != class_names:
        raise SourceError(
            f"the {name} dataset has the classes {listed(named)}; expected {listed(class_names)}, as the set has; give "
            f"the {name} split of the same source"
        )
    spec, notes = DataSpec(DigitsSource()), dict[str, tuple[int, str]]()  # its source is not read
    split = read_split(dataset, name, class_names, spec, notes, track)
    pixels = decode([split], Reading(None, spec.background, spec.white, drop=False), track, notes)[0].images[:]
    colours = channels if pixels.shape[1] == 1 else 1
    return ImageSet(pixels.repeat(1, colours, 1, 1), split.labels, named)


def inner(dataset: Any) -> Any:
    """The dataset inside a Subset, or inside a ConcatDataset whose parts are of one kind."""
    parts = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    if hasattr(dataset, "classes") or not isinstance(parts, list) or parts[0] is None:
        return dataset
    found = [inner(part) for part in parts]
    kinds = {(type(part), str(getattr(part, "classes", None))) for part in found}
    return found[0] if len(kinds) == 1 else dataset


def names_of(dataset: Any) -> Sequence[str] | None:
    """The class names in the form of torchvision's datasets, or None."""
    found = getattr(inner(dataset), "classes", None)
    return None if found is None else [part[0] if isinstance(part, tuple) else str(part) for part in found]


def read_split(
    dataset: Any, name: str, class_names: tuple[str, ...] | None, spec: DataSpec, notes: Tally, track: Track
) -> Split:
    """Read a dataset once, each row as 8-bit pixels of ``spec.size``. Without names, classes are 0 to the largest
    label.

    Raises SourceError for anything but a map-style dataset of (image, label).
    """
    check_map_style(dataset, name)
    pictures: list[Image.Image] = []
    labels: list[int] = []
    for row in track(range(len(dataset)), f"reading {name} images", len(dataset)):
        check()
        where = f"{name} row {row}"
        try:
            item = dataset[row]
        except Exception as error:  # a dataset may raise any type of error
            raise unreadable(where, error) from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            how = ": [(row['image'], row['label']) for row in dataset], for example" if isinstance(item, dict) else ""
            raise SourceError(f"{where} is {type(item).__name__}; expected (image, label); wrap it{how}")
        labels.append(as_label(item[1], where))
        pictures.append(as_picture(item[0], where, spec, notes))
    check_first_label(labels, name, class_names)
    tell_if_random(dataset, name, lambda item: as_picture(item[0], name, spec, {}), pictures)
    if class_names is None:
        if (largest := max(labels, default=0)) >= MOST_CLASSES:
            raise SourceError(f"the {name} dataset has label {largest}; expected 0 to classes - 1; number the classes")
        class_names = tuple(map(str, range(largest + 1)))
    return labelled(name, labels, class_names, lambda row: pictures[row])


def check_map_style(dataset: Any, name: str) -> None:
    """Raise SourceError for what is no map-style dataset, with what to give in its place."""
    kind = type(dataset).__name__
    if isinstance(dataset, type):
        kind, remedy = f"the class {dataset.__name__}", f"give {dataset.__name__}(...)"
    elif isinstance(dataset, torch.Tensor | np.ndarray):
        remedy = "give images and labels to dk.from_arrays(images, labels)"
    elif isinstance(dataset, DataLoader):
        remedy = "give its dataset"
    elif not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        kind += ", which has no __len__ or no __getitem__"
        remedy = "list an iterable one first, or give its images to dk.from_arrays"
    else:
        return
    raise SourceError(f"the {name} dataset is {kind}; expected a map-style Dataset of (image, label); {remedy}")


def tell_if_random(
    dataset: Any, name: str, read: Callable[[Any], Image.Image], pictures: Sequence[Image.Image], rows: int = 5
) -> None:
    """Warn if one of the first rows is another image when it is read again, because of random augmentation."""
    for row, before in enumerate(pictures[:rows]):
        if read(dataset[row]).tobytes() != before.tobytes():
            tell(
                f"warning: {name} row {row} is a different image each time that it is read; the first one was used; "
                "leave random augmentation out of the dataset"
            )
            return


def as_label(label: Any, where: str) -> int:
    """The class index. Raises SourceError for anything else."""
    if isinstance(label, torch.Tensor | np.ndarray | np.generic) and label.ndim == 0:
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, int):
        if shape := tuple(getattr(label, "shape", ())):
            remedy = "give labels.argmax(1) if they are one-hot" if len(shape) == 1 else "give images, then labels"
            raise SourceError(f"{where} has a label of shape {shape}; expected a number; {remedy}")
        found = f"{type(label).__name__} {str(label)[:40]!r}"
        remedy = "convert it with int()" if isinstance(label, float) and label.is_integer() else "number the classes"
        raise SourceError(f"{where} has label {found}; expected a whole number from 0; {remedy}")
    if label < 0:
        raise SourceError(f"{where} has label {label}; expected a whole number from 0; leave out what has no label")
    return label


def check_first_label(labels: Sequence[int], name: str, class_names: Sequence[str] | None) -> None:
    """Raise SourceError if the classes are numbered from 1, not from 0."""
    if min(labels, default=0) == 1 and (class_names is None or max(labels) == len(class_names)):
        raise SourceError(f"the {name} labels start at 1, up to {max(labels)}; expected them from 0; subtract 1")


def as_picture(image: Any, where: str, spec: DataSpec, notes: Tally) -> Image.Image:
    """An image of a dataset as 8-bit grey or RGB of ``spec.size``. Raises SourceError if that is not possible."""
    if isinstance(image, Image.Image):
        try:
            read = picture_pixels(image, spec.background, spec.white or WHITE)
        except Exception as error:  # decoders raise errors of many types
            raise unreadable(where, error) from error
        for remark in remarks(read, spec.background):
            count(notes, remark, where)
        pixels = read.values
    else:
        pixels = eight_bits(channels_first(image, where), where, notes)
    pixels = resized(pixels, spec.size)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def channels_first(image: Any, where: str) -> np.ndarray:
    """A tensor or array as (C, H, W), with C 1 or 3."""
    if isinstance(image, torch.Tensor):
        values, order = image.detach().cpu().numpy(), "(C, H, W)"
    elif isinstance(image, np.ndarray):
        values, order = (image.transpose(2, 0, 1) if image.ndim == 3 else image), "(H, W, C)"
    else:
        raise SourceError(f"{where} has an image of type {type(image).__name__}; expected {SHAPES}")
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[0] not in (1, 3) or 0 in values.shape:
        shape, other = tuple(image.shape), "" if isinstance(image, torch.Tensor) else ", or give a tensor (C, H, W)"
        remedy = "reshape it" if len(shape) == 1 else f"permute it{other}"
        raise SourceError(f"{where} has an image of shape {shape}; expected {order} of 1 or 3 channels; {remedy}")
    return values


def eight_bits(values: np.ndarray, where: str, notes: Tally) -> np.ndarray:
    """uint8 values unchanged; floats from 0 to 1 rounded to 8 bits, with a note if that changes them."""
    if values.dtype == np.uint8:
        return values
    if not np.issubdtype(values.dtype, np.floating):
        raise SourceError(f"{where} has an image of {values.dtype}; expected {SHAPES}; convert it")
    low, high = float(values.min()), float(values.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        remedy = "divide by 255, or by another value of white"
        if np.isnan(low):
            remedy = "leave out the image, or replace NaN"
        elif low < 0 or high < 10:
            remedy = "leave Normalize out of the transform (distillkit normalises by itself), or divide by white"
        raise SourceError(f"{where} has pixels from {low:.3g} to {high:.3g}; expected 0 to 1; {remedy}")
    exact = np.clip(values, 0, 1) * 255
    levels: np.ndarray = np.round(exact).astype(np.uint8)
    if np.abs(exact - levels).max() > 1e-2:
        count(notes, "images of floats, rounded to 8 bits", where)
    return levels


class Rows:
    """Images (N, ...) and labels (N,) as a map-style dataset. Raises SourceError when one is None or their numbers
    differ; ``prefix`` is that of the arguments' names.
    """

    def __init__(self, images: Any, labels: Any, prefix: str = ""):
        given = {f"{prefix}images": images, f"{prefix}labels": labels}
        if lacking := [name for name, part in given.items() if part is None]:
            raise SourceError(f"{lacking[0]} is missing; expected {' and '.join(given)}; give both")
        if len(images) != len(labels):
            told = f"there are {len(images)} {prefix}images and {len(labels)} {prefix}labels"
            raise SourceError(f"{told}; expected equal numbers")
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        return self.images[row], self.labels[row]
