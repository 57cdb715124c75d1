"""Where real images come from: scikit-learn's digits, a Hugging Face dataset, image folders, torchvision.

A source is opened into splits whose images are not decoded yet. Labels are checked, a missing test split is taken from
the training images, classes are capped, and only the images that remain are decoded, into one uint8 tensor.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from distillkit.errors import SourceError, check_range
from distillkit.images import ImageSet, RealData, channel_statistics
from distillkit.interruption import check, interrupt, reacting
from distillkit.randomness import seeded
from distillkit.readers import Source, Split, brief, folder_name, listed, open_source
from distillkit.settings import settings
from distillkit.whitening import zca

Track = Callable[[Iterable[int], str], Iterable[int]]


Item = TypeVar("Item")


@settings
class ChannelWise:
    """Networks see (pixel − mean) / std, by the mean and deviation of each channel."""

    kind: Literal["channel"] = "channel"


@settings
class ZCA:
    """Networks see whitened images; ``eps`` is in squared pixels, see :func:`~distillkit.whitening.zca`."""

    kind: Literal["zca"]
    eps: float = 0.1

    def __post_init__(self) -> None:
        check_range("normalisation.eps", self.eps, 1e-8, 1e3)


@settings
class DataSpec:
    """Which images: ``size`` is (height, width); the caps are images per class, drawn at random by ``split_seed``.

    ``normalisation`` is how all networks of the pipeline see images.
    """

    source: Source
    size: tuple[int, int] | None = None
    test_fraction: float = 0.25
    split_seed: int = 0
    per_class: int | None = None
    test_per_class: int | None = None
    licence: str | None = None
    normalisation: ChannelWise | ZCA = ChannelWise()

    def __post_init__(self) -> None:
        check_range("data.size", min(self.size or (1, 1)), 1)
        check_range("data.test_fraction", self.test_fraction, 0.01, 0.99)
        check_range("data.split_seed", self.split_seed, 0, 2**63 - 1)
        check_range("data.per_class", 1 if self.per_class is None else self.per_class, 1)
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
        train, test, info = open_source(spec.source)
    if test is None:
        train, test = split_off(train, spec.test_fraction, spec.split_seed)
    check_classes(train, test)
    train, test = cap(train, spec.per_class, spec.split_seed), cap(test, spec.test_per_class, spec.split_seed)
    train_images, test_images = decode((train, test), spec.size, track)
    whitening = zca(train_images, spec.normalisation.eps) if isinstance(spec.normalisation, ZCA) else None
    return RealData(
        train=ImageSet(train_images, train.labels, train.class_names),
        test=ImageSet(test_images, test.labels, test.class_names),
        normalisation=channel_statistics(train_images)._replace(whitening=whitening),
        info=replace(info, licence=spec.licence or info.licence or "unknown", params=recorded_params(spec)),
    )


def recorded_params(spec: DataSpec) -> dict[str, Any]:
    """``spec`` as JSON values; of an absolute path only the last component, so that no machine's paths leak.

    Normalisation by channel is not mentioned, as in files from before there was another.
    """
    params = asdict(spec) | {"size": list(spec.size) if spec.size else None}
    if isinstance(spec.normalisation, ChannelWise):
        del params["normalisation"]
    for key in {"id", "path", "root"} & params["source"].keys():
        if Path(params["source"][key]).expanduser().is_absolute():
            params["source"][key] = folder_name(params["source"][key])
    return params


def check_classes(train: Split, test: Split) -> None:
    """Raise SourceError unless there are two classes or more, the same in both splits, none of them empty."""
    if len(train.class_names) < 2:
        raise SourceError(f"the only class is {train.class_names[0]!r}; expected at least 2; check the labels")
    if empty := [name for name, count in train.counts().items() if count == 0]:
        raise SourceError(f"class {listed(empty)} has no training images; expected some; add them or drop the class")
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
        found = f"class {listed(small)} has 1 image"
        raise SourceError(f"{found}; expected at least 2 to split off a test set; add images or a test split")
    chosen = draw(split, lambda size: min(max(1, round(fraction * size)), size - 1), seed)
    return split.take(~chosen), replace(split.take(chosen), name="test")


def cap(split: Split, per_class: int | None, seed: int) -> Split:
    """At most ``per_class`` images of every class."""
    return split if per_class is None else split.take(draw(split, lambda _: per_class, seed))


def decode(splits: Sequence[Split], size: tuple[int, int] | None, track: Track) -> list[Tensor]:
    """uint8 (N, C, H, W) of each split, all of one size; C is 3 as soon as one image has colour."""
    shape = read_pixels(splits[0], 0, size).shape
    parts = [decode_split(split, shape, size, track) for split in splits]
    channels = max(part.shape[1] for part in parts)
    return [torch.from_numpy(part if part.shape[1] == channels else part.repeat(channels, axis=1)) for part in parts]


def decode_split(split: Split, shape: tuple[int, ...], size: tuple[int, int] | None, track: Track) -> np.ndarray:
    """``shape`` is the (C, H, W) of the first training image."""
    images = np.empty((len(split.rows), *shape), dtype=np.uint8)
    for place in track(range(len(images)), f"decoding {split.name} images"):
        check()
        pixels = read_pixels(split, place, size)
        if pixels.shape[1:] != shape[1:]:
            found = f"{split.where(int(split.rows[place]))} is {pixels.shape[1]}x{pixels.shape[2]} (height x width)"
            first = f"the first training image {shape[1]}x{shape[2]}"
            raise SourceError(f"{found}, {first}; expected one size; set data.size to resize them all")
        if len(pixels) > images.shape[1]:
            images = images.repeat(3, axis=1)
        images[place] = pixels
    return images


def read_pixels(split: Split, place: int, size: tuple[int, int] | None) -> np.ndarray:
    row = int(split.rows[place])
    try:
        return image_pixels(split.read(row), size)
    except Exception as error:  # image decoders raise errors of every kind
        found = f"{split.where(row)} cannot be read ({brief(error)})"
        raise SourceError(f"{found}; expected an image; replace or remove it") from error


def image_pixels(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """uint8 (C, H, W), upright: one channel for grey, RGB for everything else (transparency is dropped)."""
    if not isinstance(image, Image.Image):
        raise TypeError(f"it is {type(image).__name__}")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels have 32 bits, mode {image.mode}")
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode == "1":
        image = image.convert("L")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    if size is not None and size != (image.height, image.width):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
