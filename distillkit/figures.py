"""Pictures for people: a grid of a synthetic set, and the plots of the report.

Every picture is a PNG, written atomically, without time or version, so that the same numbers give the same bytes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from distillkit.files import atomic_write
from distillkit.images import SyntheticSet

Numbers = npt.NDArray[np.float64]
Curves = Mapping[str, Sequence[tuple[int, float]]]  # by recipe, points (step, value)
Colour = tuple[int, int, int]
LegendEntry = tuple[str, Colour | None]

LEARNED_COLOUR = (230, 159, 0)
REAL_COLOUR = (150, 150, 150)
TEXT_COLOUR = (40, 40, 40)
FRAME, GAP, MARGIN = 3, 4, 10  # pixels
CELL, LARGEST_CELL = 48, 96  # pixels an image is brought to, and more than which it never has
MOST_CLASSES = 20
CAPTION, WIDEST_TEXT = 14, 1200  # pixels: a line below a strip, and what words may ask for
NAME_LENGTH = 28  # characters

COLOURS = {  # of the methods, in the order of tables; the first colours are Okabe and Ito's
    "full": "#000000",
    "random": "#777777",
    "window": "#56b4e9",
    "confident": "#009e73",
    "herding": "#cc79a7",
    "k-centre": "#8c564b",
    "moderate": "#b3a100",
    "ccs": "#6a51a3",
    "optimised": "#17becf",
    "kmeans": "#a6761d",
    "average": "#e7298a",
    "diffusion": "#1b7837",
    "dd": "#4d4d9f",
    "dm": "#b15928",
    "dc": "#80b1d3",
    "dsa": "#c51b7d",
    "mtt": "#0072b2",
    "att": "#5ab4ac",
    "selmatch": "#d55e00",
    "imported": "#e69f00",
}
UNKNOWN_COLOUR = "#998ec3"  # of a method that is not among them
THIRD_MARKERS: dict[str, dict[str, Any]] = {
    "easy": {"marker": "o", "markersize": 7, "markerfacecolor": "white"},
    "middle": {"marker": "|", "markersize": 9, "markeredgewidth": 2},
    "hard": {"marker": "o", "markersize": 7},
}
LINES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))  # recipes of one method, in order
WIDTH, DPI = 8.0, 160  # 1280 pixels; text is legible at 800
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}


class Attacked(NamedTuple):
    """Which class a poisoned set has taken for which, of what share; and the accuracy by the attacker's labels."""

    attack_class: str
    target_class: str
    taken: float
    modified: float


@dataclass(frozen=True)
class Row:
    """One recipe's result; accuracies, their standard deviation over ``runs`` and thirds are shares of 1."""

    recipe: str
    method: str
    ipc: int | None
    images: int
    real: int
    learned: int
    accuracy: float
    std: float
    runs: int
    easy: float
    middle: float
    hard: float
    knn: float | None = None  # accuracy of the nearest images' classes, where it was measured
    replayed: bool = False  # trained on in an order of its own
    soft: bool = False  # trained on with soft labels
    starts_trained: bool = False  # its networks have been trained before
    before: float | None = None  # accuracy of its own initial weights, where it was measured
    attack: Attacked | None = None  # poisoned


def shorten(name: str) -> str:
    """A name on one line, cut with an ellipsis where it is long."""
    line = " ".join(name.split())
    return line if len(line) <= NAME_LENGTH else line[: NAME_LENGTH - 1] + "…"


# The grid


def preview_grid(synthetic: SyntheticSet, path: Path, columns: int = 10) -> None:
    """A row for each of the first 20 classes: its name and up to ``columns`` images, spread over the stored order.

    Learned images have an orange frame, real ones a grey frame. Pixels are clipped to [0, 1]; small images are
    enlarged by a whole factor; of images without three channels the first one is shown as grey.
    """
    names = [shorten(name) for name in synthetic.class_names[:MOST_CLASSES]]
    tiles = [[tile(synthetic, row) for row in class_sample(synthetic, label, columns)] for label in range(len(names))]
    with atomic_write(path) as temporary:
        draw_grid(names, tiles, legend(synthetic)).save(temporary, format="png")


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


# The plots


@contextmanager
def plot(path: Path, title: str, height: float = 4.5) -> Iterator[Axes]:
    """Axes of a figure 8 inches wide, written to ``path`` when the block ends well; no setting outlives it."""
    with panels(path, [title], height) as (axes,):
        yield axes


