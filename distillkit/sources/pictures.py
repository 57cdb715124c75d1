"""Decoding of picture files into 8-bit pixels, for a fixed list of formats.

Only decoders that read nothing but the given bytes are used. Other decoders of Pillow start programs (EPS) or open
other files.
"""

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from distillkit.base.errors import SourceError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
WHITE = 65535  # the largest 16-bit value
LARGEST_PLAIN = 2**18  # bytes; at six bits for 64 pixels, far fewer pixels than Pillow's limit
MOST_PIXELS = 128  # of a byte: a simple JPEG has six bits or more for 64 pixels
FRAMES = (0xC0, 0xC1, 0xC2)  # markers of baseline, extended and progressive frames
MOST_NAMED = 10  # most images that an error names
MARKS = (b"Exif\0", b"http://ns.adobe.com/xap/", b"MPF\0")  # markers of an orientation, or of several images
ORIENTED = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}  # metadata that can contain the orientation


class BrokenImageError(SourceError):
    """An image that cannot be read: what people call it, and why."""

    def __init__(self, where: str, reason: str):
        super().__init__(where, reason)

    def __str__(self) -> str:
        where, reason = self.args
        return f"{where} cannot be read ({reason}); expected an image; replace or remove it"


class Pixels(NamedTuple):
    """``values`` (C, H, W) uint8, with one channel (grey) or three (colour); and facts about the decoding.

    ``file`` holds the bytes of a JPEG or PNG whose decoding is exactly these values, where they are known.
    ``deepest`` is the largest value of 16-bit pixels (for colours, from their upper bytes), None for 8 bits. ``clear``:
    some pixels were transparent. ``frames``: the file has more pictures than this one.
    """

    values: np.ndarray
    deepest: int | None = None
    clear: bool = False
    frames: bool = False
    file: bytes = b""


@cache
def formats() -> tuple[str, ...]:
    """The formats of FORMATS that the installed Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_picture(data: bytes) -> Image.Image:
    """The picture in a file's bytes. Raises SourceError for other data, and for too many pixels."""
    if not data:
        raise SourceError("it is empty")
    return identified(BytesIO(data))


