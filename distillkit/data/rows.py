"""Images that may be more than memory holds: read from files row by row, normalised when they are asked for.

Memory is what one batch takes, whatever the source. Small sets are tensors, and all code treats both alike.
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

IN_MEMORY = 2**26  # bytes of a split that are held as a tensor; more are read row by row
READY = 2**26  # bytes of normalised images that are held; more are normalised batch by batch
CHUNK, CHUNK_ON_GPU = 2**20, 2**24  # values of a chunk of images, 4 and 64 MiB of float32
PART = 4096  # images of a chunk, however small they are

Rows = Tensor | slice


@runtime_checkable
class Images(Protocol):
    """Images (N, C, H, W): a tensor, or what reads or computes rows of one."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Rows, /) -> Tensor:
        """The images at some rows, by a slice or by their numbers (B,)."""
        ...


def chunks(images: Images, most: int = PART) -> Iterator[Tensor]:
    """All images in order, so many at a time as make 4 MiB of float32, and no more than ``most``."""
    yield from (images[rows] for rows in spans(images, most))


def spans(images: Images, most: int = PART, values: int | None = None) -> Iterator[slice]:
    """The rows of :func:`chunks`, or of chunks of ``values`` values.

    What is found for each row goes into one tensor that is there from the beginning: small results that are kept, one
    between each two chunks, would keep the allocator from using the memory of a chunk for the next.
    """
    values = values or (CHUNK_ON_GPU if images.device.type == "cuda" else CHUNK)
    rows = max(1, min(most, values // max(1, images.shape[1:].numel())))
    yield from (slice(first, min(first + rows, len(images))) for first in range(0, len(images), rows))


def to_pixels(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1]; floating images as float32, unchanged."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def few_as_pixels(images: Images) -> Images:
    """Images that are a tensor, and few, as float32 in [0, 1]; others as they are."""
    few = isinstance(images, Tensor) and 4 * images.numel() <= READY
    return to_pixels(images[:]) if few else images


def pixel_range(images: Images) -> list[float]:
    """The least and the largest value in pixel space."""
    ends = torch.stack([torch.stack([part.min(), part.max()]) for part in map(to_pixels, chunks(images))])
    return [round(ends.min().item(), 4), round(ends.max().item(), 4)]


# In files


class Part(NamedTuple):
    """Where some images stand: one after another in ``path`` from byte ``offset`` on."""

    path: Path
    offset: int
    rows: int


class FileRows:
    """Images (N, C, H, W), in files of any number; rows are read when they are asked for, and not kept.

    Files are read, not mapped: pages of a map count as memory of the process.
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
        """The images of these numbers (B,), in that order."""
        found = torch.empty(len(rows), *self.shape[1:], dtype=self.dtype)
        view = bytes_of(found)
        numbers = rows.to(self.device)
        places = torch.bucketize(numbers, torch.tensor(self.ends), right=True)
        for place, (row, part) in enumerate(zip(numbers.tolist(), places.tolist(), strict=True)):
            before = self.ends[part] - self.parts[part].rows
            self.fill(view[place * self.size : (place + 1) * self.size], part, row - before)
        return found

    def between(self, first: int, last: int) -> Tensor:
        """The images from row ``first`` on, up to ``last``."""
        found = torch.empty(last - first, *self.shape[1:], dtype=self.dtype)
        view = bytes_of(found)
        for number, (part, end) in enumerate(zip(self.parts, self.ends, strict=True)):
            begin = end - part.rows
            low, high = max(first, begin), min(last, end)
            if low < high:
                self.fill(view[(low - first) * self.size : (high - first) * self.size], number, low - begin)
        return found

    def fill(self, view: memoryview, part: int, row: int) -> None:
        """Read whole images of one file. Raises ArtifactError where the file has become shorter."""
        path, offset, _ = self.parts[part]
        position = offset + row * self.size
        while len(view):
            count = os.preadv(self.files[part], [view], position)
            if count == 0:
                raise ArtifactError(f"{path} ends early; it was changed or cut while it was read; run its stage again")
            view, position = view[count:], position + count

    def to(self, device: torch.device) -> "Images":
        """As a tensor on a GPU that has four times the room for it, else as they are."""
        if device.type != "cuda" or 4 * self.shape.numel() > torch.cuda.mem_get_info(device)[0]:
            return self
        return torch.cat([part.to(device) for part in chunks(self)])


class Encoded(NamedTuple):
    """The encoded files of N images, one after another in ``data`` (B,), uint8.

    The file of image n ends before byte ``ends_N[n]`` and begins where that of image n - 1 ends. It is empty where the
    image is not what its file shows: resized, turned, or put on a background.
    """

    data: Images
    ends_N: Tensor

    def file(self, row: int) -> bytes:
        """The file of one image; empty where there is none."""
        first = int(self.ends_N[row - 1]) if row else 0
        return self.data[first : int(self.ends_N[row])].numpy().tobytes()


class Chosen:
    """Some rows (M,) of images, in that order, read when they are asked for."""

    def __init__(self, images: Images, rows: Tensor):
        self.images, self.rows, self.dtype, self.device = images, rows.to(images.device), images.dtype, images.device
        self.shape = torch.Size([len(rows), *images.shape[1:]])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows) -> Tensor:
        return self.images[self.rows[rows]]


def chosen(images: Images, rows: Tensor) -> Images:
    """The images at ``rows``: a tensor while they are few."""
    wanted = Chosen(images, rows)
    return wanted[:] if wanted.shape.numel() * images.dtype.itemsize <= IN_MEMORY else wanted


def close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


def bytes_of(images: Tensor) -> memoryview:
    """The memory of images (B, C, H, W) in one piece, to be written to."""
    return images.view(-1).numpy().data.cast("B")


def kept_aside(parts: Iterable[Tensor], count: int) -> Images:
    """``count`` rows (N, ...), float32, that come in parts: a tensor while they are few, else in a temporary file.

    The file has no name and goes with what is returned. On a GPU all are a tensor.
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
    """Where a uint8 tensor stands in a safetensors file, and the shape of a row."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        described = json.loads(file.read(length))[name]
    (rows, *shape), (first, _) = described["shape"], described["data_offsets"]
    return Part(path, 8 + length + first, rows), shape


# Normalised


class Normalises(Protocol):
    """What brings pixels (B, C, H, W) into the space of networks."""

    def apply(self, pixels_NCHW: Tensor, /) -> Tensor: ...


class Normalised:
    """Images as networks see them, on ``device``: float32 (N, C, H, W), computed for the rows that are asked for."""

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
    """Images as networks see them: all at once while they are few, else batch by batch, with the same numbers."""
    seen = Normalised(images, normalisation, device, channels_last)
    if 4 * images.shape.numel() > READY:
        return seen
    held = torch.empty(seen.shape, device=device, memory_format=seen.layout)
    for rows in spans(images):
        held[rows] = seen[rows]
    return held
