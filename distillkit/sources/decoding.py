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
    resized,
    unreadable,
)
from distillkit.sources.readers import Split

A = TypeVar("A")
B = TypeVar("B")

BLOCK = 2**20  # bytes of a block of decoded images
FEW = 4096  # images that are decoded by this process alone
DEEP_COLOUR = "16-bit colour images, of which the higher 8 bits were read"
SEVERAL = "files of several images, of which the first was read"

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
            image = open_picture(data) if data else split.read(row)
            plain = bool(data) and is_plain(image)  # asked before it is decoded
            read = picture_pixels(image, self.background, self.white or WHITE)
            values = resized(read.values, self.size)
            same = plain and read.deepest is None and values is read.values
            return read._replace(values=values, file=data if same else b"")
        except Exception as error:  # image decoders raise errors of every kind
            raise unreadable(split.where(row), error) from error


class Block(NamedTuple):
    """Images (B, C, H, W), the hash of each, and the highest value of 16-bit images with where it is.

    ``files`` are those of the images, empty for an image that differs from its file. Those that are ``broken`` have
    arbitrary pixels.
    """

    images: np.ndarray
    files: list[bytes]
    hashes: list[bytes]
    deepest: tuple[int, str] | None
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
    for image_shape in (shape, (3, *shape[1:])):
        found: Tally = {}
        try:
            done = decode_as(image_shape, splits, reading, track, found, folder)
        except ColourError:
            continue
        for what, (times, first) in found.items():
            before, earliest = notes.get(what, (0, first))
            notes[what] = before + times, earliest
        return done
    raise AssertionError("an image has more than three channels")


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
    image_shape: Sequence[int],
    splits: Sequence[Split],
    reading: Reading,
    track: Track,
    notes: Tally,
    folder: Path | None,
) -> list[Decoded]:
    """:func:`decode` with images of this (C, H, W). Raises ColourError for colour where there should be grey."""
    copies, found = Copies(reading.drop, notes), list[Decoded]()
    deepest, broken = list[tuple[int, str]](), list[BrokenImageError]()
    collectors = [(Collector(folder, split.name, image_shape), Files(folder, split.name)) for split in splits]
    try:
        for split, collector in zip(splits, collectors, strict=True):
            found.append(collected(split, collector, image_shape, reading, track, copies, deepest, broken, notes))
        check_readable(broken)
    except BaseException:
        for images, files in collectors:
            images.discard()
            files.discard()
        raise
    check_depth(deepest, reading.white)
    return found


def collected(
    split: Split,
    collectors: tuple[Collector, Files],
    image_shape: Sequence[int],
    reading: Reading,
    track: Track,
    copies: Copies,
    deepest: list[tuple[int, str]],
    broken: list[BrokenImageError],
    notes: Tally,
) -> Decoded:
    """One split; what is found on the way is added to ``copies``, ``deepest``, ``broken`` and ``notes``.

    As soon as an image is broken, the others are read only to know which are broken, too, up to MOST_NAMED.
    """
    images, files = collectors
    rows = max(1, min(FEW, BLOCK // int(np.prod(image_shape))))
    kept = torch.ones(len(split.rows), dtype=torch.bool)
    spans = [range(first, min(first + rows, len(kept))) for first in range(0, len(kept), rows)]
    blocks = in_parallel(partial(decoded, split, image_shape=image_shape, reading=reading), spans, len(kept) > FEW)
    for span, block in zip(spans, track(blocks, f"decoding {split.name} images", len(spans)), strict=True):
        check()
        broken += block.broken
        if len(broken) >= MOST_NAMED:
            break
        if broken:
            continue
        known = (part[span.start : span.stop].tolist() for part in (split.rows, split.labels))
        keep = [copies.is_kept(split, *each) for each in zip(*known, block.hashes, strict=True)]
        images.append(block.images if all(keep) else block.images[keep])
        files.append(list(compress(block.files, keep)) if split.name == "train" else [])
        kept[span.start : span.stop] = torch.tensor(keep)
        deepest += [] if block.deepest is None else [block.deepest]
        for what, (times, first) in block.notes.items():
            notes[what] = notes.get(what, (0, first))[0] + times, notes.get(what, (0, first))[1]
    return Decoded(images.result(), kept, files.result())


def decoded(split: Split, places: range, image_shape: Sequence[int], reading: Reading) -> Block:
    """The images at some places of a split."""
    images, deepest, notes = np.empty((len(places), *image_shape), dtype=np.uint8), list[tuple[int, str]](), Tally()
    files, broken = list[bytes](), list[BrokenImageError]()
    for number, row in enumerate(split.rows[places.start : places.stop].tolist()):
        try:
            read, where = reading.pixels(split, row), split.where(row)
        except BrokenImageError as error:
            broken.append(error)
            continue
        pixels = read.values
        if pixels.shape[1:] != tuple(image_shape[1:]):
            found = f"{where} is {pixels.shape[1]}x{pixels.shape[2]} (height x width)"
            first = f"the first training image {image_shape[1]}x{image_shape[2]}"
            raise SourceError(f"{found}, {first}; expected one size; set data.size to resize them all")
        if len(pixels) > image_shape[0]:
            raise ColourError
        images[number] = pixels
        files.append(read.file if len(pixels) == len(images[number]) else b"")
        if read.deepest is not None:
            deepest[:] = [max([*deepest, (read.deepest, where)])]
        if read.deepest is not None and len(pixels) == 3:
            count(notes, DEEP_COLOUR, where)
        if read.clear:
            count(notes, f"transparent images, put on {ground(reading.background)}", where)
        if read.frames:
            count(notes, SEVERAL, where)
    hashes = [pixel_hash(image) for image in images]
    return Block(images, files, hashes, max(deepest, default=None), notes, broken)


def ground(level: int) -> str:
    """What people call a grey of this level."""
    return {0: "black", 255: "white"}.get(level, f"grey {level}")


def check_depth(deep: Sequence[tuple[int, str]], white: int | None) -> None:
    """Raise SourceError where 16-bit images use half of their values or less, and nobody said what is white."""
    value, where = max(deep, default=(WHITE, ""))
    if white is None and value <= WHITE // 2:
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
