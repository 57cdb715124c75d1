"""Images that may not fit into memory: rows are read from files and normalised on access.

Only the rows of one batch are in memory. Small sets are tensors, and all code handles both in the same way.
Axes: N images; C, H, W channels, height, width; B images of a batch.
"""

import json
import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from distillkit.base.device import onto
from distillkit.base.errors import ArtifactError

IN_MEMORY = 2**26  # most bytes of a split that is held as a tensor; larger ones are read row by row
READY = 2**26  # most bytes of normalised images that are held; more are normalised batch by batch
CHUNK, CHUNK_ON_GPU = 2**20, 2**24  # values of a chunk of images, 4 and 64 MiB of float32
PART = 4096  # most images in a chunk

Rows = Tensor | slice


@runtime_checkable
class Images(Protocol):
    """Images (N, C, H, W): a tensor, or an object that reads or computes rows on access."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Rows, /) -> Tensor:
        """The images (B, C, H, W) at the rows of a slice or a tensor of row numbers (B,)."""
        ...


def chunks(images: Images, most: int = PART) -> Iterator[Tensor]:
    """Yield all images in order, in chunks of at most 4 MiB of float32 (64 MiB on a GPU) and ``most`` images."""
    yield from (images[rows] for rows in spans(images, most))


def spans(images: Images, most: int = PART, values: int | None = None) -> Iterator[slice]:
    """Yield the rows of each chunk of :func:`chunks`, or of chunks of at most ``values`` values.

    Write the results for rows into one tensor that was allocated before the loop. If a small result is allocated after
    each chunk and kept, the allocator cannot reuse the memory of one chunk for the next.
    """
    values = values or (CHUNK_ON_GPU if images.device.type == "cuda" else CHUNK)
    rows = max(1, min(most, values // max(1, images.shape[1:].numel())))
    yield from (slice(first, min(first + rows, len(images))) for first in range(0, len(images), rows))


def to_pixels(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1]; floating images as float32, unchanged."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def few_as_pixels(images: Images) -> Images:
    """A tensor as float32 in pixel space, if that takes at most ``READY`` bytes; all other images unchanged."""
    few = isinstance(images, Tensor) and 4 * images.numel() <= READY
    return to_pixels(images[:]) if few else images


def pixel_range(images: Images) -> list[float]:
    """The smallest and the largest value in pixel space, rounded to four decimals."""
    ends = torch.stack([torch.stack([part.min(), part.max()]) for part in map(to_pixels, chunks(images))])
    return [round(ends.min().item(), 4), round(ends.max().item(), 4)]


# In files


class Part(NamedTuple):
    """``rows`` images that are stored one after another in ``path``, from byte ``offset`` on."""

    path: Path
    offset: int
    rows: int


class FileRows:
    """Images (N, C, H, W) in one or more files. Rows are read on access and not kept.

    Files are read, not memory-mapped, because mapped pages count as memory of the process.
    """

    device = torch.device("cpu")

    def __init__(self, parts: Sequence[Part], image_shape: Sequence[int], dtype: torch.dtype = torch.uint8):
        self.parts, self.ends, self.dtype = parts, list(accumulate(part.rows for part in parts)), dtype
        self.shape = torch.Size([self.ends[-1], *image_shape])
        self.size = self.shape[1:].numel() * dtype.itemsize  # bytes of an image
        self.files = [os.open(part.path, os.O_RDONLY | os.O_CLOEXEC) for part in parts]
        weakref.finalize(self, close, self.files)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> Tensor:
        if isinstance(rows, Tensor):
            return self.at(rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows)
        first, last, step = rows.indices(len(self))
        return self.between(first, max(first, last)) if step == 1 else self.at(torch.arange(first, last, step))

    def at(self, rows: Tensor) -> Tensor:
        """The images at these row numbers (B,), in that order."""
        found = torch.empty(len(rows), *self.shape[1:], dtype=self.dtype)
        view = bytes_of(found)
        numbers = rows.to(self.device)
        places = torch.bucketize(numbers, torch.tensor(self.ends), right=True)
        for place, (row, part) in enumerate(zip(numbers.tolist(), places.tolist(), strict=True)):
            before = self.ends[part] - self.parts[part].rows
            self.fill(view[place * self.size : (place + 1) * self.size], part, row - before)
        return found

    def between(self, first: int, last: int) -> Tensor:
        """The images from row ``first`` to row ``last`` − 1."""
        found = torch.empty(last - first, *self.shape[1:], dtype=self.dtype)
        view = bytes_of(found)
        for number, (part, end) in enumerate(zip(self.parts, self.ends, strict=True)):
            begin = end - part.rows
            low, high = max(first, begin), min(last, end)
            if low < high:
                self.fill(view[(low - first) * self.size : (high - first) * self.size], number, low - begin)
        return found

    def fill(self, view: memoryview, part: int, row: int) -> None:
        """Read images of one file into ``view``. Raises ArtifactError if the file has become too short."""
        path, offset, _ = self.parts[part]
        position = offset + row * self.size
        while len(view):
            count = os.preadv(self.files[part], [view], position)
            if count == 0:
                raise ArtifactError(f"{path} ends early; it was changed or cut while it was read; run its stage again")
            view, position = view[count:], position + count

    def to(self, device: torch.device) -> "Images":
        """A tensor on a GPU that has 4 bytes of free memory for each value; otherwise these images unchanged."""
        if device.type != "cuda" or 4 * self.shape.numel() > torch.cuda.mem_get_info(device)[0]:
            return self
        return torch.cat([part.to(device) for part in chunks(self)])


class Encoded(NamedTuple):
    """The encoded files of N images, one after another in ``data`` (B,), uint8.

    The file of image n ends before byte ``ends_N[n]`` and begins where the file of image n − 1 ends. It is empty if the
    image differs from its file: if it was resized, rotated, or put on a background.
    """

    data: Images
    ends_N: Tensor

    def file(self, row: int) -> bytes:
        """The file of one image; empty if there is none."""
        first = int(self.ends_N[row - 1]) if row else 0
        return self.data[first : int(self.ends_N[row])].numpy().tobytes()


class Chosen:
    """Images (M, C, H, W): the rows (M,) of other images, in that order, read on access."""

    def __init__(self, images: Images, rows: Tensor):
        self.images, self.rows, self.dtype, self.device = images, rows.to(images.device), images.dtype, images.device
        self.shape = torch.Size([len(rows), *images.shape[1:]])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows) -> Tensor:
        return self.images[self.rows[rows]]


def chosen(images: Images, rows: Tensor) -> Images:
    """The images at ``rows``: a tensor if they have at most ``IN_MEMORY`` bytes, else :class:`Chosen`."""
    wanted = Chosen(images, rows)
    return wanted[:] if wanted.shape.numel() * images.dtype.itemsize <= IN_MEMORY else wanted


def close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


def bytes_of(images: Tensor) -> memoryview:
    """The memory of contiguous images (B, C, H, W) as writable bytes."""
    return images.view(-1).numpy().data.cast("B")


def kept_aside(parts: Iterable[Tensor], count: int) -> Images:
    """``count`` float32 rows (N, ...) from an iterable of parts: a tensor if they are few or on a GPU, else rows of a
    temporary file.

    The file's name is removed at once, and its disk space is freed with the returned object.
    """
    coming = iter(parts)
    first = next(coming)
    shape = torch.Size([count, *first.shape[1:]])
    if first.device.type == "cuda" or 4 * shape.numel() <= READY:
        held, done = torch.empty(shape, device=first.device), 0
        for part in chain([first], coming):
            held[done : done + len(part)] = part
            done += len(part)
        return held
    with NamedTemporaryFile(prefix="distillkit-") as file:
        for part in chain([first], coming):
            file.write(bytes_of(part.contiguous()))
        file.flush()
        return FileRows([Part(Path(file.name), 0, count)], shape[1:], torch.float32)


def tensor_part(path: Path, name: str) -> tuple[Part, list[int]]:
    """The place of a uint8 tensor in a safetensors file, and the shape of a row. Raises KeyError if it is missing."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        described = json.loads(file.read(length))[name]
    (rows, *shape), (first, _) = described["shape"], described["data_offsets"]
    return Part(path, 8 + length + first, rows), shape


