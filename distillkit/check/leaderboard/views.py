"""The table as Markdown, CSV, plain data, and as an image with a bar for each set."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distillkit.check.leaderboard.claims import Row
from distillkit.evaluation.recovery import in_percent, plain
from distillkit.report.results import colour_of
from distillkit.report.table import escaped
from distillkit.report.words import mean_std, shorten

COLUMNS = ("package", "recipe", "method", "ipc", "images", "real", "mean", "std", "runs", "by")
WORTH = ("relative_gain", "relative_gain_error", "recovery", "recovery_error")
BAR = 0.28  # inches of height
MOST = 60  # most bars in a panel
COMMON = ("network", "updates", "batch", "labels", "test images")


def markdown(groups: Sequence[Sequence[Row]]) -> Iterator[str]:
    """A table for each group, after a line that says how its rows were measured."""
    for number, rows in enumerate(groups):
        if number:
            yield ""
        measured = rows[0].measured
        yield f"Measured with {', '.join(f'{what} {escaped(measured[what])}' for what in COMMON)}:"
        yield ""
        by = any(row.by for row in rows)
        worth = "accuracy % (mean ± std, n) | relative gain % | recovery (HLR) |"
        yield f"| package | recipe | method | IPC | real | {worth}{' found by |' if by else ''}"
        yield f"|---|---|---|---:|---:|---:|---:|---:|{'---|' if by else ''}"
        for row in rows:
            accuracy = f"{mean_std(row.mean, row.std, row.runs)} ({row.runs})"
            share = f"{100 * row.real / row.images:.4g} %"
            names = [escaped(name) for name in (row.package, row.recipe, row.method)]
            worth_cells = [in_percent(row.gain), in_percent(row.recovery, 2)]
            cells = [*names, str(row.ipc or "–"), share, accuracy, *worth_cells, *([escaped(row.by)] if by else [])]
            yield f"| {' | '.join(cells)} |"


def as_csv(groups: Sequence[Sequence[Row]]) -> str:
    """All rows, with a column ``group`` that numbers the measurements from 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", *COLUMNS, *WORTH])
    for number, rows in enumerate(groups, start=1):
        writer.writerows([number, *map(safe, record_of(row).values())] for row in rows)
    return text.getvalue().rstrip("\n")


def safe(value: Any) -> Any:
    """``value``, changed if it is text that a spreadsheet would read as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def record_of(row: Row) -> dict[str, Any]:
    """A row by its columns; None for figures that are not known."""
    worth = plain("relative_gain", row.gain) | plain("recovery", row.recovery)
    return {column: getattr(row, column) for column in COLUMNS} | {key: worth.get(key) for key in WORTH}


def as_json(groups: Sequence[Sequence[Row]]) -> dict[str, Any]:
    rows = [(number, record_of(row)) for number, group in enumerate(groups, start=1) for row in group]
    return {
        "measurements": [dict(group[0].measured) for group in groups],
        "rows": [{"group": number, **row} for number, row in rows],
    }


def draw(groups: Sequence[Sequence[Row]], path: Path) -> None:
    """Write the image as a PNG, with at most the MOST most accurate sets of each measurement."""
    from distillkit.report.plots import panels  # slow

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
    """The recipe, its package if there are ``several``, and who measured it."""
    package = row.package.rstrip("/").rsplit("/", 1)[-1]
    parts = [row.recipe, *([package] if several else []), *([row.by] if row.by else [])]
    return ", ".join(map(shorten, parts))
