"""The tables of results in Markdown, and their numbers for DVC."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from distillkit.evaluation.recovery import Figure, Measured, drop, hard_label_recovery, in_percent, plain, relative_gain
from distillkit.report.results import Row, marks
from distillkit.report.words import is_comparable, mean_std, percent

COLUMNS = (
    *("recipe", "method", "IPC", "images (real + learned)", "accuracy % (mean ± std, n)", "over random"),
    "hard third %",
)
DETAILS = (*COLUMNS, "relative gain %", "recovery (HLR)", "1-NN %")  # of the page; a README has too little room
NAME, ACCURACY = 0, 4  # the columns that are bold for the best
MOST = 30  # rows; a longer table comes after a part of it
SPECIAL = re.compile(r"[\\`*<>\[\]|&~]|(?<!\w)_|_(?!\w)")  # characters that mean something in Markdown


def by_ipc(among: Sequence[Row]) -> dict[int | None, list[Row]]:
    """Rows by their number of images per class."""
    groups: dict[int | None, list[Row]] = {}
    for row in among:
        groups.setdefault(row.ipc, []).append(row)
    return groups


def baseline(row: Row, among: Sequence[Row], method: str) -> Row | None:
    """The first random selection of as many images per class, or the full set, measured in the same way as ``row``.

    None if there is none, for the baselines themselves, and for sets that cannot be compared.
    """
    if row.method in ("full", method) or row.ipc is None or not is_comparable(row):
        return None
    those = (other for other in among if other.method == method and is_comparable(other))
    return next((other for other in those if method == "full" or other.ipc == row.ipc), None)


def over_random(row: Row, among: Sequence[Row]) -> float | None:
    """Accuracy minus that of the random images of :func:`baseline`."""
    random = baseline(row, among, "random")
    return None if random is None else row.accuracy - random.accuracy


def gain(row: Row, among: Sequence[Row]) -> Figure | None:
    """:func:`~distillkit.evaluation.recovery.relative_gain`; None for soft labels or without a baseline."""
    random, full = (baseline(row, among, method) for method in ("random", "full"))
    if row.soft or random is None or full is None:
        return None
    return relative_gain(row.measured, random.measured, full.measured)


def recovery(row: Row, among: Sequence[Row]) -> Figure | None:
    """:func:`~distillkit.evaluation.recovery.hard_label_recovery`; None for soft labels or without a baseline."""
    full = baseline(row, among, "full")
    return None if row.soft or full is None else hard_label_recovery(row.measured, full.measured)


def best(among: Sequence[Row]) -> set[str]:
    """The recipes with the highest accuracy for their number of images per class, if there are several to compare.

    The full set, and sets that cannot be compared, do not count.
    """
    chosen: set[str] = set()
    for group in by_ipc([row for row in among if row.method != "full" and is_comparable(row)]).values():
        highest = max(row.accuracy for row in group)
        chosen |= {row.recipe for row in group if row.accuracy == highest and len(group) > 1}
    return chosen


def leading(among: Sequence[Row], most: int = MOST) -> list[Row]:
    """The rows to show first, in their order: all or, if they are more than ``most``, the best of each method and IPC.

    If these are still too many, full and random sets are kept, then the best of their IPC, then the most accurate.
    """
    if len(among) <= most:
        return list(among)
    bold, of_kind = best(among), dict[tuple[int | None, str], Row]()
    for row in among:
        known = of_kind.setdefault((row.ipc, row.method), row)
        if row.accuracy > known.accuracy:
            of_kind[row.ipc, row.method] = row

    def rank(row: Row) -> tuple[bool, bool, float]:
        return row.method not in ("full", "random"), row.recipe not in bold, -row.accuracy

    chosen = {row.recipe for row in sorted(of_kind.values(), key=rank)[:most]}
    return [row for row in among if row.recipe in chosen]


def part_words(shown: int, every: int, rest: str) -> str:
    """The sentence about a part of the recipes; ``rest`` says where the others are."""
    return f"The best of each method and IPC, {shown} of {every} recipes; {rest}."


def cells(row: Row, among: Sequence[Row]) -> list[str]:
    """A row of the table as text, one cell for each column."""
    lead = over_random(row, among)
    return [
        " ".join(row.recipe.split()),
        row.method + marks(row.starts_trained, row.attack is not None),
        "–" if row.ipc is None else str(row.ipc),
        f"{row.images} ({row.real} + {row.learned})",
        f"{mean_std(*row.measured)} ({row.runs})",
        "–" if lead is None else points(lead),
        percent(row.hard),
    ]


def details(row: Row, among: Sequence[Row]) -> list[str]:
    """:func:`cells`, relative gain, recovery, and the accuracy of nearest neighbours."""
    compared = [in_percent(gain(row, among)), in_percent(recovery(row, among), 2)]
    return [*cells(row, among), *compared, "–" if row.knn is None else percent(row.knn)]


def points(value: float) -> str:
    """Percentage points with their sign; a value that rounds to zero has no sign."""
    rounded = round(100 * value, 2)
    sign = "+" if rounded > 0 else "−" if rounded < 0 else ""
    return f"{sign}{abs(rounded):.2f}"


def markdown_table(rows: Sequence[Row], shown: Sequence[Row] | None = None) -> str:
    """The table in GitHub's Markdown, of all ``rows`` or those ``shown``; the best recipe of each IPC is bold."""
    bold = best(rows)
    lines = [list(COLUMNS), ["---", "---", *["---:"] * (len(COLUMNS) - 2)]]
    for row in rows if shown is None else shown:
        words = [escaped(cell) for cell in cells(row, rows)]
        for column in (NAME, ACCURACY) if row.recipe in bold else ():
            words[column] = f"**{words[column]}**"
        lines.append(words)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escaped(text: str) -> str:
    """Text that Markdown shows unchanged."""
    return SPECIAL.sub(r"\\\g<0>", text)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Accuracies, leads over random selection, relative gains and recoveries, as nested numbers, by IPC and method.

    A key is the method where a recipe is called like it (``mtt-ipc10``), else the recipe.
    """
    numbers: dict[str, Any] = {}
    for ipc, group in by_ipc(rows).items():
        section = numbers if ipc is None else numbers.setdefault(f"ipc-{ipc}", {})
        for key, row in zip(keys(group), group, strict=True):
            section[key] = round(row.accuracy, 6)
            lead = over_random(row, group)
            if lead is not None:
                section[f"{key}_over_random"] = round(lead, 6)
            section |= plain(f"{key}_relative_gain", gain(row, rows))
            section |= plain(f"{key}_recovery", recovery(row, rows))
            section |= plain(f"{key}_drop", drop(row.measured, list(row.others.values())))
    return numbers


def keys(group: Sequence[Row]) -> list[str]:
    """A different key for each row, which does not depend on the others: its method if its recipe is called like it,
    else its recipe.
    """
    usual = [(row.method, f"{row.method}-ipc{row.ipc}") for row in group]
    short = [row.method if row.recipe in names else row.recipe for row, names in zip(group, usual, strict=True)]
    return short if len(set(short)) == len(short) else [row.recipe for row in group]


# Other networks


CROSS_WORDS = (
    "Other networks, for which no set was made, are trained from scratch on each set. The training recipe and the "
    "number of updates are the same; only the learning rate differs: it was chosen once for each network. Drop: the "
    "accuracy of the main network minus the mean over the others, in points, ± one standard error. The drop of the "
    "full set is due to the networks."
)
Entry = tuple[str, Measured, Mapping[str, Measured]]  # a set's name, the accuracy of the main network, those of others


def cross_table(network: str, entries: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """The columns, and a line for each set that other networks were trained on; empty if there are none."""
    tested = [entry for entry in entries if entry[2]]
    names = list(dict.fromkeys(name for *_, others in tested for name in others))
    lines = []
    for name, main, others in tested:
        accuracies = [main, *map(others.get, names)]
        cells = ["–" if found is None else mean_std(*found) for found in accuracies]
        lines.append([name, *cells, in_percent(drop(main, list(others.values())), 2)])
    return ["recipe", f"{network} %", *(f"{name} %" for name in names), "drop"] if tested else [], lines