def identified(file: BinaryIO) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(file, formats=formats())
    except UnidentifiedImageError:
        raise SourceError(f"it is not one of {', '.join(formats())}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise SourceError(f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None


@contextmanager
def known_formats_only() -> Iterator[None]:
    """A block in which other libraries also open only these formats with Pillow."""
    known, before = formats(), Image.ID[:]
    Image.ID[:] = known
    try:
        yield
    finally:
        Image.ID[:] = before


@cache
def suffixes() -> frozenset[str]:
    """The file name extensions of the formats."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats())


def is_picture(path: Path) -> bool:
    """Whether a regular file is a picture, by its extension or else by its first bytes."""
    if path.suffix.lower() in suffixes():
        return True
    try:
        with path.open("rb") as file:
            identified(file)
    except SourceError as error:
        return "pixels" in str(error)
    except Exception:  # decoders raise errors of many types
        return False
    return True


def picture_pixels(image: Image.Image, background: int = 255, white: int = WHITE) -> Pixels:
    """The picture with its orientation applied, opaque, with 8 bits.

    Transparent pixels are drawn on grey of level ``background``. 16-bit values are scaled so that ``white`` becomes
    255; for 16-bit colours Pillow gives the upper bytes. Raises SourceError if a transparent picture is uniform on the
    background, for values above ``white``, for 16-bit colours if ``white`` is not 65535, and for 32-bit pixels.
    """
    if not isinstance(image, Image.Image):
        raise SourceError(f"it is {type(image).__name__}")
    frames = getattr(image, "n_frames", 1) > 1 and image.format != "MPO"  # MPO files have a preview as second frame
    deep, deepest = image.mode.startswith("I;16"), None
    if not deep and ";16" in str(getattr(image, "tile", "")) and image.mode != "I":
        if white != WHITE:
            raise SourceError(
                f"its colours have 16 bits, of which 8 are read, and data.white is {white}; save it with 8 bits"
            )
        deepest = int(np.asarray(image)[..., :3].max()) * 257
    image.load()
    if image.format not in ("JPEG", "PNG") or ORIENTED & image.info.keys():  # this takes as long as decoding
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F"):
        raise SourceError(f"its pixels have 32 bits, mode {image.mode}")
    if deep:
        deepest = int(np.asarray(image).max())
        if deepest > white:
            raise SourceError(f"it has the value {deepest}, and data.white is {white}")
        image = Image.fromarray(np.round(np.asarray(image) / (white / 255)).astype(np.uint8))
    image, clear = opaque(image, background)
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    return Pixels(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), deepest, clear, frames)


def is_plain(image: Image.Image) -> bool:
    """Whether a picture is a JPEG or PNG whose pixels of 8 bits, decoded by anybody, are those of picture_pixels."""
    simple = image.format in ("JPEG", "PNG") and image.mode in ("L", "RGB") and not image.has_transparency_data
    if not simple or getattr(image, "n_frames", 1) != 1:
        return False
    return not ORIENTED & image.info.keys() or image.getexif().get(ExifTags.Base.Orientation, 1) == 1


def plain_jpeg(data: bytes) -> np.ndarray | None:
    """The pixels (C, H, W) of a simple JPEG, decoded without a search for metadata; None for any other file.

    Simple means: one or three channels, no orientation, and too small to be a decompression bomb.
    """
    if not data.startswith(b"\xff\xd8\xff") or len(data) > LARGEST_PLAIN or any(mark in data for mark in MARKS):
        return None
    try:
        high, wide, channels = jpeg_shape(data)
        if high * wide > MOST_PIXELS * len(data):
            return None
        mode = {1: "L", 3: "RGB"}[channels]
        pixels = np.asarray(Image.frombytes(mode, (wide, high), data, "jpeg", mode, ""))
    except Exception:  # picture_pixels will report it
        return None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def jpeg_shape(data: bytes) -> tuple[int, int, int]:
    """Height, width and channels of a JPEG of 8 bits, from the segment that describes its frame (ISO 10918-1, B.2.2).

    Raises LookupError where there is none.
    """
    at = 2  # after the marker of the beginning
    while data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker in FRAMES and data[at + 4] == 8:
            return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9]), data[at + 9]
        at += 2 + length
    raise LookupError("no frame of 8 bits")


def opaque(image: Image.Image, background: int) -> tuple[Image.Image, bool]:
    """The picture on its background, and whether it had transparent pixels. Grey pictures stay grey."""
    if not image.has_transparency_data:
        return image, False
    grey = image.mode in ("1", "L", "LA", "La")
    drawn = image.convert("RGBA")
    ground = Image.new("RGBA", drawn.size, (background, background, background, 255))
    alpha = np.asarray(drawn.getchannel("A"))
    shown = Image.alpha_composite(ground, drawn).convert("RGB")
    if np.ptp(alpha) and not np.ptp(np.asarray(shown), (0, 1)).any():
        raise SourceError(f"it is invisible on a background of {background}; set data.background")
    return shown.convert("L") if grey else shown, bool(alpha.min() < 255)


def resized(pixels: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """The uint8 pixels (C, H, W) with this height and width."""
    if size is None or size == pixels.shape[1:]:
        return pixels
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    values = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def brief(error: Exception) -> str:
    """An error in one line: its message, with the type unless it is a SourceError."""
    text = str(error) if isinstance(error, SourceError) else f"{type(error).__name__}: {error}"
    return textwrap.shorten(text, 300, placeholder=" ...")


def unreadable(where: str, error: Exception) -> BrokenImageError:
    return BrokenImageError(where, brief(error))


def check_readable(broken: Sequence[BrokenImageError], all_seen: bool = True) -> None:
    """Raise SourceError for images that cannot be read, if there are any. There may be more unless ``all_seen``."""
    if len(broken) == 1:
        raise broken[0]
    if broken:
        reasons: dict[str, list[str]] = {}
        for where, reason in (error.args for error in broken[:MOST_NAMED]):
            reasons.setdefault(reason, []).append(where)
        named = ", ".join(f"{', '.join(places)} ({reason})" for reason, places in reasons.items())
        at_least = "" if all_seen and len(broken) < MOST_NAMED else "at least "
        found = f"{at_least}{min(len(broken), MOST_NAMED)} images cannot be read: {named}"
        raise SourceError(f"{found}; expected images; replace or remove them")
