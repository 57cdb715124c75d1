"""What a source held and what became of it: the same lines in ``init``, ``fetch``, ``show`` and ``doctor``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distillkit.base.errors import counted
from distillkit.data.files.container import Opened, class_names_of
from distillkit.data.files.real_images import read_found, split_shape
from distillkit.data.images import RealData
from distillkit.data.origin import Found, Tally

SHOWN = 5  # classes, and shapes


@dataclass(frozen=True)
class Summary:
    """``classes`` counts the training images of each, ``shapes`` are the distinct (C, H, W) among the images."""

    classes: Mapping[str, int]
    test: int
    shapes: Sequence[tuple[int, int, int]]
    found: Found


def summary_of(data: RealData) -> Summary:
    counts = dict(zip(data.train.class_names, data.train.class_counts, strict=True))
    return Summary(counts, len(data.test), [data.train.image_shape], data.found)


def read_summary(opened: Opened) -> Summary:
    """Of an artifact of real images, without reading them."""
    names = class_names_of(opened)
    counts = opened.tensor("train_labels", [None], torch.int64).bincount(minlength=len(names)).tolist()
    train, test = (split_shape(opened, split) for split in ("train", "test"))
    return Summary(dict(zip(names, counts, strict=True)), test[0], [(train[1], train[2], train[3])], read_found(opened))


def lines(summary: Summary) -> Iterator[str]:
    found, counts = summary.found, summary.classes
    named = ", ".join(f"{name} ({images:,})" for name, images in list(counts.items())[:SHOWN])
    yield f"{counted(len(counts), 'class')}, with training images of each: {named}{more(len(counts))}"
    train = "" if found.train == "train" else f" from {found.train!r}"
    test = "" if found.test == "test" else f" from {found.test!r}" if found.test else ", drawn from the training images"
    yield f"{counted(sum(counts.values()), 'training image')}{train}; {counted(summary.test, 'test image')}{test}"
    shapes = [f"{height}x{width} {'grey' if channels == 1 else 'colour'}" for channels, height, width in summary.shapes]
    yield f"size: {', '.join(shapes[:SHOWN])}{more(len(shapes))} (height x width)"
    yield from remarks(found)


def remarks(found: Found) -> Iterator[str]:
    """What was left out, and what was read in one of several ways or is there twice."""
    yield from (f"left out: {line}" for line in tallied(found.left_out))
    yield from (f"note: {line}" for line in tallied(found.notes))


def more(count: int) -> str:
    """How many of so many are not shown."""
    return f" and {count - SHOWN:,} more" if count > SHOWN else ""


def tallied(tally: Tally) -> Iterator[str]:
    for what, (times, first) in sorted(tally.items()):
        yield f"{what} ({times:,}), such as {first}" if times > 1 else f"{what} (1): {first}"


def from_dict(values: Mapping[str, Any]) -> Summary:
    """A summary from what ``asdict`` makes of it."""
    return Summary(**{**values, "found": Found(**values["found"])})
