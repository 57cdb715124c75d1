"""Pictures for people: a grid of a synthetic set, and the plots of the report.

Every picture is a PNG, written atomically, without time or version, so that the same numbers give the same bytes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distillkit.base.files import atomic_write
from distillkit.report.results import COLOURS, Row, colour_of
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