# Normalised


class Normalises(Protocol):
    """Converts pixels (B, C, H, W) to normalised images."""

    def apply(self, pixels_NCHW: Tensor, /) -> Tensor: ...


class Normalised:
    """Normalised images on ``device``: float32 (N, C, H, W), computed on access."""

    dtype = torch.float32

    def __init__(self, images: Images, normalisation: Normalises, device: torch.device, channels_last: bool = False):
        self.images, self.normalisation, self.device, self.shape = images, normalisation, device, images.shape
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> Tensor:
        found = self.images[rows.to(self.images.device) if isinstance(rows, Tensor) else rows]
        pixels = to_pixels(found if found.device == self.device else onto(self.device, found))
        return self.normalisation.apply(pixels).contiguous(memory_format=self.layout)


def normalised(
    images: Images, normalisation: Normalises, device: torch.device, channels_last: bool = False
) -> Tensor | Normalised:
    """Normalised images: a tensor if it has at most ``READY`` bytes, else computed on access, with the same numbers."""
    seen = Normalised(images, normalisation, device, channels_last)
    if 4 * images.shape.numel() > READY:
        return seen
    held = torch.empty(seen.shape, device=device, memory_format=seen.layout)
    for rows in spans(images):
        held[rows] = seen[rows]
    return held
