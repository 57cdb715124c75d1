"""Pictures of sets: a grid of one set, strips of images for a comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from distillkit.base.files import atomic_write
from distillkit.data.images import SyntheticSet
from distillkit.report.words import shorten

Colour = tuple[int, int, int]

LegendEntry = tuple[str, Colour | None]

LEARNED_COLOUR = (230, 159, 0)

REAL_COLOUR = (150, 150, 150)

TEXT_COLOUR = (40, 40, 40)

FRAME, GAP, MARGIN = 3, 4, 10  # pixels

CELL, LARGEST_CELL = 48, 96  # pixels an image is brought to, and more than which it never has

MOST_CLASSES = 20

CAPTION, WIDEST_TEXT = 14, 1200  # pixels: a line below a strip, and what words may ask for

# The grid


def preview_grid(synthetic: SyntheticSet, path: Path, columns: int = 10) -> None:
    """A row for each of the first 20 classes: its name and up to ``columns`` images, spread over the stored order.

    Learned images have an orange frame, real ones a grey frame. Pixels are clipped to [0, 1]; small images are
    enlarged by a whole factor; of images without three channels the first one is shown as grey.
    """
    with atomic_write(path) as temporary:
        grid(synthetic, columns).save(temporary, format="png")


def grid(synthetic: SyntheticSet, columns: int = 10) -> Image.Image:
    """The picture of :func:`preview_grid`."""
    names = [shorten(name) for name in synthetic.class_names[:MOST_CLASSES]]
    tiles = [[tile(synthetic, row) for row in class_sample(synthetic, label, columns)] for label in range(len(names))]
    return draw_grid(names, tiles, legend(synthetic))


def class_sample(synthetic: SyntheticSet, label: int, columns: int) -> list[int]:
    """At most ``columns`` rows of a class, evenly spread from its first to its last."""
    rows = (synthetic.labels == label).nonzero().squeeze(1).tolist()
    if len(rows) <= columns:
        return rows
    return [rows[place * (len(rows) - 1) // max(1, columns - 1)] for place in range(columns)]


def tile(synthetic: SyntheticSet, row: int) -> Image.Image:
    """One image, at the size it is shown, in its frame."""
    colour = LEARNED_COLOUR if synthetic.learned[row] else REAL_COLOUR
    return as_tile(synthetic.images[row], colour)


def as_tile(image_CHW: Tensor, colour: Colour = (255, 255, 255)) -> Image.Image:
    """An image in pixel space, at the size it is shown, in a frame."""
    return ImageOps.expand(resized(as_picture(image_CHW)), border=FRAME, fill=colour)


def as_picture(image_CHW: Tensor) -> Image.Image:
    """An image in pixel space as RGB of 8 bits."""
    levels = (image_CHW.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    channels = levels if len(levels) == 3 else levels[:1].expand(3, -1, -1)
    return Image.fromarray(channels.permute(1, 2, 0).contiguous().numpy())


def resized(picture: Image.Image) -> Image.Image:
    """Enlarged by the whole factor that comes closest to 48 pixels, or reduced to 96."""
    longest = max(picture.size)
    if longest > LARGEST_CELL:
        width, height = (max(1, round(side * LARGEST_CELL / longest)) for side in picture.size)
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    factor = max(1, round(CELL / longest))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def legend(synthetic: SyntheticSet) -> list[LegendEntry]:
    """What is written below the grid, each with the colour it explains."""
    learned = int(synthetic.learned.sum())
    entries: list[LegendEntry] = [
        (f"learned {learned}", LEARNED_COLOUR),
        (f"real {len(synthetic) - learned}", REAL_COLOUR),
    ]
    classes = len(synthetic.class_names)
    if classes > MOST_CLASSES:
        entries.append((f"first {MOST_CLASSES} of {classes} classes", None))
    return entries


def text_font(size: int = 13) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib brings it, so that pictures do not depend on the machine's fonts."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def draw_grid(
    names: Sequence[str],
    tiles: Sequence[Sequence[Image.Image]],
    entries: Sequence[LegendEntry],
) -> Image.Image:
    """Names at the left, tiles in rows, the legend below."""
    font = text_font()
    cell = next((each.size for row in tiles for each in row), (CELL, CELL))
    step = (cell[0] + GAP, cell[1] + GAP)
    left = MARGIN + round(max(font.getlength(name) for name in names)) + MARGIN
    right = left + step[0] * max(len(row) for row in tiles) - GAP + MARGIN
    bottom = MARGIN + step[1] * len(names)
    widths = [round(font.getlength(text)) + 3 * MARGIN + GAP for text, _ in entries]
    canvas = Image.new("RGB", (max(right, sum(widths) + MARGIN), bottom + 3 * MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    for place, (name, row) in enumerate(zip(names, tiles, strict=True)):
        top = MARGIN + step[1] * place
        draw.text((left - MARGIN, top + cell[1] / 2), name, TEXT_COLOUR, font, anchor="rm")
        for column, each in enumerate(row):
            canvas.paste(each, (left + step[0] * column, top))
    draw_legend(draw, entries, widths, bottom + MARGIN, font)
    return canvas


def draw_legend(
    draw: ImageDraw.ImageDraw,
    entries: Sequence[LegendEntry],
    widths: Sequence[int],
    middle: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    """Squares of colour and words on one line around height ``middle``."""
    x = MARGIN
    for (text, colour), width in zip(entries, widths, strict=True):
        if colour is not None:
            draw.rectangle((x, middle - 5, x + MARGIN, middle + 5), outline=colour, width=FRAME)
        draw.text((x + (MARGIN + GAP + 2 if colour else 0), middle), text, TEXT_COLOUR, font, anchor="lm")
        x += width


# Strips


class Strip(NamedTuple):
    """Tiles in columns: a heading, rows by the name at their left, and what stands below each column, on two lines."""

    heading: str
    rows: Mapping[str, Sequence[Image.Image]]
    captions: Sequence[str]


def strip_picture(title: Sequence[str], strips: Sequence[Strip], entries: Sequence[LegendEntry], path: Path) -> None:
    """Lines of title, strips of tiles below one another, and a legend."""
    font, line = text_font(), 2 * MARGIN
    words = [*title, *(strip.heading for strip in strips)]
    names = [name for strip in strips for name in strip.rows]
    left = MARGIN + round(max((font.getlength(name) for name in names), default=0)) + MARGIN
    sizes = [each.size for strip in strips for row in strip.rows.values() for each in row]
    cell = max([CELL, *(size[0] for size in sizes)]), max([0, *(size[1] for size in sizes)])
    columns = max((len(strip.captions) for strip in strips), default=0)
    text = min(WIDEST_TEXT, MARGIN + round(max(font.getlength(each) for each in words)))
    widths = [round(font.getlength(name)) + 3 * MARGIN + GAP for name, _ in entries]
    heights = [line + len(strip.rows) * (cell[1] + GAP) + CAPTION * caption_lines(strip) + line for strip in strips]
    width = max(left + columns * (cell[0] + GAP), text, sum(widths)) + MARGIN
    head = MARGIN + line * len(title) + (MARGIN if strips else 0)
    bottom = head + sum(heights)
    canvas = Image.new("RGB", (width, bottom + (2 * MARGIN if entries else MARGIN)), "white")
    draw = ImageDraw.Draw(canvas)
    for place, sentence in enumerate(title):
        draw.text((MARGIN, MARGIN + line * place), fitted(sentence, font, width - 2 * MARGIN), TEXT_COLOUR, font)
    top = head
    for strip, height in zip(strips, heights, strict=True):
        draw.text((MARGIN, top), fitted(strip.heading, font, width - 2 * MARGIN), TEXT_COLOUR, font)
        draw_strip(canvas, draw, strip, (left, top + line), cell)
        top += height
    draw_legend(draw, entries, widths, bottom, font)
    with atomic_write(path) as temporary:
        canvas.save(temporary, format="png")


def caption_lines(strip: Strip) -> int:
    return max((caption.count("\n") + 1 for caption in strip.captions), default=0)


def draw_strip(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, strip: Strip, corner: tuple[int, int], cell: tuple[int, int]
) -> None:
    """Names at the left of ``corner``, tiles in the middle of their columns, captions below."""
    left, top = corner
    font, small = text_font(), text_font(11)
    for name, row in strip.rows.items():
        draw.text((left - MARGIN, top + cell[1] / 2), name, TEXT_COLOUR, font, anchor="rm")
        for column, each in enumerate(row):
            canvas.paste(each, (left + column * (cell[0] + GAP) + (cell[0] - each.width) // 2, top))
        top += cell[1] + GAP
    for column, caption in enumerate(strip.captions):
        middle = left + column * (cell[0] + GAP) + cell[0] / 2
        for place, text in enumerate(caption.split("\n")):
            draw.text((middle, top + CAPTION * place), fitted(text, small, cell[0]), TEXT_COLOUR, small, anchor="ma")


def fitted(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """A text cut with an ellipsis to so many pixels."""
    if font.getlength(text) <= width:
        return text
    kept = next((end for end in range(len(text) - 1, 0, -1) if font.getlength(text[:end] + "…") <= width), 0)
    return text[:kept] + "…"
