"""Images of a source decoded block by block on all cores, checked, and collected in their order.

Of one split no more is in memory than a few blocks, unless it is small.
"""

import ctypes
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import compress
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from distillkit.base.errors import SourceError
from distillkit.base.machine import cores
from distillkit.data.files.shards import Collector, Files
from distillkit.data.origin import Tally, count
from distillkit.data.rows import Encoded, Images
from distillkit.process.interruption import check
from distillkit.sources.cleaning.copies import Copies, pixel_hash
from distillkit.sources.pictures import (
    MOST_NAMED,
    WHITE,
    BrokenImageError,
    Pixels,
    check_readable,
    is_plain,
    open_picture,
    picture_pixels,
    plain_jpeg,
    resized,
    unreadable,
)
from distillkit.sources.readers import Split

A = TypeVar("A")
B = TypeVar("B")

BLOCK = 2**20  # bytes of a block of decoded images
FEW = 4096  # images that are decoded by this process alone

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]


class Reading(NamedTuple):
    """How pictures are read: see :class:`~distillkit.sources.fetch.DataSpec`."""

    size: tuple[int, int] | None
    background: int
    white: int | None
    drop: bool

    def pixels(self, split: Split, row: int) -> Pixels:
        """Raises BrokenImageError, with what people call the row, for what cannot be read."""
        try:
            data = b"" if split.encoded is None else split.encoded(row)
            if (values := plain_jpeg(data)) is not None:
                read = Pixels(values, file=data)
            else:
                image = open_picture(data) if data else split.read(row)
                plain = bool(data) and is_plain(image)  # asked before it is decoded
                read = picture_pixels(image, self.background, self.white or WHITE)
                read = read._replace(file=data if plain and read.deepest is None else b"")
            values = resized(read.values, self.size)
            return read._replace(values=values, file=read.file if values is read.values else b"")
        except Exception as error:  # image decoders raise errors of every kind
            raise unreadable(split.where(row), error) from error


class Block(NamedTuple):
    """Images (B, C, H, W), the hash of each, and for 16-bit images the largest value and where it is.

    ``files`` are those of the images, empty for an image that differs from its file. Those that are ``broken`` have
    arbitrary pixels.
    """

    images: np.ndarray
    files: list[bytes]
    hashes: list[bytes]
    deep: list[tuple[int, str]]
    notes: Tally
    broken: list[BrokenImageError]


class Decoded(NamedTuple):
    """The images that were kept, a mask (N,) of those among all rows of the split, and their files."""

    images: Images
    kept: Tensor
    encoded: Encoded | None


class ColourError(Exception):
    """There is a colour image after grey ones."""


def decode(
    splits: Sequence[Split], reading: Reading, track: Track, notes: Tally, folder: Path | None = None
) -> list[Decoded]:
    """Splits, train before test, as uint8 of one size; C is 3 as soon as one image has colour. Many go into ``folder``.

    How images were read that could be read in several ways, and those that are there twice, are added to ``notes``.
    Raises SourceError for images that cannot be read, which names up to MOST_NAMED of them, or have another size.
    """
    shape = first_shape(splits[0], reading)
    try:
        done, found = decode_as(shape, splits, reading, track, folder)
    except ColourError:
        done, found = decode_as((3, *shape[1:]), splits, reading, track, folder)
    add(notes, found)
    return done


def add(notes: Tally, more: Tally) -> None:
    """Add what was found later."""
    for what, (times, where) in more.items():
        before, first = notes.get(what, (0, where))
        notes[what] = before + times, first


def first_shape(split: Split, reading: Reading) -> Sequence[int]:
    """The shape (C, H, W) of the first image, or of the next one that can be read."""
    broken: list[BrokenImageError] = []
    for row in split.rows[:MOST_NAMED].tolist():
        try:
            return reading.pixels(split, row).values.shape
        except BrokenImageError as error:
            broken.append(error)
    check_readable(broken)
    raise AssertionError("a split has no images")


def decode_as(
    image_shape: Sequence[int], splits: Sequence[Split], reading: Reading, track: Track, folder: Path | None
) -> tuple[list[Decoded], Tally]:
    """:func:`decode` with images of this (C, H, W). Raises ColourError for colour where there should be grey."""
    found, done = Findings(reading.drop), list[Decoded]()
    collectors = [(Collector(folder, split.name, image_shape), Files(folder, split.name)) for split in splits]
    try:
        for split, collector in zip(splits, collectors, strict=True):
            done.append(collected(split, *collector, reading, track, found))
        check_readable(found.broken)
        check_depth(found.deepest, reading.white)
    except BaseException:
        for images, files in collectors:
            images.discard()
            files.discard()
        raise
    return done, found.notes


