"""A set in a package: its images of 8 bits are in a parquet file, everything else is in a safetensors file beside it.

Images of 8 bits are the real ones and, in a package of ``uint8``, the learned ones. The safetensors file has the
SHA-256 of the decoded images. Axes: N images of a set; M images of 8 bits; C, H, W channels, height, width.
"""

import hashlib
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from distillkit.base.errors import ArtifactError
from distillkit.data.files.container import Opened
from distillkit.data.rows import Images, few_as_pixels, to_pixels

Storage = Literal["float32", "float16", "uint8"]  # of learned images in a package
FORMATS = ("JPEG", "PNG")  # of images of 8 bits
DTYPES = {"float32": torch.float32, "float16": torch.float16}
ELSEWHERE = "images_in"  # the header entry of a set whose images of 8 bits are in another file
ENCODED = 4096  # bytes that an encoded image may have in addition to twice the bytes of its pixels
ROWS = 256  # rows of a parquet file that are in memory at once


class Levels(NamedTuple):
    """Images of 8 bits (N, C, H, W), uint8, and the ``scale_N`` and ``offset_N`` of each, float32 (N,)."""

    levels_NCHW: Tensor
    scale_N: Tensor
    offset_N: Tensor

    def pixels(self) -> Tensor:
        """x = (q / 255) · scale + offset, float32, rounded after each operation; exact for scale 1 and offset 0."""
        scale, offset = (part[:, None, None, None] for part in (self.scale_N, self.offset_N))
        return to_pixels(self.levels_NCHW) * scale + offset


def exact_rows(learned_N: Tensor, storage: Storage) -> Tensor:
    """Which images have 8 bits in a package, (N,) bool: the real ones, or all if ``storage`` is uint8."""
    return ~learned_N | (storage == "uint8")


def decoded(data: Any, image_shape: tuple[int, ...], formats: tuple[str, ...] = FORMATS) -> np.ndarray | None:
    """The pixels of an encoded image, uint8 (C, H, W), if it has one of ``formats`` and this shape.

    None for everything else: another size or number of channels, transparency, an orientation in its EXIF data (which
    some decoders apply and others ignore), or bytes that are not an image.
    """
    mode, size = "L" if image_shape[0] == 1 else "RGB", (image_shape[2], image_shape[1])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(data), formats=formats)
            if (image.mode, image.size) != (mode, size) or image.has_transparency_data:
                return None
            pixels = np.array(image)
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # decoders raise errors of many types
        return None
    return None if turned else np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))


def read_packed(opened: Opened) -> Images:
    """The images (N, C, H, W) of a set in a package, float32 or uint8; those of 8 bits come from its parquet file.

    Raises ArtifactError when that file is missing or decodes to images of another SHA-256.
    """
    told = opened.field(ELSEWHERE, dict)
    storage, path = told["storage"], opened.path.parent / told["file"]
    opened.require(len(told["shape"]) == 3, f" has images of shape {told['shape']}; expected channels, height, width")
    learned_N = opened.tensor("learned", [None], torch.bool)
    exact_N = exact_rows(learned_N, storage)
    levels = read_levels(path, exact_N, tuple(told["shape"]))
    if (found := hashlib.sha256(levels.numpy().data).hexdigest()) != told["sha256"]:
        raise ArtifactError(
            f"{path} decodes to images of SHA-256 {found}; expected {told['sha256']}, as {opened.path} says; fetch the "
            "package again, or use the release of Pillow that it was made with"
        )
    if not bool(learned_N.any()):
        return few_as_pixels(levels)
    if storage == "uint8":
        scale_N, offset_N = (opened.tensor(name, [len(learned_N)]) for name in ("scale", "offset"))
        return Levels(levels, scale_N, offset_N).pixels()
    learned = opened.tensor("learned_images", [int(learned_N.sum()), *told["shape"]], DTYPES[storage])
    images = torch.empty(len(learned_N), *told["shape"])
    images[exact_N], images[~exact_N] = to_pixels(levels), learned.float()
    return images


def read_levels(path: Path, exact_N: Tensor, image_shape: tuple[int, ...]) -> Tensor:
    """The images (M, C, H, W), uint8, in the column ``image`` of a parquet file, at the rows where ``exact_N`` is true.

    Raises ArtifactError when the file or one of these images is missing or invalid.
    """
    again = "pull or build the package again"
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; expected the images of the set beside it; {again}")
    found: list[np.ndarray] = []
    for row, data in enumerate(encoded_images(path, len(exact_N), 2 * int(np.prod(image_shape)) + ENCODED)):
        if not exact_N[row]:
            continue
        pixels = decoded(data, image_shape)
        if pixels is None:
            shape = "x".join(map(str, image_shape))
            raise ArtifactError(f"{path}, row {row}, has no image of {shape}; expected a JPEG or PNG; {again}")
        found.append(pixels)
    return torch.from_numpy(np.array(found, dtype=np.uint8).reshape(-1, *image_shape))


def encoded_images(path: Path, rows: int, each: int) -> Iterator[Any]:
    """Yield the encoded images of a parquet file, of which ``ROWS`` rows are in memory at a time.

    Raises ArtifactError, before any image is read, unless the file has ``rows`` rows and its images have at most
    ``each`` bytes on average.
    """
    from pyarrow.parquet import ParquetFile

    expected = f"expected a parquet file of {rows:,} encoded images; pull or build the package again"
    try:
        with ParquetFile(path) as file:
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            columns = [group.column(index) for group in groups for index in range(group.num_columns)]
            size = sum(part.total_uncompressed_size for part in columns if part.path_in_schema.startswith("image."))
            if sum(group.num_rows for group in groups) != rows or size > rows * each + len(groups) * ENCODED:
                raise ValueError(f"it has {file.metadata.num_rows:,} rows and {size:,} bytes of images")
            for batch in file.iter_batches(batch_size=ROWS, columns=["image"]):
                yield from (cell and cell.get("bytes") for cell in batch.column("image").to_pylist())
    except ArtifactError:
        raise
    except Exception as error:  # pyarrow raises errors of many types
        raise ArtifactError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}); {expected}") from None
