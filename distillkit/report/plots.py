"""The plots of the report.

Each plot is written as a PNG, atomically and without time or version, so the same numbers give the same bytes. The
functions also return it as SVG (see :mod:`distillkit.report.vector`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from distillkit.base.files import atomic_write
from distillkit.report.results import COLOURS, Row, colour_of
from distillkit.report.vector import Point, as_svg, curve_points, mark_series
from distillkit.report.words import Curves, shorten

Numbers = npt.NDArray[np.float64]
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


@contextmanager
def panels(path: Path, titles: Sequence[str], height: float) -> Iterator[list[Axes]]:
    """Axes below one another, each ``height`` inches high, written to ``path`` when the block succeeds."""
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH, height * len(titles)), dpi=DPI, layout="constrained")
        yield [figure.add_subplot(len(titles), 1, row, title=title) for row, title in enumerate(titles, start=1)]
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def write_instead(axes: Axes, sentence: str) -> None:
    """Write a sentence instead of a plot."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, sentence, ha="center", va="center", transform=axes.transAxes, color="#555555")


# Points, a line for each recipe


@contextmanager
def lines_of(rows: Sequence[Row], path: Path, title: str) -> Iterator[tuple[Axes, list[tuple[int, Row]]]]:
    """Axes with the recipes' names on the left, grouped by images per class, and each row with its position."""
    lines: list[Row | str] = []
    for ipc, group in groupby(rows, key=lambda row: row.ipc):
        lines += ["all images" if ipc is None else f"{ipc} per class", *group]
    with panels(path, [title], max(2.5, 1.3 + 0.3 * len(lines))) as (axes,):
        if lines:
            name_lines(axes, lines)
        else:
            write_instead(axes, "There is no recipe to compare.")
        yield axes, [(place, line) for place, line in enumerate(lines) if isinstance(line, Row)]


def name_lines(axes: Axes, lines: Sequence[Row | str]) -> None:
    """Write recipes and headings beside the axes, the first at the top."""
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_yticks(range(len(lines)), [line if isinstance(line, str) else shorten(line.recipe) for line in lines])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if isinstance(line, str) else "normal")


def accuracy_plot(rows: Sequence[Row], path: Path) -> str:
    """A point for each recipe, grouped by images per class: mean accuracy, whiskers of one standard deviation.

    The accuracy of training on all images is a dashed line. A single run has no whiskers.
    """
    points: list[Point] = []
    title = "Test accuracy (%), mean ± standard deviation over evaluation networks"
    with lines_of([row for row in rows if row.method != "full"], path, title) as (axes, lines):
        for row in [row for row in rows if row.method == "full"] if lines else ():
            draw_ceiling(axes, row)
        for place, row in lines:
            mean, std = 100 * row.accuracy, 100 * row.std if row.runs > 1 else None
            drawn = axes.errorbar(mean, place, xerr=std, fmt="o", color=colour_of(row.method), markersize=7, capsize=4)
            words = f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"
            mark_series(row.recipe, [*drawn.get_children(), write_right(axes, place, words)])
            points.append(Point(axes, row.recipe, mean, place, f"{row.recipe}: {words} (n = {row.runs})"))
    return as_svg(axes, points)


def draw_ceiling(axes: Axes, row: Row) -> None:
    """Draw the full set as a dashed line, with its name above the axes, left of the line, where there is room."""
    percent = 100 * row.accuracy
    axes.axvline(percent, color=COLOURS["full"], linestyle=(0, (4, 3)), linewidth=1.2)
    label = f"{shorten(row.recipe)}, all images: {percent:.2f}"
    axes.text(percent, 1.01, label, ha="right", va="bottom", transform=axes.get_xaxis_transform())
    raise_title(axes)


def coverage_plot(rows: Sequence[Row], path: Path) -> str:
    """For each recipe, accuracy on the easy, middle and hard third of the test images, joined by a line.

    The longer the line, the wider the gap that the set leaves between easy and hard images.
    """
    points: list[Point] = []
    with lines_of(rows, path, "Accuracy (%) on the easy, middle and hard third of the test images") as (axes, lines):
        for place, row in lines:
            points += draw_thirds(axes, place, row)
        if lines:
            raise_title(axes)
            looks = THIRD_MARKERS.values()
            keys = [axes.plot([], [], linestyle="none", color="#555555", **marker)[0] for marker in looks]
            names = [f"{name} third" for name in THIRD_MARKERS]
            axes.legend(keys, names, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0, handletextpad=0.2)
    return as_svg(axes, points)


def draw_thirds(axes: Axes, place: int, row: Row) -> list[Point]:
    """Draw one recipe's three points, the line between them and the gap as a number; return the points."""
    colour = colour_of(row.method)
    thirds = {"easy": 100 * row.easy, "middle": 100 * row.middle, "hard": 100 * row.hard}
    drawn = axes.plot([min(thirds.values()), max(thirds.values())], [place, place], color=colour, linewidth=2)
    for name, percent in thirds.items():
        drawn += axes.plot(percent, place, color=colour, linestyle="none", **THIRD_MARKERS[name])
    mark_series(row.recipe, [*drawn, write_right(axes, place, f"gap {thirds['easy'] - thirds['hard']:.1f}")])
    words = {name: f"{row.recipe}, {name} third: {percent:.2f}" for name, percent in thirds.items()}
    return [Point(axes, row.recipe, percent, place, words[name]) for name, percent in thirds.items()]


