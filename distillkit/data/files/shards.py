"""Collecting images: in memory while they are few, else in files of limited size that are written as images arrive.

Each file is a safetensors file with one tensor, ``images`` (N, C, H, W) uint8. The same images give the same bytes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from distillkit import __version__
from distillkit.base.errors import ArtifactError
from distillkit.base.files import canonical_json, error_number, not_written
from distillkit.data.files.container import FORMAT, KEY
from distillkit.data.rows import IN_MEMORY, Encoded, FileRows, Images, Part

SHARD = 2**30  # most bytes of images in a file
NAME = "images"


class Collector:
    """Collects batches of uint8 images (B, C, H, W), or of single bytes (B,); :meth:`result` returns all of them.

    More than ``most`` bytes are written to ``folder``, as ``<name>-00000.safetensors`` and so on. Without a ``folder``
    all stay in memory.
    """

    def __init__(self, folder: Path | None, name: str, image_shape: Sequence[int], most: int = IN_MEMORY):
        self.folder, self.name, self.image_shape, self.most = folder, name, tuple(image_shape), most
        self.held: list[np.ndarray] = []
        self.bytes = 0
        self.files: list[ShardFile] = []

    def append(self, images: np.ndarray) -> None:
        self.held.append(images)
        self.bytes += images.nbytes
        if self.folder is not None and self.bytes > self.most:
            for block in self.held:
                self.write(block)
            self.held = []

    def write(self, images: np.ndarray) -> None:
        """Append to the last file until it is full, then to new files."""
        while len(images):
            if not self.files or self.files[-1].room == 0:
                self.close_last()
                assert self.folder is not None
                path = self.folder / f"{self.name}-{len(self.files):05d}.safetensors"
                self.files.append(ShardFile(path, self.image_shape))
            taken = images[: self.files[-1].room]
            self.files[-1].append(taken)
            images = images[len(taken) :]

    def close_last(self) -> None:
        if self.files:
            self.files[-1].close()

    def discard(self) -> None:
        """Remove the files that were written."""
        for file in self.files:
            file.file.close()
            file.path.unlink()

    def result(self) -> Images:
        """All images: a tensor, or :class:`FileRows` if files were written."""
        if not self.files:
            empty = np.empty((0, *self.image_shape), dtype=np.uint8)
            return torch.from_numpy(np.concatenate(self.held) if self.held else empty)
        self.close_last()
        return FileRows([file.part for file in self.files], self.image_shape)


class Files:
    """Collects the encoded files of images; :meth:`result` returns all of them as :class:`Encoded`."""

    def __init__(self, folder: Path | None, name: str):
        self.collector, self.lengths = Collector(folder, f"{name}-encoded", ()), list[int]()

    def append(self, files: Sequence[bytes]) -> None:
        self.collector.append(np.frombuffer(b"".join(files), dtype=np.uint8))
        self.lengths += map(len, files)

    def discard(self) -> None:
        self.collector.discard()

    def result(self) -> Encoded | None:
        """All files; None if no image has one."""
        if not any(self.lengths):
            return None
        return Encoded(self.collector.result(), torch.tensor(self.lengths).cumsum(0))


class ShardFile:
    """A file to which images are appended. Its header is written at the end. Raises ArtifactError on a full disk."""

    def __init__(self, path: Path, image_shape: Sequence[int]):
        self.path, self.image_shape, self.rows = path, image_shape, 0
        self.most = max(1, SHARD // int(np.prod(image_shape)))
        self.width = len(self.header(self.most))
        self.file: BinaryIO = path.open("xb")
        self.put(b"\0" * (8 + self.width))

    @property
    def room(self) -> int:
        """The number of images that can still be appended."""
        return self.most - self.rows

    @property
    def part(self) -> Part:
        return Part(self.path, 8 + self.width, self.rows)

    def append(self, images: np.ndarray) -> None:
        self.put(np.ascontiguousarray(images).data)
        self.rows += len(images)

    def put(self, data: bytes | memoryview) -> None:
        try:
            self.file.write(data)
            self.file.flush()
        except OSError as error:
            if (number := error_number(error)) is None:
                raise
            raise ArtifactError(not_written(self.path, number)) from None

    def header(self, rows: int) -> bytes:
        shape = [rows, *self.image_shape]
        described = canonical_json({"format": FORMAT, "kind": "images", "distillkit": __version__})
        tensor = {"dtype": "U8", "shape": shape, "data_offsets": [0, int(np.prod(shape))]}
        return json.dumps({"__metadata__": {KEY: described}, NAME: tensor}, separators=(",", ":")).encode()

    def close(self) -> None:
        """Write the header, padded with spaces to the length that was reserved for it."""
        if not self.file.closed:
            self.file.seek(0)
            self.put(self.width.to_bytes(8, "little") + self.header(self.rows).ljust(self.width))
            self.file.close()