@contextmanager
def panels(path: Path, titles: Sequence[str], height: float) -> Iterator[list[Axes]]:
    """:func:`plot` with several axes below one another, each of this height."""
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH, height * len(titles)), dpi=DPI, layout="constrained")
        yield [figure.add_subplot(len(titles), 1, row, title=title) for row, title in enumerate(titles, start=1)]
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def say(axes: Axes, sentence: str) -> None:
    """A sentence in place of a plot."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, sentence, ha="center", va="center", transform=axes.transAxes, color="#555555")


def accuracy_plot(rows: Sequence[Row], path: Path) -> None:
    """A point for each recipe, grouped by images per class: mean accuracy, whiskers of one standard deviation.

    The accuracy of training on everything is a dashed line.
    """
    full = [row for row in rows if row.method == "full"]
    lines = in_groups([row for row in rows if row.method != "full"])
    with plot(path, "Test accuracy (%), mean ± standard deviation over evaluation networks", tall(lines)) as axes:
        if not lines:
            say(axes, "There is no recipe to compare.")
            return
        name_lines(axes, lines)
        for row in full:
            draw_ceiling(axes, row)
        for place, line in enumerate(lines):
            if isinstance(line, Row):
                draw_accuracy(axes, place, line)


def draw_ceiling(axes: Axes, row: Row) -> None:
    """A dashed line, named above the axes and to the left, where there is room."""
    percent = 100 * row.accuracy
    axes.axvline(percent, color=COLOURS["full"], linestyle=(0, (4, 3)), linewidth=1.2)
    label = f"{shorten(row.recipe)}, all images: {percent:.2f}"
    axes.text(percent, 1.01, label, ha="right", va="bottom", transform=axes.get_xaxis_transform())
    raise_title(axes)


def draw_accuracy(axes: Axes, place: int, row: Row) -> None:
    """One recipe's point, whiskers and figure; a single run has no deviation."""
    percent, std, colour = 100 * row.accuracy, 100 * row.std, colour_of(row.method)
    axes.errorbar(percent, place, xerr=std if row.runs > 1 else None, fmt="o", color=colour, markersize=7, capsize=4)
    write_right(axes, place, f"{percent:.2f} ± {std:.2f}" if row.runs > 1 else f"{percent:.2f}")


def coverage_plot(rows: Sequence[Row], path: Path) -> None:
    """For each recipe, accuracy on the easy, middle and hard third of the test images, joined by a line.

    The longer the line, the wider the gap that the set leaves between easy and hard images.
    """
    lines = in_groups(rows)
    with plot(path, "Accuracy (%) on the easy, middle and hard third of the test images", tall(lines)) as axes:
        if not lines:
            say(axes, "There is no recipe to compare.")
            return
        name_lines(axes, lines)
        for place, line in enumerate(lines):
            if isinstance(line, Row):
                draw_thirds(axes, place, line)
        raise_title(axes)
        keys = [axes.plot([], [], linestyle="none", color="#555555", **marker)[0] for marker in THIRD_MARKERS.values()]
        names = [f"{name} third" for name in THIRD_MARKERS]
        axes.legend(keys, names, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0, handletextpad=0.2)


def draw_thirds(axes: Axes, place: int, row: Row) -> None:
    """One recipe's three points, the line between them and the gap as a figure."""
    colour = colour_of(row.method)
    thirds = {"easy": 100 * row.easy, "middle": 100 * row.middle, "hard": 100 * row.hard}
    axes.plot([min(thirds.values()), max(thirds.values())], [place, place], color=colour, linewidth=2)
    for name, percent in thirds.items():
        axes.plot(percent, place, color=colour, linestyle="none", **THIRD_MARKERS[name])
    write_right(axes, place, f"gap {thirds['easy'] - thirds['hard']:.1f}")


def in_groups(rows: Sequence[Row]) -> list[Row | str]:
    """Rows with a heading before every run of the same number of images per class."""
    lines: list[Row | str] = []
    for ipc, group in groupby(rows, key=lambda row: row.ipc):
        lines += ["all images" if ipc is None else f"{ipc} per class", *group]
    return lines


def tall(lines: Sequence[Row | str]) -> float:
    """The height in inches that so many lines need."""
    return max(2.5, 1.3 + 0.3 * len(lines))


def name_lines(axes: Axes, lines: Sequence[Row | str]) -> None:
    """Recipes and headings down the left side, the first at the top."""
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_yticks(range(len(lines)), [line if isinstance(line, str) else shorten(line.recipe) for line in lines])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if isinstance(line, str) else "normal")


def raise_title(axes: Axes) -> None:
    """Leave room for one line of words between the title and the axes."""
    axes.set_title(axes.get_title(loc="left"), pad=28)


