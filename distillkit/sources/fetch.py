"""Where real images come from: scikit-learn's digits, a Hugging Face dataset, image folders, torchvision.

A source is opened into splits whose images are not decoded yet. Labels are checked, a missing test split is taken from
the training images, classes are capped, and only the images that remain are decoded, into one uint8 tensor.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from distillkit.base.errors import SourceError, check_range
from distillkit.base.randomness import seeded
from distillkit.base.settings import settings
from distillkit.data.images import Found, ImageSet, RealData, SourceInfo, Tally, channel_statistics, count
from distillkit.data.whitening import zca
from distillkit.process.interruption import check, interrupt, reacting
from distillkit.sources.copies import find_copies, tally_copies
from distillkit.sources.folders import open_folder
from distillkit.sources.huggingface import open_huggingface
from distillkit.sources.licences import check_licence
from distillkit.sources.pictures import WHITE, Pixels, picture_pixels, resized, unreadable
from distillkit.sources.readers import (
    DigitsSource,
    FolderSource,
    HuggingFaceSource,
    OpenedSource,
    Source,
    Split,
    TorchvisionSource,
    folder_name,
    listed,
    open_digits,
    open_torchvision,
)

Track = Callable[[Iterable[int], str], Iterable[int]]


Item = TypeVar("Item")


@settings
class ChannelWise:
    """Networks see (pixel − mean) / std, by the mean and deviation of each channel."""

    kind: Literal["channel"] = "channel"


@settings
class ZCA:
    """Networks see whitened images; ``eps`` is in squared pixels, see :func:`~distillkit.data.whitening.zca`."""

    kind: Literal["zca"]
    eps: float = 0.1

    def __post_init__(self) -> None:
        check_range("normalisation.eps", self.eps, 1e-8, 1e3)


@settings
class DataSpec:
    """Which images: ``size`` is (height, width); the caps are images per class, drawn at random by ``split_seed``.

    ``background`` is the grey level behind what is transparent; ``white`` is the value of white in 16-bit pixels, 65535
    unless given. ``duplicates`` says what becomes of test images that are training images too, and of training images
    that repeat another of their class. ``normalisation`` is how all networks of the pipeline see images.
    """

    source: Source
    size: tuple[int, int] | None = None
    test_fraction: float = 0.25
    split_seed: int = 0
    per_class: int | None = None
    test_per_class: int | None = None
    licence: str | None = None
    normalisation: ChannelWise | ZCA = ChannelWise()
    background: int = 255
    white: int | None = None
    duplicates: Literal["keep", "drop"] = "keep"

    def __post_init__(self) -> None:
        check_range("data.size", min(self.size or (1, 1)), 1)
        check_range("data.test_fraction", self.test_fraction, 0.01, 0.99)
        check_range("data.split_seed", self.split_seed, 0, 2**63 - 1)
        check_range("data.per_class", 1 if self.per_class is None else self.per_class, 1)
        check_range("data.background", self.background, 0, 255)
        check_range("data.white", WHITE if self.white is None else self.white, 1, WHITE)
        check_licence("data.licence", self.licence)
        check_range("data.test_per_class", 1 if self.test_per_class is None else self.test_per_class, 1)


def untracked(items: Iterable[Item], description: str) -> Iterable[Item]:
    """The default ``track``: shows nothing."""
    del description
    return items


def fetch(spec: DataSpec, track: Track = untracked) -> RealData:
    """The images that ``spec`` names, as uint8 with the statistics of the training images.

    ``track(rows, description)`` may wrap an iterable to show progress. Raises SourceError for data it cannot trust.
    """
    with reacting(interrupt):  # downloads
        splits = open_splits(spec)
    return assembled(splits, spec, track)


def assembled(
    splits: "Splits", spec: DataSpec, track: Track = untracked, source: Mapping[str, Any] | None = None
) -> RealData:
    """The images of opened splits, capped, decoded and with their statistics. ``source`` is recorded in place of the
    spec's, where one is given.
    """
    train, test, info, found = splits
    train, test = cap(train, spec.per_class, spec.split_seed), cap(test, spec.test_per_class, spec.split_seed)
    notes = dict(found.notes)
    train_images, test_images = decode((train, test), spec, track, notes)
    copies = find_copies(train_images, train, test_images)
    tally_copies(copies, train, test, spec.duplicates == "drop", notes)
    if spec.duplicates == "drop":
        train, train_images = train.take(~copies.train), train_images[~copies.train]
        test, test_images = test.take(~copies.test), test_images[~copies.test]
        check_classes(train, test)
    whitening = zca(train_images, spec.normalisation.eps) if isinstance(spec.normalisation, ZCA) else None
    return RealData(
        train=ImageSet(train_images, train.labels, train.class_names),
        test=ImageSet(test_images, test.labels, test.class_names),
        normalisation=channel_statistics(train_images)._replace(whitening=whitening),
        info=replace(
            info,
            licence=spec.licence or info.licence or "unknown",
            params=recorded_params(spec) | ({"source": source} if source else {}),
        ),
        found=replace(found, notes=notes),
    )


class Splits(NamedTuple):
    """As :class:`OpenedSource`, with a test split in any case."""

    train: Split
    test: Split
    info: SourceInfo
    found: Found


def open_splits(spec: DataSpec) -> Splits:
    """What there is to train and to test on, with the same classes; nothing is decoded."""
    train, test, info, found = open_source(spec.source)
    if test is None:
        found = replace(found, test=None)
        train, test = split_off(train, spec.test_fraction, spec.split_seed)
    check_classes(train, test)
    return Splits(train, test, info, found)


def open_source(source: Source) -> OpenedSource:
    match source:
        case DigitsSource():
            return open_digits()
        case HuggingFaceSource():
            return open_huggingface(source)
        case FolderSource():
            return open_folder(source)
        case TorchvisionSource():
            return open_torchvision(source)


def recorded_params(spec: DataSpec) -> dict[str, Any]:
    """``spec`` as JSON values; of an absolute path only the last component, so that no machine's paths leak.

    Options that came later are mentioned only where they are used, so that files from before stay as they are.
    """
    params = asdict(spec) | {"size": list(spec.size) if spec.size else None}
    for later in ("normalisation", "background", "white", "duplicates"):
        if getattr(spec, later) == next(field.default for field in fields(DataSpec) if field.name == later):
            del params[later]
    if isinstance(spec.source, FolderSource):
        default = asdict(FolderSource(path=spec.source.path))
        params["source"] = {k: v for k, v in params["source"].items() if k in ("kind", "path") or v != default[k]}
    for key in {"id", "path", "root"} & params["source"].keys():
        if Path(params["source"][key]).expanduser().is_absolute():
            params["source"][key] = folder_name(params["source"][key])
    return params


def check_classes(train: Split, test: Split) -> None:
    """Raise SourceError unless there are two classes or more, the same in both splits, none of them empty."""
    if len(train.class_names) < 2:
        raise SourceError(f"the only class is {train.class_names[0]!r}; expected at least 2; check the labels")
    if empty := [name for name, count in train.counts().items() if count == 0]:
        raise SourceError(f"no training images in {listed(empty)}; expected some in each class; add them or drop it")
    lacking = sorted(train.counts().keys() - {name for name, count in test.counts().items() if count > 0})
    unknown = sorted(test.counts().keys() - train.counts().keys())
    if lacking or train.class_names != test.class_names:
        found = f"missing: {listed(lacking)}, unknown: {listed(unknown)}"
        raise SourceError(f"test classes differ from train's ({found}); expected the same; mend or omit the test split")


def draw(split: Split, count: Callable[[int], int], seed: int) -> Tensor:
    """A mask over the rows: ``count(n)`` at random of every class that has n images; more draws extend fewer."""
    generator = seeded(seed)
    chosen = torch.zeros(len(split.labels), dtype=torch.bool)
    for label in range(len(split.class_names)):
        places = (split.labels == label).nonzero()[:, 0]
        order = torch.randperm(len(places), generator=generator)
        chosen[places[order[: count(len(places))]]] = True
    return chosen


def split_off(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Train and test: of every class ``fraction`` of the images, but at least one and not all, are for testing."""
    if small := [name for name, count in split.counts().items() if count == 1]:
        found = f"only 1 image in {listed(small)}"
        raise SourceError(
            f"{found}; expected at least 2 in each class to split off a test set; add images or a test split"
        )
    chosen = draw(split, lambda size: min(max(1, round(fraction * size)), size - 1), seed)
    return split.take(~chosen), replace(split.take(chosen), name="test")


