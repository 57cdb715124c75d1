"""A summary of a source and of how it was read: the same lines in ``init``, ``fetch``, ``show`` and ``doctor``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distillkit.base.errors import counted
from distillkit.data.files.container import Opened, class_names_of
from distillkit.data.files.real_images import read_found, split_shape
from distillkit.data.images import RealData
from distillkit.data.origin import Found, Tally

SHOWN = 5  # most classes, and most shapes, in a line


@dataclass(frozen=True)
class Summary:
    """``classes`` has the number of training images of each class; ``shapes`` are the distinct (C, H, W) of the
    images.
    """

    classes: Mapping[str, int]
    test: int
    shapes: Sequence[tuple[int, int, int]]
    found: Found


def summary_of(data: RealData) -> Summary:
    counts = dict(zip(data.train.class_names, data.train.class_counts, strict=True))
    return Summary(counts, len(data.test), [data.train.image_shape], data.found)


def read_summary(opened: Opened) -> Summary:
    """The summary of an artifact of real images, without reading the images."""
    names = class_names_of(opened)
    counts = opened.tensor("train_labels", [None], torch.int64).bincount(minlength=len(names)).tolist()
    train, test = (split_shape(opened, split) for split in ("train", "test"))
    return Summary(dict(zip(names, counts, strict=True)), test[0], [(train[1], train[2], train[3])], read_found(opened))


def lines(summary: Summary) -> Iterator[str]:
    found, counts = summary.found, summary.classes
    named = ", ".join(f"{name} ({images:,})" for name, images in list(counts.items())[:SHOWN])
    yield f"{counted(len(counts), 'class')}, with training images of each: {named}{more(len(counts))}"
    train = "" if found.train == "train" else f" from {found.train!r}"
    test = (
        "" if found.test == "test" else f" from {found.test!r}" if found.test else ", taken out of the training images"
    )
    yield f"{counted(sum(counts.values()), 'training image')}{train}; {counted(summary.test, 'test image')}{test}"
    shapes = [f"{height}x{width} {'grey' if channels == 1 else 'colour'}" for channels, height, width in summary.shapes]
    yield f"size: {', '.join(shapes[:SHOWN])}{more(len(shapes))} (height x width)"
    yield from remarks(found)


def remarks(found: Found) -> Iterator[str]:
    """Lines on images that were left out, duplicates, and decisions in reading."""
    yield from (f"left out: {line}" for line in tallied(found.left_out))
    yield from (f"note: {line}" for line in tallied(found.notes))


def more(count: int) -> str:
    """How many of ``count`` are not shown, as text."""
    return f" and {count - SHOWN:,} more" if count > SHOWN else ""


def tallied(tally: Tally) -> Iterator[str]:
    for what, (times, first) in sorted(tally.items()):
        yield f"{what} ({times:,}), such as {first}" if times > 1 else f"{what} (1): {first}"


def from_dict(values: Mapping[str, Any]) -> Summary:
    """The inverse of ``asdict`` for a summary."""
    return Summary(**{**values, "found": Found(**values["found"])})
