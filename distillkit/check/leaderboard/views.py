"""The table as Markdown, CSV and plain data."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from distillkit.check.leaderboard.claims import Row
from distillkit.evaluation.recovery import in_percent, plain
from distillkit.report.table import escaped
from distillkit.report.words import mean_std

COLUMNS = ("package", "recipe", "method", "ipc", "images", "real", "mean", "std", "runs", "by")
WORTH = ("relative_gain", "relative_gain_error", "recovery", "recovery_error")
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