def cap(split: Split, per_class: int | None, seed: int) -> Split:
    """At most ``per_class`` images of every class."""
    return split if per_class is None else split.take(draw(split, lambda _: per_class, seed))


def decode(splits: Sequence[Split], spec: DataSpec, track: Track, notes: Tally) -> list[Tensor]:
    """uint8 (N, C, H, W) of each split, all of one size; C is 3 as soon as one image has colour.

    How images were read that could be read in several ways is added to ``notes``.
    """
    shape = read_pixels(splits[0], 0, spec).values.shape
    deep: list[tuple[int, str]] = []
    parts = [decode_split(split, shape, spec, track, notes, deep) for split in splits]
    check_depth(deep, spec.white)
    channels = max(part.shape[1] for part in parts)
    return [torch.from_numpy(part if part.shape[1] == channels else part.repeat(channels, axis=1)) for part in parts]


def decode_split(
    split: Split, shape: tuple[int, ...], spec: DataSpec, track: Track, notes: Tally, deep: list[tuple[int, str]]
) -> np.ndarray:
    """``shape`` is the (C, H, W) of the first training image; ``deep`` gets the brightest of the 16-bit images."""
    images = np.empty((len(split.rows), *shape), dtype=np.uint8)
    for place in track(range(len(images)), f"decoding {split.name} images"):
        check()
        read, where = read_pixels(split, place, spec), split.where(int(split.rows[place]))
        pixels = read.values
        if pixels.shape[1:] != shape[1:]:
            found = f"{where} is {pixels.shape[1]}x{pixels.shape[2]} (height x width)"
            first = f"the first training image {shape[1]}x{shape[2]}"
            raise SourceError(f"{found}, {first}; expected one size; set data.size to resize them all")
        if len(pixels) > images.shape[1]:
            images = images.repeat(3, axis=1)
        images[place] = pixels
        if read.deepest is not None:
            deep[:] = [max([*deep, (read.deepest, where)])]
        if read.deepest is not None and len(pixels) == 3:
            count(notes, "16-bit colour images, of which the higher 8 bits were read", where)
        if read.clear:
            count(notes, f"transparent images, put on {ground(spec.background)}", where)
        if read.frames:
            count(notes, "files of several images, of which the first was read", where)
    return images


def ground(level: int) -> str:
    """What people call a grey of this level."""
    return {0: "black", 255: "white"}.get(level, f"grey {level}")


def check_depth(deep: Sequence[tuple[int, str]], white: int | None) -> None:
    """Raise SourceError where 16-bit images use half of their values or less, and nobody said what is white."""
    for value, where in deep:
        if white is None and value <= WHITE // 2:
            bits = max(8, value.bit_length())
            raise SourceError(
                f"no 16-bit image has a value above {value} ({where}); expected up to {WHITE}, or the value of white: "
                f"set data.white, to {2**bits - 1} for {bits} bits or to {WHITE} if the images are dark"
            )


def read_pixels(split: Split, place: int, spec: DataSpec) -> Pixels:
    row = int(split.rows[place])
    try:
        read = picture_pixels(split.read(row), spec.background, spec.white or WHITE)
        return read._replace(values=resized(read.values, spec.size))
    except Exception as error:  # image decoders raise errors of every kind
        raise unreadable(split.where(row), error) from error
