"""The table as a picture: a bar for each set, with its deviation, one panel for each way of measurement."""

from collections.abc import Sequence
from pathlib import Path

from distillkit.check.leaderboard.claims import Row
from distillkit.report.plots import panels
from distillkit.report.results import colour_of
from distillkit.report.words import shorten

BAR = 0.28  # inches of height
MOST = 60  # bars of a panel


def draw(groups: Sequence[Sequence[Row]], path: Path) -> None:
    """Write the picture as a PNG; of very many sets the most accurate."""
    several = len({row.package for rows in groups for row in rows}) > 1
    longest = max(min(len(rows), MOST) for rows in groups)
    titles = ["Test accuracy" if len(groups) == 1 else f"Measurement {number + 1}" for number in range(len(groups))]
    with panels(path, titles, 1.0 + BAR * longest) as all_axes:
        for axes, rows in zip(all_axes, groups, strict=True):
            shown = list(reversed(rows[:MOST]))
            places = range(len(shown))
            colours = [colour_of(row.method) for row in shown]
            spread = [100 * row.std for row in shown]
            axes.barh(places, [100 * row.mean for row in shown], xerr=spread, color=colours, height=0.7, capsize=2)
            axes.set_yticks(places, [label(row, several) for row in shown])
            axes.set_xlabel("accuracy, %")
            axes.grid(axis="y", visible=False)
            if len(rows) > MOST:
                axes.set_title(f"{axes.get_title(loc='left')}, the first {MOST} of {len(rows)}", loc="left")


def label(row: Row, several: bool) -> str:
    """The recipe, its package where there are ``several``, and who found the figure."""
    package = row.package.rstrip("/").rsplit("/", 1)[-1]
    parts = [row.recipe, *([package] if several else []), *([row.by] if row.by else [])]
    return ", ".join(map(shorten, parts))