class Findings:
    """What is found in the images on the way: copies, the largest 16-bit value, broken ones, and what is remarkable."""

    def __init__(self, drop: bool):
        self.notes: Tally = {}
        self.copies = Copies(drop, self.notes)
        self.deepest = 0, ""
        self.broken: list[BrokenImageError] = []


def collected(
    split: Split, images: Collector, files: Files, reading: Reading, track: Track, found: Findings
) -> Decoded:
    """One split, with what is ``found`` in it.

    As soon as an image is broken, the others are read only to know which are broken, too, up to MOST_NAMED.
    """
    rows = max(1, min(FEW, BLOCK // prod(images.image_shape)))
    kept = torch.ones(len(split.rows), dtype=torch.bool)
    spans = [range(first, min(first + rows, len(kept))) for first in range(0, len(kept), rows)]
    work = partial(decoded, split, image_shape=images.image_shape, reading=reading)
    blocks = in_parallel(work, spans, len(kept) > FEW)
    for span, block in zip(spans, track(blocks, f"decoding {split.name} images", len(spans)), strict=True):
        check()
        found.broken += block.broken
        if len(found.broken) >= MOST_NAMED:
            break
        if found.broken:
            continue
        known = (part[span.start : span.stop].tolist() for part in (split.rows, split.labels))
        keep = [found.copies.is_kept(split, *each) for each in zip(*known, block.hashes, strict=True)]
        images.append(block.images if all(keep) else block.images[keep])
        files.append(list(compress(block.files, keep)) if split.name == "train" else [])
        kept[span.start : span.stop] = torch.tensor(keep)
        found.deepest = max([found.deepest, *block.deep])
        add(found.notes, block.notes)
    return Decoded(images.result(), kept, files.result())


def decoded(split: Split, places: range, image_shape: Sequence[int], reading: Reading) -> Block:
    """The images at some places of a split."""
    images, files, notes = np.empty((len(places), *image_shape), dtype=np.uint8), list[bytes](), Tally()
    deep, broken = list[tuple[int, str]](), list[BrokenImageError]()
    for number, row in enumerate(split.rows[places.start : places.stop].tolist()):
        try:
            read = reading.pixels(split, row)
        except BrokenImageError as error:
            broken.append(error)
            continue
        channels, high, wide = read.values.shape
        if (high, wide) != tuple(image_shape[1:]):
            found = f"{split.where(row)} is {high}x{wide} (height x width)"
            first = f"the first training image {image_shape[1]}x{image_shape[2]}"
            raise SourceError(f"{found}, {first}; expected one size; set data.size to resize them all")
        if channels > image_shape[0]:
            raise ColourError
        images[number] = read.values
        files.append(read.file if channels == image_shape[0] else b"")
        if read.deepest is not None:
            deep = [max([*deep, (read.deepest, split.where(row))])]
        for remark in remarks(read, reading.background):
            count(notes, remark, split.where(row))
    return Block(images, files, [pixel_hash(image) for image in images], deep, notes, broken)


def remarks(read: Pixels, background: int) -> Iterator[str]:
    """What is noted of an image that could be read in several ways."""
    if read.deepest is not None and len(read.values) == 3:
        yield "16-bit colour images, of which the higher 8 bits were read"
    if read.clear:
        yield "transparent images, put on " + {0: "black", 255: "white"}.get(background, f"grey {background}")
    if read.frames:
        yield "files of several images, of which the first was read"


def check_depth(deepest: tuple[int, str], white: int | None) -> None:
    """Raise SourceError where 16-bit images use half of their values or less, and nobody said what is white."""
    value, where = deepest
    if where and white is None and value <= WHITE // 2:
        bits = max(8, value.bit_length())
        raise SourceError(
            f"no 16-bit image has a value above {value} ({where}); expected up to {WHITE}, or the value of white: "
            f"set data.white, to {2**bits - 1} for {bits} bits or to {WHITE} if the images are dark"
        )


# On all cores

PR_SET_PDEATHSIG = 1  # linux/prctl.h

task: Callable[[Any], Any] | None = None  # of the pool's processes, which are copies of this one


def in_parallel(function: Callable[[A], B], items: Sequence[A], pays: bool) -> Iterator[B]:
    """Like ``map``, in order, on all cores where that ``pays``; few results wait to be taken.

    Processes are copies of this one, as most of the work holds Python's lock; threads where a system cannot copy.
    """
    global task
    if not pays or cores() == 1:
        yield from map(function, items)
        return
    task = function
    pool: Executor
    if sys.platform == "linux":
        pool = ProcessPoolExecutor(cores(), mp_context=get_context("fork"), initializer=end_with_the_parent)
    else:
        pool = ThreadPoolExecutor(cores())
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(run_task, item))
            if len(waiting) > 2 * cores():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def end_with_the_parent() -> None:
    """In a process of the pool on Linux: it hears no Ctrl-C, and is killed when the process that it works for ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_task(item: Any) -> Any:
    assert task is not None
    return task(item)
