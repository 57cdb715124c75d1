"""The plots of the page as SVG: a tooltip at each point shows its value, and each recipe can be hidden.

Matplotlib draws them, as it draws the PNGs. Without a script, or on paper, they look the same.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

POINTS = 60  # of a curve that have a tooltip
RADIUS = 6  # of the area around a point that shows the tooltip, in points of 1/72 inch
NAMES = ("Creator", "Date", "Format", "Type")  # of metadata to leave out
UNUSED = re.compile(
    r' id="(?!series-)(figure|axes|patch|line2d|matplotlib\.axis|text|xtick|ytick|legend|\w*Coll\w*)_\d+"'
)
PROLOGUE = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)


class Point(NamedTuple):
    """A value of a recipe: its place in data coordinates, and its tooltip."""

    axes: Axes
    recipe: str
    x: float
    y: float
    words: str


def series(recipe: str) -> str:
    """The CSS class of a recipe's elements in all plots."""
    return f"series-{hashlib.sha256(recipe.encode()).hexdigest()[:10]}"


def mark_series(recipe: str, artists: Iterable[Artist]) -> None:
    """Mark what is drawn as elements of a recipe."""
    for artist in artists:
        artist.set_gid(series(recipe))


def curve_points(axes: Axes, recipe: str, steps: Sequence[float], values: Sequence[float], x: str) -> list[Point]:
    """Evenly spaced points of a curve and its last one; ``x`` is the name of the x axis."""
    some = sorted({*range(0, len(steps), max(1, len(steps) // POINTS)), len(steps) - 1})
    return [Point(axes, recipe, steps[k], values[k], f"{recipe}, {x} {steps[k]:g}: {values[k]:.4g}") for k in some]


def as_svg(axes: Axes, points: Sequence[Point]) -> str:
    """The figure of ``axes`` as an <svg> with a title at each point; the same numbers give the same text."""
    figure, file = axes.get_figure(root=True), BytesIO()
    assert isinstance(figure, Figure)
    title = axes.get_title(loc="left")
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(file, format="svg", metadata=dict.fromkeys(NAMES))
    drawn = PROLOGUE.sub("", UNUSED.sub("", file.getvalue().decode()))
    drawn = re.sub(r'id="(series-\w+)"', r'class="\1"', drawn)
    high, scale = 72 * figure.get_figheight(), 72 / figure.dpi
    hits = []
    for point in points:
        x, y = point.axes.transData.transform((point.x, point.y)) * scale
        place = f'class="hit" cx="{x:.1f}" cy="{high - y:.1f}" r="{RADIUS}"'
        value = f"<title>{escape(point.words)}</title>"
        hits.append(f'<g class="{series(point.recipe)}"><circle {place}>{value}</circle></g>')
    whole = drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    return whole.rpartition("</svg>")[0] + "".join(hits) + "</svg>"