def write_right(axes: Axes, place: int, words: str) -> None:
    """Words to the right of the axes, on one recipe's line."""
    axes.text(1.02, place, words, va="center_baseline", transform=axes.get_yaxis_transform())


def loss_plot(losses: Mapping[str, Curves], path: Path, methods: Mapping[str, str] | None = None) -> None:
    """Losses against outer step, of a kind in each panel, by its title: only what is of a kind can share a scale.

    ``methods`` names the method of each recipe, and so its colour.
    """
    if not losses:
        with plot(path, "Loss against outer step") as axes:
            say(axes, "No recipe learns, so there is no loss.")
        return
    titles = [f"{title} against outer step, smoothed over faint raw values" for title in losses]
    with panels(path, titles, 4.5 if len(titles) == 1 else 3.5) as drawn:
        for axes, curves in zip(drawn, losses.values(), strict=True):
            draw_losses(axes, as_arrays(curves), methods or {})


def draw_losses(axes: Axes, lines: Mapping[str, tuple[Numbers, Numbers]], methods: Mapping[str, str]) -> None:
    """A smoothed line over the faint raw one for each recipe."""
    smooth = {recipe: (steps, smoothed(losses)) for recipe, (steps, losses) in lines.items()}
    looks = line_looks(list(lines), methods)
    for recipe, (steps, losses) in lines.items():
        axes.plot(steps, losses, linewidth=0.8, alpha=0.3, color=looks[recipe]["color"])
    draw_lines(axes, smooth, looks, "outer step")
    show_all(axes, np.concatenate([losses for _, losses in smooth.values()]))


def training_plot(curves: Curves, path: Path, methods: Mapping[str, str] | None = None) -> None:
    """Test accuracy against update for each recipe; ``methods`` as in :func:`loss_plot`.

    The limits suit the later two thirds, where the recipes differ.
    """
    lines = {recipe: (steps, 100 * accuracies) for recipe, (steps, accuracies) in as_arrays(curves).items()}
    with plot(path, "Test accuracy (%) while training on each set") as axes:
        if not lines:
            say(axes, "No training curve was recorded.")
            return
        draw_lines(axes, lines, line_looks(list(lines), methods or {}), "update")
        show_all(axes, np.concatenate([accuracies[len(accuracies) // 3 :] for _, accuracies in lines.values()]))


def as_arrays(curves: Curves) -> dict[str, tuple[Numbers, Numbers]]:
    """Each curve's steps and values; curves without a point are left out."""
    arrays = {recipe: np.array(curve, dtype=np.float64) for recipe, curve in curves.items() if curve}
    return {recipe: (array[:, 0], array[:, 1]) for recipe, array in arrays.items()}


def draw_lines(
    axes: Axes, lines: Mapping[str, tuple[Numbers, Numbers]], looks: Mapping[str, Mapping[str, Any]], x: str
) -> None:
    """Lines and, beside them, their names in the order in which they end, the highest first."""
    for recipe, (steps, values) in lines.items():
        axes.plot(steps, values, linewidth=2, marker="." if len(steps) < 2 else None, **looks[recipe])
    handles = dict(zip(lines, axes.get_lines()[-len(lines) :], strict=True))
    ranked = sorted(lines, key=lambda recipe: -lines[recipe][1][-1])
    axes.legend(
        [handles[recipe] for recipe in ranked],
        [shorten(recipe) for recipe in ranked],
        loc="upper left",
        bbox_to_anchor=(1, 1),
        handlelength=3,
    )
    axes.set_xlabel(x)


def line_looks(recipes: Sequence[str], methods: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The colour of each recipe's method; recipes of one method differ by their dashes."""
    seen: Counter[str] = Counter()
    looks = {}
    for recipe in recipes:
        colour = colour_of(methods.get(recipe, recipe))
        looks[recipe] = {"color": colour, "linestyle": LINES[seen[colour] % len(LINES)]}
        seen[colour] += 1
    return looks


def colour_of(method: str) -> str:
    return COLOURS.get(method, UNKNOWN_COLOUR)


def smoothed(values: Numbers) -> Numbers:
    """The mean over a window of a tenth of the curve, cut where the curve ends."""
    window = np.ones(max(1, len(values) // 10))
    sums = np.convolve(values, window, mode="same")
    return sums / np.convolve(np.ones(len(values)), window, mode="same")


def show_all(axes: Axes, values: Numbers) -> None:
    """Limits that show these values with some room; what is outside, single spikes say, is cut."""
    low, high = float(values.min()), float(values.max())
    room = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set_ylim(low - room, high + room)