def raise_title(axes: Axes) -> None:
    """Leave room for one line of text between the title and the axes."""
    axes.set_title(axes.get_title(loc="left"), pad=28)


def write_right(axes: Axes, place: int, words: str) -> Text:
    """Write text to the right of the axes, on one recipe's line."""
    return axes.text(1.02, place, words, va="center_baseline", transform=axes.get_yaxis_transform())


# Curves, one for each recipe


def loss_plot(losses: Mapping[str, Curves], path: Path, methods: Mapping[str, str]) -> str:
    """Losses against outer step, by title in a panel for each kind of loss, because kinds have different scales.

    A smoothed line lies over the faint raw one. The method of each recipe, from ``methods``, decides its colour.
    """
    points: list[Point] = []
    titles = [f"{title} against outer step, smoothed over faint raw values" for title in losses]
    with panels(path, titles or ["Loss against outer step"], 3.5 if len(titles) > 1 else 4.5) as drawn:
        if not losses:
            write_instead(drawn[0], "No recipe learns, so there is no loss.")
        for axes, curves in zip(drawn, losses.values(), strict=bool(losses)):
            lines = as_arrays(curves)
            looks = line_looks(lines, methods)
            for recipe, (steps, values) in lines.items():
                raw = axes.plot(steps, values, linewidth=0.8, alpha=0.3, color=looks[recipe]["color"])
                mark_series(recipe, raw)
            smooth = {recipe: (steps, smoothed(values)) for recipe, (steps, values) in lines.items()}
            points += draw_lines(axes, smooth, looks, "outer step")
    return as_svg(drawn[0], points)


def training_plot(curves: Curves, path: Path, methods: Mapping[str, str]) -> str:
    """Test accuracy against update for each recipe; the limits fit the last two thirds, where recipes differ."""
    lines = {recipe: (steps, 100 * accuracies) for recipe, (steps, accuracies) in as_arrays(curves).items()}
    points: list[Point] = []
    with panels(path, ["Test accuracy (%) while training on each set"], 4.5) as (axes,):
        if lines:
            points = draw_lines(axes, lines, line_looks(lines, methods), "update", first=1 / 3)
        else:
            write_instead(axes, "No training curve was recorded.")
    return as_svg(axes, points)


def as_arrays(curves: Curves) -> dict[str, tuple[Numbers, Numbers]]:
    """Each curve's steps and values; curves without a point are left out."""
    arrays = {recipe: np.array(curve, dtype=np.float64) for recipe, curve in curves.items() if curve}
    return {recipe: (array[:, 0], array[:, 1]) for recipe, array in arrays.items()}


def draw_lines(
    axes: Axes,
    lines: Mapping[str, tuple[Numbers, Numbers]],
    looks: Mapping[str, Mapping[str, Any]],
    x: str,
    first: float = 0.0,
) -> list[Point]:
    """Draw lines and a legend sorted by their last values, the highest first; return their points.

    The limits show all values of each curve after its first part, a fraction ``first`` of it, with some room.
    """
    handles = {
        recipe: axes.plot(steps, values, linewidth=2, marker="." if len(steps) < 2 else None, **looks[recipe])[0]
        for recipe, (steps, values) in lines.items()
    }
    ranked = sorted(lines, key=lambda recipe: -lines[recipe][1][-1])
    names = [shorten(recipe) for recipe in ranked]
    axes.legend([handles[recipe] for recipe in ranked], names, loc="upper left", bbox_to_anchor=(1, 1), handlelength=3)
    axes.set_xlabel(x)
    shown = np.concatenate([values[int(first * len(values)) :] for _, values in lines.values()])
    low, high = float(shown.min()), float(shown.max())
    room = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set_ylim(low - room, high + room)
    for recipe, handle in handles.items():
        mark_series(recipe, [handle])
    found = [
        curve_points(axes, recipe, steps.tolist(), values.tolist(), x) for recipe, (steps, values) in lines.items()
    ]
    return [point for points in found for point in points if low - room <= point.y <= high + room]


def line_looks(recipes: Iterable[str], methods: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The colour of each recipe's method; recipes of one method differ by their dashes."""
    seen: Counter[str] = Counter()
    looks = {}
    for recipe in recipes:
        colour = colour_of(methods.get(recipe, recipe))
        looks[recipe] = {"color": colour, "linestyle": LINES[seen[colour] % len(LINES)]}
        seen[colour] += 1
    return looks


def smoothed(values: Numbers) -> Numbers:
    """The moving mean over a tenth of the curve; at the ends, the window is shorter."""
    window = np.ones(max(1, len(values) // 10))
    sums = np.convolve(values, window, mode="same")
    return sums / np.convolve(np.ones(len(values)), window, mode="same")
