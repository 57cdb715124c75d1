"""Pictures of sets: rows of framed images, with a name on the left and notes below.

Pillow draws them, because importing torchvision for its ``make_grid`` takes longer than drawing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from distillkit.base.files import atomic_write
from distillkit.data.images import SyntheticSet
from distillkit.data.rows import to_pixels
from distillkit.report.words import shorten

Colour = tuple[int, int, int]
Row = tuple[str, Sequence[Image.Image]]  # a name and its tiles
Note = tuple[str, Colour]
LEARNED_COLOUR: Colour = (230, 159, 0)
REAL_COLOUR: Colour = (150, 150, 150)
TEXT_COLOUR: Colour = (40, 40, 40)
FRAME, GAP, MARGIN, LINE = 3, 4, 10, 20  # pixels; LINE is the height of a line of text
CELL, LARGEST_CELL, WIDEST = 48, 96, 1200  # pixels: of an enlarged image, of the largest image, and of text
MOST_CLASSES = 20
FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"  # the same on every machine


def preview_grid(synthetic: SyntheticSet, path: Path, columns: int = 10) -> None:
    """Write the picture of :func:`grid` as a PNG."""
    save(grid(synthetic, columns), path)


def grid(synthetic: SyntheticSet, columns: int = 10) -> Image.Image:
    """A row for each of the first 20 classes: its name and up to ``columns`` images, spread over the stored order.

    Learned images have an orange frame, real ones a grey frame.
    """
    classes, learned = len(synthetic.class_names), int(synthetic.learned.sum())
    rows = [
        (shorten(name), [tile(synthetic, row) for row in class_sample(synthetic, label, columns)])
        for label, name in enumerate(synthetic.class_names[:MOST_CLASSES])
    ]
    notes = [(f"■ learned {learned}", LEARNED_COLOUR), (f"■ real {len(synthetic) - learned}", REAL_COLOUR)]
    notes += [(f"first {MOST_CLASSES} of {classes} classes", TEXT_COLOUR)] if classes > MOST_CLASSES else []
    return picture_of(rows, notes)


def class_sample(synthetic: SyntheticSet, label: int, columns: int) -> list[int]:
    """At most ``columns`` rows of a class."""
    return spread((synthetic.labels == label).nonzero().squeeze(1).tolist(), columns)


def spread(rows: Sequence[int], columns: int) -> list[int]:
    """At most ``columns`` of the rows, evenly from the first to the last."""
    if len(rows) <= columns:
        return list(rows)
    return [rows[place * (len(rows) - 1) // max(1, columns - 1)] for place in range(columns)]


def tile(synthetic: SyntheticSet, row: int) -> Image.Image:
    """One image at display size, in its frame."""
    return as_tile(synthetic.image(row), LEARNED_COLOUR if synthetic.learned[row] else REAL_COLOUR)


def as_tile(image_CHW: Tensor, colour: Colour = (255, 255, 255)) -> Image.Image:
    """An image in pixel space at display size, in a frame."""
    return ImageOps.expand(resized(Image.fromarray(as_levels(image_CHW[None])[0])), border=FRAME, fill=colour)


def as_levels(images_NCHW: Tensor) -> Any:
    """8-bit colours (N, H, W, 3), clipped to [0, 1]. Without three channels, the first one is shown in grey."""
    levels = (to_pixels(images_NCHW).detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    colours = levels if levels.shape[1] == 3 else levels[:, :1].expand(-1, 3, -1, -1)
    return colours.permute(0, 2, 3, 1).contiguous().numpy()


def resized(picture: Image.Image) -> Image.Image:
    """Enlarged by the integer factor that comes closest to 48 pixels, or reduced to 96 pixels."""
    longest = max(picture.size)
    if longest > LARGEST_CELL:
        width, height = (max(1, round(side * LARGEST_CELL / longest)) for side in picture.size)
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    return ImageOps.scale(picture, max(1, round(CELL / longest)), Image.Resampling.NEAREST)


def save(picture: Image.Image, path: Path) -> None:
    with atomic_write(path) as temporary:
        picture.save(temporary, format="png")


def picture_of(rows: Sequence[Row], notes: Sequence[Note]) -> Image.Image:
    """Rows of tiles of one size, each row with its name, and coloured notes below."""
    font = ImageFont.truetype(FONT, 13)
    wide, high = next((each.size for _, tiles in rows for each in tiles), (CELL, CELL))
    left = 2 * MARGIN + round(max((font.getlength(name) for name, _ in rows), default=0))
    right = left + (wide + GAP) * max((len(tiles) for _, tiles in rows), default=0)
    words = MARGIN + min(WIDEST, round(max(font.getlength(text) for text, _ in notes)))
    bottom = MARGIN + (high + GAP) * len(rows)
    canvas = Image.new("RGB", (max(right, words) + MARGIN, bottom + LINE * len(notes) + MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    for line, (name, tiles) in enumerate(rows):
        top = MARGIN + (high + GAP) * line
        draw.text((left - MARGIN, top + high / 2), name, TEXT_COLOUR, font, anchor="rm")
        for column, each in enumerate(tiles):
            canvas.paste(each, (left + (wide + GAP) * column, top))
    for line, (text, colour) in enumerate(notes):
        draw.text((MARGIN, bottom + LINE * line), text, colour, font)
    return canvas
